"""MPEG transport streams (ISO/IEC 13818-1): the frames that the packets of each stream carry; pictures are no sound.

A stream is pictures, or text, where the tables say so that readers go by (those with a right checksum, of a programme
that is listed) and nothing else is said of it, and where its first bytes are no frames of sound. Every other one is
walked, what no frames explain in it is weighed, and the longest counts.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import compress

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.frames import FrameWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.walker import Chunk

_PACKET_BYTES = 188
_TIMED, _TIME_BYTES = 192, 4
_STRIDES = (188, _TIMED, 204)
"""Of plain packets, of those with a time in front (M2TS), and of those with a checksum behind."""
_ALIGNED = re.compile(b"G(?=" + b"|".join(b"(?:.{%d}G){3}" % (stride - 1) for stride in _STRIDES) + b")", re.DOTALL)
"""Four packets that begin where they should are no chance."""
_ALIGNED_BYTES = 3 * max(_STRIDES)
_SYNC, _NO_SYNC = b"G", re.compile(rb"[^G]")
PROBED_BYTES, _MOST_SYNCS = 4096, 100
_PLAIN = re.compile(rb"(?:G..[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff].{184}){21}G", re.DOTALL)
_PACK = b"\0\0\1\xba"
_HEAD_BYTES = 4
_MOST_STREAMS = 64
_TRIED_BYTES = 65_536
"""What is looked at of a stream before it is known what it is."""
_AT_ONCE, _FEW = 512, 8
"""Packets that are read together, and so many one by one behind one that may change what others are."""
_WEIGHED_BITS = 32_000
_KINDS: tuple[type[FrameWalker], ...] = (MpegWalker, AdtsWalker, LatmWalker, Ac3Walker)

_PICTURES = frozenset((0x01, 0x02, 0x10, 0x1B, 0x20, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA))
_METADATA, _PRIVATE = 0x15, 0x06
_TEXT = frozenset((0x56, 0x59))
"""Descriptors of teletext and subtitles; beside any but these and a language (0x0A) private data may be sound."""
_HARMLESS = _TEXT | {0x0A, 0x52}
_PES, _PES_BYTES = b"\0\0\1", 9
_MOST_SECTIONS, _LEAST_SECTION_BYTES, _IN_FORCE = 1 << 10, 9, 1
_LISTS, _DESCRIBES = 0, 2
"""Tables: of the programmes, and of one programme's streams."""


def is_transport(head: bytes) -> bool:
    """Whether FFmpeg is sure of it by a file's first bytes: nothing else that begins so seems likelier to it.

    It takes away for each sync that stands elsewhere, above ten a packet, and prefers programme streams.
    """
    return (
        len(head) >= PROBED_BYTES
        and _PLAIN.match(head) is not None
        and head.count(_SYNC) <= _MOST_SYNCS
        and _PACK not in head
    )


class TsWalker:
    """Walks packets in any cuts; keeps less than a few of them."""

    __slots__ = (
        "_held", "_is_doubted", "_kinds", "_listed", "_sections", "_silent", "_skip", "_streams", "_stride", "_told",
        "passed", "strange",
    )  # fmt: skip

    claimed_ms = None

    def __init__(self) -> None:
        self.passed = self.strange = 0
        self._held = b""
        self._skip = 0
        """What is between the last packet and the next."""
        self._stride = 0
        """From packet to packet; 0 where none has been found."""
        self._streams: dict[int, _Stream] = {}
        self._listed: dict[int, int] = {}
        """Programmes, by where their streams are described."""
        self._kinds: dict[int, bool] = {}
        """Whether all that was said of a stream says that it is no sound."""
        self._silent: frozenset[int] = frozenset()
        self._sections: set[tuple[int, bytes]] = set()
        """Those that were read, and where."""
        self._told: set[bytes] = set()
        """Packets that have nothing new to say."""
        self._is_doubted = False

    @property
    def _best(self) -> "_Stream | None":
        streams = [stream for number, stream in self._streams.items() if number not in self._silent]
        return max(streams, key=lambda stream: stream.ms, default=None)

    @property
    def codec(self) -> str:
        """Of the longest stream."""
        return self._best.codec if self._best else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        return self._best.channels if self._best else None

    @property
    def ms(self) -> int | None:
        """Of the longest stream, and of what is in no packet."""
        best = self._best
        return (best.ms + _weight_ms(self.strange) or None) if best else None

    @property
    def unsure(self) -> bool:
        """Whether any of it was weighed."""
        return self.strange > 0 or (self._best is not None and self._best.is_weighed)

    @property
    def explains(self) -> bool:
        """Whether it is a transport stream for the most part."""
        return self._best is not None and self.strange * 2 <= self.passed

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self.passed += len(chunk)
        data = self._held + chunk if self._held else bytes(chunk)
        at, size = self._skip, len(data)
        while at < size:
            if not self._stride:
                found = self._align(data, at)
                self.strange += (
                    found - at - (_TIME_BYTES if self._stride == _TIMED and found - at == _TIME_BYTES else 0)
                )
                at = found
                if not self._stride:
                    break
            at = self._follow(data, at)
            if self._stride:
                break
        self._held, self._skip = data[at:], max(at - size, 0)
        for stream in self._streams.values():
            stream.flush()

    def _align(self, data: bytes, at: int) -> int:
        """Where packets begin, or where they may when more has arrived."""
        found = _ALIGNED.search(data, at)
        if found is None:
            return max(at, len(data) - _ALIGNED_BYTES)
        begins = found.start()
        self._stride = next(
            stride for stride in _STRIDES if data[begins : begins + 3 * stride + 1 : stride] == _SYNC * 4
        )
        return begins

    def _follow(self, data: bytes, at: int) -> int:
        """Read all packets that are whole, up to the first place where there should be one and is none."""
        stride = self._stride
        count = max((len(data) - at - _PACKET_BYTES) // stride + 1, 0)
        syncs = data[at : at + count * stride : stride]
        lost = _NO_SYNC.search(syncs)
        if lost:
            self._stride, count = 0, lost.start()
        for first in range(0, count, _AT_ONCE):
            self._read_many(data, at + first * stride, min(count - first, _AT_ONCE), stride)
        return at + count * stride

    def _read_many(self, data: bytes, at: int, count: int, stride: int) -> None:
        """Read so many packets; one by one, for some time, behind each that may change what others are."""
        n, singly = 0, _FEW
        while n < count:
            n += self._pass_known(_Packets(data, at + n * stride, count - n, stride))
            for _ in range(min(singly, count - n)):
                self._read(data, at + n * stride)
                n += 1
            singly *= _FEW

    def _pass_known(self, packets: "_Packets") -> int:
        """Read what belongs to streams that have been judged, up to the first packet that may change something."""
        count, others, known = packets.count, _number(b"\1" * packets.count), []
        for number in self._silent:
            others ^= packets.of(number)
        if self._silent and others.bit_count() * _FEW < count:
            return self._read_few(packets, others)
        packets.find_payloads()
        for number, stream in self._streams.items():
            if number not in self._silent and stream.is_judged and not stream.is_in_header:
                own = packets.of(number)
                others ^= own
                known.append((stream, own))
        for one in _ONE.finditer(others.to_bytes(count, "big")):
            n = one.start()
            packet = packets.one(n)
            if packet not in self._told and (packet[1] & 0x40 or (packet[1] & 0x1F) << 8 | packet[2] in self._streams):
                count = n
                break
        for _, own in known:
            count = packets.pass_headers(own, count)
        for stream, own in known:
            stream.go_on(packets.payload(own, count))
        return count

    def _read_few(self, packets: "_Packets", those: int) -> int:
        """Read those one by one, up to one that changes which streams are silent; how many packets were passed."""
        silent = self._silent
        for one in _ONE.finditer(those.to_bytes(packets.count, "big")):
            self._read(packets.data, packets.at(one.start()))
            if self._silent is not silent:
                return one.start() + 1
        return packets.count

    def _read(self, data: bytes, at: int) -> None:
        first, flags, end = data[at + 1], data[at + 3], at + _PACKET_BYTES
        number = (first & 0x1F) << 8 | data[at + 2]
        if number in self._silent:
            return
        begins = at + _HEAD_BYTES + (1 + data[at + _HEAD_BYTES] if flags & 0x20 else 0)
        stream = self._streams.get(number)
        if not flags & 0x10 or begins >= end:
            return
        if first & 0x40:
            if data.startswith(_PES, begins):
                if stream is None:
                    if len(self._streams) >= _MOST_STREAMS:
                        self.strange += end - begins
                        return
                    stream = self._streams[number] = _Stream()
                stream.begin(data[begins:end])
            else:
                self._tables(number, data[begins:end])
                if len(self._told) < _MOST_SECTIONS:
                    self._told.add(data[at:end])
        elif stream is not None:
            stream.go_on(data[begins:end])
        if stream is not None and stream.is_tried and not stream.is_judged:
            stream.is_judged = True
            self._judge()

    def _judge(self) -> None:
        """Which streams are no sound, of those that have been looked at."""
        for stream in self._streams.values():
            stream.flush()
        self._silent = frozenset(
            number
            for number, stream in self._streams.items()
            if stream.is_judged and not stream.has_frames and self._kinds.get(number) and not self._is_doubted
        )

    def _tables(self, number: int, payload: bytes) -> None:
        """Sections that begin in a packet; one that goes on in the next says nothing for certain."""
        at = 1 + payload[0]
        while at < len(payload) and payload[at] != 0xFF:
            length = int.from_bytes(payload[at + 1 : at + 3], "big") & 0xFFF
            section = payload[at : at + 3 + length]
            at += 3 + length
            is_known = section[:1] in (b"\0", b"\2")
            if not is_known or (number, section) in self._sections:
                continue
            self._sections.add((number, section))
            if len(section) < 3 + length or len(self._sections) > _MOST_SECTIONS:
                self._doubt()
            elif length >= _LEAST_SECTION_BYTES and section[5] & _IN_FORCE and not _checksum(section):
                self._take(number, section)

    def _doubt(self) -> None:
        """Not all was read that is said of streams: nothing of it is certain."""
        self._is_doubted = True
        self._silent = frozenset()

    def _take(self, number: int, section: bytes) -> None:
        body = section[8:-4]
        if section[0] == _LISTS and not number:
            for at in range(0, len(body) - 3, 4):
                self._listed[int.from_bytes(body[at + 2 : at + 4], "big") & 0x1FFF] = int.from_bytes(
                    body[at : at + 2], "big"
                )
        elif section[0] == _DESCRIBES:
            is_listed = self._listed.get(number) == int.from_bytes(section[3:5], "big")
            at = 4 + (int.from_bytes(body[2:4], "big") & 0xFFF)
            while at + 5 <= len(body):
                of = int.from_bytes(body[at + 1 : at + 3], "big") & 0x1FFF
                size = int.from_bytes(body[at + 3 : at + 5], "big") & 0xFFF
                silent = _is_silent(body[at], body[at + 5 : at + 5 + size])
                if is_listed or not silent:
                    self._kinds[of] = silent and self._kinds.get(of, True)
                at += 5 + size
            self._judge()


class _Packets:
    """Many at once. A column has a byte for each of them, and is a number where it is reckoned with."""

    __slots__ = ("_at", "_begins", "_high", "_low", "_stride", "count", "data")

    def __init__(self, data: bytes, at: int, count: int, stride: int) -> None:
        self.count = count
        self.data, self._at, self._stride = data, at, stride
        self._high, self._low = self._column(1), self._column(2)
        self._begins = bytearray()
        """Where in each the payload does; at its end where there is none."""

    def _column(self, byte: int) -> bytes:
        return self.data[self._at + byte : self._at + self.count * self._stride : self._stride]

    def find_payloads(self) -> None:
        """Look where the payloads begin."""
        flags, fields = self._column(3), self._column(4)
        begins = _number(flags.translate(_BEGINS))
        begins += _number(flags.translate(_HAVE_FIELD)) & _number(fields.translate(_FIELD_BYTES))
        self._begins = bytearray(begins.to_bytes(self.count, "big"))

    def of(self, number: int) -> int:
        """Which are of this stream."""
        return _number(self._high.translate(_same(number >> 8, 0x1F))) & _number(
            self._low.translate(_same(number & 0xFF, 0xFF))
        )

    def at(self, n: int) -> int:
        """Where one begins."""
        return self._at + n * self._stride

    def one(self, n: int) -> bytes:
        """A whole one."""
        at = self.at(n)
        return self.data[at : at + _PACKET_BYTES]

    def pass_headers(self, own: int, count: int) -> int:
        """Pass those of a stream's elements; up to which packet all of them end in that where they begin."""
        data, begins, stride, at = self.data, self._begins, self._stride, self._at
        first = own & _number(self._high.translate(_IS_FIRST))
        for n in compress(range(count), first.to_bytes(self.count, "big")):
            begin = begins[n]
            if begin == _PACKET_BYTES:
                continue
            if begin > _PACKET_BYTES - _PES_BYTES:
                return n
            payload = at + n * stride + begin
            begin += _PES_BYTES + data[payload + _PES_BYTES - 1]
            if begin > _PACKET_BYTES or not data.startswith(_PES, payload):
                return n
            begins[n] = begin
        return count

    def payload(self, own: int, count: int) -> bytes:
        """What a stream's packets carry, of the first so many."""
        data = self.data
        starts = range(self._at, self._at + count * self._stride, self._stride)
        return b"".join(
            [
                data[at + begin : at + _PACKET_BYTES]
                for at, begin in compress(zip(starts, self._begins, strict=False), own.to_bytes(self.count, "big"))
            ]
        )


class _Stream:
    """The bytes of one stream."""

    __slots__ = ("_passed", "_pieces", "_skip", "_walkers", "is_judged")

    def __init__(self) -> None:
        self.is_judged = False
        """Whether its first bytes have been looked at."""
        self._walkers: Sequence[FrameWalker] = [kind(is_linked=False) for kind in _KINDS]
        self._pieces: list[bytes] = []
        self._passed = self._skip = 0

    def begin(self, payload: bytes) -> None:
        """A packetised element begins (section 2.4.3.6)."""
        header = _PES_BYTES + payload[8] if len(payload) >= _PES_BYTES else _PES_BYTES
        self._skip = max(header - len(payload), 0)
        self._add(payload[header:])

    @property
    def is_in_header(self) -> bool:
        """Whether what comes next belongs to a header."""
        return self._skip > 0

    def go_on(self, payload: bytes) -> None:
        """More of it."""
        if self._skip:
            skipped = min(self._skip, len(payload))
            self._skip -= skipped
            payload = payload[skipped:]
        self._add(payload)

    def _add(self, payload: bytes) -> None:
        self._pieces.append(payload)
        self._passed += len(payload)

    def flush(self) -> None:
        """Walk what has come."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces = []
            for walker in self._walkers:
                walker.feed(data)
            if self.is_tried and len(self._walkers) == len(_KINDS):
                self._walkers = [one for one in self._walkers if self._speaks(one)] or self._walkers[:1]

    @staticmethod
    def _speaks(walker: FrameWalker) -> bool:
        return bool(walker.ms) and walker.strange * 2 <= walker.passed

    @property
    def _best(self) -> FrameWalker | None:
        return max((one for one in self._walkers if self._speaks(one)), key=lambda one: one.ms or 0, default=None)

    @property
    def is_tried(self) -> bool:
        """Whether enough has passed to tell what it is."""
        return self._passed >= _TRIED_BYTES

    @property
    def has_frames(self) -> bool:
        """Whether frames of sound explain most of it."""
        return self._best is not None

    @property
    def codec(self) -> str:
        """Of the frames."""
        return self._best.codec if self._best else ""

    @property
    def channels(self) -> int | None:
        """Of the frames."""
        return self._best.channels if self._best else None

    @property
    def is_weighed(self) -> bool:
        """Whether some of it is no frames."""
        return self._best is None or self._best.strange > 0

    @property
    def ms(self) -> int:
        """Of the frames, and by its weight what is none."""
        best = self._best
        return _weight_ms(self._passed) if best is None else (best.ms or 0) + _weight_ms(best.strange)


def _weight_ms(size: int) -> int:
    return size * 8000 // _WEIGHED_BITS


def _is_silent(kind: int, descriptors: bytes) -> bool:
    """Whether a stream so described is no sound."""
    if kind != _PRIVATE:
        return kind in _PICTURES or kind == _METADATA
    tags, at = set(), 0
    while at + 2 <= len(descriptors):
        tags.add(descriptors[at])
        at += 2 + descriptors[at + 1]
    return bool(tags & _TEXT) and tags <= _HARMLESS


_BEGINS = bytes(_HEAD_BYTES if flags & 0x10 else _PACKET_BYTES for flags in range(256))
"""Where a payload does without a field of adaptation, by a packet's flags."""
_HAVE_FIELD = bytes(0xFF * (flags & 0x30 == 0x30) for flags in range(256))
_FIELD_BYTES = bytes(min(1 + size, _PACKET_BYTES - _HEAD_BYTES) for size in range(256))
_ONE = re.compile(b"\1")
_IS_FIRST = bytes(high >> 6 & 1 for high in range(256))


@cache
def _same(value: int, mask: int) -> bytes:
    """A table that makes 1 of this value and 0 of all others."""
    return bytes(other & mask == value for other in range(256))


def _number(column: bytes) -> int:
    return int.from_bytes(column, "big")


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C1_1DB7 if value >> 31 else value << 1) & 0xFFFF_FFFF
        table.append(value)
    return tuple(table)


def _checksum(section: bytes) -> int:
    """Of a whole section with its checksum: 0 where that is right (annex A)."""
    table, value = _crc_table(), 0xFFFF_FFFF
    for byte in section:
        value = value << 8 & 0xFFFF_FFFF ^ table[value >> 24 ^ byte]
    return value

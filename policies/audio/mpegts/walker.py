"""MPEG transport streams (ISO/IEC 13818-1): the frames that the packets of each stream carry; pictures are no sound.

A stream is no sound where the tables say so and its first bytes are no frames of sound. Every other one is walked, what
no frames explain in it is weighed, and the longest counts.
"""

import re
from collections import Counter
from itertools import compress

from policies.audio.mpegts.packets import FIRST, HEAD_BYTES, NUMBER, PACKET_BYTES, PES, Heard, Packets
from policies.audio.mpegts.streams import OPUS_TIMES, Frames, Said, Stream, weight_ms
from policies.audio.mpegts.tables import MOST_SECTIONS, Tables
from policies.audio.walker import Chunk

_TIMED, _TIME_BYTES = 192, 4
_STRIDES = (188, _TIMED, 204)
"""Of plain packets, of those with a time in front (M2TS), and of those with a checksum behind."""
_ALIGNED = re.compile(b"G(?=" + b"|".join(b"(?:.{%d}G){3}" % (stride - 1) for stride in _STRIDES) + b")", re.DOTALL)
"""Four packets that begin where they should are no chance."""
_ALIGNED_BYTES = 3 * max(_STRIDES)
_SYNC, _NO_SYNC = b"G", re.compile(rb"[^G]")
PROBED_BYTES, _MOST_SYNCS = 4096, 100
_PACKET = rb"G..[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff].{184}"
_AC3 = (b"\x0b\x77", b"\x77\x0b")
_NO_TIME = b"|".join(_AC3) + rb"|\0\0(?:\0[\x08-\xff]|[\1-\7])"
"""Begins of AC-3 and of a box in front of another one within the first 2 KiB, where FFmpeg looks first."""
_PLAIN = re.compile(rb"(?:%b){21}G|(?!%b)(?:.{4}%b){21}" % (_PACKET, _NO_TIME, _PACKET), re.DOTALL)
_COUNTED = re.compile(
    rb"G(?=(?:[\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff]\xff|..[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff]))", re.DOTALL
)
"""A sync that FFmpeg counts: of a packet that carries something, or fills up."""
PROBES = (2048, 4096, 8192)
"""So many bytes FFmpeg looks at, one after the other, before 200 frames of MP3 find room in them."""
_ENOUGH, _PROBED_EACH = 6, 204
_PACK = b"\0\0\1\xba"
_MOST_STREAMS = 64
_OTHERS = NUMBER + 1
"""All streams beyond so many, as one."""
_AT_ONCE, _FEW = 512, 4
"""Packets that are read together, and so many one by one behind one that may change what others are."""


def is_transport(head: bytes) -> bool:
    """Whether FFmpeg is sure of it by a file's first bytes: nothing else that begins so seems likelier to it.

    It takes away for each sync that stands elsewhere, above ten a packet, and prefers programme streams.
    """
    return (
        len(head) >= PROBED_BYTES
        and _PLAIN.match(head) is not None
        and head.count(_SYNC, 0, PROBED_BYTES) <= _MOST_SYNCS
        and _PACK not in head[:PROBED_BYTES]
    )


def seems_transport(head: bytes) -> bool:
    """Whether FFmpeg takes it for nothing but one by so many first bytes, where what the first ones say is no box.

    It does so where syncs stand a packet apart, from wherever on, and few stand elsewhere.
    """
    packets = len(head) // _PROBED_EACH
    places = [sync.start() for sync in _COUNTED.finditer(head)]
    most = 0
    for stride in _STRIDES:
        counts = Counter(place % stride for place in places if place < stride * packets - 3)
        best = max(counts.values(), default=0)
        most = max(most, best - max(counts.total() - 10 * best, 0) // 10)
    return most * 10 // packets > _ENOUGH and not head.startswith(_AC3) and _PACK not in head


class TsWalker:
    """Walks packets in any cuts; keeps less than a few of them, and what tables have said."""

    __slots__ = ("_heard", "_held", "_silent", "_skip", "_streams", "_stride", "_tables", "passed", "strange")

    claimed_ms = None

    def __init__(self) -> None:
        self.passed = self.strange = 0
        self._held = b""
        self._skip = 0
        """What is between the last packet and the next."""
        self._stride = 0
        """From packet to packet; 0 where none has been found."""
        self._streams: dict[int, Stream] = {}
        self._tables = Tables()
        self._silent: frozenset[int] = frozenset()
        self._heard = Heard(MOST_SECTIONS)

    @property
    def _best(self) -> Said | None:
        streams = (self._said(stream) for number, stream in self._streams.items() if number not in self._silent)
        return max(streams, key=lambda said: said.ms, default=None)

    def _said(self, stream: Stream) -> Said:
        said, may_be_opus = stream.said, self._tables.names_opus and not stream.is_opus
        return said._replace(ms=said.ms + said.weighed_ms * (OPUS_TIMES - 1)) if may_be_opus else said

    @property
    def _frames(self) -> Frames | None:
        best = self._best
        return best.frames if best else None

    @property
    def codec(self) -> str:
        """Of the longest stream."""
        frames = self._frames
        return frames.codec if frames else ""

    @property
    def channels(self) -> int | None:
        """Of the same."""
        frames = self._frames
        return frames.channels if frames else None

    @property
    def ms(self) -> int | None:
        """Of the longest stream, and of what is in no packet."""
        best = self._best
        return (best.ms + weight_ms(self.strange) or None) if best else None

    @property
    def unsure(self) -> bool:
        """Whether any of it was weighed."""
        best = self._best
        return self.strange > 0 or (best is not None and best.weighed_ms > 0)

    @property
    def explains(self) -> bool:
        """Whether it is a transport stream for the most part."""
        return len(self._streams) > len(self._silent) and self.strange * 2 <= self.passed

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
        count = max((len(data) - at - PACKET_BYTES) // stride + 1, 0)
        syncs = data[at : at + count * stride : stride]
        lost = _NO_SYNC.search(syncs)
        if lost:
            self._stride, count = 0, lost.start()
        if count <= _FEW:
            for begins in range(at, at + count * stride, stride):
                self._read(data, begins)
            return at + count * stride
        for first in range(0, count, _AT_ONCE):
            self._read_many(data, Packets(data, at + first * stride, min(count - first, _AT_ONCE), stride))
        return at + count * stride

    def _read_many(self, data: bytes, packets: Packets) -> None:
        """Read them; one by one, for some time, behind each that may change what others are."""
        n, singly = 0, _FEW
        while n < packets.count:
            if _OTHERS not in self._streams:
                n = self._pass_known(data, packets, n)
            end = min(n + singly, packets.count)
            for one in range(n, end):
                self._read(data, packets.at(one))
            n, singly = end, singly * _FEW

    def _pass_known(self, data: bytes, packets: Packets, n: int) -> int:
        """Read what belongs to known streams, from one packet on up to the first that may change something."""
        count, silent, others = packets.count, self._silent, (1 << 8 * packets.count) // 0xFF
        for number in silent:
            others ^= packets.of(number)
        if silent and others.bit_count() * _FEW < count:
            return self._read_few(data, packets, n, others)
        walked = [(stream, packets.of(number)) for number, stream in self._streams.items() if number not in silent]
        packets.find_payloads(sum(own for _, own in walked))
        known, bound = [], 0
        for stream, own in walked:
            others ^= own
            bound |= own if stream.is_in_header else own & packets.odd
            known.append((stream, packets.flags(own)))
        for number in self._tables.cut:
            bound |= packets.of(number)
        end = packets.flags(bound).find(1, n)
        end = end if end >= 0 else count
        for one in compress(range(n, end), packets.flags(others & packets.first)[n:end]):
            if not self._heard.knows(data, packets.at(one)):
                end = one
                break
        for stream, flags in known:
            if stream.room is not None:
                end = packets.up_to(flags, n, end, stream.room)
        for stream, flags in known if end > n else ():
            begins = packets.begins(flags, n, end) if stream.wants_begins else ()
            stream.go_on(packets.payload(flags, n, end), begins)
        return end

    def _read_few(self, data: bytes, packets: Packets, n: int, those: int) -> int:
        """Read those one by one, up to one that changes which streams are silent; which packet comes next."""
        silent = self._silent
        for one in compress(range(n, packets.count), packets.flags(those)[n:]):
            self._read(data, packets.at(one))
            if self._silent is not silent:
                return one + 1
        return packets.count

    def _read(self, data: bytes, at: int) -> None:
        first, flags, end = data[at + 1], data[at + 3], at + PACKET_BYTES
        number = (first << 8 | data[at + 2]) & NUMBER
        if number in self._silent:
            return
        begins = at + HEAD_BYTES + (1 + data[at + HEAD_BYTES] if flags & 0x20 else 0)
        stream = self._streams.get(number)
        if not flags & 0x10 or begins >= end:
            return
        if stream is None and not self._tables.is_silent(number):
            stream = self._streams.get(_OTHERS)
        if first & FIRST:
            if PES.startswith(data[begins : min(begins + len(PES), end)]):
                stream = self._begin(number, data[begins:end])
            else:
                if self._tables.read(number, data[begins:end]):
                    self._judge()
                self._heard.add(data, at)
        else:
            if number in self._tables.cut:
                self._tables.go_on(data[begins:end])
            if stream is not None:
                stream.go_on(data[begins:end])
        if stream is not None and stream.room is not None and stream.room <= 0:
            stream.look()
            if stream.is_judged:
                self._judge()

    def _begin(self, number: int, payload: bytes) -> Stream | None:
        """An element of a stream, or what may be a table's first bytes."""
        if len(payload) < len(PES):
            self._tables.doubt(number)
        if number not in self._streams and len(self._streams) >= _MOST_STREAMS:
            if self._tables.is_silent(number):
                return None
            number = _OTHERS
        stream = self._streams[number] = self._streams.get(number) or Stream()
        stream.call(opus=number in self._tables.opus)
        stream.begin(payload)
        return stream

    def _judge(self) -> None:
        """Which streams are no sound, of those that have been looked at."""
        for number, stream in self._streams.items():
            stream.flush()
            stream.call(opus=number in self._tables.opus)
        self._silent = frozenset(
            number
            for number, stream in self._streams.items()
            if stream.is_judged and not stream.said.frames and self._tables.is_silent(number)
        )

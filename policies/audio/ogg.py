"""Ogg (RFC 3533): the packets of every logical stream, by what their codec says that each one plays.

Granule positions are claims: a file whose pages all say 0 plays on. They only trim the end, by less than a packet, as
decoders do. Of streams that begin together one is played, so the longest counts; streams that begin one behind the
other (chaining) are added up. A page counts when all of it has passed and its checksum holds: libogg and FFmpeg drop
any other, and look for the next one inside it. A page of FLAC without one inside counts whatever its checksum says.
"""

import re
import zlib
from itertools import accumulate, compress

from policies.audio.packets import Packets, is_silent, ogg_packets
from policies.audio.vorbis import KEPT_BYTES
from policies.audio.walker import Chunk

_NS_PER_SECOND = 1_000_000_000
_NS_PER_MS = 1_000_000
_MAGIC = b"OggS"
_MAGIC_BEGINS = (b"O", b"Og", b"Ogg")
_PAGE_HEADER_BYTES = 27
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_NO_GRANULE = (1 << 64) - 1

_ENDS_PACKET = bytes([1] * 255 + [0])
"""By lacing value (section 5): a packet goes on behind 255, and else the next one begins."""
_PACKET = re.compile(rb"\xff*[^\xff]|\xff+", re.DOTALL)
"""The lacing values of one packet; the last one on a page may go on."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_DAMAGED_PER_BYTES = 4096
_MOST_DAMAGED = 64
"""Pages with a false checksum that are searched inside; of more, beyond one in 4 KiB, all bytes belong to nothing."""

_MOST_STREAMS = 64
"""Streams at one time. One that has ended makes room; a page of one too many belongs to nothing."""


class _Stream:
    """One logical stream."""

    __slots__ = ("_base", "_headers_left", "_tail", "_trimmed", "ended", "group", "is_silent", "packets", "total")

    def __init__(self, first_page: bytes, group: int) -> None:
        self.packets = ogg_packets(first_page)
        self.is_silent = is_silent(first_page)
        self.group = group
        self.ended = False
        self.total = 0
        self._headers_left = self.packets.headers if self.packets else 0
        self._tail = b""
        self._base: int | None = None
        self._trimmed = 0

    @property
    def ns(self) -> int:
        packets = self.packets
        if packets is None:
            return 0
        return max(self.total - self._trimmed - packets.skip, 0) * _NS_PER_SECOND // packets.rate

    def pass_page(self, data: bytes, at: int, table: bytes, flags: int, granule: int) -> None:
        """Count the packets that begin on a page whose bytes stand in ``data`` from ``at`` on."""
        packets = self.packets
        self.ended = self.ended or bool(flags & _ENDS)
        if packets is None:
            return
        is_fresh = not flags & _CONTINUED
        if self._headers_left:
            at, table = self._pass_headers(data, at, table)
            is_fresh = True
        played = _by_first_bytes(packets, data, at, table, is_fresh=is_fresh)
        if played is None:
            played = _one_by_one(packets, data, at, table, is_fresh=is_fresh)
        page, last = played
        self.total = total = self.total + page
        if granule != _NO_GRANULE and packets.trims_end:
            if self._base is None and page:
                self._base = 0 if flags & _ENDS else max(granule - page, 0)
            if flags & _ENDS:
                surplus = (self._base or 0) + total - granule
                self._trimmed = surplus if 0 < surplus <= last else 0

    def _pass_headers(self, data: bytes, at: int, table: bytes) -> tuple[int, bytes]:
        """Step over the packets in front, keeping the end of the last one; what is left of the page."""
        assert self.packets is not None
        for index, lace in enumerate(table):
            if self._headers_left == 1:
                self._tail = (self._tail + data[at : at + lace])[-KEPT_BYTES:]
            at += lace
            if lace < 255:
                self._headers_left -= 1
                if not self._headers_left:
                    self.packets.set_up(self._tail)
                    self._tail = b""
                    return at, table[index + 1 :]
        return at, b""


def _by_first_bytes(packets: Packets, data: bytes, at: int, table: bytes, *, is_fresh: bool) -> tuple[int, int] | None:
    """Samples of the packets that begin on a page, and of the last one, by a table; None where it does not tell.

    A page of small packets has 255 of them, and Python's loop over them would be most of what a walk costs.
    """
    if not packets.by_first or not table or 0 in table:
        return None
    begins = bytes((is_fresh,)) + table[:-1].translate(_ENDS_PACKET)
    firsts = map(data.__getitem__, compress(accumulate(table, initial=at), begins))
    each = list(map(packets.by_first.__getitem__, firsts))
    return None if 0 in each else (sum(each), each[-1] if each else 0)


def _one_by_one(packets: Packets, data: bytes, at: int, table: bytes, *, is_fresh: bool) -> tuple[int, int]:
    samples, total, last = packets.samples, 0, 0
    if table.count(255) * 2 < len(table):
        for lace in table:
            if is_fresh and lace:
                last = samples(data, at, at + lace)
                total += last
            at += lace
            is_fresh = lace < 255
        return total, last
    for packet in _PACKET.finditer(table):
        begins, ends = packet.span()
        if is_fresh and table[begins]:
            last = samples(data, at, at + table[begins])
            total += last
        at += 255 * (ends - begins - 1) + table[ends - 1]
        is_fresh = True
    return total, last


def _is_whole(data: bytes, at: int, after: int) -> bool:
    """Whether a page's checksum holds (RFC 3533 section 6): zlib's, if every byte and the sum are read mirrored."""
    page = data[at : at + 22] + b"\0\0\0\0" + data[at + 26 : after]
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return data[at + 22 : at + 26] == mirrored.to_bytes(4, "big").translate(_REVERSED)


class OggWalker:
    """Walks the pages in any cuts; keeps up to one of them, 65,307 bytes, and 64 streams' counts."""

    __slots__ = (
        "_best",
        "_closed_ns",
        "_damaged",
        "_first",
        "_group",
        "_held",
        "_in_group",
        "_need",
        "_streams",
        "passed",
        "strange",
    )

    def __init__(self) -> None:
        self.passed = 0
        self.strange = 0
        """Bytes of no page, and of streams that cannot be read."""
        self._streams: dict[bytes, _Stream] = {}
        self._group = 0
        self._in_group = False  # only first pages have passed since the group began
        self._best: dict[int, int] = {}  # by group: the longest of its streams that are closed
        self._closed_ns = 0
        self._damaged = 0
        self._first: _Stream | None = None
        self._held = bytearray()
        self._need = _PAGE_HEADER_BYTES

    @property
    def codec(self) -> str:
        """Of the first stream that is audio."""
        return self._first.packets.codec if self._first and self._first.packets else ""

    @property
    def channels(self) -> int | None:
        """The same stream's."""
        return self._first.packets.channels if self._first and self._first.packets else None

    @property
    def unsure(self) -> bool:
        """Whether it is Speex, whose header alone says how long a packet plays."""
        return bool(self._first and self._first.packets and self._first.packets.unsure)

    @property
    def claimed_ms(self) -> int | None:
        """Ogg tells its length at its end only."""
        return None

    @property
    def ms(self) -> int | None:
        """Of the pages that have passed; None without an audio stream."""
        if self._first is None:
            return None
        best = dict(self._best)
        for stream in self._streams.values():
            best[stream.group] = max(best.get(stream.group, 0), stream.ns)
        return (self._closed_ns + sum(best.values()) + _NS_PER_MS // 2) // _NS_PER_MS

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        self.passed += len(chunk)
        held = self._held
        if len(held) + len(chunk) < self._need:
            held += chunk
            return
        data = b"".join((held, chunk)) if held else bytes(chunk)
        at = self._walk(data)
        self._held = bytearray(memoryview(data)[at:])

    def _walk(self, data: bytes) -> int:
        """Pass the whole pages in ``data``; where the first one begins that is not, with what it wants in ``_need``."""
        at, end = 0, len(data)
        while True:
            self._need = _PAGE_HEADER_BYTES
            if not data.startswith(_MAGIC, at):
                found = data.find(_MAGIC, at)
                found = max(at, end - len(_MAGIC) + 1) if found < 0 else found
                self.strange += found - at
                at = found
            if end - at < _PAGE_HEADER_BYTES:
                if not data.startswith(_MAGIC, at):
                    self._need = len(_MAGIC)
                return at
            body = at + _PAGE_HEADER_BYTES + data[at + 26]
            if end < body:
                self._need = body - at
                return at
            table = data[at + _PAGE_HEADER_BYTES : body]
            after = body + sum(table)
            if end < after:
                self._need = after - at
                return at
            if self._hides_nothing(data, at, after) or _is_whole(data, at, after):
                self._pass(data, at, body, table, after)
            elif self._damaged < _MOST_DAMAGED + self.passed // _DAMAGED_PER_BYTES:
                self._damaged += 1
                self.strange += len(_MAGIC)
                after = at + len(_MAGIC)
            else:
                self.strange += after - at
            at = after

    def _hides_nothing(self, data: bytes, at: int, after: int) -> bool:
        """Whether a page is of frames that say themselves what they are (large lossless ones do), and none is in it.

        A false checksum would make readers look inside. To look costs half of what the checksum does.
        """
        stream = self._streams.get(data[at + 14 : at + 18])
        if stream is None or stream.packets is None or not stream.packets.is_checked or data[at + 5] & _BEGINS:
            return False
        return data.find(_MAGIC, at + len(_MAGIC), after) < 0 and not data.endswith(_MAGIC_BEGINS, at, after)

    def _pass(self, data: bytes, at: int, body: int, table: bytes, after: int) -> None:
        flags, serial = data[at + 5], data[at + 14 : at + 18]
        stream = self._streams.get(serial)
        if stream is None or (flags & _BEGINS and table):
            stream = self._open(serial, data[body:after])
        elif self._in_group and table:
            self._in_group = False
        if stream is None or (stream.packets is None and not stream.is_silent):
            self.strange += after - at
        if stream is not None:
            stream.pass_page(data, body, table, flags, int.from_bytes(data[at + 6 : at + 14], "little"))

    def _open(self, serial: bytes, first_page: bytes) -> _Stream | None:
        old = self._streams.pop(serial, None)
        if old is not None:
            self._close(old)
        elif len(self._streams) >= _MOST_STREAMS and not self._make_room():
            return None
        if not self._in_group:
            self._group += 1
            self._in_group = True
        stream = self._streams[serial] = _Stream(first_page, self._group)
        if self._first is None and stream.packets is not None:
            self._first = stream
        return stream

    def _make_room(self) -> bool:
        for serial, stream in self._streams.items():
            if stream.ended or stream.packets is None:
                self._close(self._streams.pop(serial))
                return True
        return False

    def _close(self, stream: _Stream) -> None:
        best = self._best
        best[stream.group] = max(best.get(stream.group, 0), stream.ns)
        if len(best) > _MOST_STREAMS:
            living = {other.group for other in self._streams.values()}
            for group in [group for group in best if group not in living and group != self._group]:
                self._closed_ns += best.pop(group)

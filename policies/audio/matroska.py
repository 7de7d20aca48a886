"""Matroska and WebM (RFC 9559, EBML: RFC 8794): the frames of every block, by what their codec says that each plays.

Sizes of masters bound nothing: a live recorder leaves them unknown, and one that lies hides nothing, since a reader
descends into each and passes over leaves alone. A leaf that ends behind its master is a fault; FFmpeg then looks for
the next cluster, and so does this walker. Duration and timestamps are claims, read only where the codec is unknown.
"""

import math
import re
import struct

from policies.audio.elements import ElementWalker
from policies.audio.matroska_tracks import Track
from policies.audio.walker import LONGEST_MS, Chunk

_NS_PER_MS = 1_000_000

_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_INFO, _TRACKS, _TRACK_ENTRY, _AUDIO = 0x1549A966, 0x1654AE6B, 0xAE, 0xE1
_ENCODINGS, _ENCODING, _COMPRESSION = 0x6D80, 0x6240, 0x5034
_MASTERS = frozenset(
    (_SEGMENT, _CLUSTER, _BLOCK_GROUP, _INFO, _TRACKS, _TRACK_ENTRY, _AUDIO, _ENCODINGS, _ENCODING, _COMPRESSION)
)
_BOUNDING = frozenset((_SEGMENT, _CLUSTER))

_SCALE, _DURATION, _CLUSTER_TIME = 0x2AD7B1, 0x4489, 0xE7
_SIMPLE_BLOCK, _BLOCK, _BLOCK_DURATION, _DISCARD = 0xA3, 0xA1, 0x9B, 0x75A2
_BLOCKS = frozenset((_SIMPLE_BLOCK, _BLOCK))
_NUMBERS = {
    0xD7: "number", 0x83: "kind", 0x23E383: "default_ns", 0x56AA: "delay_ns", 0x9F: "channels", 0x6264: "bits",
    0x4254: "compression",
}  # fmt: skip
_TEXTS = {0x86: "codec_id", 0x63A2: "private", 0x4255: "stripped"}
_RATE = 0xB5
_READ = frozenset((_SCALE, _DURATION, _CLUSTER_TIME, _BLOCK_DURATION, _DISCARD, _RATE, *_NUMBERS, *_TEXTS))

_PASSED = frozenset((
    0xEC, 0xBF, 0x1C53BB6B, 0x114D9B74, 0x1254C367, 0x1941A469, 0x1043A770, 0x1A45DFA3, 0xAB, 0xA7, 0xFB, 0xFA, 0x75A1,
    0x5854, 0xAF, 0xA4, 0x8E, 0xFD, *_READ,
))  # fmt: skip
"""What may stand between blocks, and is passed over: padding, cues, tags and the like."""
_MOST_READ_BYTES = 65_536
"""Of one leaf, CodecPrivate above all; and of a block whose frames are laced."""
_BLOCK_BYTES = 32
"""Of a block whose frame is alone: track, time, flags, and what tells how long a frame plays."""
_MOST_UNKNOWN_BYTES = 1024
"""Of an element of the header that has no name here."""
_MOST_TRACKS = 64
_MOST_SCALE = 1 << 40
_NOWHERE = 1 << 62
_CLUSTER_NAME = _CLUSTER.to_bytes(4, "big")
_NAME_TAIL = len(_CLUSTER_NAME) - 1
_LANDMARK = re.compile(
    rb"\x1f\x43\xb6\x75|\x16\x54\xae\x6b|[\xa1\xa3](?:[\x85-\xff]|[\x40-\x7f].|[\x20-\x3f]..)[\x81-\xff]..[\x00\x80]",
    re.DOTALL,
)
"""A cluster; tracks; or what looks like a block, since FFmpeg often finds its way back to the next one."""
_LANDMARK_BYTES = 8
_LACED = 0x06
_SHORT_BLOCK = struct.Struct(">HBxxH")
"""A block's name and one byte of size, track, time (not read), flags and the frame's first byte."""
_HOPS = tuple(2 + (word & 0x7F) if word in range(_SIMPLE_BLOCK << 8 | 0x85, (_SIMPLE_BLOCK << 8) + 256) else 0
              for word in range(1 << 16))  # fmt: skip
"""By such a block's first two bytes: how long it is; 0 for what is none that holds a frame."""
_MOST_SHORT_BYTES = 2 + 0x7F


class MatroskaWalker(ElementWalker):
    """Walks elements in any cuts; keeps up to 64 KiB, for a leaf that is read as a whole."""

    __slots__ = (
        "_claimed",
        "_cluster",
        "_ends",
        "_entry",
        "_first",
        "_in_clusters",
        "_is_lost",
        "_leaf_ends",
        "_scale",
        "_time",
        "_tracks",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(need=1)
        self._tracks: dict[int, Track] = {}
        self._entry: Track | None = None
        self._first: Track | None = None
        self._scale = _NS_PER_MS
        self._claimed = 0.0
        self._time = 0
        self._in_clusters = False
        self._ends: dict[int, int] = {}  # where the segment and the cluster in it end that are open
        self._is_lost = False
        self._leaf_ends = 0  # of a leaf that is passing
        self._cluster = -1  # where the next cluster's name stands in what is being walked

    @property
    def codec(self) -> str:
        """Of the first audio track; empty for one that nobody knows."""
        return self._first.codec if self._first else ""

    @property
    def channels(self) -> int | None:
        """Of the first audio track."""
        return self._first.channels or None if self._first else None

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on timestamps, or on what the beginning was like."""
        return self._patience.lost_at > 0 or any(track.is_timed for track in self._tracks.values())

    @property
    def claimed_ms(self) -> int | None:
        """Info's Duration; live recorders leave it out."""
        claimed = self._claimed * self._scale / _NS_PER_MS
        return min(round(claimed), LONGEST_MS) if 0 < claimed < math.inf else None

    @property
    def ms(self) -> int | None:
        """Of the longest audio track's blocks; None without one."""
        figures = [track.ns(self._scale) for track in self._tracks.values() if track.is_audio]
        if not figures:
            return None
        return (self._patience.extended(max(figures), self.passed) + _NS_PER_MS // 2) // _NS_PER_MS

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        # What is held of a leaf is looked at by itself: to put it in front of the chunk would copy that, twice.
        is_alone = self._held and self._leaf_ends >= self.passed and len(chunk) > _NAME_TAIL
        if is_alone and _CLUSTER_NAME not in self._held + bytes(chunk[:_NAME_TAIL]):
            self._held.clear()
        super().feed(chunk)

    def _walk(self, data: bytes, at: int) -> int:
        end = len(data)
        self._need, self._cluster = 1, -1
        while at < end:
            if self._cluster < at:
                found = data.find(_CLUSTER_NAME, at)
                self._cluster = end if found < 0 else found
            if self._leaf_ends:
                at = self._pass_by(at, end)
                if self._leaf_ends:
                    return at
            elif self._is_lost:
                at = self._search(data, at, end)
                if self._is_lost:
                    self._need = _LANDMARK_BYTES
                    return at
            at = self._pass_blocks(data, at, end)
            if at >= end:
                break
            after = self._pass_element(data, at, end)
            if after < 0:
                return at
            if data[at] not in _BLOCKS and self._patience.is_lost(self.passed - end + after):
                self.strange += max(end - after, 0)
                return end
            at = after
        return at

    def _pass_by(self, at: int, end: int) -> int:
        """Let a leaf go by; where to go on: behind it, or at a cluster that begins inside it.

        Behind a fault FFmpeg goes back to the last element that was none, and looks for a cluster inside that.
        """
        stop = self._leaf_ends - (self.passed - end)
        if min(self._cluster, stop) + _NAME_TAIL <= end:
            self._leaf_ends = 0
            return min(self._cluster, stop)
        to = max(at, min(stop, end - _NAME_TAIL))
        self._need = min(stop - to, 1) + _NAME_TAIL
        return to

    def _search(self, data: bytes, at: int, end: int) -> int:
        """Look for a landmark; where it stands, or where to look on when more has arrived."""
        to, unread = at, max(at, end - _LANDMARK_BYTES + 1)
        while to < unread:
            found = _LANDMARK.search(data, to)
            to = min(found.start(), unread) if found else unread
            if found and to < unread:
                is_block = data[to] in _BLOCKS
                if not is_block or data[found.end() - 4] & 0x7F in self._tracks:
                    self._is_lost = False
                    break
                to += 1
        self.strange += to - at
        return to

    def _pass_blocks(self, data: bytes, at: int, end: int) -> int:
        """The fast way through simple blocks of one frame, which is nearly all of a file."""
        tracks = self._tracks
        # No further than where a cluster may begin inside a block: at least three bytes must be seen behind it.
        bound = min(self._bound - (self.passed - end), self._cluster, end - _NAME_TAIL)
        last = end - _BLOCK_BYTES
        at = self._pass_short_blocks(data, at, min(last, bound - _MOST_SHORT_BYTES))
        while at <= last and data[at] == _SIMPLE_BLOCK:
            first = data[at + 1]
            if first & 0x80:
                body, size = at + 2, first & 0x7F
            elif first & 0x40:
                body, size = at + 3, (first & 0x3F) << 8 | data[at + 2]
            else:
                break
            track = tracks.get(data[body] ^ 0x80)
            if track is None or track.packets is None or data[body + 3] & _LACED or body + size > bound or size < 5:
                break
            at = body + size
            track.add(track.packets.samples(data, body + 4, at))
        return at

    def _pass_short_blocks(self, data: bytes, at: int, last: int) -> int:
        """The fastest: blocks of one size byte and one track, whose frames tell by their first byte what they play.

        Four hundred small packets make a second of Opus, so a look at one must cost no more than a table's.
        """
        track = self._tracks.get(data[at + 2] ^ 0x80) if at <= last else None
        if track is None or not track.by_head:
            return at
        read, hops, by_head, number = _SHORT_BLOCK.unpack_from, _HOPS, track.by_head, data[at + 2]
        total = samples = 0
        while at <= last:
            name_and_size, of_track, head = read(data, at)
            hop, played = hops[name_and_size], by_head[head]
            if of_track != number or not hop or not played:
                break
            samples = played
            total += played
            at += hop
        if total:
            track.add_run(total, samples)
        return at

    def _pass_element(self, data: bytes, at: int, end: int) -> int:
        """Pass one element, or descend into it; where to go on; -1, with ``_need`` set, while too little is here."""
        name_bytes = 9 - data[at].bit_length()
        if name_bytes > 4:  # no element's name begins so
            self._is_lost = True
            return at + 1
        if end - at <= name_bytes:
            self._need = name_bytes + 1
            return -1
        first = data[at + name_bytes]
        size_bytes = 9 - first.bit_length()
        body = at + name_bytes + size_bytes
        if end < body:
            self._need = body - at
            return -1
        name = int.from_bytes(data[at : at + name_bytes], "big")
        mask = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(data[at + name_bytes : body], "big") & mask
        if size_bytes > 8:
            self._is_lost = True
            return at + 1
        begins, ends = self.passed - end + at, self.passed - end + body + size
        if name in _MASTERS:
            self._descend(name, _NOWHERE if size == mask else ends)
            return body
        if size == mask or self._exceeds(begins, ends):
            self._is_lost = True
            return at + 1
        after = self._pass_leaf(name, data, at, body, size)
        if after > min(self._cluster, end - _NAME_TAIL) and not self._is_lost:
            self._leaf_ends = ends
            return body
        return after

    def _descend(self, name: int, master_ends: int) -> None:
        if name in _BOUNDING:
            self._ends.pop(_CLUSTER, None)
            self._ends.pop(name, None)
            self._ends[name] = master_ends
        if name in {_SEGMENT, _TRACKS, _INFO}:
            self._in_clusters = False
        elif name == _CLUSTER:
            self._in_clusters = True
        elif name == _TRACK_ENTRY:
            self._entry = Track()

    def _exceeds(self, begins: int, leaf_ends: int) -> bool:
        """Whether a leaf ends behind the innermost master that it began in: FFmpeg asks no other."""
        ends = self._ends
        while ends and begins >= self._bound:
            ends.popitem()
        return leaf_ends > self._bound

    @property
    def _bound(self) -> int:
        """Where the cluster ends that is open, or else the segment."""
        return next(reversed(self._ends.values()), _NOWHERE)

    def _pass_leaf(self, name: int, data: bytes, at: int, body: int, size: int) -> int:
        if name in _BLOCKS:
            want = min(size, _BLOCK_BYTES)
            if len(data) >= body + want and size > 4 and _is_laced(data, body, body + want):
                want = min(size, _MOST_READ_BYTES)
        elif name in _READ and size <= _MOST_READ_BYTES:
            want = size
        elif name in _PASSED or (size <= _MOST_UNKNOWN_BYTES and not self._in_clusters):
            return body + size
        else:
            # FFmpeg passes over a little that it does not know, and then looks for the next cluster: we do at once.
            self._is_lost = True
            return at + 1
        if len(data) < body + want:
            self._need = body - at + want
            return -1
        if name in _BLOCKS:
            self._pass_block(data, body, body + size)
        else:
            self._read(name, data[body : body + size])
        return body + size

    def _pass_block(self, data: bytes, at: int, end: int) -> None:
        number, at = _vint(data, at, end)
        track = self._tracks.get(number)
        if track is None or end - at < 3:
            self.strange += end - at
            return
        if not track.is_begun:
            track.begin()
            if track.is_audio and (self._first is None or not self._first.codec):
                self._first = track
        self._entry = track
        time = self._time + int.from_bytes(data[at : at + 2], "big", signed=True)
        frames = track.frames(data, at + 3, end, data[at + 2] >> 1 & 3)
        track.pass_frames(data, frames, time)

    def _read(self, name: int, body: bytes) -> None:
        entry = self._entry
        match name:
            case 0x2AD7B1:
                self._scale = min(int.from_bytes(body, "big") or _NS_PER_MS, _MOST_SCALE)
            case 0x4489:
                self._claimed = _float(body)
            case 0xE7:
                self._time = int.from_bytes(body[:8], "big")
            case 0x9B | 0x75A2:
                if entry is not None:
                    entry.end_block(
                        int.from_bytes(body[:8], "big", signed=name == _DISCARD), is_discard=name == _DISCARD
                    )
            case _ if entry is None or entry.is_begun:
                return
            case 0xB5:
                entry.rate = _float(body)
            case 0xD7:
                self._register(entry, int.from_bytes(body[:8], "big"))
            case _ if name in _NUMBERS:
                setattr(entry, _NUMBERS[name], int.from_bytes(body[:8], "big"))
            case _:
                setattr(entry, _TEXTS[name], body)

    def _register(self, entry: Track, number: int) -> None:
        old = self._tracks.get(number)
        if old is not None:
            entry.carry(old)
        if old is not None or len(self._tracks) < _MOST_TRACKS:
            self._tracks[number] = entry


def _is_laced(data: bytes, at: int, end: int) -> bool:
    _, at = _vint(data, at, end)
    return at + 2 < end and bool(data[at + 2] & _LACED)


def _vint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number as EBML writes it (RFC 8794 section 4), and what stands behind it; 0 where there is none."""
    size = 9 - data[at].bit_length() if at < end else 9
    if size > 8:
        return 0, end
    return int.from_bytes(data[at : at + size], "big") & (1 << 7 * size) - 1, at + size


def _float(body: bytes) -> float:
    value = 0.0
    if len(body) in {4, 8}:
        (value,) = struct.unpack(">f" if len(body) == 4 else ">d", body)
    return value if math.isfinite(value) and value > 0 else 0.0

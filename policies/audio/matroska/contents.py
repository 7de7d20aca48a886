"""What the elements of a Matroska file say: its tracks, what their blocks play, and what Info claims of the whole."""

import math
import struct

from policies.audio.matroska.levels import BLOCK_DURATION, CLUSTER_TIME, DISCARD, DURATION, SCALE
from policies.audio.matroska.tracks import Track
from policies.audio.walker import LONGEST_MS

_NS_PER_MS = 1_000_000

_RATES = {0xB5: "rate", 0x78B5: "output_rate"}
_NUMBERS = {
    0xD7: "number", 0x83: "kind", 0x23E383: "default_ns", 0x56AA: "delay_ns", 0x9F: "channels", 0x6264: "bits",
    0x4254: "compression",
}  # fmt: skip
_TEXTS = {0x86: "codec_id", 0x63A2: "private", 0x4255: "stripped"}
FIGURES = frozenset((SCALE, DURATION, CLUSTER_TIME, BLOCK_DURATION, DISCARD, *_RATES, *_NUMBERS))
"""Numbers, which have up to 8 bytes."""
READ = FIGURES.union(_TEXTS)

MOST_READ_BYTES = 65_536
"""Of one leaf, CodecPrivate above all; and of a block whose frames are laced."""
_BLOCK_BYTES = 32
"""Of a block whose frame is alone: track, time, flags, and what tells how long a frame plays."""
_MOST_TRACKS = 64
_MOST_SCALE = 1 << 40
_LACED = 0x06


class Contents:
    """Adds up what elements say, in the order in which they are read."""

    __slots__ = ("_claimed", "_entry", "_scale", "_time", "first", "tracks")

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self.first: Track | None = None
        """The first audio track."""
        self._entry: Track | None = None
        self._scale = _NS_PER_MS
        self._claimed = 0.0
        self._time = 0

    @property
    def claimed_ms(self) -> int | None:
        """Info's Duration; live recorders leave it out."""
        claimed = self._claimed * self._scale / _NS_PER_MS
        return min(round(claimed), LONGEST_MS) if 0 < claimed < math.inf else None

    @property
    def ns(self) -> int:
        """Of the longest audio track's blocks; -1 without one."""
        return max((track.ns(self._scale) for track in self.tracks.values() if track.is_audio), default=-1)

    @property
    def is_unsure(self) -> bool:
        """Whether the figure may rest on timestamps, or on packets that are not what they should be."""
        return any(track.is_unsure for track in self.tracks.values())

    def begin_track(self) -> None:
        """What is read next is of another track."""
        self._entry = Track()

    @staticmethod
    def wanted(data: bytes, body: int, size: int) -> int:
        """Bytes of a block without which it cannot be counted."""
        want = min(size, _BLOCK_BYTES)
        if len(data) >= body + want and size > 4 and _is_laced(data, body, body + want):
            want = min(size, MOST_READ_BYTES)
        return want

    def pass_block(self, data: bytes, at: int, end: int, *, is_whole: bool) -> bool | None:
        """Count a block's frames; whether they are where it says; None for one of no track.

        One that is not whole may be here from its first to its last byte all the same.
        """
        number, at = _vint(data, at, end)
        track = self.tracks.get(number)
        if track is None or end - at < 3:
            return None
        if not track.is_begun:
            track.begin()
            if track.is_audio and (self.first is None or not self.first.codec):
                self.first = track
        self._entry = track
        time = self._time + int.from_bytes(data[at : at + 2], "big", signed=True)
        lacing = data[at + 2] >> 1 & 3
        frames = track.frames(data, at + 3, end, lacing)
        track.pass_frames(data, frames, time, is_whole=is_whole)
        return not lacing or len(frames) == data[at + 3] + 1

    def read(self, name: int, body: bytes) -> None:
        """One leaf of those that are read."""
        entry = self._entry
        match name:
            case 0x2AD7B1:
                self._scale = min(int.from_bytes(body, "big") or _NS_PER_MS, _MOST_SCALE)
            case 0x4489:
                self._claimed = _float(body)
            case 0xE7:
                self._time = int.from_bytes(body, "big")
            case 0x9B | 0x75A2:
                if entry is not None:
                    entry.end_block(int.from_bytes(body, "big", signed=name == DISCARD), is_discard=name == DISCARD)
            case _ if entry is None or entry.is_begun:
                return
            case _ if name in _RATES:
                setattr(entry, _RATES[name], _float(body))
                entry.says_rate = entry.says_rate or name == 0xB5
            case 0xD7:
                self._register(entry, int.from_bytes(body, "big"))
            case _ if name in _NUMBERS:
                setattr(entry, _NUMBERS[name], int.from_bytes(body, "big"))
            case _:
                setattr(entry, _TEXTS[name], body)

    def _register(self, entry: Track, number: int) -> None:
        old = self.tracks.get(number)
        if old is entry:
            return  # it says its number twice, or a reader went back to it
        if old is not None:
            entry.carry(old)
        if old is not None or len(self.tracks) < _MOST_TRACKS:
            self.tracks[number] = entry


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

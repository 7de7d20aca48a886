"""AMR and AMR-WB (RFC 4867 section 5): frames of 20 ms, each as long as its first byte says."""

from policies.audio.walker import Chunk

_FRAME_MS = 20
# Whole frames in bytes, by the frame type in bits 3 to 6 (3GPP TS 26.101 and 26.201; what is undefined takes a byte).
NARROW_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
_RUN = 50
"""Frames without a break that are no chance."""
_RUN_TO_INVALID, _MOST_INVALID = 16, 5000
"""FFmpeg wants so many frames for each byte that is none, within a megabyte."""
_GOOD = 0x04
"""The bit that says that a frame is not damaged."""
_RESERVED = 0x83
"""Bits that are zero in a frame's first byte."""
_NO_DATA = 15
_STRAY, _STRAY_PART = 32, 8
"""How many frames that no recorder writes there may be, and which part of all: beyond both it is no AMR."""
_BY_FIRST = [
    (
        [sizes[first >> 3 & 15] for first in range(256)],
        [
            first & _RESERVED > 0 or (sizes[first >> 3 & 15] == 1 and first >> 3 & 15 != _NO_DATA)
            for first in range(256)
        ],
    )
    for sizes in (NARROW_BYTES, _WIDE)
]
"""For narrow and for wide frames, by the first byte: the frame's size, and whether no frame begins so."""
_NS_PER_FRAME = _FRAME_MS * 1_000_000
_MAGICS = ((b"#!AMR-WB\n", True), (b"#!AMR\n", False))
_MAGIC_BYTES = 9


class AmrWalker:
    """Counts frames; keeps no more than the magic."""

    __slots__ = ("_frames", "_held", "_sizes", "_skip", "codec")

    channels = 1
    claimed_ms = None
    strange = 0
    unsure = False

    def __init__(self) -> None:
        self.codec = ""
        self._sizes: list[int] | None = None
        self._held = b""
        self._frames = 0
        self._skip = 0

    @property
    def ms(self) -> int | None:
        """Of the frames that have begun."""
        return self._frames * _FRAME_MS or None

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file, from its magic on."""
        if self._sizes is None:
            self._held += chunk
            if len(self._held) < _MAGIC_BYTES:
                return
            chunk, self._held = self._begin(self._held), b""
        sizes, at, end, frames = self._sizes or [], self._skip, len(chunk), self._frames
        while at < end:
            at += sizes[chunk[at]]
            frames += 1
        self._frames, self._skip = frames, at - end

    def _begin(self, head: bytes) -> bytes:
        magic, wide = next((known for known in _MAGICS if head.startswith(known[0])), (b"", False))
        self._sizes, _ = _BY_FIRST[wide]
        self.codec = "amr_wb" if wide else "amr_nb"
        return head[len(magic) :]


class BareAmrWalker:
    """AMR without its magic, which FFmpeg knows by a run of frames, and a few bytes in front that are none."""

    __slots__ = ("_frames", "_invalid", "_passed", "_run", "_sizes", "_skip", "codec")

    channels = 1
    claimed_ms = None
    unsure = True

    def __init__(self, *, wide: bool) -> None:
        self._sizes, _ = _BY_FIRST[wide]
        self.codec = "amr_wb" if wide else "amr_nb"
        self._frames = 0
        self._run = 0
        self._invalid = 0
        self._skip = 0
        self._passed = 0

    @property
    def _is_found(self) -> bool:
        return self._run >= self._least_run

    @property
    def _least_run(self) -> int:
        return max(_RUN, self._invalid * _RUN_TO_INVALID)

    @property
    def ms(self) -> int | None:
        """Of the frames that have begun, once there are enough to believe in them: each byte that is none plays too."""
        return (self._frames + self._invalid) * _FRAME_MS if self._is_found else None

    @property
    def strange(self) -> int:
        """All or nothing."""
        return 0 if self._is_found else self._passed

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._passed += len(chunk)
        if self._invalid > _MOST_INVALID:
            return
        sizes, at, end, frames, least = self._sizes, self._skip, len(chunk), 0, self._least_run
        while at < end and self._run < least:
            size = sizes[chunk[at]]
            if chunk[at] & _GOOD and size > 1:
                frames += 1
                self._run += 1
                at += size
                continue
            at += 1
            self._run = 0
            self._invalid += 1
            if self._invalid > _MOST_INVALID:
                return
            least = self._least_run
        while at < end:
            at += sizes[chunk[at]]
            frames += 1
        self._frames += frames
        self._skip = at - end


class AmrFrames:
    """Frames one behind the other, from the first byte on: as an MP4 holds them."""

    __slots__ = ("_frames", "_is_lost", "_passed", "_sizes", "_skip", "_stray", "_strays")

    def __init__(self, *, wide: bool) -> None:
        self._sizes, self._strays = _BY_FIRST[wide]
        self._frames = self._stray = self._skip = self._passed = 0
        self._is_lost = False

    @property
    def ns(self) -> int:
        """Of the frames that have begun."""
        return self._frames * _NS_PER_FRAME

    @property
    def strange(self) -> int:
        """All or nothing."""
        return self._passed if self._is_lost else 0

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self._passed += len(chunk)
        sizes, strays, at, end, frames = self._sizes, self._strays, self._skip, len(chunk), 0
        while at < end and not self._is_lost:
            first = chunk[at]
            at += sizes[first]
            frames += 1
            if strays[first]:
                self._stray += 1
                self._is_lost = self._stray > _STRAY + (self._frames + frames) // _STRAY_PART
        self._frames += frames
        self._skip = max(at - end, 0)

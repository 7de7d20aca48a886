"""Frames in the media of an MP4: of MPEG audio, AC-3 and AMR each says itself how long it is, whatever the tables say.

A table may make one sample of many frames, and FFmpeg plays them all. So they are followed as the media passes. Of
media that begins before its description (a movie at the file's end) every kind is looked for, as long as most of it is
that. AAC and FLAC are not found here: their frames end where only a decoder knows, or take a search of every byte.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from policies.audio.ac3 import Ac3Walker
from policies.audio.amr import AmrFrames
from policies.audio.mpeg import MpegWalker
from policies.audio.walker import Chunk

_BLOCK_BYTES = 16_384
"""How often walkers that find nothing are let go: at the same bytes, however they are cut."""
_STRANGE_BYTES, _STRANGE_PART = 8_192, 8
"""What may belong to no frame, and which part of the rest."""


class _Frames(Protocol):
    """A walker of bare frames."""

    @property
    def ns(self) -> int:
        """What they play."""

    @property
    def strange(self) -> int:
        """Bytes that belong to none."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""


_KINDS: Mapping[str, Callable[[], _Frames]] = {
    "mp3": lambda: MpegWalker(is_linked=False),
    "ac3": lambda: Ac3Walker(is_linked=False),
    "amr_nb": lambda: AmrFrames(wide=False),
    "amr_wb": lambda: AmrFrames(wide=True),
}
_SAME = {"eac3": "ac3"}
_LEAST_BITRATES = {"mp3": 8_000, "ac3": 32_000, "eac3": 32_000, "amr_nb": 5_200, "amr_wb": 7_200}
"""Bits per second of the smallest frames that hold speech."""


class Media:
    """All media of one file, in any cuts; keeps one frame of each kind."""

    __slots__ = ("_kinds", "_passed")

    def __init__(self, codecs: Collection[str]) -> None:
        """``codecs`` are those that have been described so far; empty before the first description."""
        wanted = {_SAME.get(codec, codec) for codec in codecs}
        self._kinds = {name: make() for name, make in _KINDS.items() if not wanted or name in wanted}
        self._passed = 0

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the media."""
        view = memoryview(chunk)
        while view and self._kinds:
            piece = view[: _BLOCK_BYTES - self._passed % _BLOCK_BYTES]
            view = view[len(piece) :]
            self._passed += len(piece)
            for frames in self._kinds.values():
                frames.feed(piece)
            if not self._passed % _BLOCK_BYTES:
                self._kinds = {name: frames for name, frames in self._kinds.items() if self._is_mostly(frames)}

    def ns(self, codec: str) -> int | None:
        """What the frames of this codec play; None where the media is not made of them."""
        frames = self._kinds.get(_SAME.get(codec, codec))
        return frames.ns if frames and self._is_mostly(frames) else None

    def most_ns(self, codec: str, size: int) -> int:
        """What so many bytes of it may play; 0 of a codec whose frames are not followed."""
        bitrate = _LEAST_BITRATES.get(codec)
        return min(size, self._passed) * 8_000_000_000 // bitrate if bitrate else 0

    def _is_mostly(self, frames: _Frames) -> bool:
        return frames.strange <= _STRANGE_BYTES + self._passed // _STRANGE_PART

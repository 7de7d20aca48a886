"""Frames of MPEG audio, AAC or AC-3 in what a WAV calls plain samples: FFmpeg probes those, and plays what it finds."""

from policies.audio.ac3 import Ac3Walker
from policies.audio.adts import AdtsWalker, LatmWalker
from policies.audio.frames import FrameWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.walker import Chunk

_LOOKED_AT_BYTES = 262_144
"""FFmpeg looks at 32 packets of 4096 bytes."""


class Disguise:
    """Looks at the first samples, and goes on where half of them are frames."""

    __slots__ = ("_left", "_seen", "_walkers")

    def __init__(self) -> None:
        self._left = _LOOKED_AT_BYTES
        self._seen = 0
        kinds: tuple[type[FrameWalker], ...] = (MpegWalker, AdtsWalker, LatmWalker, Ac3Walker)
        self._walkers = [kind(is_linked=False) for kind in kinds]

    @property
    def ms(self) -> int | None:
        """Of the frames found; None where there are none."""
        return max((walker.ms or 0 for walker in self._walkers if walker.strange * 2 <= self._seen), default=0) or None

    @property
    def is_none(self) -> bool:
        """Whether there are certainly none."""
        return not self._walkers

    def feed(self, chunk: Chunk) -> None:
        """The next samples."""
        if not self._walkers:
            return
        now = memoryview(chunk)[: self._left] if self._left else memoryview(chunk)
        self._seen += len(now)
        for walker in self._walkers:
            walker.feed(now)
        if self._left:
            self._left -= len(now)
            if not self._left:
                self._walkers = [one for one in self._walkers if one.ms and one.strange * 2 <= self._seen]
                self.feed(memoryview(chunk)[len(now) :])

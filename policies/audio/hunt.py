"""For bytes that begin like nothing known: frames that FFmpeg would find in them all the same.

It looks at the first megabyte and plays MPEG audio or ADTS behind any rubbish, and AMR without its magic. Other
containers must begin at once.
"""

from policies.audio.adts import AdtsWalker
from policies.audio.amr import BareAmrWalker
from policies.audio.mpeg import MpegWalker
from policies.audio.walker import Chunk, Walker


class HuntWalker:
    """All walkers at once; the one that explains most of the bytes speaks."""

    __slots__ = ("_walkers",)

    claimed_ms = None

    def __init__(self) -> None:
        self._walkers: tuple[Walker, ...] = (
            MpegWalker(is_linked=False),
            AdtsWalker(is_linked=False),
            BareAmrWalker(wide=False),
            BareAmrWalker(wide=True),
        )

    @property
    def _best(self) -> Walker:
        return min(self._walkers, key=lambda walker: (walker.ms is None, walker.strange))

    @property
    def ms(self) -> int | None:
        """Of the frames found."""
        return self._best.ms

    @property
    def codec(self) -> str:
        """Of the frames found; empty without any."""
        return self._best.codec if self._best.ms else ""

    @property
    def channels(self) -> int | None:
        """Of the frames found."""
        return self._best.channels if self._best.ms else None

    @property
    def unsure(self) -> bool:
        """Whether there are any: nobody makes such a file on purpose."""
        return self._best.ms is not None

    @property
    def strange(self) -> int:
        """Bytes that belong to no frame."""
        return self._best.strange

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        for walker in self._walkers:
            walker.feed(chunk)

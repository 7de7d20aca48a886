"""What an MP4's edit list leaves out of a track, as far as that is believed: an encoder's delay at the start.

Decoders play the end to the end. An edit that leaves out more is no delay, and players that know no edits play it all.
"""

import struct

from policies.audio.opus import RATE as OPUS_RATE

_NS_PER_SECOND = 1_000_000_000
_MOST_EDITS = 64
_MOST_LEFT_OUT = 4
"""Frames."""


class Edits:
    """Those of one track."""

    __slots__ = ("_start", "pre_skip")

    def __init__(self) -> None:
        self._start: int | None = None  # where the first edit begins, if there is a list of them
        self.pre_skip = 0
        """Of Opus, by its description: what decoders leave out where no edits are listed."""

    def read(self, body: bytes) -> None:
        """``elst`` (ISO/IEC 14496-12 section 8.6.6): where its first true edit begins; an empty one starts at -1."""
        pattern = ">Qq4x" if body[0] else ">Ii4x"
        width = struct.calcsize(pattern)
        count = min(int.from_bytes(body[4:8], "big"), _MOST_EDITS, (len(body) - 8) // width)
        edits = [struct.unpack_from(pattern, body, 8 + width * index) for index in range(count)]
        self._start = next((start for _, start in edits if start >= 0), 0)

    def left_out_ns(self, gross: int, one: int, scale: int) -> int:
        """Of so many nanoseconds in frames of ``one`` each; ``scale`` is the track's ticks to the second."""
        if self._start is None:
            start = self.pre_skip * _NS_PER_SECOND // OPUS_RATE
        else:
            start = self._start * _NS_PER_SECOND // scale
        return start if start <= min(_MOST_LEFT_OUT * one, gross) else 0

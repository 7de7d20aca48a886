"""The promise of every container's walker, and the arithmetic they share."""

from typing import Protocol, TypeAlias

Chunk: TypeAlias = bytes | bytearray | memoryview

LONGEST_MS = 24 * 86_400_000
"""The sanity cap: no single request is said to carry more than 24 days (2 GiB of speech at 8 kbit/s; fits 31 bits).

A figure above it is a forged header or a broken counter: one gateway once billed 192,153,584,101,141 s for a FLAC file
of unknown length (BerriAI/litellm#22622).
"""


_LEFT_NS = 2_000_000
"""Of a byte that nobody looked at any more: the thriftiest speech has 4 kbit/s."""
_MOST_TURNS = 65_536
"""Small things that may be looked at in a file of any size."""


class Walker(Protocol):
    """Walks one file's container as its bytes pass.

    Never raises, whatever the bytes; costs time linear in them and a bounded memory; and says the same however they are
    cut. ``codec`` and the figures may be read at any time, and are final when the last byte has been fed.
    """

    @property
    def codec(self) -> str:
        """FFmpeg's name for the codec; empty until known."""

    @property
    def channels(self) -> int | None:
        """None until known."""

    @property
    def ms(self) -> int | None:
        """Milliseconds a decoder would play of the bytes fed so far; None where nothing playable was found."""

    @property
    def claimed_ms(self) -> int | None:
        """What the header says of the whole file, for an early estimate; None where it says nothing."""

    @property
    def strange(self) -> int:
        """Bytes that belong to nothing the walker could make out."""

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on a guess, or on what the file says of itself."""

    def feed(self, chunk: Chunk) -> None:
        """The next bytes, of any length."""


class Patience:
    """How many small things a walker looks at before it takes the rest of the file to be like what has passed.

    Looking at one costs about 2 microseconds. A file that is made of nothing else would take its sender's bytes a
    minute for every 30 MB; with this it is a second for every 30 MB. ``lost_at``: how many bytes had passed then.
    """

    __slots__ = ("_bytes_each", "_turns", "lost_at")

    def __init__(self, bytes_each: int) -> None:
        self._bytes_each = bytes_each
        self._turns = 0
        self.lost_at = 0

    def is_lost(self, position: int) -> bool:
        """Count one more thing, at so many bytes into the file."""
        self._turns += 1
        if self._turns > _MOST_TURNS + position // self._bytes_each:
            self.lost_at = max(position, 1)
        return self.lost_at > 0

    def affords(self, turns: int, position: int) -> bool:
        """Whether it lasts for so many more things behind so many bytes, however they are cut."""
        return self._turns + turns <= _MOST_TURNS + position // self._bytes_each

    def spend(self, turns: int) -> None:
        """Count what costs as much as so many things."""
        self._turns += turns

    def lose(self, position: int) -> None:
        """End it, at so many bytes into the file."""
        self.lost_at = max(position, 1)

    def extended(self, figure: int, passed: int) -> int:
        """A figure that was reached when patience ended, over all bytes that have passed."""
        return figure * passed // self.lost_at if self.lost_at else figure

    def weighed(self, ns: int, passed: int) -> int:
        """The same in nanoseconds, and at least as long as the rest may play.

        What plays nothing, in front of all sound, would else make it as if there were none.
        """
        return max(self.extended(ns, passed), ns + (passed - self.lost_at) * _LEFT_NS) if self.lost_at else ns


def milliseconds(samples: int, rate: int) -> int:
    """Samples per channel at a rate in Hz, to the nearest whole millisecond."""
    return (samples * 1000 + rate // 2) // rate

"""The promise of every container's walker, and the arithmetic they share."""

from typing import Protocol, TypeAlias

Chunk: TypeAlias = bytes | memoryview

LONGEST_MS = 24 * 86_400_000
"""The sanity cap: no single request is said to carry more than 24 days (2 GiB of speech at 8 kbit/s; fits 31 bits).

A figure above it is a forged header or a broken counter: one gateway once billed 192,153,584,101,141 s for a FLAC file
of unknown length (BerriAI/litellm#22622).
"""


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


def milliseconds(samples: int, rate: int) -> int:
    """Samples per channel at a rate in Hz, to the nearest whole millisecond."""
    return (samples * 1000 + rate // 2) // rate

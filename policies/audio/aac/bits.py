"""Bits, read one behind the other."""

from policies.audio.aac.spectrum import PADDING_BITS, pass_words


class EndError(Exception):
    """The bytes are over before it can be told."""


class Bits:
    """Those of a block, whose end may be missing."""

    __slots__ = ("_bits", "_left")

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big") << PADDING_BITS
        self._left = 8 * len(data) + PADDING_BITS

    @property
    def left(self) -> int:
        """Before the end; below 0 behind it."""
        return self._left - PADDING_BITS

    def read(self, size: int) -> int:
        """So many. Raises EndError where they are not there."""
        self._left = left = self._left - size
        if left < PADDING_BITS:
            raise EndError
        return self._bits >> left & (1 << size) - 1

    def skip(self, size: int) -> None:
        """Pass so many, also beyond the end."""
        self._left -= size

    def align(self) -> None:
        """Pass those up to the next whole byte."""
        self._left -= self._left % 8

    def pass_words(self, book: int, count: int) -> None:
        """Raises ValueError where there is none."""
        self._left = pass_words(book, count, self._bits, self._left)

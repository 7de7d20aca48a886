"""How long a Vorbis packet plays: half of its window's and half of the last one's overlap (Vorbis I, section 4.3.8).

A packet names one of the modes that stand at the very end of the setup header, behind code books that nobody wants to
read. So the end is read backwards, as FFmpeg does: a mode is one bit and forty known ones, and their number stands in
front of the first.
"""

from collections.abc import Sequence

KEPT_BYTES = 512
"""Of the setup header's end: 64 modes of 41 bits, and room."""

_MODE_BITS = 41
_MOST_MODES = 64


class Windows:
    """The packets of one stream, in order. Not knowing the modes, it takes every window for a long one."""

    __slots__ = ("_is_long", "_last", "_mask", "_windows", "channels", "rate")

    def __init__(self, identification: bytes) -> None:
        """``identification`` is the first header, 30 bytes."""
        self.channels = identification[11]
        self.rate = int.from_bytes(identification[12:16], "little")
        sizes = identification[28]
        self._windows = (1 << (sizes & 15), 1 << (sizes >> 4))
        self._is_long: Sequence[int] = ()
        self._mask = 0
        self._last = 0

    def set_up(self, end: bytes) -> None:
        """Learn the modes from the last bytes of the setup header."""
        self._is_long = _modes(end)
        self._mask = (1 << max(len(self._is_long) - 1, 0).bit_length()) - 1

    def samples(self, first: int) -> int:
        """Of the next packet, by its first byte: the stream's first one plays nothing, nor does a header."""
        if first & 1:
            return 0
        if self._is_long:
            window = self._windows[self._is_long[min(first >> 1 & self._mask, len(self._is_long) - 1)]]
        else:
            window = self._windows[1]
        played = (self._last + window) // 4 if self._last else 0
        self._last = window
        return played


def is_sound(identification: bytes) -> bool:
    """Whether a decoder would take a first header: it has channels, and a rate."""
    return identification[11] > 0 and 0 < int.from_bytes(identification[12:16], "little") < 1 << 31


def _modes(end: bytes) -> list[int]:
    """Which windows are long ones, by mode; empty where it cannot be read."""
    bits = int.from_bytes(end[-KEPT_BYTES:], "little")  # Vorbis fills its bytes from the lowest bit on
    framing = bits.bit_length() - 1
    found: list[int] = []
    best: list[int] = []
    at = framing
    while at >= _MODE_BITS + 6 and len(found) < _MOST_MODES:
        mode = bits >> at - _MODE_BITS & (1 << _MODE_BITS) - 1
        if mode >> 1 & 0xFFFF_FFFF or mode >> 33 > 63:  # window and transform are 0, the mapping has 6 bits
            break
        found.insert(0, mode & 1)
        at -= _MODE_BITS
        if (bits >> at - 6 & 63) + 1 == len(found):
            best = list(found)
    return best

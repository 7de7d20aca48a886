"""The scale factor bands of AAC (ISO/IEC 14496-3 section 4.5.4): where each one ends, by the rate."""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

from policies.audio.aac.setup import RATES, SAMPLES

_WIDTHS_96 = "14x4 5x8 5x12 16 16 24 28 36 44 11x64"
_WIDTHS_64 = "14x4 4x8 3x12 3x16 20 24 24 28 36 18x40"
_WIDTHS_48 = "10x4 7x8 12 12 12 12 16 16 20 20 24 24 28 28 19x32 96"
_WIDTHS_32 = "10x4 7x8 12 12 12 12 16 16 20 20 24 24 28 28 22x32"
_WIDTHS_24 = "11x4 10x8 4x12 16 16 16 20 20 24 24 28 28 32 36 36 40 44 48 52 52 5x64"
_WIDTHS_16 = "11x8 9x12 4x16 20 20 20 24 24 28 28 32 36 40 40 44 48 52 56 60 64 64 64 64"
_WIDTHS_8 = "13x12 7x16 4x20 24 24 24 28 28 32 36 36 40 44 48 52 56 60 64 80"
_WIDTHS = dict(
    zip(
        RATES,
        (_WIDTHS_96,) * 2 + (_WIDTHS_64,) + (_WIDTHS_48,) * 2 + (_WIDTHS_32,) + (_WIDTHS_24,) * 2
        + (_WIDTHS_16,) * 3 + (_WIDTHS_8,) * 2,
        strict=True,
    )
)  # fmt: skip
_SHORT_96, _SHORT_48 = "6x4 3x8 16 28 36", "5x4 3x8 12 12 12 16 16 16"
_SHORT_24, _SHORT_16 = "7x4 3x8 12 12 16 16 20", "8x4 8 8 12 12 16 20 20"
_SHORT_8 = "7x4 4x8 12 16 20 20"
_SHORT_WIDTHS = dict(
    zip(
        RATES,
        (_SHORT_96,) * 3 + (_SHORT_48,) * 3 + (_SHORT_24,) * 2 + (_SHORT_16,) * 3 + (_SHORT_8,) * 2,
        strict=True,
    )
)
"""Values to the band (ISO/IEC 14496-3 section 4.5.4)."""


@cache
def bands_of(rate: int, length: int, *, is_short: bool) -> Sequence[int]:
    """Where each band ends, from 0 on, in a window of so many values."""
    widths: list[int] = []
    for item in (_SHORT_WIDTHS if is_short else _WIDTHS)[rate].split():
        times, _, width = item.rpartition("x")
        widths += [int(width)] * int(times or 1)
    ends = [min(end, length) for end in accumulate(widths, initial=0)]
    return ends[: ends.index(length) + 1]


@cache
def most_bands(rate: int) -> tuple[int, int]:
    """In a long window and in a short one."""
    return len(bands_of(rate, SAMPLES, is_short=False)) - 1, len(bands_of(rate, SAMPLES // 8, is_short=True)) - 1

"""The geometry of bars, in a box that is 100 high and as many units wide as there are bars; a page stretches it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

HEIGHT: Final = 100.0
GAP: Final = 0.2
"""The part of a bar's unit that is left free, half on each side."""
_LEAST: Final = 1.0
"""What is there is seen, however little of the whole it is."""


class Piece(NamedTuple):
    """One part of a bar: which of the series, and where."""

    series: int
    y: float
    height: float


class Bar(NamedTuple):
    """One bar: its pieces, from the bottom up."""

    x: float
    width: float
    pieces: tuple[Piece, ...]


class Bars(NamedTuple):
    """``top`` is the figure at the upper edge."""

    top: int
    bars: tuple[Bar, ...]


def stacked(rows: Sequence[Sequence[int]], unit: int = 1) -> Bars:
    """One bar for each row, of its figures on one another; the upper edge is a round number of ``unit``."""
    top = round_above(-(-max(map(sum, rows), default=0) // unit)) * unit
    return Bars(top, tuple(Bar(place + GAP / 2, 1 - GAP, _pieces(row, top)) for place, row in enumerate(rows)))


def _pieces(row: Sequence[int], top: int) -> tuple[Piece, ...]:
    y, found = HEIGHT, []
    for series, figure in enumerate(row):
        if figure > 0:
            height = max(figure / top * HEIGHT, _LEAST)
            y = max(y - height, 0.0)
            found.append(Piece(series, round(y, 2), round(height, 2)))
    return tuple(found)


def round_above(figure: int) -> int:
    """The next 1, 2 or 5 with noughts behind it that is not below ``figure``; at least 1."""
    power = 1
    while True:
        for first in (1, 2, 5):
            if first * power >= figure:
                return first * power
        power *= 10

"""Pages: in the order of one column whose values are unique, rising or falling, beyond the last row that was seen."""

from collections.abc import Mapping
from typing import NamedTuple

LAST_NUMBER = 2**63 - 1
LAST_TEXT = "zzzz"
"""Behind every id and every digit, in any collation."""


class Order(NamedTuple):
    """An order, and the position before its first row."""

    column: str
    start: str | int = ""
    falling: bool = False

    def page(self, position: str, limit: str) -> str:
        """The end of a statement; ``position`` and ``limit`` are its parameters.

        There always is a position, so that a page is a piece of the index however deep it is.
        """
        comes, way = ("<", "DESC") if self.falling else (">", "ASC")
        return f" AND {self.column} {comes} {position} ORDER BY {self.column} {way} LIMIT {limit}"

    def after(self, beyond: str | int | None) -> str | int:
        """The position behind a row, or before the first."""
        return self.start if beyond is None else beyond


def by_age(column: str, first: str | int = "", last: str | int = LAST_TEXT) -> Mapping[str, Order]:
    """Both orders by a column that rises with time, by the names that clients know them by."""
    return {"created": Order(column, first), "-created": Order(column, last, falling=True)}

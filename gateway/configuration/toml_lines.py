"""Where things stand in a TOML file: the line of every key, which ``tomllib`` does not tell.

A TOML statement is whole exactly when it parses by itself: a line that does not is the beginning of a longer one (a
list or a string over several lines). So the parser that reads the file also finds the lines, and nothing here knows
the grammar but for the brackets of a heading.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

Place = tuple[str | int, ...]


class Lines:
    """The lines of one text, which as a whole is TOML."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        table: Place = ()
        sizes: dict[Place, int] = {}
        statement, begun = "", 0
        for number, line in enumerate(text.split("\n"), start=1):
            statement, begun = f"{statement}{line}\n", begun or number
            try:
                parsed = tomllib.loads(statement)
            except tomllib.TOMLDecodeError:
                continue
            heading = statement.lstrip().startswith("[")
            if heading:
                table = self._heading(parsed, sizes)
                self._lines.setdefault(table, begun)
            else:
                for place in _places(parsed):
                    self._lines.setdefault((*table, *place), begun)
            statement, begun = "", 0

    @staticmethod
    def _heading(parsed: Mapping[str, Any], sizes: dict[Place, int]) -> Place:
        """``[a.b]`` -> ``("a", "b")``; the second ``[[a]]`` -> ``("a", 1)``, ``[a.b]`` below it ``("a", 1, "b")``."""
        place: Place = ()
        inner: object = parsed
        while isinstance(inner, dict) and inner:
            (key, inner), *_ = inner.items()
            place = (*place, key)
            if isinstance(inner, list):
                sizes[place] = sizes.get(place, 0) + 1
                inner = inner[0]
            if place in sizes:
                place = (*place, sizes[place] - 1)
        return place

    def of(self, place: Place) -> int | None:
        """The line of what is there, or of the nearest thing around it; None for the file as a whole."""
        while place:
            if place in self._lines:
                return self._lines[place]
            place = place[:-1]
        return None

    def spot(self, place: Place) -> str:
        """``:12`` to put behind the name of the file, or nothing."""
        line = self.of(place)
        return "" if line is None else f":{line}"


def _places(parsed: Mapping[str, Any], above: Place = ()) -> list[Place]:
    found: list[Place] = []
    for key, value in parsed.items():
        place = (*above, key)
        found.append(place)
        if isinstance(value, dict):
            found += _places(value, place)
    return found

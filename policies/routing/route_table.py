"""The route table: which of its routes a method and a path lead to. What it does not name is closed.

The table is compiled once from plain data (``config/routes.toml``) and never changes; a reload compiles another one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.http.inquiry import plain_reading
from policies.http.verdict import Deny, Refusal
from policies.routing.route_fields import read_route
from policies.routing.routes import PARAMETER, PORTAL, RESERVED, REST, Route

Place = tuple[str | int, ...]
"""Keys and indices from the top of the table down to what is wrong: ``("routes", 3, "scope")``."""


class RoutesInvalid(ValueError):
    """The table cannot be compiled.

    ``faults`` names every fault, one sentence each; ``places`` says of each where it is.
    """

    def __init__(self, faults: Sequence[tuple[Place, str]]) -> None:
        self.faults = tuple(sentence for _, sentence in faults)
        self.places = tuple(place for place, _ in faults)
        super().__init__("; ".join(self.faults))


_ByMethod = Mapping[str, Route]
_DEEPEST = 12
"""Segments above which nobody looks for a route nearby, however long the path."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Compiled routes.

    ``exact`` maps a path without parameters to its routes by method, so that the usual case is two dictionary look-ups.
    ``patterns`` holds the others, by how many segments they have: one regular expression for all of them, the more
    literal first (where a route stands in the file decides nothing), whose last group tells which one it was.
    ``rests`` are asked last: they take paths of any length.
    """

    routes: tuple[Route, ...]
    exact: Mapping[str, _ByMethod]
    patterns: Mapping[int, tuple[re.Pattern[str], tuple[_ByMethod, ...]]]
    rests: tuple[tuple[re.Pattern[str], _ByMethod], ...]

    @classmethod
    def compile(cls, table: Mapping[str, Any]) -> "RouteTable":
        """Build from ``{"routes": [{"name": …, "path": …, "methods": […], …}, …]}``. Raises RoutesInvalid."""
        faults: list[tuple[Place, str]] = [
            ((key,), f"unknown table '{key}': only [[routes]] is known") for key in table if key != "routes"
        ]
        entries = table.get("routes", [])
        if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
            wrong = "'routes' is a list of tables: each route begins with a line [[routes]]"
            raise RoutesInvalid([*faults, (("routes",), wrong)])
        routes: dict[int, Route] = {}
        for index, entry in enumerate(entries):
            made = read_route(entry)
            if isinstance(made, Route):
                routes[index] = made
            else:
                where = f"route {index + 1} ({entry.get('name', 'without a name')})"
                faults += ((("routes", index, key), f"{where}: {sentence}") for key, sentence in made)
        faults += _clashes(routes)
        faults += _strangers(routes)
        faults += _dead_grants(routes)
        if faults:
            raise RoutesInvalid(faults)
        return cls(tuple(routes.values()), *_index(tuple(routes.values())))

    def with_own(self, own: Sequence[Route]) -> "RouteTable":
        """The same with the gateway's own routes, which no table can name."""
        routes = (*self.routes, *own)
        return RouteTable(routes, *_index(routes))

    def match(self, method: str, path: str) -> Route | Deny:
        """The route for a plain path, or why there is none. HEAD goes where GET goes only if a route lists HEAD.

        A server decodes ``%3A`` before it looks for ``/v1/speech:recognize``. So both spellings must lead to one route;
        a target for which they do not is ambiguous. What goes on is the path as it came.
        """
        found = self._find(method, path)
        if "%" in path and self._find(method, plain_reading(path)) != found:
            return Deny(refusal=Refusal.AMBIGUOUS_TARGET)
        return found

    def dialect_near(self, path: str) -> str:
        """In which shape a path is refused that no route takes: in that of the nearest one above it, or OpenAI's.

        Versions alone (``/v2``) say nothing: several services have them.
        """
        segments = path.split("/", _DEEPEST)[:_DEEPEST]
        for depth in range(len(segments), min(len(segments) - 1, 2), -1):
            above = "/".join(segments[:depth])
            by_method = self.exact.get(above) or self._by_pattern(above)
            if by_method is not None:
                return next(iter(by_method.values())).dialect
        return "openai"

    def _find(self, method: str, path: str) -> Route | Deny:
        by_method = self.exact.get(path) or self._by_pattern(path)
        if by_method is None:
            return Deny(refusal=Refusal.UNKNOWN_ROUTE)
        route = by_method.get(method)
        if route is None:
            return Deny(refusal=Refusal.METHOD_NOT_ALLOWED, allow=tuple(sorted(by_method)))
        return route

    def _by_pattern(self, path: str) -> _ByMethod | None:
        compiled = self.patterns.get(path.count("/"))
        found = compiled[0].fullmatch(path) if compiled is not None else None
        if compiled is None or found is None or found.lastindex is None:
            return next((by_method for pattern, by_method in self.rests if pattern.fullmatch(path)), None)
        return compiled[1][found.lastindex - 1]


def _clashes(routes: Mapping[int, Route]) -> list[tuple[Place, str]]:
    faults: list[tuple[Place, str]] = []
    names: set[str] = set()
    seen: dict[tuple[str, str], Route] = {}
    for index, route in routes.items():
        if route.name in names:
            faults.append((("routes", index, "name"), f"two routes are called '{route.name}'"))
        names.add(route.name)
        shape = REST.sub("{...}", PARAMETER.sub("{}", route.path))
        for method in route.methods:
            other = seen.setdefault((method, shape), route)
            if other is not route:
                sentence = f"'{route.name}' and '{other.name}' both claim {method} {route.path}"
                faults.append((("routes", index, "path"), sentence))
    return faults


def _strangers(routes: Mapping[int, Route]) -> list[tuple[Place, str]]:
    """Jobs of a kind that nobody makes are never anybody's; ids of two upstreams are not told apart."""
    faults: list[tuple[Place, str]] = []
    upstreams: dict[str, str] = {}
    made = {route.job_kind for route in routes.values() if route.job}
    for index, route in routes.items():
        if route.job_kind and route.job_kind not in made:
            sentence = f"'{route.name}' is about jobs of the kind '{route.job_kind}', and no route with job makes any"
            faults.append((("routes", index, "job_kind"), sentence))
        elif route.job_kind and upstreams.setdefault(route.job_kind, route.upstream) != route.upstream:
            sentence = f"'{route.name}': jobs of the kind '{route.job_kind}' are those of one upstream"
            faults.append((("routes", index, "upstream"), sentence))
    return faults


def _dead_grants(routes: Mapping[int, Route]) -> list[tuple[Place, str]]:
    """Tickets for what leads to no upstream open nothing."""
    open_to_tickets = {route.name for route in routes.values() if route.upstream != PORTAL}
    return [
        (("routes", index, "grants"), f"'{route.name}' grants '{name}', and no route of that name leads to an upstream")
        for index, route in routes.items()
        for name in route.grants
        if name not in open_to_tickets
    ]


def _index(
    routes: Sequence[Route],
) -> tuple[
    dict[str, dict[str, Route]],
    dict[int, tuple[re.Pattern[str], tuple[_ByMethod, ...]]],
    tuple[tuple[re.Pattern[str], _ByMethod], ...],
]:
    exact: dict[str, dict[str, Route]] = {}
    rests: dict[str, dict[str, Route]] = {}
    by_length: dict[int, dict[str, dict[str, Route]]] = {}
    for route in sorted(routes, key=_literal_first):
        if route.path.endswith("...}"):
            index = rests.setdefault(_pattern(route.path), {})
        elif "{" in route.path:
            index = by_length.setdefault(route.path.count("/"), {}).setdefault(_pattern(route.path), {})
        else:
            index = exact.setdefault(route.path, {})
        index.update(dict.fromkeys(route.methods, route))
    patterns: dict[int, tuple[re.Pattern[str], tuple[_ByMethod, ...]]] = {
        length: (re.compile("|".join(f"{pattern}()" for pattern in found)), tuple(found.values()))
        for length, found in by_length.items()
    }
    return exact, patterns, tuple((re.compile(pattern), by_method) for pattern, by_method in rests.items())


def _pattern(path: str) -> str:
    """A parameter in the first place does not reach into the gateway's own paths."""
    first, *rest = map(_segment_pattern, path.split("/")[1:])
    if first in ("[^/]+", ".+"):
        first = rf"(?!(?:{'|'.join(map(re.escape, RESERVED))})(?:/|$)){first}"
    return "/" + "/".join((first, *rest))


def _segment_pattern(segment: str) -> str:
    if REST.fullmatch(segment):
        return ".+"
    return "[^/]+" if PARAMETER.fullmatch(segment) else re.escape(segment)


def _literal_first(route: Route) -> list[int]:
    """How paths are ordered: of two that fit, the one with a literal where they first differ comes first.

    One whose last segment stands for the rest comes last.
    """
    return [2 if REST.fullmatch(segment) else 1 if segment.startswith("{") else 0 for segment in route.path.split("/")]

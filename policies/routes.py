"""The route table: which method and path is open to whom, metered how, and sent where. What it does not name is closed.

The table is compiled once from plain data (``config/routes.toml``) and never changes; a reload compiles another one.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from policies.inquiry import is_plain_path
from policies.verdict import Deny, Refusal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods that a route may list. CONNECT and TRACE can never be (RFC 9110 section 9.3.8 explains TRACE)."""
METERS = ("none", "multipart", "raw")
DIALECTS = ("openai", "deepgram", "detail")
_PARAMETER = re.compile(r"\{[a-z_]+\}")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


class Access(enum.StrEnum):
    """Who may use a route at all."""

    PUBLIC = "public"
    CREDENTIAL = "credential"


class WithoutLimiter(enum.StrEnum):
    """What a route does while the counter store cannot be asked."""

    LOCAL = "local"
    """Each worker counts for itself, with its share of the limit; every such request is counted as a fail-open."""
    CLOSED = "closed"
    """503 until it can be asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table. Sizes in bytes, times in seconds.

    ``path`` is matched whole: literal segments, and ``{name}`` for exactly one segment. ``dialect`` is the shape of
    the gateway's own errors on this route. ``first_byte_s`` bounds the wait for the answer's head after the request
    has been sent; ``idle_s`` any pause inside an answer, or inside an upload.
    """

    name: str
    path: str
    methods: tuple[str, ...]
    access: Access = Access.CREDENTIAL
    scope: str = ""
    upstream: str = "default"
    meter: str = "none"
    dialect: str = "openai"
    without_limiter: WithoutLimiter = WithoutLimiter.LOCAL
    max_body: int = 2_147_483_648
    first_byte_s: float = 600.0
    idle_s: float = 60.0


class RoutesInvalid(ValueError):
    """The table cannot be compiled; ``faults`` names every fault, one sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Compiled routes.

    ``exact`` maps a path without parameters to its routes by method, so that the usual case is two dictionary look-ups;
    ``patterns`` holds the others in order.
    """

    routes: tuple[Route, ...]
    exact: Mapping[str, Mapping[str, Route]]
    patterns: tuple[tuple[re.Pattern[str], Mapping[str, Route]], ...]

    @classmethod
    def compile(cls, table: Mapping[str, Any]) -> "RouteTable":
        """Build from ``{"routes": [{"name": …, "path": …, "methods": […], …}, …]}``. Raises RoutesInvalid."""
        faults = [f"unknown table '{key}': only [[routes]] is known" for key in table if key != "routes"]
        routes: list[Route] = []
        entries = table.get("routes", [])
        if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
            raise RoutesInvalid([*faults, "'routes' is a list of tables: each route begins with a line [[routes]]"])
        for number, entry in enumerate(entries, start=1):
            made = _compile_route(entry, f"route {number} ({entry.get('name', 'without a name')})")
            if isinstance(made, Route):
                routes.append(made)
            else:
                faults += made
        faults += _clashes(routes)
        if faults:
            raise RoutesInvalid(faults)
        return cls(tuple(routes), *_index(routes))

    def match(self, method: str, path: str) -> Route | Deny:
        """The route for a plain path, or why there is none. HEAD goes where GET goes only if a route lists HEAD."""
        by_method = self.exact.get(path)
        if by_method is None:
            by_method = next((m for pattern, m in self.patterns if pattern.fullmatch(path)), None)
        if by_method is None:
            return Deny(refusal=Refusal.UNKNOWN_ROUTE)
        route = by_method.get(method)
        if route is None:
            return Deny(refusal=Refusal.METHOD_NOT_ALLOWED, allow=tuple(sorted(by_method)))
        return route


def _compile_route(entry: Mapping[str, Any], where: str) -> Route | list[str]:
    known = {f.name for f in fields(Route)}
    faults = [f"{where}: unknown setting '{key}'" for key in entry if key not in known]
    faults += [f"{where}: '{key}' is missing" for key in ("name", "path", "methods") if key not in entry]
    values = dict(entry)
    for key, allowed in (("access", Access), ("without_limiter", WithoutLimiter)):
        if key in values:
            try:
                values[key] = allowed(values[key])
            except ValueError:
                faults.append(f"{where}: {key} is one of {', '.join(allowed)}, not {values[key]!r}")
    for key, names in (("meter", METERS), ("dialect", DIALECTS)):
        if values.get(key, names[0]) not in names:
            faults.append(f"{where}: {key} is one of {', '.join(names)}, not {values[key]!r}")
    if "name" in entry and not (isinstance(entry["name"], str) and _NAME.fullmatch(entry["name"])):
        faults.append(f"{where}: a name is lower-case letters, digits and '_.-', and begins with a letter")
    faults += _path_faults(entry.get("path", "/"), where)
    methods = values.get("methods", [])
    if not isinstance(methods, list) or not methods or any(m not in METHODS for m in methods):
        faults.append(f"{where}: methods is a list out of {', '.join(METHODS)}")
    for key in ("max_body", "first_byte_s", "idle_s"):
        if key in values and not (isinstance(values[key], int | float) and values[key] > 0):
            faults.append(f"{where}: {key} is a number above 0")
    for key in ("scope", "upstream"):
        if not isinstance(values.get(key, ""), str):
            faults.append(f"{where}: {key} is a string")
    if faults:
        return faults
    values["methods"] = tuple(methods)
    return Route(**values)


def _path_faults(path: object, where: str) -> list[str]:
    if not isinstance(path, str):
        return [f"{where}: path is a string"]
    literal = _PARAMETER.sub("x", path)
    if "{" in literal or "}" in literal or not is_plain_path(literal):
        return [f"{where}: {path!r} is not a plain path; a parameter is a whole segment such as {{id}}"]
    return []


def _clashes(routes: Sequence[Route]) -> list[str]:
    faults, seen, names = [], {}, set()
    for route in routes:
        if route.name in names:
            faults.append(f"two routes are called '{route.name}'")
        names.add(route.name)
        shape = _PARAMETER.sub("{}", route.path)
        for method in route.methods:
            other = seen.setdefault((method, shape), route)
            if other is not route:
                faults.append(f"'{route.name}' and '{other.name}' both claim {method} {route.path}")
    return faults


def _index(
    routes: Sequence[Route],
) -> tuple[dict[str, dict[str, Route]], tuple[tuple[re.Pattern[str], dict[str, Route]], ...]]:
    exact: dict[str, dict[str, Route]] = {}
    by_pattern: dict[str, dict[str, Route]] = {}
    for route in routes:
        if "{" in route.path:
            pattern = "".join(
                "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[a-z_]+\})", route.path)
            )
            index = by_pattern.setdefault(pattern, {})
        else:
            index = exact.setdefault(route.path, {})
        index.update(dict.fromkeys(route.methods, route))
    return exact, tuple((re.compile(pattern), methods) for pattern, methods in by_pattern.items())

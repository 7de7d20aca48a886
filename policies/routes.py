"""The route table: which method and path is open to whom, metered how, and sent where. What it does not name is closed.

The table is compiled once from plain data (``config/routes.toml``) and never changes; a reload compiles another one.
"""

import difflib
import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.allowances import Allowance, Scope, What
from policies.inquiry import is_plain_path, plain_reading
from policies.limits import Rate
from policies.verdict import Deny, Refusal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods that a route may list. CONNECT and TRACE can never be (RFC 9110 section 9.3.8 explains TRACE)."""
METERS = ("none", "multipart", "raw")
STREAM_METERS = ("openai_realtime", "deepgram", "assemblyai", "speechmatics", "whisperlive", "vosk")
"""Of routes that open streams: the protocol in which the audio comes (``policies.stream_meters``)."""
_OPENS = {True: "opens streams", False: "opens no streams"}
DIALECTS = ("openai", "deepgram", "detail", "problem")
RESERVED = ("auth", "account", "admin", "platform", ".well-known")
"""First segments of the gateway's own paths: only its own routes begin with one, and no parameter stands for it."""
PORTAL = "portal"
"""The upstream that the gateway's own paths go to."""
_PARAMETER = re.compile(r"\{[a-z_]+\}")
_REST = re.compile(r"\{[a-z_]+\.\.\.\}")
NAME = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
"""What a route may be called."""
_DOTTED = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_STATE = re.compile(rf"{_DOTTED.pattern}=[!-~]+")
_WORD = re.compile(r"[a-z_]+")
# A scope-token (RFC 6749 section 3.3), because it is quoted in a challenge; empty for none.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]*")
LONGEST_S = 86_400
"""The longest time that a route may grant: a day."""


class Access(enum.StrEnum):
    """Who may use a route at all."""

    PUBLIC = "public"
    CREDENTIAL = "credential"
    OPTIONAL = "optional"
    """Who presents a credential is identified, and refused if it is bad; who presents none passes without identity."""


class WithoutLimiter(enum.StrEnum):
    """What a route does while the counter store cannot be asked."""

    LOCAL = "local"
    """Each worker counts for itself, with its share of the limit; every such request is counted as a fail-open."""
    CLOSED = "closed"
    """503 until it can be asked again."""
    OPEN = "open"
    """Nothing is counted; every such request is counted as a fail-open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table. Sizes in bytes, times in seconds.

    ``path`` is matched whole: literal segments, ``{name}`` for exactly one segment, and at the end ``{name...}`` for
    one or more. ``websocket``: this is where a stream opens (RFC 6455: always by GET). ``dialect`` is the shape of the
    gateway's own errors on this route.
    ``first_byte_s`` bounds the wait for the answer's head after the request has been sent; ``idle_s`` any pause inside
    an answer, or inside an upload; ``total_s`` all of it, from asking the upstream to the answer's last byte.
    ``address_requests`` and ``address_concurrency`` bound each client address.

    A stream without a message for ``stream_idle_s`` is ended, and so is one that is ``stream_longest_s`` old; a client
    that is silent for ``ping_s`` is asked for a sign of life, and given up after as long again. ``max_message`` bounds
    one message in either direction.

    ``job`` names the value in the answer that is the id of a job made here, and ``owned`` the parameter of the path
    that is such an id; ``job_kind`` is the namespace of both, empty on every other route (``policies.jobs``). An owner
    is known for ``job_days``. ``job_done`` is ``name=value`` of a job that has its result, and ``job_audio`` the name
    of its seconds then; a route with ``job_settled`` opens when those are accounted. Names are dotted: ``job.id``.
    """

    name: str
    path: str
    methods: tuple[str, ...]
    access: Access = Access.CREDENTIAL
    scope: str = ""
    upstream: str = "default"
    websocket: bool = False
    meter: str = "none"
    dialect: str = "openai"
    without_limiter: WithoutLimiter = WithoutLimiter.LOCAL
    address_requests: Rate | None = None
    address_concurrency: int | None = None
    max_body: int = 2_147_483_648
    first_byte_s: float = 600.0
    idle_s: float = 60.0
    total_s: float = math.inf
    max_message: int = 16_777_216
    ping_s: float = 30.0
    stream_idle_s: float = 600.0
    stream_longest_s: float = 14_400.0
    job: str = ""
    owned: str = ""
    job_kind: str = ""
    job_days: int = 14
    job_done: str = ""
    job_audio: str = ""
    job_settled: bool = False

    @property
    def of_address(self) -> tuple[Allowance, ...]:
        """What each client address is allowed on this route."""
        if self.address_requests is None and self.address_concurrency is None:
            return ()
        found = []
        if self.address_requests is not None:
            rate = self.address_requests
            found.append(Allowance(what=What.REQUESTS, count=rate.count, period_ms=rate.period_ms, scope=Scope.ADDRESS))
        if self.address_concurrency is not None:
            found.append(Allowance(what=What.CONCURRENCY, count=self.address_concurrency, scope=Scope.ADDRESS))
        return tuple(found)


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
            made = _compile_route(entry)
            if isinstance(made, Route):
                routes[index] = made
            else:
                where = f"route {index + 1} ({entry.get('name', 'without a name')})"
                faults += ((("routes", index, key), f"{where}: {sentence}") for key, sentence in made)
        faults += _clashes(routes)
        faults += _strangers(routes)
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


def _compile_route(entry: Mapping[str, Any]) -> Route | list[tuple[str, str]]:
    """The route, or its faults, each with the key that it is about."""
    faults = [(key, f"unknown setting '{key}'{_suggestion(key)}") for key in entry if key not in _READERS]
    faults += [(key, f"'{key}' is missing") for key in ("name", "path", "methods") if key not in entry]
    values = {}
    for key, value in entry.items():
        if key in _READERS:
            try:
                values[key] = _READERS[key](value)
            except ValueError as fault:
                faults.append((key, str(fault)))
    if faults:
        return faults
    route = Route(**values)
    if route.websocket and route.methods != ("GET",):
        faults.append(("methods", 'a WebSocket opens by GET alone (RFC 6455 section 4.1): methods is ["GET"]'))
    if route.meter not in ("none", *(STREAM_METERS if route.websocket else METERS)):
        known = ", ".join(("none", *STREAM_METERS) if route.websocket else METERS)
        faults.append(("meter", f"meter is one of {known} on a route that {_OPENS[route.websocket]}"))
    if (route.path.split("/")[1] in RESERVED) != (route.upstream == PORTAL):
        own = ", ".join(f"/{segment}" for segment in RESERVED)
        faults.append(("path", f"{own} are the gateway's own, and only they go to its own upstream '{PORTAL}'"))
    if route.name.startswith(f"{PORTAL}."):
        faults.append(("name", f"names that begin with '{PORTAL}.' are those of the gateway's own routes"))
    faults += _job_faults(route)
    return faults or route


def _job_faults(route: Route) -> list[tuple[str, str]]:
    faults = []
    if bool(route.job_kind) != bool(route.job or route.owned):
        faults.append(("job_kind", "job_kind goes with job, the id in an answer, or with owned, the id in the path"))
    if route.job and route.owned:
        faults.append(("owned", "a route makes a job or is about one: it has job or owned, not both"))
    if route.job and route.websocket:
        faults.append(("job", "a stream has no answer in which a job's id could stand"))
    if route.owned and f"{{{route.owned}}}" not in route.path.split("/"):
        faults.append(("owned", f"owned is a parameter of the path, and {route.path} has no {{{route.owned}}}"))
    if route.job_kind and route.access is not Access.CREDENTIAL:
        faults.append(("access", "a job belongs to somebody: access is credential"))
    if bool(route.job_done) != bool(route.job_audio):
        faults.append(
            ("job_done", "job_done and job_audio go together: when the seconds are final, and where they are")
        )
    if (route.job_done or route.job_settled) and not route.owned:
        faults.append(("owned", "job_done, job_audio and job_settled are for routes with owned"))
    return faults


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, _READERS, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _name(value: object) -> str:
    if not (isinstance(value, str) and NAME.fullmatch(value)):
        raise ValueError("a name is lower-case letters, digits and '_.-', and begins with a letter")
    return value


def _path(value: object) -> str:
    text = value if isinstance(value, str) else ""
    *before, last = text.split("/")
    segments = [*before, "x" if _REST.fullmatch(last) else last]
    literal = "/".join("x" if _PARAMETER.fullmatch(segment) else segment for segment in segments)
    if not is_plain_path(literal) or plain_reading(literal) != literal:
        raise ValueError(
            f"{value!r} is not a plain path; a parameter is a whole segment such as {{id}}, and the last one may be "
            "{rest...}, which stands for one segment or more"
        )
    return text


def _methods(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(method not in METHODS for method in value):
        raise ValueError(f"methods is a list out of {', '.join(METHODS)}")
    return tuple(value)


def _scope(value: object) -> str:
    if not (isinstance(value, str) and _SCOPE.fullmatch(value)):
        raise ValueError("scope is one word of visible ASCII without quotes and backslashes")
    return value


def _upstream(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("upstream is a string")  # noqa: TRY004  every fault of the table is one kind of error
    return value


def _one_of(key: str, names: Iterable[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        for name in names:
            if name == value:
                return name
        raise ValueError(f"{key} is one of {', '.join(names)}, not {value!r}")

    return read


def _flag(key: str) -> Callable[[object], bool]:
    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{key} is true or false")  # noqa: TRY004  every fault of the table is one kind of error
        return value

    return read


def _text(key: str, form: re.Pattern[str], example: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not (isinstance(value, str) and form.fullmatch(value)):
            raise ValueError(f'{key} is a text such as "{example}"')
        return value

    return read


def _size(key: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise ValueError(f"{key} is a whole number above 0")
        return value

    return read


def _rate(value: object) -> Rate:
    if not isinstance(value, str):
        raise ValueError('address_requests is a rate such as "60/m"')  # noqa: TRY004  as above
    return Rate.parse(value)


def _seconds(key: str) -> Callable[[object], float]:
    def read(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST_S:
            raise ValueError(f"{key} is a number above 0 and up to {LONGEST_S:,}")
        return value

    return read


_READERS: Mapping[str, Callable[[object], Any]] = {
    "name": _name,
    "path": _path,
    "methods": _methods,
    "access": _one_of("access", Access),
    "scope": _scope,
    "upstream": _upstream,
    "websocket": _flag("websocket"),
    "meter": _one_of("meter", METERS + STREAM_METERS),
    "dialect": _one_of("dialect", DIALECTS),
    "without_limiter": _one_of("without_limiter", WithoutLimiter),
    "address_requests": _rate,
    "address_concurrency": _size("address_concurrency"),
    "max_body": _size("max_body"),
    "first_byte_s": _seconds("first_byte_s"),
    "idle_s": _seconds("idle_s"),
    "total_s": _seconds("total_s"),
    "max_message": _size("max_message"),
    "ping_s": _seconds("ping_s"),
    "stream_idle_s": _seconds("stream_idle_s"),
    "stream_longest_s": _seconds("stream_longest_s"),
    "job": _text("job", _DOTTED, "job.id"),
    "owned": _text("owned", _WORD, "id"),
    "job_kind": _text("job_kind", NAME, "assemblyai"),
    "job_days": _size("job_days"),
    "job_done": _text("job_done", _STATE, "status=completed"),
    "job_audio": _text("job_audio", _DOTTED, "audio_duration"),
    "job_settled": _flag("job_settled"),
}
"""For every field of a Route: its value from the plain data, or a ValueError that says what it is to be."""


def _clashes(routes: Mapping[int, Route]) -> list[tuple[Place, str]]:
    faults: list[tuple[Place, str]] = []
    names: set[str] = set()
    seen: dict[tuple[str, str], Route] = {}
    for index, route in routes.items():
        if route.name in names:
            faults.append((("routes", index, "name"), f"two routes are called '{route.name}'"))
        names.add(route.name)
        shape = _REST.sub("{...}", _PARAMETER.sub("{}", route.path))
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
    if _REST.fullmatch(segment):
        return ".+"
    return "[^/]+" if _PARAMETER.fullmatch(segment) else re.escape(segment)


def _literal_first(route: Route) -> list[int]:
    """Of two paths that fit, the one with a literal where they first differ comes first, and one for the rest last."""
    return [2 if _REST.fullmatch(segment) else 1 if segment.startswith("{") else 0 for segment in route.path.split("/")]

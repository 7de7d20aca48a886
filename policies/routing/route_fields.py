"""A route read from plain data: each field's value, or one sentence that says what it is to be."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from policies.http.inquiry import is_plain_path, plain_reading
from policies.limits.rates import Rate
from policies.routing.routes import (
    DIALECTS,
    GRANTING,
    LONGEST_S,
    METERS,
    METHODS,
    NAME,
    PARAMETER,
    PORTAL,
    RESERVED,
    REST,
    STREAM_METERS,
    Access,
    Route,
    WithoutLimiter,
)

_OPENS = {True: "opens streams", False: "opens no streams"}
_DOTTED = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_STATE = re.compile(rf"{_DOTTED.pattern}=[!-~]+")
_WORD = re.compile(r"[a-z_]+")
_LITERAL = re.compile(r"[A-Za-z0-9/._-]+")
_OF_JOBS = (
    "job", "owned", "job_kind", "job_done", "job_failed", "job_audio", "job_settled", "unmeasured_callbacks",
)  # fmt: skip
_LONGEST_WISH = 65_536
"""Bytes of a call for a temporary token."""
# A scope-token (RFC 6749 section 3.3), because it is quoted in a challenge; empty for none.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]*")


def read_route(entry: Mapping[str, Any]) -> Route | list[tuple[str, str]]:
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
    if route.grants:
        faults += _grant_faults(route, entry)
        route = replace(route, upstream=PORTAL, max_body=min(route.max_body, _LONGEST_WISH))
    return faults or route


def _grant_faults(route: Route, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    faults = [
        (key, f"with grants the gateway answers itself: {key} has no meaning there")
        for key in ("upstream", "websocket", "meter", *_OF_JOBS)
        if key in entry
    ]
    if route.dialect not in GRANTING:
        faults.append(("dialect", f"grants answers as one of {', '.join(GRANTING)}"))
    if route.access is not Access.CREDENTIAL:
        faults.append(("access", "a ticket stands for somebody: access is credential"))
    if not _LITERAL.fullmatch(route.path):
        faults.append(("path", "with grants the path is letters, digits and '/._-' alone"))
    return faults


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
    if route.job_failed and route.job_failed.partition("=")[0] != route.job_done.partition("=")[0]:
        faults.append(("job_failed", "job_failed goes with job_done, and both name the same value"))
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
    segments = [*before, "x" if REST.fullmatch(last) else last]
    literal = "/".join("x" if PARAMETER.fullmatch(segment) else segment for segment in segments)
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


def _grants(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("grants is a list of the names of routes that lead to an upstream")
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
    "job_failed": _text("job_failed", _STATE, "status=error"),
    "job_audio": _text("job_audio", _DOTTED, "audio_duration"),
    "job_settled": _flag("job_settled"),
    "unmeasured_callbacks": _flag("unmeasured_callbacks"),
    "grants": _grants,
}
"""For every field of a Route: its value from the plain data, or a ValueError that says what it is to be."""

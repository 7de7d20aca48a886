"""How a reverse proxy asks for a decision: where each dialect puts target and method, and what it lets us answer.

Each dialect reads one source and no other: proxies pass client headers on, so a source that the operator left unset is
the client's to forge (GHSA-7x63-xv5r-3p2x). A question that is missing, repeated or readable in two ways is refused and
never allowed (Authelia CVE-2021-32637). Nothing is decoded: what was judged must be what the proxy then forwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from policies.http import headers as algebra
from policies.http.inquiry import Inquiry, Target, is_plain_host
from policies.http.verdict import Deny, Refusal

PATH = "/auth/verify"


class Source(NamedTuple):
    """The two headers that carry the question; ``absolute`` when the target is a whole URL."""

    target: bytes
    method: bytes
    absolute: bool


SOURCES: Mapping[str, Source] = {
    "x-original-uri": Source(b"x-original-uri", b"x-original-method", absolute=False),
    "x-original-url": Source(b"x-original-url", b"x-original-method", absolute=True),
    "x-forwarded-uri": Source(b"x-forwarded-uri", b"x-forwarded-method", absolute=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way of asking. ``source`` is None when the question is the request line of the subrequest itself."""

    path: str
    """Where it is asked; without a source, what stands before the target."""
    source: Source | None
    relays_answers: bool = True
    """Whether a refused client gets our answer whole. nginx knows 2xx, 401, 403, and makes a bare 500 of the rest."""
    allows_on_any_2xx: bool = True
    """Envoy's ext_authz allows on exactly 200."""
    removes_headers: bool = False
    """Whether an allowed request loses the headers that ``x-envoy-auth-headers-to-remove`` names."""


_FORWARDED = SOURCES["x-forwarded-uri"]
TRAEFIK = Dialect(path=f"{PATH}/traefik", source=_FORWARDED)
CADDY = Dialect(path=f"{PATH}/caddy", source=_FORWARDED)
ENVOY = Dialect(path=f"{PATH}/envoy", source=None, allows_on_any_2xx=False, removes_headers=True)


def is_asked_at(path: str) -> bool:
    """Whether this is a path of the second door, in whichever dialect; no route's, whatever a table says."""
    return path in (PATH, TRAEFIK.path, CADDY.path) or f"{path}/".startswith(f"{ENVOY.path}/")


def nginx(source: Source) -> Dialect:
    """``auth_request`` with the one source that the operator chose."""
    return Dialect(path=PATH, source=source, relays_answers=False)


def question(dialect: Dialect, asked: Inquiry) -> Inquiry | Deny:
    """The request that the proxy asks about, with the client's header as the subrequest repeats it."""
    read = _request_line(dialect.path, asked) if dialect.source is None else _headers(dialect.source, asked)
    if read is None:
        return Deny(refusal=Refusal.UNREADABLE_QUESTION)
    method, raw = read
    target = Target.parse(raw)
    if target is None:
        return Deny(refusal=Refusal.AMBIGUOUS_TARGET)
    return Inquiry(method, target.path, target.query, asked.head, asked.presented)


def _headers(source: Source, asked: Inquiry) -> tuple[str, str] | None:
    try:
        method = algebra.single(asked.head.raw, source.method)
        raw = algebra.single(asked.head.raw, source.target)
    except ValueError:
        return None
    if not method or not raw or not raw.isascii() or not method.isalpha() or len(method) > 32:
        return None
    text = raw.decode("ascii")
    return method.decode("ascii"), _origin_form(text) if source.absolute else text


def _request_line(prefix: str, asked: Inquiry) -> tuple[str, str] | None:
    """Envoy asks with the request's own method, and its own target behind the prefix."""
    rest = asked.path.removeprefix(prefix)
    if not rest:
        return None
    return asked.method, f"{rest}?{asked.query}" if asked.query else rest


def _origin_form(url: str) -> str:
    """``https://host/path?query`` -> ``/path?query``, by cutting; nothing is decoded. Other forms become unreadable.

    The host must be a plain one: ``https://host?x=/path`` is ``/`` to a URL parser and ``/path`` to a cutter.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"/{path}" if scheme in ("http", "https") and is_plain_host(host) else ""

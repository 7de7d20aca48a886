"""``POST /auth/grant``: a one-use ticket, with which a browser opens one stream without ever holding a key.

Whoever asks has a key, an access token or a session; the ticket is for one route, redeemed within a minute, and opens a
stream as whoever asked, until that credential ends. A ticket grants no ticket. What SDKs of services ask instead is in
``vendor_tickets``.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.caller import caller
from gateway.portal.entry import browser
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import read_json
from gateway.portal.web.problem import Problem
from policies.http.credentials import Presented, present
from policies.http.headers import RequestHead
from policies.http.tickets import LIFE_S, LONGEST_S, TICKET_BYTES, Ticket, mint_ticket
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Principal
from policies.identity.tokens import AccessToken
from policies.people import Session
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.redis.tickets import PURPOSE, RedisTickets

routes = web.RouteTableDef()

_CLIENT = "session"
"""What a session's ticket calls itself, in the place of an access token's client."""


class Wish(BaseModel):
    """What the ticket shall be good for: a path, or a route by its name; and for how long."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(None, max_length=2_048)
    route: str | None = Field(None, max_length=128)
    max_session_seconds: float | None = Field(None, gt=0, le=86_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """For how many seconds a ticket is to be good, how long a stream may last that it opens, and whether it opens many.

    It is good for no more than :data:`LONGEST_S`. ``first`` is the message that its streams begin with.
    """

    life_s: int = LIFE_S
    longest_s: float | None = None
    reusable: bool = False
    first: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A ticket's text, and what it came to be good for. ``expires_at`` is Unix time, in seconds."""

    text: str
    life_s: int
    expires_at: int
    longest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """Who a ticket will stand for: what the gateway asks for again when it is redeemed, and on which routes.

    ``left_s`` is how long a stream of theirs may last, ``life_s`` how long the ticket may.
    """

    tenant_id: str
    routes: tuple[Route, ...]
    life_s: int
    key: bytes = b""
    token: AccessToken | None = None
    left_s: float = inf


@routes.post("/auth/grant")
async def grant(request: web.Request) -> web.Response:
    """The ticket."""
    is_known = caller(request).is_known
    session = None if is_known else await browser.current(request)
    if session is None and not is_known:
        raise Problem(Refusal.MISSING_CREDENTIAL)
    wish = await read_json(request, Wish)
    route = _route(request.app[PARTS].table, wish)
    issued = await issue(request, [route], Terms(longest_s=wish.max_session_seconds), session)
    return web.json_response(
        {
            "ticket": issued.text,
            "expires_in": issued.life_s,
            "route": route.name,
            "max_session_seconds": issued.longest_s,
        }
    )


async def issue(request: web.Request, wanted: Sequence[Route], terms: Terms, session: Session | None = None) -> Issued:
    """A ticket for those of the routes that whoever asks may use: by a credential that the gateway knew, or a session.

    Raises Problem where that is none of them.
    """
    if session is None:
        holder = await _by_credential(request, wanted, min(terms.life_s, LONGEST_S))
    else:
        holder = await _by_session(request, session, wanted)
    most_s = max(route.stream_longest_s for route in holder.routes)
    longest_s = min(terms.longest_s or most_s, most_s, holder.left_s)
    text = mint_ticket(secrets.token_bytes(TICKET_BYTES), reusable=terms.reusable)
    ticket = Ticket(
        tenant_id=holder.tenant_id,
        routes=tuple(route.name for route in holder.routes),
        longest_s=longest_s,
        key=holder.key,
        token=holder.token,
        first=terms.first,
    )
    parts = request.app[PARTS]
    await RedisTickets(parts.redis, parts.secret_for(PURPOSE)).keep(text.encode(), ticket, holder.life_s)
    expires_at = int(parts.now().timestamp()) + holder.life_s
    return Issued(text=text, life_s=holder.life_s, expires_at=expires_at, longest_s=longest_s)


def _route(table: RouteTable, wish: Wish) -> Route:
    if (wish.path is None) == (wish.route is None):
        raise Problem(Refusal.INVALID_INPUT, fields={"path": "Say path or route; one of them."})
    if wish.path is not None:
        found = table.match("GET", wish.path.partition("?")[0])
        route = None if isinstance(found, Deny) else found
    else:
        route = next((each for each in table.routes if each.name == wish.route), None)
    if route is None or not route.websocket:
        field = "route" if wish.path is None else "path"
        raise Problem(Refusal.INVALID_INPUT, fields={field: "There is no stream by that name."})
    return route


async def _by_credential(request: web.Request, wanted: Sequence[Route], life_s: int) -> _Holder:
    """A key is asked for again itself, so that the ticket ends with it; of a token's holder see :func:`_person`.

    A token makes tickets for no longer than it lasts itself, or a minute.
    """
    who, parts = caller(request), request.app[PARTS]
    if who.key_id:
        allowed = _allowed(wanted, who.scopes)
        digest = await PostgresKeyRegistry(parts.pool, parts.trail).key_digest(who.tenant_id, who.key_id)
        if digest is None:
            raise Problem(Refusal.INVALID_API_KEY)
        return _Holder(tenant_id=who.tenant_id, routes=allowed, life_s=life_s, key=digest)
    principal = await _standing(request, who.tenant_id, who.user_id)
    token, now_s = await _token(request), int(parts.now().timestamp())
    life_s = min(life_s, max(LIFE_S, token.expires_s - now_s))
    return _person(token, principal.scopes & who.scopes, wanted, now_s, life_s)


async def _by_session(request: web.Request, session: Session, wanted: Sequence[Route]) -> _Holder:
    now = request.app[PARTS].now()
    principal = await _standing(request, session.tenant_id, session.user_id)
    now_s = max(int(now.timestamp()), request.app[OAUTH].tokens.state.not_before(session.user_id) + 1)
    token = AccessToken(
        id=session.id,
        subject=session.user_id,
        tenant_id=session.tenant_id,
        client_id=_CLIENT,
        scopes=principal.scopes,
        roles=principal.roles,
        issued_s=now_s,
        expires_s=now_s,
        family=session.id,
    )
    holder = _person(token, principal.scopes, wanted, now_s, LIFE_S)
    return replace(holder, left_s=(session.expires_at - now).total_seconds())


async def _standing(request: web.Request, tenant_id: str, user_id: str) -> Principal:
    """Who that is now. Raises Problem for a guest of another issuer, and for who has just been shut out."""
    principal = await request.app[OAUTH].tokens.subject(tenant_id, user_id)
    if principal is None:
        raise Problem(Refusal.INSUFFICIENT_PERMISSION)
    return principal


def _person(token: AccessToken, scopes: frozenset[str], wanted: Sequence[Route], now_s: int, life_s: int) -> _Holder:
    """What is made for a person is revoked as the token that asked is, and with the log-in that it came of."""
    allowed = _allowed(wanted, scopes)
    needed = frozenset(route.scope for route in allowed) - {""}
    narrower = replace(token, scopes=needed, expires_s=now_s + life_s)
    return _Holder(tenant_id=token.tenant_id, routes=allowed, life_s=life_s, token=narrower)


async def _token(request: web.Request) -> AccessToken:
    """What the caller's token says, wherever it stood. Raises Problem: what ends with no log-in is not given out."""
    presented = present(RequestHead.walk(request.raw_headers))
    secret = presented.secret if isinstance(presented, Presented) else b""
    found = await request.app[OAUTH].tokens.bearers.examine(secret)
    if isinstance(found, AccessToken):
        return found
    raise Problem(Refusal.INVALID_TOKEN)


def _allowed(wanted: Sequence[Route], scopes: frozenset[str]) -> tuple[Route, ...]:
    allowed = tuple(route for route in wanted if not route.scope or route.scope in scopes)
    if not allowed:
        raise Problem(Refusal.INSUFFICIENT_PERMISSION, f"It needs '{wanted[0].scope}'.")
    return allowed

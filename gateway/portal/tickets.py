"""``POST /auth/grant``: a one-use ticket, with which a browser opens one stream without ever holding a key.

Whoever asks has a key, an access token or a session; the ticket is for one route, redeemed within a minute, and opens a
stream as whoever asked. A ticket grants no ticket.
"""

import secrets
from math import inf

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.portal.caller import caller
from gateway.portal.entry import browser
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import read_json
from gateway.portal.web.problem import Problem
from policies.http.tickets import LIFE_S, TICKET_BYTES, Ticket, mint_ticket
from policies.http.verdict import Deny, Refusal
from policies.identity.tokens import AccessToken
from policies.people import Session
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.redis.tickets import RedisTickets

routes = web.RouteTableDef()

_CLIENT = "ticket"


class Wish(BaseModel):
    """What the ticket shall be good for: a path, or a route by its name; and for how long."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(None, max_length=2_048)
    route: str | None = Field(None, max_length=128)
    max_session_seconds: float | None = Field(None, gt=0, le=86_400)


@routes.post("/auth/grant")
async def grant(request: web.Request) -> web.Response:
    """The ticket."""
    is_known = caller(request).is_known
    session = None if is_known else await browser.current(request)
    if session is None and not is_known:
        raise Problem(Refusal.MISSING_CREDENTIAL)
    wish = await read_json(request, Wish)
    route = _route(request.app[PARTS].table, wish)
    longest_s = min(wish.max_session_seconds or route.stream_longest_s, route.stream_longest_s)
    tenant_id, credential, left_s = await _credential(request, session, route)
    longest_s = min(longest_s, left_s)
    text = mint_ticket(secrets.token_bytes(TICKET_BYTES))
    ticket = Ticket(tenant_id=tenant_id, credential=credential, route=route.name, longest_s=longest_s)
    await RedisTickets(request.app[PARTS].redis).keep(text.encode(), ticket)
    return web.json_response(
        {"ticket": text, "expires_in": LIFE_S, "route": route.name, "max_session_seconds": longest_s}
    )


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


async def _credential(request: web.Request, session: Session | None, route: Route) -> tuple[str, bytes, float]:
    """The tenant, what the gateway will ask for again when the ticket is redeemed, and for how many seconds that lasts.

    What is made for a person belongs to the log-in that it came of, and ends with it.
    """
    who, parts, tokens = caller(request), request.app[PARTS], request.app[OAUTH].tokens
    if who.key_id:
        _require(route, who.scopes)
        digest = await PostgresKeyRegistry(parts.pool, parts.trail).key_digest(who.tenant_id, who.key_id)
        if digest is None:
            raise Problem(Refusal.INVALID_API_KEY)
        return who.tenant_id, digest, inf
    tenant_id, user_id = who.tenant_id, who.user_id
    scopes: frozenset[str] | None = who.scopes
    left_s = inf
    if session is None:
        family = await _log_in(request)
    else:
        tenant_id, user_id, scopes, family = session.tenant_id, session.user_id, None, session.id
        left_s = (session.expires_at - parts.now()).total_seconds()
    principal = await tokens.subject(tenant_id, user_id)
    if principal is None:  # a guest of another issuer, or somebody who has just been shut out
        raise Problem(Refusal.INSUFFICIENT_PERMISSION)
    _require(route, principal.scopes if scopes is None else principal.scopes & scopes)
    wanted = frozenset({route.scope}) if route.scope else frozenset()
    made = tokens.access(principal, wanted, client_id=_CLIENT, family=family, life_s=2 * LIFE_S)
    return tenant_id, made.encode(), left_s


async def _log_in(request: web.Request) -> str:
    """The log-in that the caller's token descends from; empty for a service's."""
    token = request.headers.get("Authorization", "").rpartition(" ")[2]
    found = await request.app[OAUTH].tokens.bearers.examine(token.encode("utf-8", "surrogateescape"))
    return found.family if isinstance(found, AccessToken) else ""


def _require(route: Route, scopes: frozenset[str]) -> None:
    if route.scope and route.scope not in scopes:
        raise Problem(Refusal.INSUFFICIENT_PERMISSION, f"It needs '{route.scope}'.")

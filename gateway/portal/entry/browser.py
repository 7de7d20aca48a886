"""A browser's session: its cookie, whose it is, and what a page asks of it."""

import secrets
from urllib.parse import quote

from aiohttp import web

from gateway.identity.browser_sessions import PURPOSE
from gateway.portal.caller import came_from, client_address, user_agent
from gateway.portal.entry.identity import IDENTITY, SIGNED_IN, acting, families, sessions
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from gateway.portal.web.problem_answers import wants_page
from policies.http.cookies import session_cookie, single
from policies.http.verdict import Refusal
from policies.people import FRESH_S, Proven, Session, Step, safe_next
from storage.ports import Invalidation
from storage.postgres.ids import Kind
from storage.postgres.people.sessions import Also, NewSession

HOME = "/account"
"""Where a person goes who wanted to go nowhere else."""
_BYTES = 32
_LOOKED = web.RequestKey("session_looked_up", bool)


def secret_of(request: web.Request) -> str | None:
    """The session's secret in the cookie; None without one, or with two that differ."""
    return single(request.headers.getall("Cookie", ()), session_cookie(secure=request.app[PARTS].is_https))


async def current(request: web.Request) -> Session | None:
    """The session that the request belongs to, asked once. Raises Unavailable: then nobody knows."""
    if _LOOKED not in request:
        request[_LOOKED] = True
        secret = secret_of(request)
        found = await sessions(request).find(_digest(request, secret)) if secret is not None else None
        if found is not None:
            request[SIGNED_IN] = found
    return request.get(SIGNED_IN)


async def required(request: web.Request) -> Session:
    """The session; without one a page goes to the log-in and comes back, and anything else is a problem."""
    found = await current(request)
    if found is not None:
        return found
    if wants_page(request) and request.method in ("GET", "HEAD"):
        raise web.HTTPSeeOther(f"/auth/login?next={quote(request.raw_path, safe='/')}")
    raise Problem(Refusal.LOGIN_REQUIRED)


async def required_fresh(request: web.Request, within_s: int = FRESH_S) -> Session:
    """The session of somebody who gave the password within minutes; a page asks for it first."""
    found = await required(request)
    if found.is_fresh(request.app[PARTS].now(), within_s):
        return found
    if wants_page(request):
        form = f"{safe_next(came_from(request), HOME)}?done=confirmed"  # what it asked for was not done
        back = request.raw_path if request.method in ("GET", "HEAD") else form
        raise web.HTTPSeeOther(f"/account/confirm?next={quote(back, safe='/')}")
    raise Problem(Refusal.FRESH_LOGIN_REQUIRED)


async def begin(request: web.Request, proven: Proven, also: Also | None = None) -> tuple[Session, str]:
    """A new session and its secret; the one that the browser presented is over (session fixation, CVE-2026-27840).

    ``also`` is done in the session's transaction. Raises Problem where the tenant asks for more than was proved: no
    door to it has fewer locks than another.
    """
    person = proven.person
    if proven.next_step is not Step.DONE and proven.place.asks_second_factor:
        raise Problem(Refusal.SECOND_FACTOR_NEEDED)
    secret, old = secrets.token_urlsafe(_BYTES), secret_of(request)
    made, replaced = await sessions(request, acting(request, person)).begin(
        NewSession(
            digest=_digest(request, secret),
            tenant_id=proven.place.tenant_id,
            user_id=person.id,
            email=person.email,
            methods=proven.methods,
            address=client_address(request),
            agent=user_agent(request),
            life=request.app[IDENTITY].life,
            replaces=_digest(request, old) if old is not None else None,
            continues=proven.continues,
            proved_at=proven.at,
        ),
        also,
    )
    request[SIGNED_IN] = made
    if replaced:  # workers remember it
        await request.app[PARTS].bus.publish(Invalidation(user_id=replaced))
    return made, secret


async def end(request: web.Request, user_id: str, why: str, *, only: str | None = None, but: str | None = None) -> int:
    """End sessions of a person, here and in every worker's memory; how many."""
    ended = await sessions(request).end(user_id, why, only=only, but=but)
    if ended or only is None:  # a change of password or status has ended them already, and workers know them still
        await request.app[PARTS].bus.publish(Invalidation(user_id=user_id))
    tokens = request.app[OAUTH].tokens
    if only is None:  # what was logged in without a browser as well
        await tokens.log_out_everywhere(user_id)
    elif ended:  # the streams that it has tickets for
        await tokens.log_out(only)
    return ended


async def end_one(request: web.Request, user_id: str, log_in_id: str) -> bool:
    """End one log-in of a person, a browser's or a program's; whether there was one."""
    if not log_in_id.startswith(Kind.FAMILY):
        return await end(request, user_id, "revoked", only=log_in_id) > 0
    ended = await families(request).end_one(user_id, log_in_id)
    if ended:
        await request.app[OAUTH].tokens.log_out(log_in_id)
    return ended


def set_cookie(request: web.Request, response: web.Response, secret: str) -> None:
    """Give the browser its session. It ends with the browser, or when the session does."""
    secure = request.app[PARTS].is_https
    response.set_cookie(session_cookie(secure=secure), secret, httponly=True, secure=secure, samesite="Lax", path="/")


def clear_cookie(request: web.Request, response: web.Response) -> None:
    """Take a cookie away that is worth nothing any more."""
    secure = request.app[PARTS].is_https
    response.del_cookie(session_cookie(secure=secure), httponly=True, secure=secure, samesite="Lax", path="/")


def _digest(request: web.Request, secret: str) -> bytes:
    return request.app[IDENTITY].digest(PURPOSE, secret)

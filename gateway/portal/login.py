"""Signing in and out, as pages and as JSON."""

import secrets

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from gateway.portal import browser
from gateway.portal.bodies import form_fields, read_json
from gateway.portal.crosssite import token
from gateway.portal.identity import IDENTITY, people
from gateway.portal.pages import render
from gateway.portal.parts import PARTS
from gateway.portal.problems import Problem
from gateway.portal.proving import Proven, prove, prove_code, prove_password
from policies.people import Session, safe_next
from storage.redis.client import asking

routes = web.RouteTableDef()

HOME = "/account"
_CHALLENGE_S = 300
_PURPOSE = "challenges"


class LogIn(BaseModel):
    """What signs a person in. ``tenant`` is a slug, for who belongs to several; ``code`` a second factor's."""

    email: str = Field(max_length=512)
    password: str = Field(max_length=8_192)
    tenant: str | None = Field(None, max_length=63)
    code: str | None = Field(None, max_length=64)


@routes.get("/auth/login")
async def page(request: web.Request) -> web.Response:
    """The form; who is signed in already goes on. A cookie that is worth nothing is taken away."""
    goal = safe_next(request.query.get("next", ""), HOME)
    if await browser.current(request) is not None:
        raise web.HTTPSeeOther(goal)
    response = _form(request, goal=goal)
    if browser.secret_of(request) is not None:
        browser.clear_cookie(request, response)
    return response


@routes.post("/auth/login")
async def log_in(request: web.Request) -> web.Response:
    """A form goes on to its page or to the second factor; JSON gets the session."""
    if request.content_type == "application/json":
        wish = await read_json(request, LogIn)
        proven = await prove(request, wish.email, wish.password, tenant=wish.tenant, code=wish.code)
        session, secret = await browser.begin(request, proven.person, proven.place, proven.methods)
        response = _json(request, proven, session)
        browser.set_cookie(request, response, secret)
        return response
    fields = await form_fields(request)
    email, goal = fields.get("email", "")[:512], safe_next(fields.get("next", ""), HOME)
    try:
        account, place = await prove_password(request, email, fields.get("password", "")[:8_192])
    except Problem as problem:
        return _form(request, goal=goal, email=email, problem=problem)
    if account.person.has_second_factor:
        return await _challenge(request, account.person.id, place.tenant_id, goal)
    return await _go_on(request, Proven(person=account.person, place=place, methods=("pwd",)), goal)


@routes.get("/auth/mfa")
async def second_page(request: web.Request) -> web.Response:
    """The form for the second factor, for who has given the first one within minutes."""
    user_id, _, goal = await _challenged(request)
    if not user_id:
        raise web.HTTPSeeOther("/auth/login")
    return render(request, "second_factor.html", title="Second step", problem=None, goal=goal)


@routes.post("/auth/mfa")
async def second_factor(request: web.Request) -> web.Response:
    """The code, and then the session."""
    fields = await form_fields(request)
    user_id, tenant_id, goal = await _challenged(request)
    account = await people(request).account_of(user_id) if user_id else None
    place = next((p for p in account.places if p.tenant_id == tenant_id and p.active), None) if account else None
    if account is None or place is None:
        raise web.HTTPSeeOther("/auth/login")
    try:
        method = await prove_code(request, account.person, fields.get("code", "")[:64])
    except Problem as problem:
        response = render(
            request, "second_factor.html", status=problem.refusal.status, title="Second step", problem=problem,
            goal=goal,
        )  # fmt: skip
        response.headers.update(problem.headers)
        return response
    response = await _go_on(request, Proven(person=account.person, place=place, methods=("pwd", method)), goal)
    await _forget_challenge(request, response)
    return response


@routes.post("/auth/logout")
async def log_out(request: web.Request) -> web.Response:
    """End this session. Nothing is wrong with having none."""
    session = await browser.current(request)
    if session is not None:
        await browser.end(request, session.user_id, "logout", only=session.id)
    response: web.Response
    if "text/html" in request.headers.get("Accept", ""):
        response = web.Response(status=303, headers={"Location": "/auth/login"})
    else:
        response = web.Response(status=204)
    browser.clear_cookie(request, response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _form(request: web.Request, *, goal: str, email: str = "", problem: Problem | None = None) -> web.Response:
    response = render(
        request,
        "login.html",
        status=problem.refusal.status if problem is not None else 200,
        title="Sign in",
        goal=goal,
        email=email,
        problem=problem,
        can_reset=request.app[PARTS].settings.mail is not None,
    )
    if problem is not None:
        response.headers.update(problem.headers)
    return response


async def _go_on(request: web.Request, proven: Proven, goal: str) -> web.Response:
    _, secret = await browser.begin(request, proven.person, proven.place, proven.methods)
    response = web.Response(status=303, headers={"Location": goal})
    browser.set_cookie(request, response, secret)
    return response


def _json(request: web.Request, proven: Proven, session: Session) -> web.Response:
    return web.Response(
        body=orjson.dumps(
            {
                "session": {"id": session.id, "expires_at": session.expires_at.isoformat()},
                "user": {"id": proven.person.id, "email": proven.person.email, "name": proven.person.name},
                "tenant": {"id": proven.place.tenant_id, "slug": proven.place.slug, "role": proven.place.role},
                "csrf": token(request),
            }
        ),
        content_type="application/json",
    )


# --- between the first factor and the second --------------------------------------------------------------------------


def _cookie(request: web.Request) -> str:
    return "__Host-tahoe_challenge" if request.app[PARTS].is_https else "tahoe_challenge"


def _key(request: web.Request, secret: str) -> str:
    return f"challenge:{request.app[IDENTITY].digest(_PURPOSE, secret).hex()}"


async def _challenge(request: web.Request, user_id: str, tenant_id: str, goal: str) -> web.Response:
    secret = secrets.token_urlsafe(32)
    with asking():
        await request.app[PARTS].redis.set(
            _key(request, secret), orjson.dumps([user_id, tenant_id, goal]), ex=_CHALLENGE_S
        )
    response = web.Response(status=303, headers={"Location": "/auth/mfa"})
    response.set_cookie(
        _cookie(request), secret, max_age=_CHALLENGE_S, httponly=True, secure=request.app[PARTS].is_https,
        samesite="Lax", path="/",
    )  # fmt: skip
    return response


async def _challenged(request: web.Request) -> tuple[str, str, str]:
    """The person, the tenant and the goal of a log-in whose first half is done; empty ids for none."""
    secret = request.cookies.get(_cookie(request), "")
    with asking():
        kept = await request.app[PARTS].redis.get(_key(request, secret)) if secret else None
    if kept is None:
        return "", "", HOME
    user_id, tenant_id, goal = orjson.loads(kept)
    return user_id, tenant_id, goal


async def _forget_challenge(request: web.Request, response: web.Response) -> None:
    secret = request.cookies.get(_cookie(request), "")
    with asking():
        await request.app[PARTS].redis.delete(_key(request, secret))
    response.del_cookie(_cookie(request), path="/", secure=request.app[PARTS].is_https)

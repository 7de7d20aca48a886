"""Signing in and out, as pages and as JSON."""

from urllib.parse import quote

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from gateway.portal.entry import browser, halfway
from gateway.portal.entry.halfway import Halfway
from gateway.portal.entry.oidc.provider import PROVIDERS
from gateway.portal.entry.passkeys.ceremony import takes_passkeys
from gateway.portal.entry.proving import prove, prove_code, prove_password
from gateway.portal.entry.trusted import DAYS, trust
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields, read_form, read_json
from gateway.portal.web.crosssite import FORM, token
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from gateway.portal.web.problem_answers import wants_page
from policies.people import Proven, Session, Step, safe_next

routes = web.RouteTableDef()


class LogIn(BaseModel):
    """What signs a person in. ``tenant`` is a slug, for people who belong to several; ``code`` is a second factor's."""

    email: str = Field(max_length=512)
    password: str = Field(max_length=8_192)
    tenant: str | None = Field(None, max_length=63)
    code: str | None = Field(None, max_length=64)


@routes.get("/auth/login")
async def page(request: web.Request) -> web.Response:
    """The form; who is signed in already goes on. A cookie that is worth nothing is taken away."""
    goal = safe_next(request.query.get("next", ""), browser.HOME)
    if await browser.current(request) is not None:
        raise web.HTTPSeeOther(goal)
    has_ended = browser.secret_of(request) is not None
    response = form(request, goal=goal, said="ended" if has_ended else request.query.get("said", ""))
    if has_ended:
        browser.clear_cookie(request, response)
    return response


@routes.post("/auth/login")
async def log_in(request: web.Request) -> web.Response:
    """A browser's form goes on to its page or to the second factor; a program gets the session, or a problem."""
    if not wants_page(request):
        wish = await (read_form if request.content_type == FORM else read_json)(request, LogIn)
        proven = await prove(request, wish.email, wish.password, tenant=wish.tenant, code=wish.code)
        session, secret = await browser.begin(request, proven)
        response = _json(request, proven, session)
        browser.set_cookie(request, response, secret)
        return response
    fields = await form_fields(request)
    email, goal = fields.get("email", "")[:512], safe_next(fields.get("next", ""), browser.HOME)
    try:
        proven = await prove_password(request, email, fields.get("password", "")[:8_192])
    except Problem as problem:
        return form(request, goal=goal, email=email, problem=problem)
    return await halfway.go_on(request, proven, goal)


@routes.get("/auth/mfa")
async def second_page(request: web.Request) -> web.Response:
    """The form for the second factor, for whoever has given the first one within minutes."""
    return _second_form(request, await _half(request), None)


@routes.post("/auth/mfa")
async def second_factor(request: web.Request) -> web.Response:
    """The code, and then the session; the browser is trusted from now on, if that was wished."""
    half = await _half(request)
    fields = await form_fields(request)
    try:
        method = await prove_code(request, half.proven.person, fields.get("code", "")[:64])
    except Problem as problem:
        return _second_form(request, half, problem)
    return await finish(request, half, method, trusting="trust" in fields)


async def finish(request: web.Request, half: Halfway, method: str, *, trusting: bool) -> web.Response:
    """The session of whoever has given both factors."""
    person = half.proven.person
    response = await halfway.begin(request, half.proven.and_by(method), half.goal, half.connects)
    if trusting:
        await trust(request, response, person.id, person.email)
    return response


@routes.post("/auth/logout")
async def log_out(request: web.Request) -> web.Response:
    """End this session. Nothing is wrong with having none."""
    session = await browser.current(request)
    if session is not None:
        await browser.end(request, session.user_id, "logout", only=session.id)
    response: web.Response
    if "text/html" in request.headers.get("Accept", ""):
        goal = safe_next(request.query.get("next", ""), "")
        back = f"?next={quote(goal, safe='/')}" if goal else "?said=out"
        response = web.Response(status=303, headers={"Location": f"/auth/login{back}"})
    else:
        response = web.Response(status=204)
    browser.clear_cookie(request, response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def form(
    request: web.Request, *, goal: str, email: str = "", problem: Problem | None = None, said: str = ""
) -> web.Response:
    """The log-in page. ``said``: what has happened to bring somebody there, one of the words of the template."""
    return render(
        request,
        "login.html",
        title="Sign in",
        goal=goal,
        email=email,
        problem=problem,
        said=said,
        can_reset=request.app[PARTS].settings.mail is not None,
        providers=request.app[PROVIDERS].values(),
        passkeys=takes_passkeys(request),
    )


async def _half(request: web.Request) -> Halfway:
    half = await halfway.paused(request)
    if half is None or half.proven.next_step is not Step.PROVE:
        raise web.HTTPSeeOther(halfway.OVER if half is None else "/auth/mfa/setup")
    return half


def _second_form(request: web.Request, half: Halfway, problem: Problem | None) -> web.Response:
    return render(
        request,
        "second_factor.html",
        title="Second step",
        problem=problem,
        person=half.proven.person,
        goal=half.goal,
        passkeys=half.proven.person.has_passkey and takes_passkeys(request),
        days=DAYS,
    )


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

"""Accounts at providers, connected and disconnected by whoever is signed in here, or invited."""

from aiohttp import web

from gateway.portal.entry import browser
from gateway.portal.entry.identity import identities
from gateway.portal.entry.joining import invite_page, pending_new
from gateway.portal.entry.oidc.flow import named, set_out
from gateway.portal.entry.oidc.leaving import leave
from gateway.portal.own.account import back, own
from gateway.portal.own.security import told_there
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal

routes = web.RouteTableDef()


@routes.post("/account/identities/{name}/connect")
@told_there
async def connect(request: web.Request) -> web.Response:
    """Send the browser on to the provider, to come back connected."""
    session = await browser.required_fresh(request)
    provider = named(request)
    return leave(request, provider, await set_out(request, provider, browser.HOME, session_id=session.id, again=True))


@routes.post("/auth/invite/{secret}/provider/{name}")
async def join_with(request: web.Request) -> web.Response:
    """Send the browser on to the provider, to come back as a member."""
    secret, provider = request.match_info["secret"], named(request)
    try:
        await pending_new(request, secret)
        away = await set_out(request, provider, browser.HOME, invitation=secret)
    except Problem as problem:
        return await invite_page(request, secret, problem)
    return leave(request, provider, away)


@routes.post("/account/identities/disconnect")
@told_there
async def disconnect(request: web.Request) -> web.Response:
    """Not the last way to sign in."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    fields = await form_fields(request)
    stored, person = identities(request), account.person
    if not person.has_password and not person.has_passkey and len(await stored.of(person.id)) < 2:
        raise Problem(Refusal.IN_USE, "It is the only way in which you can sign in. Set a password first.")
    if not await stored.unlink(person.id, person.email, fields.get("issuer", ""), fields.get("subject", "")):
        raise Problem(Refusal.NOT_FOUND)
    return back("/account/security", "unlinked")

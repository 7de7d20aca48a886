"""Accounts at providers, connected and disconnected by whoever is signed in here."""

from aiohttp import web

from gateway.portal import browser
from gateway.portal.account import back, own
from gateway.portal.bodies import form_fields
from gateway.portal.identity import identities
from gateway.portal.oidc.flow import named, set_out
from gateway.portal.pages import render
from gateway.portal.problem import Problem
from gateway.portal.security import told_there
from policies.verdict import Refusal

routes = web.RouteTableDef()


@routes.post("/account/identities/{name}/connect")
@told_there
async def connect(request: web.Request) -> web.Response:
    """Send the browser on to the provider, to come back connected.

    By a page that goes on by itself: the policy of our pages lets a form lead to our own addresses only.
    """
    session = await browser.required_fresh(request)
    provider = named(request)
    away = await set_out(request, provider, browser.HOME, session_id=session.id, again=True)
    url = away.headers["Location"]
    response = render(
        request, "message.html", title=f"On to {provider.label}", message="Your browser goes on by itself.", link=url,
        link_text="Go on",
    )  # fmt: skip
    response.headers["Refresh"] = f"0; url={url}"
    response.cookies.update(away.cookies)
    return response


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

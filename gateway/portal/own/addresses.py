"""Another e-mail address for an account: confirmed on the old one and on the new one, or nothing changes."""

import secrets

from aiohttp import web

from gateway.portal.entry import browser
from gateway.portal.entry.identity import IDENTITY, people
from gateway.portal.entry.proving import limit
from gateway.portal.entry.recovery import LINKS, links, mint
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.mail.sending import MAILER, deliver, require_mailbox
from gateway.portal.own.account import account_page, back, own
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.people import Person
from storage.ports import AlreadyExists, Invalidation
from storage.postgres import values

routes = web.RouteTableDef()

_FREE_REQUESTS = 3


@routes.get("/account/email")
async def page(request: web.Request) -> web.Response:
    """The form."""
    session = await browser.required_fresh(request)
    return account_page(
        request, "account_email.html", await own(request, session), session, title="E-mail address", tab="profile",
        is_on=request.app[MAILER].is_on,
    )  # fmt: skip


@routes.post("/account/email")
async def change(request: web.Request) -> web.Response:
    """Mail both links. Whether somebody else has the new address is not told here: only its owner learns it."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    person = account.person
    try:
        await limit(request, "email", person.id, free=_FREE_REQUESTS)
        email = values.clean_email((await form_fields(request)).get("email", ""))
        require_mailbox(email)
        await _mail_links(request, person, email)
    except (Problem, ValueError) as error:
        wrong = {"email": "This is not an e-mail address."}
        problem = error if isinstance(error, Problem) else Problem(Refusal.INVALID_INPUT, fields=wrong)
        return account_page(
            request, "account_email.html", account, session, title="E-mail address", tab="profile", problem=problem,
            is_on=request.app[MAILER].is_on,
        )  # fmt: skip
    return back("/account", "email")


async def _mail_links(request: web.Request, person: Person, email: str) -> None:
    """One to each address. Raises Problem: those that are out by then lead nowhere without the other half."""
    old, new = mint("email"), mint("email")
    identity, base = request.app[IDENTITY], request.app[PARTS].public_url
    await links(request).make_email_change(
        person.id, email, secrets.token_hex(16), identity.digest(LINKS, old), identity.digest(LINKS, new)
    )
    await people(request).note("email.change_requested", person.id, person.email, {"email": email})
    await deliver(request, person.email, *letters.email_old(f"{base}/auth/email/{old}", email))
    await deliver(request, email, *letters.email_new(f"{base}/auth/email/{new}"))


@routes.get("/auth/email/{secret}")
async def look(request: web.Request) -> web.Response:
    """A button. Looking uses nothing up."""
    link = await links(request).read(_digest(request), "email_old", "email_new")
    if link is None:
        raise Problem(Refusal.LINK_INVALID)
    response = render(request, "confirm_email.html", title="Confirm the address", email=link.email, action=request.path)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@routes.post("/auth/email/{secret}")
async def confirm(request: web.Request) -> web.Response:
    """One half is confirmed; with the other one the address changes."""
    await limit(request, "email-link", free=30)
    try:
        link, old = await links(request).confirm_email(_digest(request), people(request))
    except AlreadyExists as error:
        raise Problem(Refusal.ALREADY_EXISTS, str(error)) from error
    if link is None or link.email is None:
        raise Problem(Refusal.LINK_INVALID)
    if old is None:
        message = "Confirmed. Now open the link in the other message as well."
    else:
        message = f"The address of your account is now {link.email}."
        await post(request, old, *letters.email_changed(link.email))
        await request.app[PARTS].bus.publish(Invalidation(user_id=link.user_id))
    return render(
        request, "message.html", title="Thank you", message=message, link="/account", link_text="To your account"
    )


def _digest(request: web.Request) -> bytes:
    return request.app[IDENTITY].digest(LINKS, request.match_info["secret"])

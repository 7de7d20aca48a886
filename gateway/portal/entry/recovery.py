"""A forgotten password: the same answer whoever asks, a link by mail, and a new password at its end."""

import secrets

from aiohttp import web

from gateway.portal.caller import client_address
from gateway.portal.entry import browser
from gateway.portal.entry.choosing import hashed, new_password
from gateway.portal.entry.identity import IDENTITY, people
from gateway.portal.entry.proving import limit
from gateway.portal.entry.trusted import trusted_browsers
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.mail.sending import MAILER
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.tenants import UserStatus
from policies.people import RESET_S, Person
from storage.postgres.people.links import PostgresLinks

routes = web.RouteTableDef()

LINKS = "one-time-links"
_FREE_REQUESTS = 3


def links(request: web.Request) -> PostgresLinks:
    """The links that were mailed."""
    return PostgresLinks(request.app[PARTS].pool)


def mint(prefix: str) -> str:
    """A secret for a link, 256 bits; the prefix lets logs and secret scanners know it."""
    return f"thk_{prefix}_{secrets.token_urlsafe(32)}"


def link(public_url: str, secret: str) -> str:
    """Where a password is chosen."""
    return f"{public_url}/auth/reset/{secret}"


@routes.get("/auth/forgot")
async def ask(request: web.Request) -> web.Response:
    """The form."""
    return render(
        request, "forgot.html", title="Forgot your password?", problem=None, sent=False, is_on=request.app[MAILER].is_on
    )


@routes.post("/auth/forgot")
async def send(request: web.Request) -> web.Response:
    """Mail a link to an account's owner; for an address without one the answer is the same, and comes as soon."""
    fields = await form_fields(request)
    email = fields.get("email", "")[:254]
    problem = None
    try:
        name = await request.app[IDENTITY].attempts.account_name(email, client_address(request))
        await limit(request, "forgot", name, free=_FREE_REQUESTS)
    except Problem as refused:
        problem = refused
    else:
        request.app[PARTS].tasks.start(_send(request, email), "reset of a password")
    return render(
        request,
        "forgot.html",
        title="Forgot your password?",
        problem=problem,
        sent=problem is None,
        is_on=request.app[MAILER].is_on,
    )


async def _send(request: web.Request, email: str) -> None:
    known = people(request)
    account = await known.account(email)
    if account is None or account.person.status is not UserStatus.ACTIVE:
        return
    secret = mint("reset")
    await links(request).make_reset(account.person.id, request.app[IDENTITY].digest(LINKS, secret))
    await known.note("password.reset_requested", account.person.id, account.person.email)
    letter = letters.reset(link(request.app[PARTS].public_url, secret))
    await post(request, account.person.email, *letter, life_s=RESET_S)


@routes.get("/auth/reset/{secret}")
async def page(request: web.Request) -> web.Response:
    """The form for a new password. Looking at it uses nothing up."""
    return _form(request, await _owner(request), None)


@routes.post("/auth/reset/{secret}")
async def reset(request: web.Request) -> web.Response:
    """Set the password, sign every browser out, and tell the owner. A second factor is asked for at the log-in."""
    await limit(request, "reset", free=_FREE_REQUESTS * 10)
    person = await _owner(request)
    try:
        _, password = await new_password(request)
        stored = await hashed(
            request, password, about=(person.email, person.name), second_factor=person.has_second_factor
        )
    except Problem as problem:
        return _form(request, person, problem)
    async with links(request).using(_digest(request), "reset") as (used, connection):
        if used is None:  # by somebody else, while we hashed
            raise Problem(Refusal.LINK_INVALID)
        await people(request).set_password_in(connection, person.id, stored, "password.reset")
    await trusted_browsers(request).forget(person.id, person.email)
    await browser.end(request, person.id, "password")
    await post(request, person.email, *letters.password_changed(request.app[PARTS].public_url))
    return render(request, "message.html", title="Done", message="Your password is changed. Sign in with it now.",
                  link="/auth/login", link_text="Sign in")  # fmt: skip


async def _owner(request: web.Request) -> Person:
    """Whose password the link changes. Raises Problem."""
    link = await links(request).read(_digest(request), "reset")
    account = await people(request).account_of(link.user_id) if link is not None else None
    if account is None:
        raise Problem(Refusal.LINK_INVALID)
    return account.person


def _digest(request: web.Request) -> bytes:
    return request.app[IDENTITY].digest(LINKS, request.match_info["secret"])


def _form(request: web.Request, person: Person, problem: Problem | None) -> web.Response:
    response = render(
        request,
        "reset.html",
        title="Choose a new password",
        problem=problem,
        action=request.path,
        person=person,
    )
    response.headers["Referrer-Policy"] = "no-referrer"  # the address of this page is a secret
    return response

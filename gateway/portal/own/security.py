"""The password and the second factor of whoever is signed in. What weakens an account asks for the password again."""

import secrets
from functools import wraps

import pyotp
import segno
from aiohttp import web

from gateway.portal.entry import browser
from gateway.portal.entry.choosing import hashed, new_password
from gateway.portal.entry.identity import IDENTITY, identities, people, sessions
from gateway.portal.entry.oidc.provider import PROVIDERS
from gateway.portal.entry.passkeys.ceremony import stored, takes_passkeys
from gateway.portal.entry.proving import RECOVERY_PURPOSE, plain_code, prove_again, prove_code
from gateway.portal.entry.sealing import sealed, unsealed
from gateway.portal.entry.trusted import trusted_browsers
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.own.account import account_page, back, own
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Handler, Problem
from gateway.portal.web.problem_answers import wants_page
from policies.http.verdict import Refusal
from policies.people import SET_UP_S, Proven, Session, safe_next
from storage.postgres.people.accounts import Account

routes = web.RouteTableDef()

_PAGE = "/account/security"
_CODES = 10
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without what people mistake for something else; ten characters are 49 bits, and tries are limited."""


@routes.get(_PAGE)
async def page(request: web.Request) -> web.Response:
    """How one signs in."""
    session = await browser.required(request)
    return await whole_page(request, session, await own(request, session), None)


def told_there(handler: Handler) -> Handler:
    """Why a form of this page is refused stands on this page, not on one of its own."""

    @wraps(handler)
    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            session = await browser.current(request)
            if session is None or not wants_page(request):
                raise
            return await whole_page(request, session, await own(request, session), problem)

    return told


@routes.get("/.well-known/change-password")
async def to_page(_: web.Request) -> web.Response:
    """Where password managers look (W3C, A Well-Known URL for Changing Passwords)."""
    return web.Response(status=303, headers={"Location": _PAGE})


@routes.get("/account/password")
async def again(request: web.Request) -> web.Response:
    """The page once more, for a browser that loads it again after a fault in the form."""
    await browser.required(request)
    return web.Response(status=303, headers={"Location": _PAGE})


@routes.post("/account/password")
async def change_password(request: web.Request) -> web.Response:
    """Change the password, by the old one; a person who has none has just signed in.

    Every other browser is signed out, this one gets a new session, the owner is told.
    """
    session = await browser.required(request)
    account = await own(request, session)
    person = account.person
    if not person.has_password:
        await browser.required_fresh(request)
    try:
        fields, password = await new_password(request)
        if person.has_password:
            await _prove_current(request, account, fields.get("current", "")[:8_192])
        chosen = await hashed(
            request, password, about=(person.email, person.name), second_factor=person.has_second_factor
        )
    except Problem as problem:
        return await whole_page(request, session, account, problem)
    await people(request).set_password(person.id, chosen)
    await browser.end(request, person.id, "password")
    await post(request, person.email, *letters.password_changed(request.app[PARTS].public_url))
    place = next(p for p in account.places if p.tenant_id == session.tenant_id)
    _, secret = await browser.begin(request, Proven(person=person, place=place, methods=session.methods))
    response = back(_PAGE, "password")
    browser.set_cookie(request, response, secret)
    return response


async def _prove_current(request: web.Request, account: Account, password: str) -> None:
    """The same as anywhere else, and said at the field: there are three of them."""
    try:
        await prove_again(request, account, password)
    except Problem as problem:
        if problem.refusal is Refusal.WRONG_PASSWORD:
            raise Problem(Refusal.INVALID_INPUT, fields={"current": problem.sentences}) from problem
        raise


@routes.get("/account/confirm")
async def confirm_page(request: web.Request) -> web.Response:
    """The password once more, or another proof, and on to where it was asked for."""
    session = await browser.required(request)
    goal = safe_next(request.query.get("next", ""), "/account")
    return await confirm_form(request, await own(request, session), goal, None)


@routes.post("/account/confirm")
async def confirm(request: web.Request) -> web.Response:
    """Note that the password was given."""
    session = await browser.required(request)
    fields = await form_fields(request)
    goal = safe_next(fields.get("next", ""), "/account")
    account = await own(request, session)
    try:
        await prove_again(request, account, fields.get("password", "")[:8_192])
    except Problem as problem:
        return await confirm_form(request, account, goal, problem)
    await sessions(request).listed.authenticated(session.id)
    return web.Response(status=303, headers={"Location": goal})


async def confirm_form(request: web.Request, account: Account, goal: str, problem: Problem | None) -> web.Response:
    """Proof once more; ``goal`` is where the person goes then."""
    linked = {one.provider for one in await identities(request).of(account.person.id)}
    return render(
        request, "confirm.html", title="Confirm that it is you",
        problem=problem, goal=goal, person=account.person, can_reset=request.app[PARTS].settings.mail is not None,
        passkeys=account.person.has_passkey and takes_passkeys(request),
        providers=[one for name, one in request.app[PROVIDERS].items() if name in linked],
    )  # fmt: skip


# --- the second factor ------------------------------------------------------------------------------------------------


@routes.get("/account/second-factor")
async def offer(request: web.Request) -> web.Response:
    """The secret as a picture and as text, to be confirmed by a code. A new one each time until then."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    if account.person.has_second_factor:
        return back(_PAGE, "")
    was_offered = await people(request).second_factor(account.person.id) is not None
    secret = pyotp.random_base32()
    await people(request).offer_second_factor(account.person.id, sealed(request, secret, account.person.id))
    return _offer(request, session, account, secret, None, was_offered=was_offered)


@routes.post("/account/second-factor")
async def take(request: web.Request) -> web.Response:
    """Confirm it; from now on it is asked for. The recovery codes are shown, this once.

    Whoever was shown the secret had just proved who it is, and may take its time with the code; a wrong one shows it to
    nobody else.
    """
    session = await browser.required_fresh(request, SET_UP_S)
    account = await own(request, session)
    known = people(request)
    factor = await known.second_factor(account.person.id)
    if factor is None or factor.confirmed:
        return back(_PAGE, "")
    try:
        await prove_code(request, account.person, (await form_fields(request)).get("code", "")[:64])
    except Problem as problem:
        is_fresh = session.is_fresh(request.app[PARTS].now())
        secret = unsealed(request, factor.sealed, account.person.id) if is_fresh else ""
        return _offer(request, session, account, secret, problem)
    return await _show_codes(request, session, account)


@routes.post("/account/recovery-codes")
async def new_codes(request: web.Request) -> web.Response:
    """New recovery codes; the old ones are worth nothing."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    if not account.person.has_second_factor:
        raise Problem(Refusal.NOT_FOUND)
    return await _show_codes(request, session, account)


@routes.post("/account/second-factor/remove")
@told_there
async def remove(request: web.Request) -> web.Response:
    """The password is enough again."""
    session = await browser.required_fresh(request)
    account = await own(request, session)
    if not account.person.has_passkey and any(place.asks_second_factor for place in account.places):
        raise Problem(Refusal.SECOND_FACTOR_NEEDED)
    await people(request).remove_second_factor(session.user_id)
    await trusted_browsers(request).forget(session.user_id, account.person.email)
    await post(request, account.person.email, *letters.second_factor_removed(request.app[PARTS].public_url))
    return back(_PAGE, "removed")


@routes.post("/account/trusted-browsers/forget")
async def distrust(request: web.Request) -> web.Response:
    """The second factor is asked for in every browser again."""
    session = await browser.required(request)
    account = await own(request, session)
    await trusted_browsers(request).forget(session.user_id, account.person.email)
    return back(_PAGE, "distrusted")


async def fresh_recovery_codes(request: web.Request, user_id: str) -> list[str]:
    """New codes, as they are shown; the second factor counts from now on."""
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(10)) for _ in range(_CODES)]
    identity = request.app[IDENTITY]
    digests = [identity.digest(RECOVERY_PURPOSE, f"{user_id}:{plain_code(code)}") for code in codes]
    await people(request).confirm_second_factor(user_id, digests)
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def shown(secret: str, email: str) -> dict[str, str]:
    """The secret of an authenticator app as a picture and as text."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name="Tahoe")
    # An SVG in a data: URL, because the page's policy takes no inline style; the code is black on white in both themes.
    picture = segno.make(uri, error="m").svg_data_uri(scale=5, border=3, dark="#000", light="#fff")
    return {"picture": picture, "uri": uri, "key": " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))}


async def _show_codes(request: web.Request, session: Session, account: Account) -> web.Response:
    codes = await fresh_recovery_codes(request, account.person.id)
    return account_page(
        request, "recovery_codes.html", account, session, title="Recovery codes", tab="security", codes=codes
    )


def _offer(
    request: web.Request,
    session: Session,
    account: Account,
    secret: str,
    problem: Problem | None,
    *,
    was_offered: bool = False,
) -> web.Response:
    """``secret`` empty: not shown again. ``was_offered``: another was, which an app may have, worth nothing now."""
    return account_page(
        request, "second_factor_offer.html", account, session, title="Authenticator app", tab="security",
        problem=problem, was_offered=was_offered, done="",
        **(shown(secret, account.person.email) if secret else {"picture": "", "uri": "", "key": ""}),
    )  # fmt: skip


async def whole_page(request: web.Request, session: Session, account: Account, problem: Problem | None) -> web.Response:
    """How one signs in, and what just went wrong with it."""
    left = await people(request).recovery_codes_left(account.person.id) if account.person.has_second_factor else 0
    return account_page(
        request, "account_security.html", account, session, title="Password and security", tab="security",
        problem=problem, fresh=session.is_fresh(request.app[PARTS].now()), codes_left=left,
        trusted=await trusted_browsers(request).count(account.person.id),
        passkeys=await stored(request).of(account.person.id), takes_passkeys=takes_passkeys(request),
        identities=await identities(request).of(account.person.id),
        labels={name: one.label for name, one in request.app[PROVIDERS].items()},
    )  # fmt: skip

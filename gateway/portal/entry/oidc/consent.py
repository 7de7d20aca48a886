"""Whether an account here is theirs, asked of whoever comes with its address from a provider: nothing connects unasked.

Consent is a log-in by the account's own means, on a page that says what would be connected to what. That a provider
vouches for the address is not enough: it may have been given to somebody else there, or the provider may be wrong.
"""

from urllib.parse import quote

from aiohttp import web

from gateway.portal.entry import halfway, login
from gateway.portal.entry.identity import identities, people
from gateway.portal.entry.oidc import pending
from gateway.portal.entry.oidc.pending import Pending
from gateway.portal.entry.oidc.provider import PROVIDERS
from gateway.portal.entry.passkeys.ceremony import answered, go_to, json_response, question, stored, takes_passkeys
from gateway.portal.entry.passkeys.using import FREE_TRIES, Answer
from gateway.portal.entry.proving import limit, prove_password
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields, read_json
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from policies.federation import Asserted
from policies.http.verdict import Refusal
from policies.people import Place, Proven
from storage.postgres.people.accounts import Account

routes = web.RouteTableDef()

_PAGE = "/auth/connect"
_START = "/auth/login"


async def ask(request: web.Request, provider: str, account: Account, asserted: Asserted, goal: str) -> web.Response:
    """Send the browser on to the page that asks. Raises Problem: nobody can sign in to that account now."""
    if place(account, asserted) is None:
        raise Problem(Refusal.PROVIDER_NOT_ADMITTED)
    response = web.Response(status=303, headers={"Location": _PAGE})
    await pending.keep(request, response, provider, asserted, account.person.id, goal)
    return response


@routes.get(_PAGE)
async def page(request: web.Request) -> web.Response:
    """What would be connected to what, and the ways to say yes or no."""
    return await _page(request, *await _asked(request), None)


@routes.post(_PAGE)
async def consent(request: web.Request) -> web.Response:
    """Yes, with the account's password; a second factor may have to follow."""
    found, account = await _asked(request)
    fields = await form_fields(request)
    if fields.get("connection") != found.id:
        return await _page(request, found, account, Problem(Refusal.FORM_EXPIRED))
    goes_to = place(account, found.asserted)
    try:
        proven = await prove_password(
            request, account.person.email, fields.get("password", "")[:8_192],
            tenant=goes_to.slug if goes_to is not None else None,
        )  # fmt: skip
    except Problem as problem:
        return await _page(request, found, account, problem)
    try:
        return await _go_on(request, proven)
    except Problem as problem:
        return login.form(request, goal=found.goal, email=proven.person.email, problem=problem)


@routes.post(f"{_PAGE}/refuse")
async def refuse(request: web.Request) -> web.Response:
    """No. Back to the log-in page."""
    found, account = await _asked(request)
    if (await form_fields(request)).get("connection") != found.id:
        return await _page(request, found, account, Problem(Refusal.FORM_EXPIRED))
    response = web.Response(status=303, headers={"Location": f"{_START}?next={quote(found.goal, safe='')}"})
    await pending.forget(request, response)
    facts = {"provider": found.provider, "subject": found.asserted.subject}
    await people(request).note("identity.declined", account.person.id, account.person.email, facts)
    return response


@routes.post(f"{_PAGE}/passkey/options")
async def passkey_options(request: web.Request) -> web.Response:
    """What to ask for: one of this account's."""
    found, account = await _waiting(request)
    await limit(request, "passkey", account.person.id, free=FREE_TRIES)
    return json_response(await question(request, _why(found), list(await stored(request).of(account.person.id))))


@routes.post(f"{_PAGE}/passkey")
async def passkey_consent(request: web.Request) -> web.Response:
    """Yes, with a passkey of the account."""
    found, account = await _waiting(request)
    await limit(request, "passkey", account.person.id, free=FREE_TRIES)
    sent = await read_json(request, Answer)
    passkey = await answered(request, _why(found), sent.credential)
    goes_to = place(account, found.asserted)
    if passkey.user_id != account.person.id or goes_to is None:
        raise Problem(Refusal.PASSKEY_FAILED)
    proven = Proven(person=account.person, place=goes_to, methods=("pop", "mfa"))
    return go_to(await _go_on(request, proven))


def place(account: Account, asserted: Asserted) -> Place | None:
    """The tenant that the provider tells of, or the first that serves."""
    active = [place for place in account.places if place.active]
    return next((p for p in active if asserted.tenant in (p.slug, p.tenant_id)), active[0] if active else None)


async def _go_on(request: web.Request, proven: Proven) -> web.Response:
    """It waits no more, whatever comes of it. Raises Problem: another request has taken it."""
    taken = await pending.take(request)
    if taken is None:
        raise Problem(Refusal.PROVIDER_FAILED)
    response = await halfway.go_on(request, proven, taken.goal, taken)
    await pending.forget(request, response)
    return response


async def _waiting(request: web.Request) -> tuple[Pending, Account]:
    """What waits in this browser, and the account that is meant. Raises Problem."""
    found = await pending.waiting(request)
    account = await people(request).account_of(found.user_id) if found is not None else None
    if found is None or account is None or not account.may_sign_in:
        raise Problem(Refusal.PROVIDER_FAILED)
    return found, account


async def _asked(request: web.Request) -> tuple[Pending, Account]:
    """The same for a page: with nothing to ask it is the log-in page."""
    try:
        return await _waiting(request)
    except Problem as problem:
        raise web.HTTPSeeOther(halfway.OVER) from problem


def _why(found: Pending) -> str:
    """A challenge for this connection answers no other."""
    return f"connect:{found.id}"


async def _page(request: web.Request, found: Pending, account: Account, problem: Problem | None) -> web.Response:
    person, providers = account.person, request.app[PROVIDERS]
    linked = {one.provider for one in await identities(request).of(person.id)}
    return render(
        request, "connect.html", title="Connect your account",
        problem=problem, pending=found, person=person, provider=providers[found.provider],
        passkeys=person.has_passkey and takes_passkeys(request), can_reset=request.app[PARTS].settings.mail is not None,
        others=[one for name, one in providers.items() if name in linked],
    )  # fmt: skip

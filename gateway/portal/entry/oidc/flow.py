"""A browser's way to a provider and back. Each log-in is bound to its browser, begins once and ends once."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from aiohttp import web

from gateway.portal.caller import request_id
from gateway.portal.entry import browser, halfway, login
from gateway.portal.entry.identity import identities, people
from gateway.portal.entry.joining import invite_page, join, pending_new
from gateway.portal.entry.oidc import consent
from gateway.portal.entry.oidc.pending import tell
from gateway.portal.entry.oidc.provider import PROVIDERS, Provider, Refused, Request
from gateway.portal.entry.proving import limit
from gateway.portal.entry.slips import Slip
from gateway.portal.own import security
from gateway.portal.own.account import own
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from gateway.portal.web.problem_answers import wants_page
from policies.federation import Asserted, Outcome, may_join, outcome, read_asserted
from policies.http.verdict import Refusal
from policies.people import FRESH_S, Place, Proven, safe_next
from storage.ports import AlreadyExists, NotFound, Unavailable
from storage.postgres.address import Connection
from storage.postgres.people.accounts import Account
from storage.postgres.people.identities import name_of

_log = structlog.get_logger("gateway.portal")

routes = web.RouteTableDef()

_FREE_STARTS = 30
_LONGEST_CODE = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One log-in on its way. ``session_id`` where somebody who is signed in connects an account; else empty.

    ``user_id``: who is signed in and is to prove itself anew; else empty.
    """

    provider: str
    asked: Request
    goal: str
    session_id: str
    user_id: str
    invitation: str
    """The secret of the link by which somebody new is to join; else empty."""


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """The providers; nothing is asked of them before somebody comes."""
    parts = app[PARTS]
    app[PROVIDERS] = {
        name: Provider(name, settings, f"{parts.public_url}/auth/oidc/{name}/callback", parts.tasks)
        for name, settings in parts.settings.oidc.items()
    }
    yield


@routes.get("/auth/oidc/{name}")
async def start(request: web.Request) -> web.Response:
    """Send the browser on to the provider. With ``again``, the person is to prove itself there anew."""
    goal = safe_next(request.query.get("next", ""), browser.HOME)
    session = await browser.current(request) if "again" in request.query else None
    user_id = session.user_id if session is not None else ""
    try:
        return await set_out(request, named(request), goal, again="again" in request.query, user_id=user_id)
    except Problem as problem:
        if not wants_page(request):
            raise
        return await _refused(request, goal, problem, anew=bool(user_id))


async def set_out(
    request: web.Request, provider: Provider, goal: str, *, session_id: str = "", again: bool = False,
    user_id: str = "", invitation: str = "",
) -> web.Response:  # fmt: skip
    """A redirect to the provider, with the cookie that binds the way back to this browser. Raises Problem."""
    await limit(request, "oidc", free=_FREE_STARTS)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    since_s = int(request.app[PARTS].now().timestamp()) if again else None
    asked = Request(state=state, nonce=nonce, verifier=verifier, since_s=since_s)
    try:
        url = await provider.authorization_url(asked)
    except Unavailable as error:
        raise _unavailable(request, provider, error) from error
    flow = Flow(
        provider=provider.name, asked=asked, goal=goal, session_id=session_id, user_id=user_id, invitation=invitation
    )
    response = web.Response(status=303, headers={"Location": url})
    await _slip(state).leave(request, response, flow)
    return response


@routes.get("/auth/oidc/{name}/callback")
async def come_back(request: web.Request) -> web.Response:
    """The provider's answer: a session, a connected account, or a page with what went wrong."""
    provider = named(request)
    flow = await _take(request)
    goal = flow.goal if flow is not None else browser.HOME
    try:
        asserted = await _asserted(request, provider, flow)
        assert flow is not None
        if flow.session_id:
            response = await _connect(request, provider, flow, asserted)
        elif flow.invitation:
            response = await _join(request, provider, flow.invitation, asserted)
        else:
            response = await _sign_in(request, provider, flow, asserted)
    except Problem as problem:
        if not wants_page(request):
            raise
        if flow is not None and flow.invitation:
            response = await invite_page(request, flow.invitation, problem)
        else:
            response = await _refused(request, goal, problem, anew=flow is not None and bool(flow.user_id))
    _slip(request.query.get("state", "")).drop(request, response)
    return response


async def _refused(request: web.Request, goal: str, problem: Problem, *, anew: bool) -> web.Response:
    """On the page where the person can go on: who is signed in is not asked to sign in."""
    session = await browser.current(request)
    if session is None:
        return login.form(request, goal=goal, problem=problem)
    account = await own(request, session)
    if anew:
        return await security.confirm_form(request, account, goal, problem)
    return await security.whole_page(request, session, account, problem)


async def _asserted(request: web.Request, provider: Provider, flow: Flow | None) -> Asserted:
    """What the provider vouches for. Raises Problem."""
    try:
        known = _begun(flow, provider)
        await provider.check_sender(_single(request, "iss"))
        return read_asserted(await provider.redeem(_code(request), known.asked), provider.rules)
    except Refused as refused:
        _log.warning(
            "signing in with a provider was refused",
            provider=provider.name, reason=str(refused), request_id=request_id(request),
        )  # fmt: skip
        if flow is not None:  # else anybody could fill the trail by opening an address
            await people(request).note("login.failed", "", "", {"provider": provider.name})
        raise Problem(Refusal.PROVIDER_FAILED) from refused
    except Unavailable as error:
        raise _unavailable(request, provider, error) from error


def _begun(flow: Flow | None, provider: Provider) -> Flow:
    if flow is None or flow.provider != provider.name:
        raise Refused("this browser has no such log-in on its way, or it is over")
    return flow


def _code(request: web.Request) -> str:
    error, code = _single(request, "error"), _single(request, "code")
    if error is not None or not code or len(code) > _LONGEST_CODE:
        raise Refused(f"it sends no code: {(error or 'none')[:100]}")
    return code


async def _sign_in(request: web.Request, provider: Provider, flow: Flow, asserted: Asserted) -> web.Response:
    if flow.user_id and await identities(request).owner(asserted.issuer, asserted.subject) != flow.user_id:
        raise Problem(
            Refusal.PROVIDER_FAILED, "You were there with another account than the one that is connected here."
        )
    what, found = await _outcome(request, provider, asserted)
    if what is Outcome.ASK and found is not None:
        return await consent.ask(request, provider.name, found, asserted, flow.goal)
    account = await _admitted(request, provider, asserted, found)
    place = await _stays(request, flow, account) or consent.place(account, asserted)
    if place is None or not account.may_sign_in:
        raise Problem(Refusal.PROVIDER_NOT_ADMITTED)
    await identities(request).used(asserted.issuer, asserted.subject)
    proved_at = _proved_at(request, asserted)
    proven = Proven(person=account.person, place=place, methods=_methods(provider), at=proved_at)
    return await halfway.go_on(request, proven, flow.goal)


async def _join(request: web.Request, provider: Provider, secret: str, asserted: Asserted) -> web.Response:
    """Somebody new accepts an invitation, and signs in with that account of the provider from now on."""
    invitation = await pending_new(request, secret)
    refusal = may_join(asserted, provider.rules, invitation.email)
    if refusal is not None:
        await people(request).note("login.failed", "", asserted.email[:254], {"provider": provider.name})
        raise Problem(refusal)

    async def link(connection: Connection, user_id: str) -> None:
        await identities(request).link_in(connection, user_id, provider.name, asserted, joins=False)

    try:
        name = name_of(asserted)
        return await join(request, secret, name, link, _methods(provider), _proved_at(request, asserted))
    except AlreadyExists as error:
        raise Problem(Refusal.PROVIDER_TAKEN) from error


def _methods(provider: Provider) -> tuple[str, ...]:
    return ("oidc", "mfa") if provider.asks_second_factor else ("oidc",)


async def _stays(request: web.Request, flow: Flow, account: Account) -> Place | None:
    """Where somebody is who only proves itself anew: what is done next is done there."""
    session = await browser.current(request) if flow.user_id else None
    if session is None or session.user_id != account.person.id:
        return None
    return next((one for one in account.places if one.active and one.tenant_id == session.tenant_id), None)


def _proved_at(request: web.Request, asserted: Asserted) -> datetime:
    """When the person proved itself at the provider, which is not now where that browser was signed in there.

    Who does not say leaves a session that is too old for what asks for a fresh log-in.
    """
    if asserted.proved_s is None:
        return request.app[PARTS].now() - timedelta(seconds=FRESH_S)
    return datetime.fromtimestamp(asserted.proved_s, UTC)


async def _outcome(request: web.Request, provider: Provider, asserted: Asserted) -> tuple[Outcome, Account | None]:
    """What is done about who comes, and the account here that is meant. Raises Problem."""
    known = people(request)
    owner = await identities(request).owner(asserted.issuer, asserted.subject)
    found = await known.account_of(owner) if owner else await known.account(asserted.email)
    what = outcome(asserted, provider.rules, linked=owner is not None, has_account=found is not None)
    if isinstance(what, Outcome) and (found is None or found.may_sign_in):
        return what, found
    await known.note("login.failed", found.person.id if found else "", asserted.email[:254],
                     {"provider": provider.name})  # fmt: skip
    raise Problem(what if isinstance(what, Refusal) else Refusal.PROVIDER_NOT_ADMITTED)


async def _admitted(request: web.Request, provider: Provider, asserted: Asserted, found: Account | None) -> Account:
    """The account of whoever is connected, made or given a place where the operator's rules say so. Raises Problem."""
    stored = identities(request)
    try:
        if found is None:
            owner = await stored.make(provider.name, asserted)
        else:
            owner = found.person.id
            if provider.rules.makes_people and asserted.tenant:
                await stored.join(owner, found.person.email, asserted)
    except (AlreadyExists, NotFound, ValueError) as error:
        _log.warning("somebody could not be let in", provider=provider.name, reason=str(error))
        raise Problem(Refusal.PROVIDER_NOT_ADMITTED) from error
    account = await people(request).account_of(owner)
    if account is None:
        raise Problem(Refusal.PROVIDER_NOT_ADMITTED)
    return account


async def _connect(request: web.Request, provider: Provider, flow: Flow, asserted: Asserted) -> web.Response:
    """The account of the provider is, from now on, that of whoever is signed in: in the session that asked for it."""
    session = await browser.current(request)
    account = await people(request).account_of(session.user_id) if session is not None else None
    if session is None or session.id != flow.session_id or account is None:
        raise Problem(Refusal.PROVIDER_FAILED)
    try:
        await identities(request).link(session.user_id, account.person.email, provider.name, asserted)
    except AlreadyExists as error:
        raise Problem(Refusal.PROVIDER_TAKEN) from error
    await tell(request, account.person, provider.label)
    return web.Response(status=303, headers={"Location": "/account/security?done=linked"})


def named(request: web.Request) -> Provider:
    """The provider of the path. Raises Problem."""
    provider = request.app[PROVIDERS].get(request.match_info["name"])
    if provider is None:
        raise Problem(Refusal.NOT_FOUND)
    return provider


async def _take(request: web.Request) -> Flow | None:
    """The log-in that this browser set out on; of two answers to it one gets it."""
    found = await _slip(_single(request, "state") or "").take(request)
    return None if found is None else Flow(**{**found, "asked": Request(**found["asked"])})


def _single(request: web.Request, name: str) -> str | None:
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise Problem(Refusal.INVALID_INPUT, fields={name: "This is there more than once."})
    return values[0] if values else None


def _unavailable(request: web.Request, provider: Provider, error: Unavailable) -> Problem:
    _log.warning(
        "a sign-in provider cannot be asked",
        provider=provider.name, reason=str(error), request_id=request_id(request),
    )  # fmt: skip
    return Problem(Refusal.PROVIDER_UNAVAILABLE, headers={"Retry-After": "5"})


def _slip(state: str) -> Slip:
    """One for each log-in on its way, so that two windows do not disturb each other."""
    name = "".join(c for c in state[:8] if c.isascii() and c.isalnum())
    return Slip(f"tahoe_oidc_{name}", "oidc", "oidc", bound_to=state)

"""A person's own API tokens: keys that may do what the person may, and end with the membership."""

from collections.abc import Mapping
from datetime import timedelta

from aiohttp import web

from gateway.portal.api.keys import facts, mint
from gateway.portal.entry import browser
from gateway.portal.entry.identity import trail
from gateway.portal.entry.proving import limit
from gateway.portal.own.account import account_page, back, fields_in, own
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission, excess
from policies.people import Session
from storage.ports import Invalidation, NewKey, NotFound
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.tenants.members import permissions_in

routes = web.RouteTableDef()

PATH = "/account/tokens"
LIVES: Mapping[str, str] = {"30": "30 days", "90": "90 days", "365": "one year", "": "until I revoke it"}
_MOST_SHOWN = 200
_FREE_TOKENS = 30


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """Those of the tenant that one is in, newest first."""
    session = await browser.required(request)
    now = request.app[PARTS].now()
    found = await _registry(request).keys_page(session.tenant_id, _MOST_SHOWN, user_id=session.user_id)
    return account_page(
        request, "account_tokens.html", await own(request, session), session, title="API tokens", tab="tokens",
        tokens=[facts(each, now) for each in found],
    )  # fmt: skip


@routes.get(f"{PATH}/new")
async def new(request: web.Request) -> web.Response:
    """What the token is to be called, how long it is good, what it may do."""
    return await _form(request, await browser.required_fresh(request), {}, None)


@routes.post(f"{PATH}/new")
async def make(request: web.Request) -> web.Response:
    """Make it; the token is on this page and nowhere else."""
    session = await browser.required_fresh(request)
    fields = await fields_in(request, session)
    held, life = await _held(request, session), fields.get("life", "90")
    wanted = {name for name in Permission if fields.get(name) == "on"}
    faults = {}
    if life not in LIVES:
        faults["life"] = "Choose how long it is good."
    if not wanted or excess(held, wanted):
        faults["scopes"] = "Choose what it may do, of what you may do yourself."
    if faults:
        return await _form(request, session, fields, Problem(Refusal.INVALID_INPUT, fields=faults))
    await limit(request, "token", session.user_id, free=_FREE_TOKENS)
    parts = request.app[PARTS]
    secret, digest = mint(parts, test=False)
    try:
        await _registry(request).create_key(
            session.tenant_id,
            NewKey(
                name=fields.get("name", ""),
                digest=digest,
                last4=secret[-4:],
                scopes=frozenset(wanted),
                expires_at=parts.now() + timedelta(days=int(life)) if life else None,
                user_id=session.user_id,
            ),
        )
    except NotFound as error:  # the membership ended this moment
        raise Problem(Refusal.NOT_FOUND) from error
    except ValueError as error:
        wrong = Problem(Refusal.INVALID_INPUT, fields={"name": f"{str(error).capitalize()}."})
        return await _form(request, session, fields, wrong)
    return account_page(
        request, "account_token_made.html", await own(request, session), session, title="Your new token", tab="tokens",
        secret=secret, public_url=parts.public_url,
    )  # fmt: skip


@routes.post(f"{PATH}/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End one of one's own, now and for ever."""
    session = await browser.required(request)
    key_id = (await form_fields(request)).get("id", "")
    registry = _registry(request)
    try:
        found = await registry.key(session.tenant_id, key_id)
    except NotFound as error:
        raise Problem(Refusal.NOT_FOUND) from error
    if found.user_id != session.user_id:
        raise Problem(Refusal.NOT_FOUND)
    await registry.revoke_key(session.tenant_id, key_id)
    await request.app[PARTS].bus.publish(Invalidation(tenant_id=session.tenant_id, key_id=key_id))
    return back(PATH, "revoked")


async def _form(
    request: web.Request, session: Session, fields: Mapping[str, str], problem: Problem | None
) -> web.Response:
    return account_page(
        request, "account_token_new.html", await own(request, session), session, title="Make a token", tab="tokens",
        problem=problem, fields=fields, lives=LIVES, held=sorted(await _held(request, session)),
    )  # fmt: skip


async def _held(request: web.Request, session: Session) -> frozenset[Permission]:
    """What the person may do in the tenant, and so may give; what is the platform's is no key's."""
    held = await permissions_in(request.app[PARTS].pool, session.tenant_id, session.user_id)
    return held - {Permission.PLATFORM_READ, Permission.PLATFORM_WRITE}


def _registry(request: web.Request) -> PostgresKeyRegistry:
    return PostgresKeyRegistry(request.app[PARTS].pool, trail(request))

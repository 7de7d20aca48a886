"""A connection that waits for its person's consent: bound to one browser, good once, gone after ten minutes.

While it waits, a cookie of that browser names it; once the person has consented it goes on with the half log-in
(``halfway``), and is made in the transaction of the session.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gateway.portal import letters
from gateway.portal.identity import IDENTITY, acting, identities
from gateway.portal.oidc.provider import PROVIDERS, Provider
from gateway.portal.parts import PARTS
from gateway.portal.posting import post
from gateway.portal.problem import Problem
from policies.federation import Asserted
from policies.people import Person
from policies.tenants import Role
from policies.verdict import Refusal
from storage.postgres.address import Connection
from storage.postgres.sessions import Also
from storage.redis.client import asking

_LIFE_S = 600
_PURPOSE = "oidc-consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What would be connected to whom. ``id`` names it in its page's forms, so that consent is to what was shown.

    ``until_s``: seconds since the Unix epoch.
    """

    id: str
    provider: str
    asserted: Asserted
    user_id: str
    goal: str
    until_s: float


async def keep(
    request: web.Request, response: web.Response, provider: str, asserted: Asserted, user_id: str, goal: str
) -> None:
    """Let it wait; this browser's earlier one is forgotten."""
    secret, until_s = secrets.token_urlsafe(32), request.app[PARTS].now().timestamp() + _LIFE_S
    kept = Pending(
        id=secrets.token_urlsafe(12), provider=provider, asserted=asserted, user_id=user_id, goal=goal, until_s=until_s
    )
    with asking():
        await request.app[PARTS].redis.set(_key(request, secret), orjson.dumps(kept), ex=_LIFE_S)
    await forget(request, response)
    response.set_cookie(
        _cookie(request), secret, max_age=_LIFE_S, httponly=True, secure=request.app[PARTS].is_https,
        samesite="Lax", path="/",
    )  # fmt: skip


async def waiting(request: web.Request) -> Pending | None:
    """What waits in this browser; looking uses nothing up. None where the operator has changed their mind as well."""
    secret = request.cookies.get(_cookie(request), "")
    with asking():
        kept = await request.app[PARTS].redis.get(_key(request, secret)) if secret else None
    found = read(orjson.loads(kept)) if kept is not None else None
    return found if found is not None and provider_of(request, found) is not None else None


async def take(request: web.Request) -> Pending | None:
    """The same, and it waits no more: of two who ask at once one gets it."""
    secret = request.cookies.get(_cookie(request), "")
    with asking():
        kept = await request.app[PARTS].redis.getdel(_key(request, secret)) if secret else None
    return read(orjson.loads(kept)) if kept is not None else None


async def forget(request: web.Request, response: web.Response) -> None:
    """Nothing waits any more."""
    secret = request.cookies.get(_cookie(request), "")
    if secret:
        with asking():
            await request.app[PARTS].redis.delete(_key(request, secret))
        response.del_cookie(_cookie(request), path="/", secure=request.app[PARTS].is_https)


def read(kept: Mapping[str, Any] | None) -> Pending | None:
    """From plain data, as ``orjson`` writes it."""
    if kept is None:
        return None
    asserted = kept["asserted"]
    return Pending(**{**kept, "asserted": Asserted(**{**asserted, "role": Role(asserted["role"])})})


def provider_of(request: web.Request, found: Pending) -> Provider | None:
    """None when it may connect nobody by address any more."""
    provider = request.app[PROVIDERS].get(found.provider)
    return provider if provider is not None and provider.rules.links_by_email else None


def linking(request: web.Request, found: Pending, person: Person) -> Also:
    """What makes the connection in the transaction of the log-in. Raises Problem: it is too late."""
    provider = provider_of(request, found)
    if provider is None or found.user_id != person.id or found.until_s <= request.app[PARTS].now().timestamp():
        raise Problem(Refusal.PROVIDER_FAILED)
    stored = identities(request, acting(request, person))
    joins = provider.rules.makes_people and bool(found.asserted.tenant)

    async def link(connection: Connection) -> None:
        await stored.link_in(connection, person.id, found.provider, found.asserted, joins=joins)

    return link


async def tell(request: web.Request, person: Person, label: str) -> None:
    """The owner hears of it by mail, because somebody else may have done it."""
    what = f"An account at {label}"
    await post(request, person.email, *letters.way_added(request.app[PARTS].public_url, what))


def _cookie(request: web.Request) -> str:
    return "__Host-tahoe_connect" if request.app[PARTS].is_https else "tahoe_connect"


def _key(request: web.Request, secret: str) -> str:
    return f"platform:oidc-consent:{request.app[IDENTITY].digest(_PURPOSE, secret).hex()}"

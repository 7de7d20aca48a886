"""A connection that waits for its person's consent: bound to one browser, good once, gone after ten minutes.

While it waits, a cookie of that browser names it; once the person has consented it goes on with the half log-in
(``halfway``), and is made in the transaction of the session.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.portal.entry.identity import acting, identities
from gateway.portal.entry.oidc.provider import PROVIDERS, Provider
from gateway.portal.entry.slips import LIFE_S, Slip
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.federation import Asserted
from policies.http.verdict import Refusal
from policies.identity.tenants import Role
from policies.people import Person
from storage.postgres.address import Connection
from storage.postgres.people.sessions import Also

_SLIP = Slip("tahoe_connect", "oidc-consent", "oidc-consent")


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
    until_s = request.app[PARTS].now().timestamp() + LIFE_S
    kept = Pending(
        id=secrets.token_urlsafe(12), provider=provider, asserted=asserted, user_id=user_id, goal=goal, until_s=until_s
    )
    await _SLIP.forget(request, response)
    await _SLIP.leave(request, response, kept)


async def waiting(request: web.Request) -> Pending | None:
    """What waits in this browser; looking uses nothing up. None where the operator has changed their mind as well."""
    found = read(await _SLIP.read(request))
    return found if found is not None and provider_of(request, found) is not None else None


async def take(request: web.Request) -> Pending | None:
    """The same, and it waits no more: of two who ask at once one gets it."""
    return read(await _SLIP.take(request))


async def forget(request: web.Request, response: web.Response) -> None:
    """Nothing waits any more."""
    await _SLIP.forget(request, response)


def read(kept: Mapping[str, Any] | None) -> Pending | None:
    """One from plain data, as ``orjson`` writes it; None without any."""
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

"""Who of a tenant must sign in with two factors."""

from typing import Any, Literal

from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.entry import browser
from gateway.portal.oauth.parts import OAUTH
from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from storage.postgres.people.second_factor import PostgresSecondFactor

operations = Operations("tenants")

_ROLES = "Roles whose members sign in with two factors; who has none yet sets one up first."
_Asked = Literal["owner", "admin", "member", "viewer"]


class SecondFactorShown(Shown):
    """Who is asked for a second factor."""

    roles: list[Role] = Field(description=_ROLES)


class SecondFactorWish(Sent):
    """Who is to be asked for a second factor."""

    roles: list[_Asked] = Field(max_length=4, description=_ROLES)


@operations.get("/tenant/second-factor", Permission.TENANT_READ, answer=SecondFactorShown)
async def show_second_factor(ask: Ask[InTenant, Any]) -> SecondFactorShown:
    """Who is asked for a second factor."""
    return _shown(await _stored(ask).roles(ask.tenant_id))


@operations.put("/tenant/second-factor", Permission.TENANT_WRITE, body=SecondFactorWish, answer=SecondFactorShown)
async def set_second_factor(ask: Ask[InTenant, SecondFactorWish]) -> SecondFactorShown:
    """Ask members of these roles for a second factor; who is in without one is signed out."""
    ask.who.require_fresh()
    stored, roles = _stored(ask), frozenset(Role(name) for name in ask.body.roles)
    if await stored.ask(ask.tenant_id, roles, lambda before: ask.check_version(_shown(before))):
        await sign_out_who_lacks_it(ask)
    return _shown(roles)


async def sign_out_who_lacks_it(ask: Ask[Any, Any], only: str | None = None) -> None:
    """Whoever is asked for two factors and is in with one: all members, or ``only`` one."""
    stored = _stored(ask)
    for user_id, session_id in await stored.sessions_without(ask.tenant_id):
        if only in (None, user_id):
            await browser.end(ask.request, user_id, "revoked", only=session_id)
    for user_id in await stored.people_without(ask.tenant_id):
        if only in (None, user_id):
            await ask.request.app[OAUTH].tokens.log_out_everywhere(user_id)


def _stored(ask: Ask[Any, Any]) -> PostgresSecondFactor:
    return PostgresSecondFactor(ask.parts.pool, ask.trail)


def _shown(roles: frozenset[Role]) -> SecondFactorShown:
    return SecondFactorShown(roles=sorted(roles, key=list(Role).index))

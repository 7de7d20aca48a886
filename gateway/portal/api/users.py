"""People across tenants: for operators. A tenant's own people are its members."""

from typing import Any

from pydantic import Field

from gateway.portal import browser
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import ByEmail, Page
from gateway.portal.api.shapes import Instant
from gateway.portal.problems import Problem
from policies.permissions import Permission
from policies.tenants import UserStatus
from policies.verdict import Refusal
from storage.ports import Invalidation
from storage.postgres.users import Known, PostgresUsers

operations = Operations("users")


class UserShown(Shown):
    """A person. ``tenants`` are the slugs of those that it is a member of."""

    id: str
    email: str
    name: str
    status: UserStatus
    operator: bool
    tenants: list[str]
    created_at: Instant
    last_login_at: Instant | None


class UserList(ByEmail, Sent):
    """Which people."""

    email: str = Field(default="", max_length=254, description="A part of the address.")
    status: UserStatus | None = None


@operations.get("/users", Permission.PLATFORM_READ, query=UserList, answer=Page[UserShown])
async def list_users(ask: Ask[UserList, Any]) -> Page[UserShown]:
    """Everybody whom a tenant knows, by e-mail if nothing else is said."""
    query = ask.query
    found = await _users(ask).page(
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        email=query.email.lower(),
        status=query.status,
    )
    places = [[each.email if query.sort == "email" else each.id] for each in found]
    return ask.cursors.page([_shown(each) for each in found], query.limit, places)


@operations.get("/users/{user_id}", Permission.PLATFORM_READ, query=Nothing, answer=UserShown)
async def show_user(ask: Ask[Nothing, Any]) -> UserShown:
    """One person."""
    return _shown(await _users(ask).user(ask.path("user_id")))


@operations.post("/users/{user_id}/disable", Permission.PLATFORM_WRITE, query=Nothing, answer=UserShown, status=200)
async def disable_user(ask: Ask[Nothing, Any]) -> UserShown:
    """Refuse all of a person's credentials, in every tenant. Log-ins end for good; keys rest until it is enabled."""
    if ask.path("user_id") == ask.who.user_id:
        raise Problem(Refusal.IN_USE, "It is your own account, which would be refused as well.")
    found = await _set_status(ask, UserStatus.DISABLED)
    await browser.end(ask.request, found.id, "disabled")
    return found


@operations.post("/users/{user_id}/enable", Permission.PLATFORM_WRITE, query=Nothing, answer=UserShown, status=200)
async def enable_user(ask: Ask[Nothing, Any]) -> UserShown:
    """Accept a disabled person's credentials again, but for log-ins: those are over."""
    return await _set_status(ask, UserStatus.ACTIVE)


async def _set_status(ask: Ask[Nothing, Any], status: UserStatus) -> UserShown:
    found = await _users(ask).set_status(
        ask.path("user_id"), status, lambda current: ask.check_version(_shown(current))
    )
    await ask.announce(Invalidation(user_id=found.id))
    return _shown(found)


def _users(ask: Ask[Any, Any]) -> PostgresUsers:
    return PostgresUsers(ask.parts.pool, ask.trail)


def _shown(known: Known) -> UserShown:
    return UserShown(
        id=known.id,
        email=known.email,
        name=known.name,
        status=known.status,
        operator=known.operator,
        tenants=list(known.tenants),
        created_at=known.created_at,
        last_login_at=known.last_login_at,
    )

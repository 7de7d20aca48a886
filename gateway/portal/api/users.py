"""People across tenants: for operators alone. A tenant's own people are its members, and change themselves."""

from datetime import timedelta
from typing import Any

from pydantic import Field

from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import ByEmail, Page
from gateway.portal.api.shapes import Email, Instant, Language, Name, TimeZone
from gateway.portal.entry import browser, recovery
from gateway.portal.entry.identity import IDENTITY
from gateway.portal.mail import letters
from gateway.portal.mail.sending import is_delivered
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import UserStatus
from policies.people import RESET_S
from storage.ports import AlreadyExists, Invalidation
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.people.newcomers import NewPerson
from storage.postgres.people.users import Known, PostgresUsers

operations = Operations("users")


class UserShown(Shown):
    """A person. ``tenants`` are the slugs of those that it is a member of."""

    by_use = frozenset({"last_login_at"})

    id: str
    email: str
    name: str
    language: str
    time_zone: str
    status: UserStatus
    has_password: bool = Field(description="Whether it has chosen one.")
    operator: bool
    tenants: list[str]
    created_at: Instant
    last_login_at: Instant | None


class UserMade(UserShown):
    """A new person. ``link`` is there only where no mail could carry it: give it to the person alone."""

    mailed: bool
    link: str | None


class PasswordLink(Shown):
    """``link`` is there only where no mail could carry it: give it to the person alone."""

    email: str
    mailed: bool
    link: str | None
    expires_at: Instant


class UserWish(Sent):
    """A new person. It chooses its password itself."""

    email: Email
    name: Name | None = Field(default=None, description="Null: the part of the address before the @.")
    language: Language = "en"
    time_zone: TimeZone = "UTC"
    send_link: bool = Field(
        default=True, description="Mail a link by which it chooses a password. Without: it asks for one itself."
    )


class UserChange(Sent):
    """What of a person changes."""

    name: Name | None = None
    language: Language | None = None
    time_zone: TimeZone | None = None


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


@operations.post("/users", Permission.PLATFORM_WRITE, query=Nothing, body=UserWish, answer=UserMade)
async def create_user(ask: Ask[Nothing, UserWish]) -> UserMade:
    """Make a person, in no tenant yet and without a password."""
    wish = ask.body
    secret = recovery.mint("reset") if wish.send_link else ""
    made = await _users(ask).create(
        NewPerson(
            email=wish.email,
            name=wish.name or wish.email.partition("@")[0][:200],
            language=wish.language,
            time_zone=wish.time_zone,
        ),
        ask.request.app[IDENTITY].digest(recovery.LINKS, secret) if secret else None,
    )
    link = recovery.link(ask.parts.public_url, secret) if secret else None
    # The person is there either way.
    mailed = link is not None and await is_delivered(ask.request, made.email, *letters.welcome(link))
    return UserMade(**_shown(made).model_dump(), mailed=mailed, link=None if mailed else link)


@operations.post("/users/{user_id}/password-link", Permission.PLATFORM_WRITE, query=Nothing, answer=PasswordLink)
async def link_user(ask: Ask[Nothing, Any]) -> PasswordLink:
    """Make a link by which a person chooses a password, in place of any that is out: once, for 7 days.

    Where it can sign in already, for 30 minutes. The second factor is asked for afterwards as ever.
    """
    ask.who.require_fresh()
    secret = recovery.mint("reset")
    known, life_s = await _users(ask).link(
        ask.path("user_id"), ask.request.app[IDENTITY].digest(recovery.LINKS, secret)
    )
    link = recovery.link(ask.parts.public_url, secret)
    letter = letters.reset(link) if life_s == RESET_S else letters.welcome(link)
    mailed = await is_delivered(ask.request, known.email, *letter)
    return PasswordLink(
        email=known.email,
        mailed=mailed,
        link=None if mailed else link,
        expires_at=ask.parts.now() + timedelta(seconds=life_s),
    )


@operations.patch("/users/{user_id}", Permission.PLATFORM_WRITE, query=Nothing, body=UserChange, answer=UserShown)
async def change_user(ask: Ask[Nothing, UserChange]) -> UserShown:
    """Change what is shown of a person. Its address and its password only the person changes."""
    edit = ask.body
    changed = await _users(ask).change(
        ask.path("user_id"),
        name=edit.name,
        language=edit.language,
        time_zone=edit.time_zone,
        check=lambda current: ask.check_version(_shown(current)),
    )
    return _shown(changed)


@operations.delete("/users/{user_id}", Permission.PLATFORM_WRITE, query=Nothing)
async def delete_user(ask: Ask[Nothing, Any]) -> None:
    """Forget a person: name, address, password and memberships, for ever; its keys end. A tenant's last owner stays."""
    user_id = ask.path("user_id")
    _not_oneself(ask)
    try:
        await _users(ask).erase(user_id, lambda current: ask.check_version(_shown(current)))
    except AlreadyExists as error:
        raise Problem(Refusal.LAST_OWNER, str(error)) from error
    await browser.end(ask.request, user_id, "disabled")
    await ask.announce(Invalidation())  # its keys, in whichever tenant


@operations.post("/users/{user_id}/disable", Permission.PLATFORM_WRITE, query=Nothing, answer=UserShown, status=200)
async def disable_user(ask: Ask[Nothing, Any]) -> UserShown:
    """Refuse all of a person's credentials, in every tenant. Log-ins end for good; keys rest until it is enabled."""
    _not_oneself(ask)
    found = await _set_status(ask, UserStatus.DISABLED)
    await browser.end(ask.request, found.id, "disabled")
    return found


@operations.post("/users/{user_id}/enable", Permission.PLATFORM_WRITE, query=Nothing, answer=UserShown, status=200)
async def enable_user(ask: Ask[Nothing, Any]) -> UserShown:
    """Accept a disabled person's credentials again, but for log-ins: those are over."""
    return await _set_status(ask, UserStatus.ACTIVE)


@operations.post("/users/{user_id}/unban", Permission.PLATFORM_WRITE, query=Nothing, status=204)
async def unban_user(ask: Ask[Nothing, Any]) -> None:
    """Let a person try to sign in again at once, after too many wrong passwords or codes."""
    found = await _users(ask).user(ask.path("user_id"))
    attempts = ask.request.app[IDENTITY].attempts
    if any([await attempts.forgive_account(found.email), await attempts.forgive_person(found.id)]):
        await PostgresPeople(ask.parts.pool, ask.trail).note("login.unbanned", found.id, found.email)


async def _set_status(ask: Ask[Nothing, Any], status: UserStatus) -> UserShown:
    found = await _users(ask).set_status(
        ask.path("user_id"), status, lambda current: ask.check_version(_shown(current))
    )
    await ask.announce(Invalidation(user_id=found.id))
    return _shown(found)


def _not_oneself(ask: Ask[Nothing, Any]) -> None:
    if ask.path("user_id") == ask.who.user_id:
        raise Problem(Refusal.IN_USE, "It is your own account, which would be refused as well.")


def _users(ask: Ask[Any, Any]) -> PostgresUsers:
    return PostgresUsers(ask.parts.pool, ask.trail)


def _shown(known: Known) -> UserShown:
    return UserShown(
        id=known.id,
        email=known.email,
        name=known.name,
        language=known.language,
        time_zone=known.time_zone,
        status=known.status,
        has_password=known.has_password,
        operator=known.operator,
        tenants=list(known.tenants),
        created_at=known.created_at,
        last_login_at=known.last_login_at,
    )

"""Browsers and programs that are signed in: one's own, and those of the tenant's members."""

from dataclasses import asdict
from typing import Any, Literal

from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant
from gateway.portal.entry import browser
from policies.identity.permissions import Permission
from storage.ports import NotFound
from storage.postgres.people.log_ins import LogIn, log_in_of, log_ins_in
from storage.postgres.tenants.members import permissions_in

operations = Operations("sessions")


class SessionShown(Shown):
    """A browser that is signed in, or a program that has signed in with the password; never its secret.

    Of a browser `methods` says how it signed in. Of a program `client` and `scopes` say which it is, and what for; it
    is seen when it renews its token.
    """

    by_use = frozenset({"seen_at"})

    id: str
    kind: Literal["browser", "program"]
    user_id: str
    methods: list[str]
    client: str
    scopes: list[str]
    address: str
    agent: str
    created_at: Instant
    seen_at: Instant
    expires_at: Instant


class SessionList(ByAge, InTenant):
    """Which sessions."""

    user_id: str | None = None


@operations.get("/sessions", Permission.SESSIONS_READ, query=SessionList, answer=Page[SessionShown])
async def list_sessions(ask: Ask[SessionList, Any]) -> Page[SessionShown]:
    """The live sessions in the tenant, of browsers and of programs, newest first if nothing else is said."""
    query = ask.query
    found = await log_ins_in(
        ask.parts.pool,
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        user_id=query.user_id or "",
    )
    return ask.cursors.page([_shown(each) for each in found], query.limit, [[each.id] for each in found])


@operations.get("/sessions/{session_id}", Permission.SESSIONS_READ, answer=SessionShown)
async def show_session(ask: Ask[InTenant, Any]) -> SessionShown:
    """One live session."""
    return _shown(await _live(ask))


@operations.delete("/sessions/{session_id}", Permission.SESSIONS_WRITE)
async def end_session(ask: Ask[InTenant, Any]) -> None:
    """Sign a browser or a program out, and close its streams. Who does it to another must hold what that one holds."""
    session = await _live(ask)
    ask.check_version(_shown(session))  # of which nothing changes until it ends, and then there is none to end
    if session.user_id != ask.who.user_id:
        ask.who.may_govern(await permissions_in(ask.parts.pool, ask.tenant_id, session.user_id))
    if not await browser.end_one(ask.request, session.user_id, session.id):
        raise _none()


async def _live(ask: Ask[Any, Any]) -> LogIn:
    found = await log_in_of(ask.parts.pool, ask.tenant_id, ask.path("session_id"))
    if found is None:
        raise _none()
    return found


def _none() -> NotFound:
    return NotFound("There is no such session.")


def _shown(log_in: LogIn) -> SessionShown:
    return SessionShown(**asdict(log_in))

"""Browsers that are signed in: one's own, and those of the tenant's members."""

from typing import Any

from gateway.portal import browser
from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant
from gateway.portal.identity import sessions
from policies.people import Session
from policies.permissions import Permission
from storage.ports import NotFound
from storage.postgres.members import permissions_in

operations = Operations("sessions")


class SessionShown(Shown):
    """A browser that is signed in; never its secret."""

    by_use = frozenset({"seen_at"})

    id: str
    user_id: str
    methods: list[str]
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
    """The live sessions in the tenant, newest first if nothing else is said."""
    query = ask.query
    found = await sessions(ask.request).listed.in_tenant(
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
    """Sign a browser out, and close its streams. Who does it to another must hold what that one holds."""
    session = await _live(ask)
    ask.check_version(_shown(session))  # of which nothing changes until it ends, and then there is none to end
    if session.user_id != ask.who.user_id:
        ask.who.may_govern(await permissions_in(ask.parts.pool, ask.tenant_id, session.user_id))
    if not await browser.end(ask.request, session.user_id, "revoked", only=session.id):
        raise _none()


async def _live(ask: Ask[Any, Any]) -> Session:
    session = await sessions(ask.request).listed.one_in_tenant(ask.tenant_id, ask.path("session_id"))
    if session is None:
        raise _none()
    return session


def _none() -> NotFound:
    return NotFound("There is no such session.")


def _shown(session: Session) -> SessionShown:
    return SessionShown(
        id=session.id,
        user_id=session.user_id,
        methods=list(session.methods),
        address=session.address,
        agent=session.agent,
        created_at=session.created_at,
        seen_at=session.seen_at,
        expires_at=session.expires_at,
    )

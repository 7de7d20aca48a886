"""The audit trail, as its tenant reads it."""

from typing import Any

from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant, SentInstant
from policies.audit import ActorKind, Entry
from policies.permissions import Permission
from storage.ports import Sought
from storage.postgres.audit import PURPOSE, PostgresAuditLog

operations = Operations("audit")

Value = str | int | bool | list[str] | None


class ActorShown(Shown):
    """Who acted."""

    kind: ActorKind
    id: str
    name: str


class EntryShown(Shown):
    """One change: who, what, on what, before and after, from where."""

    sequence: int
    at: Instant
    actor: ActorShown
    address: str
    agent: str
    request_id: str
    action: str
    target: str
    target_name: str
    before: dict[str, Value] | None
    after: dict[str, Value] | None
    link: str = Field(description="Ties the entry to all before it; 64 hexadecimal digits.")


class EntryList(ByAge, InTenant):
    """Which entries."""

    action: str = Field(default="", max_length=64, description="`key.created`, or `key` for all that concern keys.")
    actor: str = Field(default="", max_length=64, description="Id of who acted.")
    target: str = Field(default="", max_length=200, description="Id of what was changed.")
    since: SentInstant | None = None
    until: SentInstant | None = None


@operations.get("/audit", Permission.AUDIT_READ, query=EntryList, answer=Page[EntryShown])
async def list_audit(ask: Ask[EntryList, Any]) -> Page[EntryShown]:
    """The tenant's audit trail, newest first if nothing else is said."""
    query = ask.query
    sought = Sought(
        action=query.action,
        actor_id=query.actor,
        target=query.target,
        since=query.since,
        until=query.until,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
    )
    log = PostgresAuditLog(ask.parts.pool, lambda: ask.parts.secret_for(PURPOSE))
    found = await log.entries(ask.tenant_id, sought, query.limit + 1)
    return ask.cursors.page([_shown(each) for each in found], query.limit, [[each.sequence] for each in found])


def _shown(entry: Entry) -> EntryShown:
    actor, change = entry.actor, entry.change
    return EntryShown(
        sequence=entry.sequence,
        at=entry.at,
        actor=ActorShown(kind=actor.kind, id=actor.id, name=actor.name),
        address=actor.address,
        agent=actor.agent,
        request_id=actor.request_id,
        action=change.action,
        target=change.target,
        target_name=change.target_name,
        before=None if change.before is None else dict(change.before),
        after=None if change.after is None else dict(change.after),
        link=entry.link.hex(),
    )

"""The audit trail, as its tenant reads it."""

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Instant, SentInstant
from gateway.portal.api.streaming import LINES, sent
from gateway.usage.export import csv_record
from policies.audit import ActorKind, Entry
from policies.identity.permissions import Permission
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


class EntryFilter(InTenant):
    """Which entries."""

    action: str = Field(default="", max_length=64, description="`key.created`, or `key` for all that concern keys.")
    actor: str = Field(default="", max_length=64, description="Id of whoever acted.")
    target: str = Field(default="", max_length=200, description="Id of what was changed.")
    since: SentInstant | None = None
    until: SentInstant | None = None


class EntryList(EntryFilter, ByAge):
    """Which entries."""


class EntryExport(EntryFilter):
    """Which entries, and as what."""

    format: Literal["jsonl", "csv"] = "jsonl"


@operations.get("/audit", Permission.AUDIT_READ, query=EntryList, answer=Page[EntryShown])
async def list_audit(ask: Ask[EntryList, Any]) -> Page[EntryShown]:
    """The tenant's audit trail, newest first if nothing else is said."""
    query = ask.query
    sought = replace(_sought(query), sort=query.sort, beyond=ask.cursors.beyond(query.cursor))
    async with ask.parts.long_reads.records(ask.who.tenant_id):  # its time grows with the trail
        found = await _log(ask).entries(ask.tenant_id, sought, query.limit + 1)
    return ask.cursors.page([_shown(each) for each in found], query.limit, [[each.sequence] for each in found])


@operations.get("/audit/export", Permission.AUDIT_READ, query=EntryExport)
async def export_audit(ask: Ask[EntryExport, Any]) -> web.StreamResponse:
    """Every entry, the oldest first, streamed as JSON lines or CSV; an answer that breaks off is not complete."""
    query = ask.query
    tenant = await ask.directory.tenant_by_id(ask.tenant_id)
    async with ask.parts.long_reads.whole(ask.who.tenant_id):
        pieces = _pieces(_log(ask), ask.tenant_id, _sought(query), query.format)
        return await sent(ask.request, pieces, name=f"audit-{tenant.slug}", form=query.format)


async def _pieces(log: PostgresAuditLog, tenant_id: str, sought: Sought, form: str) -> AsyncGenerator[bytes, None]:
    """Some hundred lines at a time; of CSV with the heading first."""
    sought, heading = replace(sought, sort="created"), csv_record(COLUMNS) if form == "csv" else ""
    while found := await log.entries(tenant_id, sought, LINES):
        shown = [_shown(each) for each in found]
        lines = [_record(each) if form == "csv" else f"{each.model_dump_json()}\n" for each in shown]
        yield "".join([heading, *lines]).encode()
        heading = ""
        sought = replace(sought, beyond=found[-1].sequence)
    yield heading.encode()


def _record(entry: EntryShown) -> str:
    """One line of CSV, in the order of :data:`COLUMNS`."""
    facts = entry.model_dump(mode="json")
    facts |= {f"actor_{name}": value for name, value in facts.pop("actor").items()}
    for side in ("before", "after"):
        facts[side] = "" if facts[side] is None else json.dumps(facts[side])
    return csv_record([facts[name] for name in COLUMNS])


COLUMNS = (
    "sequence", "at", "actor_kind", "actor_id", "actor_name", "address", "agent", "request_id", "action", "target",
    "target_name", "before", "after", "link",
)  # fmt: skip


def _log(ask: Ask[Any, Any]) -> PostgresAuditLog:
    return PostgresAuditLog(ask.parts.pool, lambda: ask.parts.secret_for(PURPOSE))


def _sought(query: EntryFilter) -> Sought:
    return Sought(action=query.action, actor_id=query.actor, target=query.target, since=query.since, until=query.until)


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

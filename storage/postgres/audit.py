"""The audit trail in PostgreSQL, and the events of the same changes on their way to others.

:class:`AuditTrail` writes, inside the transaction of the change that it tells of: when the entry cannot be written, the
change does not happen. It holds the tenant's chain until the end of that transaction, so that the changes of one tenant
follow each other; a repository therefore records last, after what may wait for something else.
"""

import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import asyncpg

from policies.audit import (
    GENESIS,
    Actor,
    ActorKind,
    Change,
    Entry,
    Facts,
    Fault,
    Head,
    canonical,
    link,
    verify,
)
from storage.ports import AuditVerdict, Sought
from storage.postgres.address import Connection
from storage.postgres.ids import Kind, new_id
from storage.postgres.order import LAST_NUMBER, by_age
from storage.postgres.pool import Pool

if TYPE_CHECKING:
    from storage import ports

PURPOSE = "audit-chain"
"""What the chain's key is derived for."""

_BATCH = 1_000
_KINDS = frozenset(ActorKind)

_SORTS = by_age("sequence", 0, LAST_NUMBER)
_ENTRY = """
    SELECT sequence, at, actor_kind, actor_id, actor_name, address, agent, request_id, tenant_id, action, target,
        target_name, before, after, link
    FROM platform.audit_entries
"""


class AuditTrail:
    """Records what one actor does. ``key`` gives the chain's (:data:`PURPOSE`) when there is something to record."""

    def __init__(self, key: Callable[[], bytes], actor: Actor) -> None:
        self._key = key
        self.actor = actor

    def by(self, actor: Actor) -> Self:
        """The same trail for what another actor does."""
        return type(self)(self._key, actor)

    async def record(self, connection: Connection, change: Change) -> None:
        """Add a change to its tenant's chain, and to the events, in the transaction open on ``connection``.

        That transaction is the tenant's own or the operator's.
        """
        head = await _lock_head(connection, change.tenant_id)
        entry = Entry(sequence=head.sequence + 1, at=datetime.now(UTC), actor=self.actor, change=change)
        tied = replace(entry, link=link(self._key(), head.link, entry))
        await connection.execute(
            """
            INSERT INTO platform.audit_entries (
                tenant_id, sequence, at, actor_kind, actor_id, actor_name, address, agent, request_id,
                action, target, target_name, before, after, link
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
            """,
            *_row(tied),
        )
        await connection.execute(
            "UPDATE platform.audit_heads SET sequence = $2, link = $3 WHERE tenant_id = $1",
            change.tenant_id,
            tied.sequence,
            tied.link,
        )
        await connection.execute(
            """
            INSERT INTO platform.outbox (event_id, tenant_id, type, subject, at, data)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            new_id(Kind.EVENT),
            change.tenant_id,
            change.action,
            change.target,
            tied.at,
            _event(tied),
        )


async def _lock_head(connection: Connection, tenant_id: str) -> Head:
    take = "SELECT sequence, link FROM platform.audit_heads WHERE tenant_id = $1 FOR NO KEY UPDATE"
    rows = await connection.fetch(take, tenant_id)
    if not rows:
        await connection.execute(
            """
            INSERT INTO platform.audit_heads (tenant_id, sequence, link, start_link) VALUES ($1, 0, $2, $2)
            ON CONFLICT DO NOTHING
            """,
            tenant_id,
            GENESIS,
        )
        rows = await connection.fetch(take, tenant_id)
    return Head(sequence=rows[0]["sequence"], link=rows[0]["link"])


def _row(entry: Entry) -> tuple[object, ...]:
    actor, change = entry.actor, entry.change
    return (
        change.tenant_id,
        entry.sequence,
        entry.at,
        actor.kind.value,
        actor.id,
        actor.name,
        actor.address,
        actor.agent,
        actor.request_id,
        change.action,
        change.target,
        change.target_name,
        canonical(change.before),
        canonical(change.after),
        entry.link,
    )


def _event(entry: Entry) -> str:
    """What others are told of a change: the same facts, and who did it by kind and id; not from where."""
    change, actor = entry.change, entry.actor
    return json.dumps(
        {
            "target": change.target,
            "name": change.target_name,
            "before": change.before,
            "after": change.after,
            "actor": {"kind": actor.kind, "id": actor.id},
            "request_id": actor.request_id,
            "sequence": entry.sequence,
        }
    )


class PostgresAuditLog:
    """See :class:`storage.ports.AuditLog`. ``key`` gives the chain's."""

    def __init__(self, pool: Pool, key: Callable[[], bytes]) -> None:
        self._pool = pool
        self._key = key

    async def entries(self, tenant_id: str, sought: Sought, limit: int) -> Sequence[Entry]:
        """Newest first, unless other is sought."""
        order = _SORTS[sought.sort]
        rows = await self._pool.read(
            f"""
            {_ENTRY}
            WHERE tenant_id = $1
                AND ($2 = '' OR action = $2 OR starts_with(action, $2 || '.'))
                AND ($3 = '' OR actor_id = $3)
                AND ($4 = '' OR target = $4)
                AND ($5::timestamptz IS NULL OR at >= $5)
                AND ($6::timestamptz IS NULL OR at < $6)
                {order.page("$7", "$8")}
            """,
            tenant_id,
            sought.action,
            sought.actor_id,
            sought.target,
            sought.since,
            sought.until,
            order.after(sought.beyond),
            limit,
            tenant_id=tenant_id or None,
        )
        return [_entry(row) for row in rows]

    async def chains(self) -> Sequence[str]:
        """The tenant ids that have a chain, the platform's ('') first."""
        rows = await self._pool.read(
            """
            SELECT tenant_id FROM platform.audit_heads
            UNION SELECT DISTINCT tenant_id FROM platform.audit_entries
            ORDER BY 1
            """
        )
        return [row["tenant_id"] for row in rows]

    async def verify(self, tenant_id: str) -> AuditVerdict:
        """Walk one chain from its start to its head, as they were at one moment."""
        async with self._pool.operator() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows = await connection.fetch(
                """
                SELECT sequence, link, start_sequence, start_link, start_seal
                FROM platform.audit_heads WHERE tenant_id = $1
                """,
                tenant_id,
            )
            if not rows:
                gone = Fault(sequence=1, finding="The chain's head was removed.")
                return AuditVerdict(tenant_id=tenant_id, entries=0, head=Head(), fault=gone)
            (found,) = rows
            head = Head(sequence=found["sequence"], link=found["link"])
            start = Head(sequence=found["start_sequence"], link=found["start_link"])
            if not self._is_sealed(tenant_id, start, found["start_seal"]):
                cut = Fault(sequence=1, finding=f"Entries up to {start.sequence} were removed, not by retention.")
                return AuditVerdict(tenant_id=tenant_id, entries=0, head=head, fault=cut)
            return await self._walk(connection, tenant_id, start, head)

    async def _walk(self, connection: Connection, tenant_id: str, start: Head, head: Head) -> AuditVerdict:
        """In batches: a chain may be longer than memory."""
        at, seen = start, 0
        while True:
            rows = await connection.fetch(
                f"{_ENTRY} WHERE tenant_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
                tenant_id,
                at.sequence,
                _BATCH,
            )
            entries = [_entry(row) for row in rows]
            last = len(entries) < _BATCH
            end = head if last else Head(sequence=entries[-1].sequence, link=entries[-1].link)
            fault = verify(self._key(), at, entries, end)
            seen += len(entries)
            if fault is not None or last:
                return AuditVerdict(tenant_id=tenant_id, entries=seen, head=head, fault=fault)
            at = end

    async def prune(self, tenant_id: str, until: datetime) -> int:
        """Remove the entries before ``until``, and seal where the chain begins now; how many were removed."""
        async with self._pool.operator() as connection:
            await _lock_head(connection, tenant_id)
            kept = await connection.fetchval(
                "SELECT min(sequence) FROM platform.audit_entries WHERE tenant_id = $1 AND at >= $2", tenant_id, until
            )
            rows = await connection.fetch(
                """
                SELECT sequence, link FROM platform.audit_entries
                WHERE tenant_id = $1 AND at < $2 AND ($3::bigint IS NULL OR sequence < $3)
                ORDER BY sequence DESC LIMIT 1
                """,
                tenant_id,
                until,
                kept,
            )
            if not rows:
                return 0
            start = Head(sequence=rows[0]["sequence"], link=rows[0]["link"])
            removed = await connection.execute(
                "DELETE FROM platform.audit_entries WHERE tenant_id = $1 AND sequence <= $2", tenant_id, start.sequence
            )
            await connection.execute(
                """
                UPDATE platform.audit_heads SET start_sequence = $2, start_link = $3, start_seal = $4
                WHERE tenant_id = $1
                """,
                tenant_id,
                start.sequence,
                start.link,
                self._seal(tenant_id, start),
            )
            return int(removed.removeprefix("DELETE "))

    def _seal(self, tenant_id: str, start: Head) -> bytes:
        return hmac.digest(self._key(), f"start\0{tenant_id}\0{start.sequence}\0".encode() + start.link, "sha256")

    def _is_sealed(self, tenant_id: str, start: Head, seal: bytes | None) -> bool:
        if start == Head():
            return True
        return seal is not None and hmac.compare_digest(seal, self._seal(tenant_id, start))


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        sequence=row["sequence"],
        at=row["at"],
        actor=Actor(
            kind=_kind(row["actor_kind"]),
            id=row["actor_id"],
            name=row["actor_name"],
            address=row["address"],
            agent=row["agent"],
            request_id=row["request_id"],
        ),
        change=Change(
            tenant_id=row["tenant_id"],
            action=row["action"],
            target=row["target"],
            target_name=row["target_name"],
            before=_facts(row["before"]),
            after=_facts(row["after"]),
        ),
        link=row["link"],
    )


def _kind(text: str) -> ActorKind:
    """What somebody wrote over an entry still has to be read: verifying it finds that it is not what was written."""
    return ActorKind(text) if text in _KINDS else ActorKind.ANONYMOUS


def _facts(text: str | None) -> Facts | None:
    try:
        facts = None if text is None else json.loads(text)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) else None


if TYPE_CHECKING:
    _promised: type[ports.AuditLog] = PostgresAuditLog

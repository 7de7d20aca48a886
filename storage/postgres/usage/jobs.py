"""The JobBook port: one row for each job, and its settlement in one transaction with the account."""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import asyncpg
import orjson

from policies.account.usage import INTERIM, Outcome, UsageRecord
from policies.corrections import Lowered, correction_of, read, written
from policies.jobs import NEVER_TOLD, Job, Ownership, name_of, record_of
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import names, record_from
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import CURRENT, encode

if TYPE_CHECKING:
    from storage import ports

_FORGOTTEN_AT_ONCE: Final = 20
"""Rows that have had their time and go with each new one: more than come, so that no other work is needed."""
_AT_ONCE: Final = 100
"""Jobs that are asked about, or closed, at one look."""


class PostgresJobs:
    """See :class:`storage.ports.JobBook`. The pool must connect as the owner of the tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ledger = PostgresLedger(pool)

    async def ping(self) -> None:
        """Whether the server answers."""
        await self._pool.ping()

    async def owner(self, job: Job) -> Ownership | None:
        """One statement by primary key."""
        rows = await self._pool.read(_OWNER, job.kind, job.id)
        return _ownership(rows[0]) if rows else None

    async def bind(self, job: Job, ownership: Ownership, days: int) -> Ownership:
        """Insert, or find out who was first; forget some that have had their time."""
        while True:
            async with self._pool.operator() as connection:
                await connection.execute(_FORGET, job.kind, job.id, _FORGOTTEN_AT_ONCE)
                row = await connection.fetchrow(
                    _BIND,
                    *job,
                    ownership.tenant_id,
                    ownership.key_id,
                    ownership.user_id,
                    ownership.route,
                    ownership.accounted_ms,
                    ownership.floor_ms,
                    ownership.most_ms,
                    ownership.model,
                    ownership.channels,
                    orjson.dumps(written(ownership.counted)).decode(),
                    ownership.settled,
                    ownership.pending,
                    days,
                )
            if row is not None:
                return _ownership(row)
            # An earlier job of that id has had its time and waits for its record.
            await self._close(await self._pool.read(_OVERDUE_OF, *job))

    async def settle(self, job: Job, record: UsageRecord | None) -> bool:
        """The row's lock lets one of many claim it, and the account changes in the same transaction."""
        if record is not None:
            return await self._account(_SETTLE, job, record)
        async with self._pool.operator() as connection:
            return await _claim(connection, _SETTLE, job)

    async def lower(self, job: Job, lowered: Lowered) -> UsageRecord | None:
        """What is noted stays noted, so a process that dies before it is booked leaves it to the others."""
        async with self._pool.operator() as connection:
            row = await connection.fetchrow(_NOTE, *job, lowered.to_ms, lowered.outcome)
        return None if row is None else await self._lower(row)

    async def lower_noted(self) -> Sequence[tuple[Job, Ownership, UsageRecord]]:
        """Those whose next try is due; rows that another gateway looks at now are its own."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(_NOTED, _AT_ONCE)
        booked = [(row, await self._lower(row)) for row in rows]
        return [(_job(row), _ownership(row), record) for row, record in booked if record is not None]

    async def _lower(self, row: asyncpg.Record) -> UsageRecord | None:
        job, ownership = _job(row), _ownership(row)
        found = await self._pool.read(_FIRST, ownership.tenant_id, name_of(job), row["created_at"])
        if not found:
            return None
        lowered = Lowered(row["lower_ms"], Outcome(row["lower_outcome"]))
        record = correction_of(job, ownership, record_from(found[0]), lowered, int(time.time() * 1000))
        if record is not None:
            return record if await self._account(_LOWER, job, record) else None
        async with self._pool.operator() as connection:
            await _claim(connection, _LOWER, job)
        return None

    async def unheard(self) -> Sequence[tuple[Job, Ownership]]:
        """Claimed by the time that is written down; rows that another gateway looks at now are its own."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(_UNHEARD, _AT_ONCE)
        return [(_job(row), _ownership(row)) for row in rows]

    async def close_overdue(self) -> Sequence[tuple[Job, Ownership]]:
        """One transaction each: they are few."""
        return await self._close(await self._pool.read(_OVERDUE, _AT_ONCE))

    async def _close(self, rows: Sequence[asyncpg.Record]) -> list[tuple[Job, Ownership]]:
        closed = []
        for row in rows:
            job, ownership = _job(row), _ownership(row)
            record = record_of(job, ownership, NEVER_TOLD, "", int(time.time() * 1000))
            if await self._account(_CLOSE, job, record):
                closed.append((job, ownership))
        return closed

    async def _account(self, claiming: str, job: Job, record: UsageRecord) -> bool:
        async def claim(connection: Connection, _: int) -> bool:
            return await _claim(connection, claiming, job)

        return await self._ledger.book([encode(record)], claim)


async def _claim(connection: Connection, claiming: str, job: Job) -> bool:
    return str(await connection.execute(claiming, *job)) == "UPDATE 1"


def _job(row: asyncpg.Record) -> Job:
    return Job(row["kind"], row["job_id"])


def _ownership(row: asyncpg.Record) -> Ownership:
    values = {field.name: row[field.name] for field in fields(Ownership)}
    return Ownership(**values | {"counted": read(orjson.loads(values["counted"]))})


_COLUMNS: Final = """tenant_id, key_id, user_id, route, accounted_ms, floor_ms, most_ms, model, channels, counted,
    pending, (extract(epoch FROM created_at) * 1000)::bigint AS made_ms,
    settled_at IS NOT NULL OR lower_at IS NOT NULL AS settled, contested_at IS NOT NULL AS contested"""
_OWNER: Final = f"""
    SELECT {_COLUMNS} FROM platform.jobs WHERE kind = $1 AND job_id = $2 AND expires_at > now()
"""  # noqa: S608  made of this file's own column names
_IS_OPEN: Final = "settled_at IS NULL AND contested_at IS NULL AND lower_at IS NULL"
_SOON: Final = "interval '1 minute'"
_EARLY: Final = "interval '1 day'"
"""When a job is asked about whose audio was uploaded: soon enough for whoever waits for what it comes to."""
_WAITS: Final = "pending AND settled_at IS NULL AND expires_at <= now()"
"""What has had its time and is not in the account; a contested one can only come there so."""
_FORGET: Final = f"""
    WITH old AS (
        SELECT kind, job_id FROM platform.jobs WHERE expires_at <= now() AND NOT ({_WAITS})
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM platform.jobs WHERE expires_at <= now() AND NOT ({_WAITS})
        AND (kind, job_id) IN (SELECT kind, job_id FROM old UNION ALL SELECT $1, $2)
"""  # noqa: S608  the same
_BIND: Final = f"""
    INSERT INTO platform.jobs AS known
        (kind, job_id, tenant_id, key_id, user_id, route, accounted_ms, floor_ms, most_ms, model, channels, counted,
        settled_at, pending, expires_at, ask_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $13 THEN now() END,
        $14, now() + make_interval(days => $15), now() + CASE
            WHEN $7::bigint > 0 AND NOT $14::boolean THEN least({_EARLY}, make_interval(days => $15) * 0.9)
            ELSE make_interval(days => $15) * 0.9 END)
    ON CONFLICT (kind, job_id) DO UPDATE SET contested_at =
        CASE WHEN known.tenant_id = excluded.tenant_id THEN known.contested_at
            ELSE coalesce(known.contested_at, now()) END
        WHERE known.expires_at > now()
    RETURNING {_COLUMNS}
"""  # noqa: S608  the same
_SETTLE: Final = f"""
    UPDATE platform.jobs SET settled_at = now() WHERE kind = $1 AND job_id = $2 AND {_IS_OPEN}
"""  # noqa: S608  the same
_CLOSE: Final = f"""
    UPDATE platform.jobs SET settled_at = now() WHERE kind = $1 AND job_id = $2 AND {_WAITS}
"""  # noqa: S608  the same
_NOTE: Final = f"""
    UPDATE platform.jobs SET lower_ms = $3, lower_outcome = $4, lower_at = now() + {_SOON}
    WHERE kind = $1 AND job_id = $2 AND {_IS_OPEN}
    RETURNING kind, job_id, created_at, lower_ms, lower_outcome, {_COLUMNS}
"""  # noqa: S608  the same
_LOWER: Final = """
    UPDATE platform.jobs SET settled_at = now()
    WHERE kind = $1 AND job_id = $2 AND settled_at IS NULL AND contested_at IS NULL
"""
# After a minute, then half as long again as it has waited: an outage of days costs some tens of questions.
_NOTED: Final = f"""
    UPDATE platform.jobs SET lower_at = now() + greatest({_SOON}, (now() - created_at) / 2)
    WHERE (kind, job_id) IN (
        SELECT kind, job_id FROM platform.jobs
        WHERE lower_at <= now() AND expires_at > now() AND settled_at IS NULL AND contested_at IS NULL
        ORDER BY lower_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING kind, job_id, created_at, lower_ms, lower_outcome, {_COLUMNS}
"""  # noqa: S608  the same
# Its request ended when the job was there; clocks of machines differ, and an answer may pass slowly.
_FIRST: Final = f"""
    SELECT ended_at, {names(tuple(column.name for column in CURRENT.columns))} FROM platform.usage_events
    WHERE tenant_id = $1 AND job = $2 AND before_ms IS NULL AND status <> {INTERIM}
        AND ended_at >= $3::timestamptz - interval '10 minutes' AND ended_at < $3::timestamptz + interval '10 minutes'
    ORDER BY ended_at LIMIT 1
"""  # noqa: S608  the same
_UNHEARD: Final = f"""
    UPDATE platform.jobs SET ask_at = greatest(
        now() + interval '1 hour', created_at + (expires_at - created_at) * 0.9
    ) WHERE (kind, job_id) IN (
        SELECT kind, job_id FROM platform.jobs WHERE ask_at <= now() AND expires_at > now() AND {_IS_OPEN}
        ORDER BY ask_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING kind, job_id, {_COLUMNS}
"""  # noqa: S608  the same
_OVERDUE: Final = f"""
    SELECT kind, job_id, {_COLUMNS} FROM platform.jobs WHERE {_WAITS} ORDER BY expires_at LIMIT $1
"""  # noqa: S608  the same
_OVERDUE_OF: Final = f"""
    SELECT kind, job_id, {_COLUMNS} FROM platform.jobs WHERE {_WAITS} AND kind = $1 AND job_id = $2
"""  # noqa: S608  the same

if TYPE_CHECKING:
    _promised: type[ports.JobBook] = PostgresJobs

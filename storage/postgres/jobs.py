"""The JobBook port: one row for each job, and its settlement in one transaction with the account."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import asyncpg

from policies.jobs import NEVER_TOLD, Job, Ownership, record_of
from policies.usage import UsageRecord
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger
from storage.usage_rows import encode

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
                    ownership.settled,
                    ownership.pending,
                    days,
                )
            if row is not None:
                return _ownership(row)
            # An earlier job of that id has had its time and waits for its record.
            await self._close(await self._pool.read(_OVERDUE_OF, *job))

    async def settle(self, job: Job, record: UsageRecord) -> bool:
        """The row's lock lets one of many claim it, and the account changes in the same transaction."""
        return await self._account(_SETTLE, job, record)

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
            return str(await connection.execute(claiming, *job)) == "UPDATE 1"

        return await self._ledger.book([encode(record)], claim)


def _job(row: asyncpg.Record) -> Job:
    return Job(row["kind"], row["job_id"])


def _ownership(row: asyncpg.Record) -> Ownership:
    return Ownership(**{name: value for name, value in row.items() if name not in ("kind", "job_id")})


_COLUMNS: Final = """tenant_id, key_id, user_id, route, accounted_ms, pending,
    settled_at IS NOT NULL AS settled, contested_at IS NOT NULL AS contested"""
_OWNER: Final = f"""
    SELECT {_COLUMNS} FROM platform.jobs WHERE kind = $1 AND job_id = $2 AND expires_at > now()
"""  # noqa: S608  made of this file's own column names
_IS_OPEN: Final = "settled_at IS NULL AND contested_at IS NULL"
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
        (kind, job_id, tenant_id, key_id, user_id, route, accounted_ms, settled_at, pending, expires_at, ask_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END, $9, now() + make_interval(days => $10),
        now() + make_interval(days => $10) * 0.9)
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
_UNHEARD: Final = f"""
    UPDATE platform.jobs SET ask_at = now() + interval '1 hour' WHERE (kind, job_id) IN (
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

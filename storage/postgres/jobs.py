"""The JobBook port: one row for each job, and its settlement in one transaction with the account."""

from typing import TYPE_CHECKING, Final

import asyncpg

from policies.jobs import Job, Ownership
from policies.usage import UsageRecord
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger
from storage.usage_rows import encode

if TYPE_CHECKING:
    from storage import ports

_FORGOTTEN_AT_ONCE: Final = 20
"""Rows that have had their time and go with each new one: more than come, so that no other work is needed."""


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
                days,
            )
        assert row is not None
        return _ownership(row)

    async def settle(self, job: Job, record: UsageRecord) -> bool:
        """The row's lock lets one of many claim it, and the account changes in the same transaction."""

        async def claim(connection: Connection, _: int) -> bool:
            return str(await connection.execute(_SETTLE, *job)) == "UPDATE 1"

        return await self._ledger.book([encode(record)], claim)


def _ownership(row: asyncpg.Record) -> Ownership:
    return Ownership(**dict(row))


_COLUMNS: Final = """tenant_id, key_id, user_id, route, accounted_ms,
    settled_at IS NOT NULL AS settled, contested_at IS NOT NULL AS contested"""
_OWNER: Final = f"""
    SELECT {_COLUMNS} FROM platform.jobs WHERE kind = $1 AND job_id = $2 AND expires_at > now()
"""  # noqa: S608  made of this file's own column names
_FORGET: Final = """
    WITH old AS (
        SELECT kind, job_id FROM platform.jobs WHERE expires_at <= now()
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM platform.jobs WHERE expires_at <= now()
        AND (kind, job_id) IN (SELECT kind, job_id FROM old UNION ALL SELECT $1, $2)
"""
_BIND: Final = f"""
    INSERT INTO platform.jobs AS known
        (kind, job_id, tenant_id, key_id, user_id, route, accounted_ms, settled_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END, now() + make_interval(days => $9))
    ON CONFLICT (kind, job_id) DO UPDATE SET contested_at =
        CASE WHEN known.tenant_id = excluded.tenant_id THEN known.contested_at
            ELSE coalesce(known.contested_at, now()) END
    RETURNING {_COLUMNS}
"""  # noqa: S608  the same
_SETTLE: Final = """
    UPDATE platform.jobs SET settled_at = now()
    WHERE kind = $1 AND job_id = $2 AND settled_at IS NULL AND contested_at IS NULL AND expires_at > now()
"""

if TYPE_CHECKING:
    _promised: type[ports.JobBook] = PostgresJobs

"""What is done for the account once a day, by one replica: the books compared, raw records removed that are too old.

Replicas agree by an advisory lock of the transaction that does the work, and by the time that is written down at its
end. A replica that is killed leaves no lock and no time behind: another one begins anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from storage.ports import Difference
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage.ranges import day_of
from storage.postgres.usage.reconcile import differences

_LOCK: Final = "SELECT pg_try_advisory_xact_lock(x'7573616765'::bigint)"  # "usage"
_STATEMENT_S: Final = 3600.0
"""Each comparison reads a day, or all raw records once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """The last comparison of the books that came to its end."""

    at: datetime
    differences: int


class UsageCare:
    """The pool must connect as the owner of the tables. Everything here raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def reconciled(self) -> Reconciled | None:
        """Whoever did it; None when nobody ever has."""
        rows = await self._pool.read(
            "SELECT reconciled_at AS at, differences FROM platform.usage_care WHERE reconciled_at IS NOT NULL"
        )
        return Reconciled(**rows[0]) if rows else None

    async def clock(self) -> datetime:
        """What time the server has."""
        (row,) = await self._pool.read("SELECT now() AS at")
        at: datetime = row["at"]
        return at

    async def reconcile(self, due: datetime) -> Sequence[Difference] | None:
        """Compare the books if nobody has since ``due``. None when somebody has, or is about it."""
        async with self._pool.operator() as connection:
            if not await connection.fetchval(_LOCK):
                return None
            if await connection.fetchval("SELECT reconciled_at >= $1 FROM platform.usage_care", due):
                return None
            found = await differences(connection, timeout=_STATEMENT_S)
            await connection.execute(
                # Not now(): that is when the transaction began.
                """
                INSERT INTO platform.usage_care (reconciled_at, differences) VALUES (clock_timestamp(), $1)
                ON CONFLICT (only_row) DO UPDATE
                    SET reconciled_at = excluded.reconciled_at, differences = excluded.differences
                """,
                len(found),
            )
        return found

    async def remove_raw(self, before: datetime) -> int:
        """Drop the partitions of all days that ended before ``before``; how many. Sums by hour and day stay.

        Each in a transaction of its own, the oldest first. One that somebody reads is left for the next time.
        """
        removed = 0
        while await self._remove_oldest(day_of(before)):
            removed += 1
        return removed

    async def _remove_oldest(self, before: datetime) -> bool:
        async with self._pool.operator() as connection:
            if not await connection.fetchval(_LOCK):
                return False
            oldest = await connection.fetchrow(_OLDEST, before)
            return oldest is not None and await _remove(connection, oldest)


async def _remove(connection: Connection, partition: asyncpg.Record) -> bool:
    # Whoever wants the table queues behind a DROP that waits for a reader, the shipper too: not for long.
    await connection.execute("SET LOCAL lock_timeout = '1s'")
    await connection.execute(
        """
        INSERT INTO platform.usage_care AS care (raw_since) VALUES ($1)
        ON CONFLICT (only_row) DO UPDATE SET raw_since = greatest(care.raw_since, excluded.raw_since)
        """,
        partition["day"] + timedelta(days=1),
    )
    await connection.execute(f"DROP TABLE {partition['name']}")
    return True


# Names of partitions come quoted from the catalogue; default ones of other hands are none of ours.
_OLDEST: Final = """
    SELECT day, name FROM (
        SELECT format('%I.%I', nspname, relname) AS name,
            to_date(substr(relname, length('usage_events_') + 1), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS day
        FROM pg_catalog.pg_inherits
        JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
        JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
        WHERE inhparent = 'platform.usage_events'::regclass AND relname ~ '^usage_events_[0-9]{8}$'
    ) AS days
    WHERE day < $1 ORDER BY day LIMIT 1
"""

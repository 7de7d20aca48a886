"""The Ledger port: raw records, their roll-ups and the journals' positions, changed in one transaction."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import asyncpg

from policies.account.usage import INTERIM, UsageRecord
from policies.limits.allowances import What
from storage.ports import Difference, RawRemoved, Rejected, Unavailable, UsageOf, UsageTotals
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import DIMENSIONS, MEASURES, TOTALS, names, record_from, sums
from storage.postgres.usage.compare import row_differences
from storage.postgres.usage.ranges import cut, day_of
from storage.postgres.usage.reconcile import differences
from storage.postgres.usage.unsent import list_unsent
from storage.usage_rows import CURRENT, Encoding, by_encoding
from storage.usage_sums import Sums, sum_rows

if TYPE_CHECKING:
    from storage import ports

_DAYS_AHEAD: Final = 2
"""Partitions made beside the one that is needed, so that midnight waits for no DDL."""

_LONG_S: Final = 3600.0
"""For statements whose time grows with the account: an export's sort, a reconciliation."""

_COPY_S: Final = 60.0

_PAGE: Final = 1000
"""Records that an export holds in memory."""


class PostgresLedger:
    """See :class:`storage.ports.Ledger`. The pool must connect as the owner of the tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._days: set[date] = set()  # a hint: partitions that were there once

    async def ship(self, journal_id: str, position: int, end: int, rows: Sequence[bytes]) -> bool:
        """Insert the rows and move the journal's position, or neither."""

        async def claim(connection: Connection, requests: int) -> bool:
            return await _advance(connection, journal_id, position, end, requests)

        return await self.book(rows, claim)

    async def book(self, rows: Sequence[bytes], claim: Callable[[Connection, int], Awaitable[bool]]) -> bool:
        """Insert the rows in the transaction of their claim, if that succeeds. It is told how many requests they are.

        Raises Rejected.
        """
        # What can be known without the server is found out before it is asked.
        batches = [(encoding, group, sum_rows(encoding, group)) for encoding, group in by_encoding(rows)]
        await self._make_days({sums.hour.date() for _, _, gained in batches for sums in gained})
        async with self._pool.operator() as connection:
            with self._judging_values():
                requests = sum(sums.requests for _, _, gained in batches for sums in gained)
                if not await claim(connection, requests):
                    return False
                for encoding, group, gained in batches:
                    await _insert(connection, encoding, group)
                    await _add(connection, gained)
                    await list_unsent(connection, group)
        return True

    async def shipped(self, journal_id: str) -> int:
        """The journal's position."""
        rows = await self._pool.read("SELECT position FROM platform.journals WHERE journal_id = $1", journal_id)
        return int(rows[0]["position"]) if rows else 0

    async def totals(self, tenant_id: str, since: datetime, until: datetime) -> UsageTotals:
        """Sums over one tenant's records. Raises ValueError for an instant without a time zone."""
        (row,) = await self._pool.read(_TOTALS, tenant_id, *cut(since, until).cuts, tenant_id=tenant_id)
        return totals_of(row)

    async def used(self, of: UsageOf) -> int:
        """From the roll-ups, and raw records at the edges of a period that does not begin with an hour of UTC."""
        cuts = cut(of.since, of.until).cuts
        (row,) = await self._pool.read(
            _USED, of.tenant_id, *cuts, of.user_id, of.key_id, of.route, tenant_id=of.tenant_id
        )
        totals = totals_of(row)
        if of.what is What.AUDIO:
            return max(totals.audio_ms, 0)  # corrections of an earlier period's jobs may be more
        return totals.bytes_in if of.what is What.BYTES else totals.requests - totals.denied

    async def breakdown(
        self, tenant_id: str, since: datetime, until: datetime, by: str
    ) -> Sequence[tuple[str, UsageTotals]]:
        """In the order of the labels: an id, a route, ``2026-11-26`` or ``2026-11-26T07:00Z``. Raises ValueError."""
        if by not in LABELS:
            raise ValueError(f"Usage cannot be broken down by {by!r}: choose one of {', '.join(LABELS)}.")
        cuts = cut(since, until, by_hour=by == "hour").cuts
        rows = await self._pool.read(_BREAKDOWNS[by], tenant_id, *cuts, tenant_id=tenant_id)
        return [(row["label"], totals_of(row)) for row in rows]

    async def export(self, tenant_id: str, since: datetime, until: datetime) -> AsyncGenerator[UsageRecord, None]:
        """Every raw record in order of time; those of one millisecond by event id.

        Day by day, each in a transaction of its own: a slow reader holds back neither vacuum nor the removal of old
        partitions for longer than it takes to read one day.
        """
        for day in await self.raw_days(tenant_id, since, until):
            async with self._pool.tenant(tenant_id) as connection:
                first, last = max(day, since), min(day + timedelta(days=1), until)
                async for row in connection.cursor(_EXPORT, tenant_id, first, last, prefetch=_PAGE, timeout=_LONG_S):
                    yield record_from(row)

    async def raw_days(self, tenant_id: str, since: datetime, until: datetime) -> Sequence[datetime]:
        """The days on which the tenant has records. Raises RawRemoved, and ValueError for an instant without a zone."""
        cut(since, until)
        rows = await self._pool.read(_DAYS, tenant_id, day_of(since), until, tenant_id=tenant_id)
        days: list[datetime] = [row["bucket"] for row in rows]
        (care,) = await self._pool.read("SELECT (SELECT raw_since FROM platform.usage_care) AS kept_from")
        kept_from = care["kept_from"]
        if days and kept_from is not None and days[0] < kept_from:
            raise RawRemoved(
                f"The single records of days before {kept_from:%Y-%m-%d} were removed (usage_retention_days); their "
                "sums are kept. Ask from that day on."
            )
        return days

    async def reconcile(self) -> Sequence[Difference]:
        """Every bucket whose figures are not those of its records, every record that is there twice.

        Reads the whole account, and takes as long as that takes. Shipping goes on meanwhile.
        """
        async with self._pool.operator() as connection:
            return await differences(connection, timeout=_LONG_S)

    async def compare(self, journal_id: str, rows: Sequence[bytes]) -> Sequence[Difference]:
        """See the port. A few hundredths of a second for a segment."""
        async with self._pool.operator() as connection:
            with self._judging_values():
                return await row_differences(connection, journal_id, rows, timeout=_LONG_S)

    async def _make_days(self, days: set[date]) -> None:
        if days <= self._days:
            return
        newest = max(days).toordinal()
        ahead = {date.fromordinal(min(newest + more, date.max.toordinal())) for more in range(1, _DAYS_AHEAD + 1)}
        # Not in the transaction that ships: the new partition's locks are short this way, and its rows can be judged.
        async with self._pool.operator() as connection:
            for day in sorted((days | ahead) - self._days):
                # As text: asyncpg takes the last day that a date can have for infinity.
                await connection.execute("SELECT platform.make_usage_day($1::text::date)", day.isoformat())
        self._days |= days

    @contextmanager
    def _judging_values(self) -> Iterator[None]:
        """Tell values that can never be stored from everything else that a statement may fail of."""
        try:
            yield
        except asyncpg.CheckViolationError as error:
            # The table has no check but the bounds of its partitions: one that was there has been dropped since.
            self._days.clear()
            raise Unavailable(f"A day's partition is gone and will be made again: {error}") from error
        except (asyncpg.DataError, asyncpg.NotNullViolationError, asyncpg.ProgramLimitExceededError) as error:
            raise Rejected(f"PostgreSQL does not take a usage record: {error}") from error


async def _advance(connection: Connection, journal_id: str, position: int, end: int, requests: int) -> bool:
    """Move a journal's position if it stands at ``position``, and hold it until the transaction ends.

    Its count is of the requests that its records tell of: a stream's records are one.
    """
    moved = await connection.execute(
        "UPDATE platform.journals SET position = $3, records = records + $4, last_shipped_at = now()"
        " WHERE journal_id = $1 AND position = $2",
        journal_id,
        position,
        end,
        requests,
    )
    if moved == "UPDATE 1":
        return True
    if position:
        return False
    begun = await connection.execute(
        "INSERT INTO platform.journals (journal_id, position, records) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        journal_id,
        end,
        requests,
    )
    return begun == "INSERT 0 1"


async def _insert(connection: Connection, encoding: Encoding, rows: Sequence[bytes]) -> None:
    """Insert from a buffer: a file asyncpg would read in a thread.

    Of a connection that breaks meanwhile it takes no notice then: it writes on, which uvloop takes for a bug of ours,
    and leaves a future that nobody asks.
    """
    await connection.copy_to_table(
        "usage_events",
        schema_name="platform",
        source=memoryview(b"".join(rows)),  # type: ignore[arg-type]  # which the stubs do not know of
        columns=encoding.names,
        timeout=_COPY_S,
    )


async def _add(connection: Connection, gained: Sequence[Sums]) -> None:
    await connection.execute(_ADD, *zip(*map(_values_of, gained), strict=True), timeout=_COPY_S)


_values_of = attrgetter("hour", *DIMENSIONS, *MEASURES)


def totals_of(row: asyncpg.Record) -> UsageTotals:
    """The totals in a row of :func:`sums`."""
    return UsageTotals(**{name: row[name] for name in TOTALS})


_KEY: Final = ("bucket", *DIMENSIONS)
_GAINS: Final = ", ".join(f"{name} = book.{name} + excluded.{name}" for name in MEASURES)

# Both inserts go through their keys in one order, in every session, so that no two shippers can deadlock.
_ADD: Final = f"""
    WITH batch AS (
        SELECT * FROM unnest(
            $1::timestamptz[],
            {", ".join(f"${n}::text[]" for n in range(2, 2 + len(DIMENSIONS)))},
            {", ".join(f"${n}::bigint[]" for n in range(2 + len(DIMENSIONS), 2 + len(DIMENSIONS) + len(MEASURES)))}
        ) AS batch ({names(_KEY)}, {names(MEASURES)})
    ), hourly AS (
        INSERT INTO platform.usage_hourly AS book ({names(_KEY)}, {names(MEASURES)})
        SELECT {names(_KEY)}, {names(MEASURES)} FROM batch ORDER BY {names(_KEY)}
        ON CONFLICT ({names(_KEY)}) DO UPDATE SET {_GAINS}
    )
    INSERT INTO platform.usage_daily AS book ({names(_KEY)}, {names(MEASURES)})
    SELECT date_trunc('day', bucket, 'UTC') AS bucket, {names(DIMENSIONS)}, {sums(MEASURES)}
    FROM batch GROUP BY 1, {names(DIMENSIONS)} ORDER BY 1, {names(DIMENSIONS)}
    ON CONFLICT ({names(_KEY)}) DO UPDATE SET {_GAINS}
"""  # noqa: S608  made of this package's own column names

_DAYS: Final = """
    SELECT DISTINCT bucket FROM platform.usage_daily
    WHERE tenant_id = $1 AND bucket >= $2 AND bucket < $3 ORDER BY bucket
"""
_EXPORT: Final = f"""
    SELECT ended_at, {names(tuple(column.name for column in CURRENT.columns))} FROM platform.usage_events
    WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3 ORDER BY ended_at, event_id
"""  # noqa: S608  made of this package's own column names

LABELS: Final = {
    "key": "key_id",
    "user": "user_id",
    "route": "route",
    "outcome": "outcome",
    "model": "model",
    "day": "to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "hour": """to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00Z"')""",
}

# All that is known of a range, from the coarsest book that has it; the six cuts of usage_ranges.Parts are $2 to $7.
BOOKS: Final = f"""(
    SELECT bucket, {names(DIMENSIONS)}, {names(TOTALS)} FROM platform.usage_daily
    WHERE tenant_id = $1 AND bucket >= $4 AND bucket < $5
    UNION ALL
    SELECT bucket, {names(DIMENSIONS)}, {names(TOTALS)} FROM platform.usage_hourly
    WHERE tenant_id = $1 AND (bucket >= $3 AND bucket < $4 OR bucket >= $5 AND bucket < $6)
    UNION ALL
    SELECT date_trunc('hour', ended_at, 'UTC'), {names(DIMENSIONS)},
        (status <> {INTERIM})::int, (status >= 400)::int, (outcome = 'denied' AND status <> {INTERIM})::int,
        audio_ms, bytes_in, bytes_out, (source = 'unmeasured')::int
    FROM platform.usage_events
    WHERE tenant_id = $1 AND (ended_at >= $2 AND ended_at < $3 OR ended_at >= $6 AND ended_at < $7)
) AS books"""  # noqa: S608  made of this package's own column names

_TOTALS: Final = f"SELECT {sums(TOTALS)} FROM {BOOKS}"  # noqa: S608  made of this package's own column names
_USED: Final = f"""
    SELECT {sums(TOTALS)} FROM {BOOKS}
    WHERE ($8 = '' OR user_id = $8) AND ($9 = '' OR key_id = $9) AND ($10 = '' OR route = $10)
"""  # noqa: S608  the same
_BREAKDOWNS: Final = {
    by: f'SELECT {label} COLLATE "C" AS label, {sums(TOTALS)} FROM {BOOKS} GROUP BY 1 ORDER BY 1'  # noqa: S608  the same
    for by, label in LABELS.items()
}

if TYPE_CHECKING:
    _promised: type[ports.Ledger] = PostgresLedger

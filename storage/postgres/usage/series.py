"""Usage as a series: sums for every minute, hour or day, each broken down by what the records say."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from policies.account.usage import INTERIM
from storage.ports import UsageTotals
from storage.postgres.order import by_age
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import DIMENSIONS, TOTALS, names, sums
from storage.postgres.usage.ledger import BOOKS, LABELS, totals_of
from storage.postgres.usage.ranges import cut, day_of

UNITS: Final = {"1m": "minute", "1h": "hour", "1d": "day"}
"""Buckets by their names: whole units of UTC."""
_RAW_LABELS: Final = {"status": "status::text"}


class Sum(NamedTuple):
    """The sum of one label in one bucket.

    ``since`` is when the bucket begins, None for the whole range; ``label`` is empty where there is none.
    """

    since: datetime | None
    label: str
    totals: UsageTotals


def needs_records(bucket: str | None, by: str | None) -> bool:
    """Whether sums by hour do not tell it: its time grows with the records, so ask for a day at the most."""
    return bucket == "1m" or by in _RAW_LABELS


class PostgresUsageSeries:
    """One tenant's, by the first argument; or everybody's, for operators."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def sums(
        self, tenant_id: str, since: datetime, until: datetime, *, bucket: str | None, by: str | None, most: int
    ) -> Sequence[Sum]:
        """In order of time, then of labels; ``most`` at the most. Raises ValueError for an instant without a zone."""
        source = BOOKS
        instants: Sequence[datetime] = cut(since, until, by_hour=bucket == "1h" or by == "hour").cuts
        if needs_records(bucket, by):
            source, instants = _RECORDS, (since, until)
        start = f"date_trunc('{UNITS[bucket]}', bucket, 'UTC')" if bucket else "NULL::timestamptz"
        label = {**LABELS, **_RAW_LABELS}[by] if by else "''"
        rows = await self._pool.read(
            f"""
            SELECT {start} AS since, {label} COLLATE "C" AS label, {sums(TOTALS)} FROM {source}
            GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {most:d}
            """,  # noqa: S608  made of this package's own column names
            tenant_id,
            *instants,
            tenant_id=tenant_id,
        )
        return [Sum(row["since"], row["label"], totals_of(row)) for row in rows]

    async def of_tenants(
        self, since: datetime, until: datetime, limit: int, *, sort: str, beyond: str | int | None
    ) -> Sequence[tuple[str, str, UsageTotals]]:
        """Every tenant with usage on those days of UTC: id, slug (empty: it was removed), sums.

        By the tenants' age: those ``beyond`` an id.
        """
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{_TENANTS} {order.page('$3', '$4')}", day_of(since), day_of(until), order.after(beyond), limit
        )
        return [(row["tenant_id"], row["slug"], totals_of(row)) for row in rows]


_SORTS: Final = by_age("d.tenant_id")
_TENANTS: Final = f"""
    SELECT d.tenant_id, coalesce(t.slug, '') AS slug, {sums(TOTALS)}
    FROM platform.usage_daily d LEFT JOIN platform.tenants t ON t.id = d.tenant_id
    WHERE d.bucket >= $1 AND d.bucket < $2
    GROUP BY 1, 2 HAVING true
"""  # noqa: S608  made of this package's own column names
_RECORDS: Final = f"""(
    SELECT ended_at AS bucket, status, {names(DIMENSIONS)},
        (status <> {INTERIM})::int AS requests, (status >= 400)::int AS errors,
        (outcome = 'denied' AND status <> {INTERIM})::int AS denied, audio_ms, bytes_in, bytes_out,
        (source = 'unmeasured')::int AS unmeasured
    FROM platform.usage_events WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3
) AS records"""  # noqa: S608  the same

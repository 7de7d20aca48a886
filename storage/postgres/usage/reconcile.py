"""Whether the books agree: roll-ups with raw records, raw records with themselves, all of them with the journals."""

from datetime import datetime, timedelta
from typing import Final

import asyncpg

from storage.ports import Difference, UsageTotals
from storage.postgres.address import Connection
from storage.postgres.usage.columns import DIMENSIONS, MEASURES, RAW_MEASURES, TOTALS, names


async def differences(connection: Connection, *, timeout: float) -> list[Difference]:
    """Every difference; ``timeout`` bounds each statement, in seconds.

    Each comparison is one statement and so sees one snapshot: records that arrive meanwhile are in all books or in
    none. Between two of them no snapshot is held, so that vacuum goes on beside an account of years.
    """
    found: list[Difference] = []
    for day in await connection.fetch(_DAYS, timeout=timeout):
        since: datetime = day["day"]
        comparison = _DAY if day["raw"] else _DAY_OF_SUMS
        rows = await connection.fetch(comparison, since, since + timedelta(days=1), timeout=timeout)
        found.extend(_bucket(row) for row in rows)
    found.extend(_duplicate(row) for row in await connection.fetch(_DUPLICATES, timeout=timeout))
    (sums,) = await connection.fetch(_JOURNALS, timeout=timeout)
    if sums["shipped"] != sums["booked"]:
        found.append(
            Difference(
                where="requests shipped from journals, against requests in usage_hourly",
                expected=UsageTotals(requests=int(sums["shipped"])),
                found=UsageTotals(requests=int(sums["booked"])),
            )
        )
    return found


def _bucket(row: asyncpg.Record) -> Difference:
    dimensions = " ".join(f"{name}={row[name]!r}" for name in DIMENSIONS)
    where = f"{row['book']} {row['bucket']:%Y-%m-%dT%H:%MZ} {dimensions}"
    expected, found = _totals(row, "expected"), _totals(row, "found")
    if expected == found:  # what differs then is no part of the totals
        where += f": {_TIMES} {_times(row, 'found')} instead of {_times(row, 'expected')}"
    return Difference(where=where, expected=expected, found=found)


def _duplicate(row: asyncpg.Record) -> Difference:
    return Difference(
        where=f"usage_events has event_id={row['event_id']!r} {row['found_requests']} times",
        expected=_totals(row, "expected"),
        found=_totals(row, "found"),
    )


def _times(row: asyncpg.Record, which: str) -> str:
    return ", ".join(str(row[f"{which}_{name}"]) for name in MEASURES if name not in TOTALS)


def _totals(row: asyncpg.Record, which: str) -> UsageTotals:
    return UsageTotals(**{name: int(row[f"{which}_{name}"]) for name in TOTALS})


_TIMES: Final = ", ".join(name for name in MEASURES if name not in TOTALS)
_FIGURES: Final = ("audio_ms", "bytes_in", "bytes_out")
_KEY: Final = ("bucket", *DIMENSIONS)

# Days with records, and days that a roll-up speaks of: a bucket without any record is a difference, too.
_DAYS: Final = """
    SELECT day, coalesce(day >= (SELECT raw_since FROM platform.usage_care), true) AS raw FROM (
        SELECT DISTINCT date_trunc('day', bucket, 'UTC') AS day FROM (
            SELECT bucket FROM platform.usage_hourly
            UNION ALL SELECT bucket FROM platform.usage_daily
            UNION ALL
            SELECT to_date(substr(relname, length('usage_events_') + 1), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC'
                FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = 'platform.usage_events'::regclass AND relkind = 'r'
        ) AS buckets
    ) AS days
    ORDER BY day
"""

_RECORDS: Final = f"""
    SELECT date_trunc('hour', ended_at, 'UTC') AS bucket, {names(DIMENSIONS)}, {RAW_MEASURES}
    FROM platform.usage_events WHERE ended_at >= $1 AND ended_at < $2
    GROUP BY 1, {names(DIMENSIONS)}
"""  # noqa: S608  made of this package's own column names

_HOURS: Final = f"""
    SELECT bucket, {names(DIMENSIONS)}, {names(MEASURES)}
    FROM platform.usage_hourly WHERE bucket >= $1 AND bucket < $2
"""  # noqa: S608  the same

_COMPARISON: Final = f"""
    WITH raw_hourly AS ({{source}}), raw_daily AS (
        SELECT $1::timestamptz AS bucket, {names(DIMENSIONS)}, {", ".join(f"sum({m}) AS {m}" for m in MEASURES)}
        FROM raw_hourly GROUP BY {names(DIMENSIONS)}
    ), expected AS (
        SELECT 'usage_hourly' AS book, * FROM raw_hourly UNION ALL SELECT 'usage_daily', * FROM raw_daily
    ), found AS (
        SELECT 'usage_hourly' AS book, {names(_KEY)}, {names(MEASURES)}
        FROM platform.usage_hourly WHERE bucket >= $1 AND bucket < $2
        UNION ALL
        SELECT 'usage_daily', {names(_KEY)}, {names(MEASURES)}
        FROM platform.usage_daily WHERE bucket >= $1 AND bucket < $2
    )
    SELECT book, {names(_KEY)},
        {", ".join(f"coalesce(expected.{m}, 0) AS expected_{m}, coalesce(found.{m}, 0) AS found_{m}" for m in MEASURES)}
    FROM expected FULL JOIN found USING (book, {names(_KEY)})
    WHERE ({names(MEASURES, "expected")}) IS DISTINCT FROM ({names(MEASURES, "found")})
    ORDER BY book DESC, {names(_KEY)}
"""  # noqa: S608  the same
_DAY: Final = _COMPARISON.format(source=_RECORDS)
_DAY_OF_SUMS: Final = _COMPARISON.format(source=_HOURS)

_DUPLICATES: Final = f"""
    SELECT event_id, {", ".join(f"expected_{m}, found_{m}" for m in TOTALS)} FROM (
        SELECT event_id,
            count(*) AS found_requests, 1 AS expected_requests,
            count(*) FILTER (WHERE status >= 400) AS found_errors, max((status >= 400)::int) AS expected_errors,
            count(*) FILTER (WHERE outcome = 'denied') AS found_denied,
            max((outcome = 'denied')::int) AS expected_denied,
            count(*) FILTER (WHERE source = 'unmeasured') AS found_unmeasured,
            max((source = 'unmeasured')::int) AS expected_unmeasured,
            {", ".join(f"sum({m}) AS found_{m}, max({m}) AS expected_{m}" for m in _FIGURES)}
        FROM platform.usage_events GROUP BY event_id HAVING count(*) > 1
    ) AS duplicates
    ORDER BY event_id
"""  # noqa: S608  made of this package's own column names

_JOURNALS: Final = """
    SELECT (SELECT coalesce(sum(records), 0) FROM platform.journals) AS shipped,
        (SELECT coalesce(sum(requests), 0) FROM platform.usage_hourly) AS booked
"""

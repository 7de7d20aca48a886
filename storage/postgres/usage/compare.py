"""Rows of a journal beside the raw records that were made of them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import orjson

from policies.account.usage import INTERIM, AudioSource, Outcome
from storage.ports import Difference, UsageTotals
from storage.postgres.address import Connection
from storage.postgres.usage.columns import names
from storage.usage_rows import CURRENT, by_encoding


async def row_differences(
    connection: Connection, journal_id: str, rows: Sequence[bytes], *, timeout: float
) -> list[Difference]:
    """Records that are missing, that say something else, or that the journal has not between its own.

    The rows go the same way as when they are shipped, into a table of this transaction's own, so that both sides are
    PostgreSQL's values. Days whose records were removed because of their age are left out.
    """
    await connection.execute(
        "CREATE TEMP TABLE archived (LIKE platform.usage_events INCLUDING DEFAULTS) ON COMMIT DROP"
    )
    for encoding, group in by_encoding(rows):
        await connection.copy_to_table(
            "archived", source=io.BytesIO(b"".join(group)), columns=encoding.names, timeout=timeout
        )
    await connection.execute(_FORGET_REMOVED)
    await connection.execute(_BY_INDEX)
    (span,) = await connection.fetch(_SPAN, timeout=timeout)
    await connection.execute(_SUMMARISE, span["first"], span["last"], timeout=timeout)
    found = await connection.fetch(_COMPARISON, journal_id, *span.values(), timeout=timeout)
    return [_difference(row) for row in found]


def _difference(row: asyncpg.Record) -> Difference:
    archived, kept = (orjson.loads(row[side]) if row[side] else None for side in ("archived", "kept"))
    where = f"record event_id={row['event_id']!r}"
    if kept is None:
        where += " of its journal is missing"
    elif archived is None:
        where += " was never in its journal"
    else:
        where += " is not what its journal has: " + ", ".join(
            f"{name} {kept[name]!r} instead of {archived[name]!r}" for name in _COLUMNS if kept[name] != archived[name]
        )
    return Difference(where=where, expected=_totals(archived), found=_totals(kept))


def _totals(record: Mapping[str, Any] | None) -> UsageTotals:
    if record is None:
        return UsageTotals()
    asked = int(record["status"] != INTERIM)
    return UsageTotals(
        requests=asked,
        errors=int(record["status"] >= 400),
        denied=asked if record["outcome"] == Outcome.DENIED else 0,
        audio_ms=record["audio_ms"],
        bytes_in=record["bytes_in"],
        bytes_out=record["bytes_out"],
        unmeasured=int(record["source"] == AudioSource.UNMEASURED),
    )


_COLUMNS: Final = ("ended_at", *(column.name for column in CURRENT.columns))

_FORGET_REMOVED: Final = """
    DELETE FROM archived WHERE ended_at < (SELECT raw_since FROM platform.usage_care)
"""

# A table that was just filled has no statistics, and one that grows has old ones; and autovacuum comes to a BRIN index
# when it has time. Without these two every segment would cost a walk through its whole day.
_BY_INDEX: Final = "SET LOCAL enable_seqscan = off"
_SUMMARISE: Final = """
    SELECT brin_summarize_new_values(inhrelid)
    FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'platform.usage_events_ended_at_idx'::regclass AND substr(relname, 14, 8) IN (
        to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYYMMDD'), to_char($2::timestamptz AT TIME ZONE 'UTC', 'YYYYMMDD')
    )
"""

_SPAN: Final = """
    SELECT min(ended_at) AS first, max(ended_at) AS last,
        (SELECT event_id FROM archived ORDER BY length(event_id), event_id LIMIT 1) AS lowest,
        (SELECT event_id FROM archived ORDER BY length(event_id) DESC, event_id DESC LIMIT 1) AS highest
    FROM archived
"""

# A journal numbers its records (gateway.dataplane.settlement), and has all between two of its own. The numbers
# are in the order of their lengths, then of their digits.
_COMPARISON: Final = f"""
    WITH kept AS (
        SELECT * FROM platform.usage_events
        WHERE ended_at >= $2 AND ended_at <= $3 AND starts_with(event_id, $1 || '-')
            AND (length(event_id), event_id) >= (length($4), $4) AND (length(event_id), event_id) <= (length($5), $5)
    )
    SELECT event_id, to_jsonb(archived) AS archived, to_jsonb(kept) AS kept
    FROM archived FULL JOIN kept USING (event_id)
    WHERE ({names(_COLUMNS, "archived")}) IS DISTINCT FROM ({names(_COLUMNS, "kept")})
    ORDER BY event_id
"""  # noqa: S608  made of this package's own column names

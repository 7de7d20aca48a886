"""The books' columns, and the pieces of SQL that are made of them. Names of ours alone; values are parameters."""

from typing import Final

import asyncpg

from policies.account.usage import INTERIM, UsageRecord
from storage.usage_rows import CURRENT, record_of

DIMENSIONS: Final = ("tenant_id", "key_id", "user_id", "route", "outcome", "model")
TOTALS: Final = ("requests", "errors", "denied", "audio_ms", "bytes_in", "bytes_out", "unmeasured")
"""The fields of ``UsageTotals``."""
MEASURES: Final = (*TOTALS, "duration_us", "upstream_us")

RAW_MEASURES: Final = f"""
    count(*) FILTER (WHERE status <> {INTERIM}) AS requests,
    count(*) FILTER (WHERE status >= 400) AS errors,
    count(*) FILTER (WHERE outcome = 'denied' AND status <> {INTERIM}) AS denied,
    sum(audio_ms) AS audio_ms,
    sum(bytes_in) AS bytes_in,
    sum(bytes_out) AS bytes_out,
    count(*) FILTER (WHERE source = 'unmeasured') AS unmeasured,
    sum(duration_us) AS duration_us,
    sum(upstream_us) AS upstream_us
"""
"""What the roll-ups hold, computed from raw records."""


def names(columns: tuple[str, ...], of: str = "") -> str:
    """``a, b``, or ``t.a, t.b``."""
    return ", ".join(f"{of}.{column}" if of else column for column in columns)


def sums(columns: tuple[str, ...]) -> str:
    """``sum(a)::bigint AS a, …``; 0 over no rows."""
    return ", ".join(f"coalesce(sum({column}), 0)::bigint AS {column}" for column in columns)


def record_from(row: asyncpg.Record) -> UsageRecord:
    """The record that a row of ``usage_events`` holds."""
    values = {column.attribute: column.read(row[column.name]) for column in CURRENT.columns}
    return record_of(row["ended_at"], values)

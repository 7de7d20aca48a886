"""Single usage records as one looks for them: the newest or the oldest first, by what they say, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from policies.account.usage import UsageRecord
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import names, record_from
from storage.postgres.usage.ranges import cut
from storage.usage_rows import CURRENT

_EVENTS: Final = f"""
    SELECT ended_at, {names(tuple(column.name for column in CURRENT.columns))} FROM platform.usage_events
    WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3
        AND ($4 = '' OR key_id = $4) AND ($5 = '' OR user_id = $5) AND ($6 = '' OR route = $6)
        AND ($7 = '' OR outcome = $7) AND ($8 = '' OR request_id = $8)
        AND ($9::timestamptz IS NULL OR (ended_at, event_id) {{comes}} ($9, $10))
    ORDER BY ended_at {{way}}, event_id {{way}} LIMIT $11
"""  # noqa: S608  made of this package's own column names
_SORTS: Final = {
    "-created": _EVENTS.format(comes="<", way="DESC"),
    "created": _EVENTS.format(comes=">", way="ASC"),
}

_LATENCY: Final = """
    SELECT count(*) AS requests,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_us) AS durations,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY upstream_us) AS upstreams
    FROM platform.usage_events
    WHERE tenant_id = $1 AND ended_at >= $2 AND ended_at < $3 AND ($4 = '' OR route = $4)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSought:
    """Which records; empty texts mean any."""

    since: datetime
    until: datetime
    key_id: str = ""
    user_id: str = ""
    route: str = ""
    outcome: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The 50th, 95th and 99th percentile of whole requests, and of the upstream's part in them, in microseconds."""

    requests: int
    durations_us: tuple[int, ...]
    upstreams_us: tuple[int, ...]


class PostgresUsageEvents:
    """One tenant's records, by the first argument of each method."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, tenant_id: str, sought: UsageSought, limit: int, *, sort: str, beyond: tuple[datetime, str] | None
    ) -> Sequence[UsageRecord]:
        """By when they ended; ``beyond`` is the instant and the event id of the last one seen. Raises ValueError."""
        cut(sought.since, sought.until)  # for its ValueError
        rows = await self._pool.read(
            _SORTS[sort],
            tenant_id,
            sought.since,
            sought.until,
            sought.key_id,
            sought.user_id,
            sought.route,
            sought.outcome,
            sought.request_id,
            *(beyond or (None, "")),
            limit,
            tenant_id=tenant_id,
        )
        return [record_from(row) for row in rows]

    async def latency(self, tenant_id: str, since: datetime, until: datetime, route: str) -> Latency:
        """From the records themselves: its time grows with them, so ask for a day at the most."""
        (row,) = await self._pool.read(_LATENCY, tenant_id, since, until, route, tenant_id=tenant_id)
        return Latency(
            requests=row["requests"],
            durations_us=tuple(row["durations"] or ()),
            upstreams_us=tuple(row["upstreams"] or ()),
        )

"""Usage records on their way to sinks: what each sink has not taken yet, in the order in which it was booked.

At least once: a batch is forgotten after the sink took it, so a sender that dies sends it again, with the same event
ids. One replica sends to a sink at a time, for as long as it renews its hold; two at once would only send twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from policies.account.usage import UsageRecord
from storage.postgres.address import Connection
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import names, record_from
from storage.usage_rows import CURRENT

_HOLD: Final = timedelta(seconds=90)
_ROUND: Final = 1000
"""Records of one round; a batch that has more goes alone."""
_BATCHES: Final = 20
_READ_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """Some batches and their records: those of tenants. Anonymous ones stay in the account."""

    batches: Sequence[int]
    records: Sequence[UsageRecord]


async def list_unsent(connection: Connection, rows: Sequence[bytes]) -> None:
    """Note rows of one encoding, which this transaction books, for every sink."""
    await connection.execute(
        """
        INSERT INTO platform.usage_unsent (sink, first_ended, last_ended, records)
        SELECT name, $1, $2, $3 FROM platform.usage_sinks
        """,
        _ended(min(rows)),
        _ended(max(rows)),
        len(rows),
    )


def _ended(row: bytes) -> datetime:
    # It stands behind the encoding, in one width: the order of the rows' bytes is that of time.
    return datetime.fromisoformat(row.split(b"\t", 2)[1].decode())


class UsageUnsent:
    """``holder`` is this process's own name among those that send. Everything here raises Unavailable."""

    def __init__(self, pool: Pool, holder: str) -> None:
        self._pool = pool
        self._holder = holder

    async def configure(self, sinks: Sequence[str]) -> Sequence[str]:
        """From now on, these and no others; those that left, with what they had not taken."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "INSERT INTO platform.usage_sinks (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", sinks
            )
            gone = await connection.fetch(
                "DELETE FROM platform.usage_sinks WHERE name <> ALL($1::text[]) RETURNING name", sinks
            )
            await connection.execute("DELETE FROM platform.usage_unsent WHERE sink <> ALL($1::text[])", sinks)
        return [row["name"] for row in gone]

    async def oldest(self, sink: str) -> datetime | None:
        """When the oldest batch was booked that the sink has not taken; None when it has all."""
        rows = await self._pool.read(
            "SELECT recorded_at FROM platform.usage_unsent WHERE sink = $1 ORDER BY id LIMIT 1", sink
        )
        return rows[0]["recorded_at"] if rows else None

    async def take(self, sink: str) -> Unsent | None:
        """What is to be sent next; None when there is nothing, or another replica sends."""
        async with self._pool.operator() as connection:
            held = await connection.fetchval(_HELD, sink, self._holder, _HOLD)
            batches = await connection.fetch(_NEXT, sink, _ROUND, _BATCHES) if held else []
            if not batches:
                return None
            # One by one: each is short in time, and together they might span months.
            rows = [
                row
                for batch in batches
                for row in await connection.fetch(
                    _RECORDS, batch["recorded_at"], batch["first_ended"], batch["last_ended"], timeout=_READ_S
                )
            ]
        return Unsent(batches=[batch["id"] for batch in batches], records=[record_from(row) for row in rows])

    async def taken(self, unsent: Unsent) -> None:
        """The sink has them."""
        async with self._pool.operator() as connection:
            await connection.execute("DELETE FROM platform.usage_unsent WHERE id = ANY($1::bigint[])", unsent.batches)


_HELD: Final = """
    UPDATE platform.usage_sinks SET held_by = $2, held_until = now() + $3::interval
    WHERE name = $1 AND (held_by = $2 OR held_until <= now())
    RETURNING true
"""

# The first one in any case, then as long as the sum stays within the round.
_NEXT: Final = """
    SELECT id, recorded_at, first_ended, last_ended FROM (
        SELECT *, sum(records) OVER (ORDER BY id) AS so_far FROM (
            SELECT * FROM platform.usage_unsent WHERE sink = $1 ORDER BY id LIMIT $3
        ) AS oldest
    ) AS counted
    WHERE so_far <= $2 OR so_far = records
"""

_RECORDS: Final = f"""
    SELECT ended_at, {names(tuple(column.name for column in CURRENT.columns))} FROM platform.usage_events
    WHERE recorded_at = $1 AND ended_at >= $2 AND ended_at <= $3 AND tenant_id <> ''
    ORDER BY ended_at, event_id
"""  # noqa: S608  made of this package's own column names

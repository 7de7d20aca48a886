"""The outbox: events that were written with what they tell of, on their way to the stream and to webhooks.

At least once: an event leaves in a transaction that ends after the stream has it. Its id is the same each time, and a
webhook gets a delivery of it once.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from policies.account.events import Event, envelope, is_wanted
from storage.postgres.address import Connection
from storage.postgres.pool import Pool

Send = Callable[[Sequence[Event]], Awaitable[None]]

_KEPT = timedelta(days=30)


class Outbox:
    """``source`` names the installation in each event."""

    def __init__(self, pool: Pool, source: str) -> None:
        self._pool = pool
        self._source = source

    async def publish(self, send: Send, limit: int = 200) -> int:
        """Hand the oldest unpublished events to ``send``, and make the deliveries of webhooks; how many there were.

        Several publishers may run: none takes what another holds. Asked often and mostly in vain, so one statement
        looks first whether there is anything.
        """
        if not await self._pool.read("SELECT 1 FROM platform.outbox WHERE published_at IS NULL LIMIT 1"):
            return 0
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                SELECT id, event_id, tenant_id, type, subject, at, data FROM platform.outbox
                WHERE published_at IS NULL
                ORDER BY id LIMIT $1
                FOR UPDATE SKIP LOCKED
                """,
                limit,
            )
            if not rows:
                return 0
            events = [
                Event(
                    id=row["event_id"],
                    tenant_id=row["tenant_id"],
                    type=row["type"],
                    subject=row["subject"],
                    at=row["at"],
                    data=json.loads(row["data"]),
                )
                for row in rows
            ]
            await self._address(connection, events)
            await connection.execute(
                "UPDATE platform.outbox SET published_at = now() WHERE id = ANY($1)", [row["id"] for row in rows]
            )
            await send(events)
        return len(rows)

    async def forget_old(self) -> int:
        """Remove what was published long ago, and the deliveries that ended then; how many events."""
        async with self._pool.operator() as connection:
            await connection.execute("DELETE FROM platform.deliveries WHERE ended_at < now() - $1::interval", _KEPT)
            done = await connection.execute(
                "DELETE FROM platform.outbox WHERE published_at < now() - $1::interval", _KEPT
            )
        return int(done.removeprefix("DELETE "))

    async def _address(self, connection: Connection, events: Sequence[Event]) -> None:
        hooks = await connection.fetch(
            "SELECT id, tenant_id, events FROM platform.webhooks WHERE enabled AND tenant_id = ANY($1)",
            ["", *{event.tenant_id for event in events}],
        )
        wanted = [
            (hook["tenant_id"], hook["id"], event.id, event.type, json.dumps(envelope(event, self._source)))
            for event in events
            for hook in hooks
            if hook["tenant_id"] in ("", event.tenant_id) and is_wanted(hook["events"], event.type)
        ]
        if wanted:
            await connection.executemany(
                """
                INSERT INTO platform.deliveries (tenant_id, webhook_id, event_id, type, body)
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT deliveries_once DO NOTHING
                """,
                wanted,
            )

"""Deliveries of all tenants' webhooks: which are due, and what became of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.postgres.pool import Pool

_LEASE = timedelta(minutes=2)
"""A delivery that was taken and not settled, because its process died, is due again after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery to be made now. ``attempts`` counts this one; the secrets are sealed, the old one only while valid."""

    id: int
    tenant_id: str
    webhook_id: str
    event_id: str
    url: str
    body: str
    attempts: int
    secret: bytes
    old_secret: bytes | None


class Deliveries:
    """All tenants' deliveries, for whoever makes them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, limit: int, *, of_one: int, without: Sequence[str] = ()) -> Sequence[Due]:
        """Take what is due, of each tenant at most ``of_one``, and of those ``without`` nothing.

        What is not settled within two minutes is due again. Mostly there is nothing: see ``Outbox``.
        """
        if not await self._pool.read(
            """
            SELECT 1 FROM platform.deliveries due JOIN platform.webhooks h ON h.id = due.webhook_id
            WHERE due.state = 'pending' AND due.next_at <= now() AND h.enabled LIMIT 1
            """
        ):
            return []
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.deliveries d SET attempts = d.attempts + 1, next_at = now() + $2::interval
                FROM platform.webhooks w
                WHERE w.id = d.webhook_id AND d.id IN (
                    SELECT id FROM platform.deliveries WHERE id IN (
                        SELECT id FROM (
                            SELECT due.id, due.next_at,
                                row_number() OVER (PARTITION BY due.tenant_id ORDER BY due.next_at) AS place
                            FROM platform.deliveries due JOIN platform.webhooks h ON h.id = due.webhook_id
                            WHERE due.state = 'pending' AND due.next_at <= now() AND h.enabled
                                AND due.tenant_id <> ALL ($4::text[])
                        ) fair
                        WHERE place <= $3 ORDER BY place, next_at LIMIT $1
                    ) AND state = 'pending' AND next_at <= now()
                    FOR UPDATE SKIP LOCKED
                )
                RETURNING d.id, d.tenant_id, d.webhook_id, d.event_id, w.url, d.body, d.attempts, w.secret,
                    CASE WHEN w.old_until > now() THEN w.old_secret END AS old_secret
                """,
                limit,
                _LEASE,
                of_one,
                list(without),
            )
        return [Due(**dict(row)) for row in rows]

    async def settle(
        self, delivery_id: int, *, status: int | None, trouble: str, next_at: datetime | None, delivered: bool
    ) -> None:
        """What an attempt came to; ``next_at`` None ends the delivery, as delivered or as dead."""
        state = "delivered" if delivered else "dead" if next_at is None else "pending"
        async with self._pool.operator() as connection:
            await connection.execute(
                """
                UPDATE platform.deliveries SET state = $2, status = $3, trouble = $4, next_at = coalesce($5, next_at),
                    ended_at = CASE WHEN $2 = 'pending' THEN NULL ELSE now() END
                WHERE id = $1
                """,
                delivery_id,
                state,
                status,
                trouble[:500],
                next_at,
            )

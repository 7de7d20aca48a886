"""What limits tell others, by way of the outbox: once, whichever process notices."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from storage.postgres.pool import Pool


class PostgresLimitEvents:
    """Writes to the outbox."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def tell(self, event_id: str, tenant_id: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        """An event ``limit.reached``, unless there is one with this id. Raises Unavailable."""
        async with self._pool.tenant(tenant_id) as connection:
            await connection.execute(
                """
                INSERT INTO platform.outbox (event_id, tenant_id, type, subject, at, data)
                VALUES ($1, $2, 'limit.reached', $3, $4, $5)
                ON CONFLICT DO NOTHING
                """,
                event_id,
                tenant_id,
                subject,
                datetime.now(UTC),
                json.dumps(data),
            )

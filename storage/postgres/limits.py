"""The LimitBook port: the request rates that operators set."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from policies.limits import Rate
from storage.ports import NotFound
from storage.postgres.ids import Kind, is_id
from storage.postgres.pool import Pool

if TYPE_CHECKING:
    from storage import ports


class PostgresLimitBook:
    """See :class:`storage.ports.LimitBook`. A rate that admits nothing raises ValueError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def set_limits(self, tenant_id: str, *, key_id: str | None = None, requests: Rate | None) -> None:
        """Set, replace or (None) remove."""
        if requests is not None and (requests.count < 1 or requests.period_ms < 1):
            raise ValueError(f"{requests} admits nothing: to shut a tenant or a key out, suspend or revoke it")
        missing = NotFound(f"This tenant has no key {key_id!r}." if key_id else f"There is no tenant {tenant_id!r}.")
        if key_id is not None and not is_id(Kind.KEY, key_id):
            raise missing
        async with self._pool.tenant(tenant_id) as connection:
            if not await connection.fetchval(
                """
                SELECT EXISTS (SELECT FROM platform.tenants WHERE id = $1)
                    AND ($2::text IS NULL OR EXISTS (SELECT FROM platform.api_keys WHERE tenant_id = $1 AND id = $2))
                """,
                tenant_id,
                key_id,
            ):
                raise missing
            if requests is None:
                await connection.execute(
                    "DELETE FROM platform.limits WHERE tenant_id = $1 AND holder = coalesce($2::text, $1)",
                    tenant_id,
                    key_id,
                )
                return
            await connection.execute(
                """
                INSERT INTO platform.limits (tenant_id, key_id, count, period_ms) VALUES ($1, $2, $3, $4)
                ON CONFLICT (holder) DO UPDATE SET count = excluded.count, period_ms = excluded.period_ms
                """,
                tenant_id,
                key_id,
                requests.count,
                requests.period_ms,
            )

    async def limits(self, tenant_id: str) -> Sequence[tuple[str | None, Rate]]:
        """The tenant's own rate first (key id None), then its keys' by id, which is by age."""
        rows = await self._pool.read(
            """
            SELECT key_id, count, period_ms FROM platform.limits
            WHERE tenant_id = $1
            ORDER BY key_id NULLS FIRST
            """,
            tenant_id,
            tenant_id=tenant_id,
        )
        return [(row["key_id"], Rate(row["count"], row["period_ms"])) for row in rows]


if TYPE_CHECKING:
    _promised: type[ports.LimitBook] = PostgresLimitBook

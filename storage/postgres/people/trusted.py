"""Browsers that a person trusts: by digest, for a time."""

from datetime import timedelta

from policies.audit import Change
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool


class PostgresTrustedBrowsers:
    """In the operator's scope, like people themselves."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def add(self, user_id: str, email: str, digest: bytes, agent: str, life: timedelta) -> None:
        """Trust one; those whose time is over are swept out."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "DELETE FROM platform.trusted_browsers WHERE user_id = $1 AND expires_at <= now()", user_id
            )
            await connection.execute(
                """
                INSERT INTO platform.trusted_browsers (digest, user_id, agent, expires_at)
                VALUES ($1, $2, $3, now() + $4)
                """,
                digest,
                user_id,
                agent,
                life,
            )
            change = Change(tenant_id="", action="browser.trusted", target=user_id, target_name=email)
            await self._trail.record(connection, change)

    async def knows(self, user_id: str, digest: bytes) -> bool:
        """Whether it is this person's, and still trusted."""
        rows = await self._pool.read(
            "SELECT FROM platform.trusted_browsers WHERE digest = $1 AND user_id = $2 AND expires_at > now()",
            digest,
            user_id,
        )
        return bool(rows)

    async def count(self, user_id: str) -> int:
        """How many there are."""
        (row,) = await self._pool.read(
            "SELECT count(*) AS n FROM platform.trusted_browsers WHERE user_id = $1 AND expires_at > now()", user_id
        )
        return int(row["n"])

    async def forget(self, user_id: str, email: str) -> None:
        """Trust none any more."""
        async with self._pool.operator() as connection:
            done = await connection.execute("DELETE FROM platform.trusted_browsers WHERE user_id = $1", user_id)
            if done != "DELETE 0":
                change = Change(tenant_id="", action="browsers.distrusted", target=user_id, target_name=email)
                await self._trail.record(connection, change)

"""Letters that wait to leave, sealed: what they say, links that sign people in among it, cannot be read here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from policies.audit import Change, Facts
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool

_LEASE = timedelta(minutes=2)
"""A letter that was taken and not settled, because its process died, is due again after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One to be sent now. ``tries`` counts this one; ``is_late``: what it says holds no more."""

    id: str
    sealed: bytes
    tries: int
    is_late: bool


class PostgresLetters:
    """All letters, for whoever writes and sends them. What has left or was given up is kept nowhere."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def put(self, letter_id: str, sealed: bytes, life: timedelta) -> None:
        """To be sent at once, or within its ``life``."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "INSERT INTO platform.letters (id, sealed, expires_at) VALUES ($1, $2, now() + $3)",
                letter_id,
                sealed,
                life,
            )

    async def due(self, limit: int) -> Sequence[Letter]:
        """Take what is due: it is nobody else's for two minutes. Mostly there is nothing: see ``Outbox``."""
        if not await self._pool.read("SELECT 1 FROM platform.letters WHERE next_at <= now() LIMIT 1"):
            return []
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.letters SET tries = tries + 1, next_at = now() + $2::interval
                WHERE id IN (
                    SELECT id FROM platform.letters WHERE next_at <= now()
                    ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
                )
                RETURNING id, sealed, tries, expires_at <= now() AS is_late
                """,
                limit,
                _LEASE,
            )
        return [Letter(**dict(row)) for row in rows]

    async def sent(self, letter_id: str) -> None:
        """It has left."""
        async with self._pool.operator() as connection:
            await connection.execute("DELETE FROM platform.letters WHERE id = $1", letter_id)

    async def put_off(self, letter_id: str, wait: timedelta) -> bool:
        """Due again after ``wait``. False, and nothing done, where that is too late."""
        async with self._pool.operator() as connection:
            done = await connection.execute(
                "UPDATE platform.letters SET next_at = now() + $2 WHERE id = $1 AND now() + $2 < expires_at",
                letter_id,
                wait,
            )
        return done == "UPDATE 1"

    async def give_up(self, letter_id: str, to: str, why: Facts) -> None:
        """It never leaves; the trail says so, once."""
        async with self._pool.operator() as connection:
            done = await connection.execute("DELETE FROM platform.letters WHERE id = $1", letter_id)
            if done == "DELETE 1":
                change = Change(tenant_id="", action="mail.failed", target=letter_id, target_name=to, after=why)
                await self._trail.record(connection, change)

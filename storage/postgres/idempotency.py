"""Creations that may be repeated: which were begun, and what was answered, for a day."""

from dataclasses import dataclass
from datetime import timedelta

from storage.postgres.pool import Pool

_LIFE = timedelta(hours=24)
_PATIENCE = timedelta(minutes=2)
"""A creation that was begun and never ended, because its process died: after this it may be begun again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An earlier request under the same key. ``body`` is None while it runs."""

    fingerprint: bytes
    status: int
    body: bytes | None


class IdempotencyBook:
    """``key_hash`` has 32 bytes and names one idempotency key of one caller; bodies come encrypted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, key_hash: bytes, fingerprint: bytes) -> Found | None:
        """None when this caller is the first, and now holds the key; else what there is."""
        async with self._pool.operator() as connection:
            begun = await connection.fetchval(
                """
                INSERT INTO platform.idempotency AS known (key_hash, fingerprint) VALUES ($1, $2)
                ON CONFLICT (key_hash) DO UPDATE
                    SET fingerprint = excluded.fingerprint, begun_at = now(), status = NULL, body = NULL
                    WHERE known.begun_at < now() - $3::interval
                        OR known.body IS NULL AND known.begun_at < now() - $4::interval
                RETURNING true
                """,
                key_hash,
                fingerprint,
                _LIFE,
                _PATIENCE,
            )
            if begun:
                return None
            (row,) = await connection.fetch(
                "SELECT fingerprint, status, body FROM platform.idempotency WHERE key_hash = $1", key_hash
            )
        return Found(fingerprint=row["fingerprint"], status=row["status"] or 0, body=row["body"])

    async def keep(self, key_hash: bytes, status: int, body: bytes) -> None:
        """The answer, for those who ask again. Answers older than a day leave."""
        async with self._pool.operator() as connection:
            await connection.execute(
                "UPDATE platform.idempotency SET status = $2, body = $3 WHERE key_hash = $1", key_hash, status, body
            )
            await connection.execute("DELETE FROM platform.idempotency WHERE begun_at < now() - $1::interval", _LIFE)

    async def forget(self, key_hash: bytes) -> None:
        """Nothing was done under this key."""
        async with self._pool.operator() as connection:
            await connection.execute("DELETE FROM platform.idempotency WHERE key_hash = $1 AND body IS NULL", key_hash)

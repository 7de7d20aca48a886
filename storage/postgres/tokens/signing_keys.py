"""The SigningKeys port: keys that sign tokens, with the instants of their lives."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from policies.audit import Change
from policies.identity.signing_keys import OVERLAP, SigningKey, Stage, unsigned_from
from storage.ports import NotFound
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool

if TYPE_CHECKING:
    from storage import token_ports as ports

_ALL = """
    SELECT id, algorithm, public_jwk, sealed, created_at, active_at, retiring_at, gone_at
    FROM platform.signing_keys ORDER BY active_at, id
"""
_END = """
    UPDATE platform.signing_keys
    SET active_at = least(active_at, $2), retiring_at = least(retiring_at, $2), gone_at = least(gone_at, $2),
        sealed = NULL
    WHERE id = $1
"""
_ANY_SIGNS = "SELECT EXISTS (SELECT FROM platform.signing_keys WHERE retiring_at IS NULL OR retiring_at > now())"


class PostgresSigningKeys:
    """See :class:`storage.token_ports.SigningKeys`."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def keys(self) -> Sequence[SigningKey]:
        """All, in the order in which they became active."""
        return [SigningKey(**row) for row in await self._pool.read(_ALL)]

    async def add_first(self, key: SigningKey) -> bool:
        """Whether it was added: of many who find none at once, one makes the first."""
        async with self._pool.operator() as connection:
            await _alone(connection)
            if await connection.fetchval(_ANY_SIGNS):
                return False
            await _insert(connection, key)
            await self._trail.record(connection, _change("created", key))
            return True

    async def succeed(self, key: SigningKey, overlap: timedelta) -> None:
        """The new key takes over at its ``active_at``; what signed until then stays published for ``overlap``."""
        async with self._pool.operator() as connection:
            await _alone(connection)
            await self._take_over(connection, key, overlap)

    async def end(
        self,
        key_id: str,
        now: datetime,
        heir: Callable[[SigningKey, datetime], SigningKey],
        check: Callable[[SigningKey], None] = lambda _: None,
    ) -> SigningKey | None:
        """See the port. The private half of the key is forgotten; one that is gone already stays as it is."""
        async with self._pool.operator() as connection:
            await _alone(connection)
            keys = {row["id"]: SigningKey(**row) for row in await connection.fetch(_ALL)}
            old = keys.pop(key_id, None)
            if old is None:
                raise NotFound(f"There is no signing key {key_id!r}. See them: gateway signing-keys list")
            check(old)
            if old.stage(now) is not Stage.GONE:
                await connection.execute(_END, key_id, now)
                await self._trail.record(connection, _change("ended", old))
            moment = unsigned_from(keys.values(), now)
            if moment is None:
                return None
            made = heir(old, moment)
            await self._take_over(connection, made, OVERLAP)
        return made

    async def _take_over(self, connection: Connection, key: SigningKey, overlap: timedelta) -> None:
        await connection.execute(
            """
            UPDATE platform.signing_keys
            SET retiring_at = greatest(active_at, $1), gone_at = greatest(active_at, $1) + $2
            WHERE retiring_at IS NULL OR retiring_at > $1
            """,
            key.active_at,
            overlap,
        )
        await _insert(connection, key)
        await connection.execute("UPDATE platform.signing_keys SET sealed = NULL WHERE gone_at <= now()")
        await self._trail.record(connection, _change("created", key))


def _change(verb: str, key: SigningKey) -> Change:
    return Change(
        tenant_id="",
        action=f"signing_key.{verb}",
        target=key.id,
        after={"algorithm": key.algorithm, "active_at": key.active_at.isoformat()},
    )


async def _alone(connection: Connection) -> None:
    """One writer at a time, until the transaction ends."""
    await connection.execute("LOCK TABLE platform.signing_keys IN SHARE ROW EXCLUSIVE MODE")


async def _insert(connection: Connection, key: SigningKey) -> None:
    await connection.execute(
        """
        INSERT INTO platform.signing_keys (id, algorithm, public_jwk, sealed, created_at, active_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        key.id,
        key.algorithm,
        key.public_jwk,
        key.sealed,
        key.created_at,
        key.active_at,
    )


if TYPE_CHECKING:
    _promised: type[ports.SigningKeys] = PostgresSigningKeys

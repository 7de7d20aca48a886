"""Passkeys: public keys of authenticators, and whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from policies.audit import Change, Facts
from storage.ports import AlreadyExists
from storage.postgres import values
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.pool import Pool

MOST = 20
"""How many one person may have."""
_PASSKEY = "id, credential, user_id, public_key, sign_count, transports, synced, name, created_at, last_used_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """One of them. ``synced``: it may be on several devices, so that its counter says nothing."""

    id: str
    credential: bytes
    user_id: str
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...]
    synced: bool
    name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPasskey:
    """One to be kept, as the authenticator has made it."""

    credential: bytes
    public_key: bytes
    sign_count: int
    transports: Sequence[str]
    synced: bool
    name: str


class PostgresPasskeys:
    """In the operator's scope, like people themselves. ``trail`` is by whoever does it."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def of(self, user_id: str) -> Sequence[Passkey]:
        """A person's, oldest first."""
        rows = await self._pool.read(
            f"SELECT {_PASSKEY} FROM platform.passkeys WHERE user_id = $1 ORDER BY created_at, id",  # noqa: S608
            user_id,
        )
        return [_passkey(row) for row in rows]

    async def find(self, credential: bytes) -> Passkey | None:
        """By the authenticator's own name for it."""
        rows = await self._pool.read(
            f"SELECT {_PASSKEY} FROM platform.passkeys WHERE credential = $1",  # noqa: S608
            credential,
        )
        return _passkey(rows[0]) if rows else None

    async def add(self, user_id: str, email: str, new: NewPasskey) -> None:
        """Raises AlreadyExists for one that is known, or one too many; ValueError for a name that cannot be one."""
        async with self._pool.operator() as connection:
            await self.add_in(connection, user_id, email, new)

    async def add_in(self, connection: Connection, user_id: str, email: str, new: NewPasskey) -> None:
        """:meth:`add` in a transaction of the operator's that is open already."""
        name = values.clean_name(new.name, of="a passkey")
        await connection.fetch("SELECT FROM platform.users WHERE id = $1 FOR NO KEY UPDATE", user_id)
        (row,) = await connection.fetch("SELECT count(*) AS n FROM platform.passkeys WHERE user_id = $1", user_id)
        if row["n"] >= MOST:
            raise AlreadyExists(f"There are {MOST} passkeys already. Remove one first.")
        with violating({"passkeys_credential_key": AlreadyExists("This passkey is here already.")}):
            await connection.execute(
                """
                INSERT INTO platform.passkeys
                    (id, credential, user_id, public_key, sign_count, transports, synced, name)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                """,
                new_id(Kind.PASSKEY),
                new.credential,
                user_id,
                new.public_key,
                new.sign_count,
                list(new.transports),
                new.synced,
                name,
            )
        await self._record(connection, "passkey.added", user_id, email, {"name": name})

    async def use(self, passkey: Passkey, sign_count: int, *, synced: bool) -> bool:
        """Note that it was used; False when its counter went on meanwhile, as a copy's would."""
        async with self._pool.operator() as connection:
            done = await connection.execute(
                """
                UPDATE platform.passkeys SET sign_count = $2, synced = $3, last_used_at = now()
                WHERE id = $1 AND (sign_count < $2 OR (sign_count = 0 AND $2 = 0))
                """,
                passkey.id,
                sign_count,
                synced,
            )
        return bool(done == "UPDATE 1")

    async def rename(self, user_id: str, passkey_id: str, name: str) -> bool:
        """False when it is not theirs. Raises ValueError."""
        name = values.clean_name(name, of="a passkey")
        if not is_id(Kind.PASSKEY, passkey_id):
            return False
        async with self._pool.operator() as connection:
            done = await connection.execute(
                "UPDATE platform.passkeys SET name = $3 WHERE user_id = $1 AND id = $2", user_id, passkey_id, name
            )
        return bool(done == "UPDATE 1")

    async def remove(self, user_id: str, email: str, passkey_id: str) -> bool:
        """False when it is not theirs."""
        if not is_id(Kind.PASSKEY, passkey_id):
            return False
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                "DELETE FROM platform.passkeys WHERE user_id = $1 AND id = $2 RETURNING name", user_id, passkey_id
            )
            if rows:
                await self._record(connection, "passkey.removed", user_id, email, {"name": rows[0]["name"]})
        return bool(rows)

    async def _record(self, connection: Connection, action: str, user_id: str, email: str, facts: Facts) -> None:
        change = Change(tenant_id="", action=action, target=user_id, target_name=email, after=facts)
        await self._trail.record(connection, change)


def _passkey(row: asyncpg.Record) -> Passkey:
    return Passkey(**{**row, "transports": tuple(row["transports"])})

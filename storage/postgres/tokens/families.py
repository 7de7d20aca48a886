"""Log-ins that can be renewed, and what was revoked before its time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from policies.audit import Change
from policies.identity.refresh import Family
from policies.identity.tokens import LEEWAY_S, LONGEST_S
from storage.postgres import values
from storage.postgres.absences import no_member
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.pool import Pool
from storage.token_ports import Revocation

if TYPE_CHECKING:
    from storage import token_ports as ports

_COUNTS_FOR = timedelta(seconds=LONGEST_S + 2 * LEEWAY_S)
_LATE = timedelta(seconds=30)
"""How long after its instant a revocation may appear: a transaction that began then commits later."""
_COLUMNS = """
    f.id, f.tenant_id, f.user_id, f.client_id, f.scopes, f.seed, f.generation, f.created_at, f.rotated_at, f.expires_at,
    f.ended_at, f.address, f.agent
"""
_LIVE = "f.ended_at IS NULL AND f.expires_at > now()"


class PostgresRevocations:
    """See :class:`storage.token_ports.Revocations`."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def revoke(self, what: str, tenant_id: str = "") -> Revocation:
        """Revoked again, it counts from the later instant."""
        async with self._pool.operator() as connection:
            made = await revoke_in(connection, what)
            await self._trail.record(connection, Change(tenant_id=tenant_id, action="token.revoked", target=what))
        return made

    async def since(self, instant: datetime | None) -> Sequence[Revocation]:
        """What still counts and was revoked since then, or ever; a little of what was told before is told again."""
        rows = await self._pool.read(
            """
            SELECT what, revoked_at FROM platform.token_revocations
            WHERE expires_at > now() AND ($1::timestamptz IS NULL OR revoked_at > $1)
            """,
            None if instant is None else instant - _LATE,
        )
        return [Revocation(row["what"], row["revoked_at"]) for row in rows]


class PostgresFamilies:
    """See :class:`storage.token_ports.RefreshFamilies`."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def begin(
        self,
        tenant_id: str,
        user_id: str,
        *,
        client_id: str,
        scopes: frozenset[str],
        seed: bytes,
        life: timedelta,
        address: str = "",
        agent: str = "",
    ) -> Family:
        """Raises NotFound when there is no such member."""
        async with self._pool.operator() as connection:
            with violating({"refresh_families_member_fkey": no_member(user_id)}):
                (row,) = await connection.fetch(
                    f"""
                    INSERT INTO platform.refresh_families AS f
                        (id, tenant_id, user_id, client_id, scopes, seed, expires_at, address, agent)
                    VALUES ($1, $2, $3, $4, $5, $6, now() + $7, $8, $9) RETURNING {_COLUMNS}
                    """,  # noqa: S608  a constant
                    new_id(Kind.FAMILY),
                    tenant_id,
                    user_id,
                    client_id,
                    values.sorted_scopes(scopes),
                    seed,
                    life,
                    address,
                    agent,
                )
            # What has been over for long is of no use to anybody; a person's own, so that no log-in sweeps a table.
            await connection.execute(
                "DELETE FROM platform.refresh_families WHERE user_id = $1 AND expires_at < now() - $2::interval",
                user_id,
                life,
            )
        return _family(row)

    @asynccontextmanager
    async def held(self, family_id: str) -> AsyncIterator[tuple[Family | None, "ports.FamilyHold"]]:
        """The family, locked until the block ends, and what can be done to it meanwhile."""
        async with self._pool.operator() as connection:
            rows = []
            if is_id(Kind.FAMILY, family_id):
                rows = await connection.fetch(
                    f"SELECT {_COLUMNS} FROM platform.refresh_families f WHERE f.id = $1 FOR UPDATE",  # noqa: S608  a constant
                    family_id,
                )
            family = _family(rows[0]) if rows else None
            yield family, _Hold(connection, self._trail, family)

    async def living(self, user_id: str) -> Sequence[Family]:
        """A person's, in every tenant, the one renewed last first."""
        rows = await self._pool.read(
            f"SELECT {_COLUMNS} FROM platform.refresh_families f WHERE f.user_id = $1 AND {_LIVE}"  # noqa: S608
            " ORDER BY f.rotated_at DESC, f.id",
            user_id,
        )
        return [_family(row) for row in rows]

    async def end_one(self, user_id: str, family_id: str) -> bool:
        """Whether it was a living one of this person's, which is over now."""
        async with self.held(family_id) as (family, hold):
            if family is None or family.user_id != user_id or family.ended_at is not None:
                return False
            await hold.end("revoked")
        return True

    async def end_all(self, user_id: str, tenant_id: str | None = None) -> Sequence[str]:
        """The ids of those that were ended; their access tokens are revoked with them."""
        async with self._pool.operator() as connection:
            return await end_families_in(connection, self._trail, user_id, tenant_id)


class _Hold:
    """One locked family."""

    def __init__(self, connection: Connection, trail: AuditTrail, family: Family | None) -> None:
        self._connection = connection
        self._trail = trail
        self._family = family

    async def rotate(self) -> int:
        """The number of the newest token from now on."""
        assert self._family is not None
        number: int = await self._connection.fetchval(
            """
            UPDATE platform.refresh_families SET generation = generation + 1, rotated_at = clock_timestamp()
            WHERE id = $1 RETURNING generation
            """,
            self._family.id,
        )
        return number

    async def end(self, why: str) -> None:
        """No token of it is good any more, access tokens included."""
        family = self._family
        assert family is not None
        await self._connection.execute(
            """
            UPDATE platform.refresh_families SET ended_at = coalesce(ended_at, now()), ended_by = coalesce(ended_by, $2)
            WHERE id = $1
            """,
            family.id,
            why,
        )
        await revoke_in(self._connection, f"family:{family.id}")
        await self._trail.record(
            self._connection,
            Change(
                tenant_id=family.tenant_id,
                action=f"refresh_family.{why}",
                target=family.id,
                after={"user": family.user_id, "client": family.client_id, "generation": family.generation},
            ),
        )


async def end_families_in(
    connection: Connection, trail: AuditTrail, user_id: str, tenant_id: str | None = None
) -> Sequence[str]:
    """:meth:`PostgresFamilies.end_all` in a transaction of the operator's that is open already."""
    rows = await connection.fetch(
        """
        UPDATE platform.refresh_families SET ended_at = now(), ended_by = 'ended'
        WHERE user_id = $1 AND ($2::text IS NULL OR tenant_id = $2) AND ended_at IS NULL AND expires_at > now()
        RETURNING id, tenant_id
        """,
        user_id,
        tenant_id,
    )
    for row in rows:
        await revoke_in(connection, f"family:{row['id']}")
        await trail.record(
            connection,
            Change(
                tenant_id=row["tenant_id"],
                action="refresh_family.ended",
                target=row["id"],
                after={"user": user_id},
            ),
        )
    return [row["id"] for row in rows]


async def revoke_in(connection: Connection, what: str) -> Revocation:
    """In a transaction that is open already; whoever has it tells the others."""
    (row,) = await connection.fetch(
        """
        INSERT INTO platform.token_revocations (what, revoked_at, expires_at)
        VALUES ($1, clock_timestamp(), clock_timestamp() + $2)
        ON CONFLICT (what) DO UPDATE SET revoked_at = excluded.revoked_at, expires_at = excluded.expires_at
        RETURNING what, revoked_at
        """,
        what,
        _COUNTS_FOR,
    )
    await connection.execute("DELETE FROM platform.token_revocations WHERE expires_at < now()")
    return Revocation(row["what"], row["revoked_at"])


def _family(row: asyncpg.Record) -> Family:
    return Family(**{**row, "scopes": frozenset(row["scopes"])})


if TYPE_CHECKING:
    _promised: tuple[type[ports.Revocations], type[ports.RefreshFamilies]] = (PostgresRevocations, PostgresFamilies)

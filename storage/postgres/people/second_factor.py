"""Which roles of a tenant sign in with two factors, and who is in without."""

from collections.abc import Callable, Collection, Sequence

from policies.audit import Change
from policies.identity.tenants import Role
from policies.people import SECOND_FACTORS
from storage.postgres.absences import no_tenant
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool

ASKED = "(m.role = ANY (t.second_factor_for) OR m.custom_role IS NOT NULL AND t.second_factor_for <> '{}')"
"""Whether a member ``m`` of a tenant ``t`` is asked for a second factor.

What a custom role allows has nothing to do with the role beneath it, which whoever gives it could choose as one that
nobody asks.
"""


class PostgresSecondFactor:
    """One tenant's rule."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def roles(self, tenant_id: str) -> frozenset[Role]:
        """The roles that are asked. Raises NotFound."""
        rows = await self._pool.read("SELECT second_factor_for FROM platform.tenants WHERE id = $1", tenant_id)
        if not rows:
            raise no_tenant(tenant_id)
        return frozenset(Role(name) for name in rows[0]["second_factor_for"])

    async def ask(
        self,
        tenant_id: str,
        roles: Collection[Role],
        check: Callable[[frozenset[Role]], None] = lambda _: None,
    ) -> bool:
        """Ask these from now on; whether that is new. ``check`` sees those before, and may raise. Raises NotFound."""
        wanted = sorted(role.value for role in roles)
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                "SELECT slug, second_factor_for FROM platform.tenants WHERE id = $1 FOR NO KEY UPDATE", tenant_id
            )
            if not rows:
                raise no_tenant(tenant_id)
            before = sorted(rows[0]["second_factor_for"])
            check(frozenset(Role(name) for name in before))
            if before == wanted:
                return False
            await connection.execute(
                "UPDATE platform.tenants SET second_factor_for = $2 WHERE id = $1", tenant_id, wanted
            )
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="tenant.second_factor_changed",
                    target=tenant_id,
                    target_name=rows[0]["slug"],
                    before={"roles": before},
                    after={"roles": wanted},
                ),
            )
        return True

    async def sessions_without(self, tenant_id: str) -> Sequence[tuple[str, str]]:
        """Person and session, of those who are asked and signed in with one factor."""
        rows = await self._pool.read(
            f"""
            SELECT s.user_id, s.id FROM platform.sessions s
            JOIN platform.memberships m USING (tenant_id, user_id) JOIN platform.tenants t ON t.id = s.tenant_id
            WHERE s.tenant_id = $1 AND {ASKED} AND NOT s.methods && $2
                AND s.ended_at IS NULL AND s.expires_at > now()
            """,  # noqa: S608  this module's own words
            tenant_id,
            sorted(SECOND_FACTORS),
        )
        return [(row["user_id"], row["id"]) for row in rows]

    async def people_without(self, tenant_id: str) -> Sequence[str]:
        """Those who are asked and have no authenticator app, by id."""
        rows = await self._pool.read(
            f"""
            SELECT u.id FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
            JOIN platform.tenants t ON t.id = m.tenant_id
            WHERE m.tenant_id = $1 AND {ASKED} AND u.totp_confirmed_at IS NULL
            """,  # noqa: S608  the same
            tenant_id,
        )
        return [row["id"] for row in rows]

"""A tenant's own roles, beside those that every tenant has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from policies.audit import Change, changed
from policies.identity.tenants import Role
from policies.limits.plans import Counted
from storage.ports import AlreadyExists, StorageError
from storage.postgres import values
from storage.postgres.absences import no_role
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.pool import Pool
from storage.postgres.room import require_room


class InUse(StorageError):
    """Members are in this role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomRole:
    """A tenant's own role."""

    name: str
    description: str
    permissions: tuple[str, ...]
    created_at: datetime


_ROLE = "SELECT name, description, permissions, created_at FROM platform.roles WHERE tenant_id = $1"


class PostgresRoles:
    """One tenant's own roles, by the first argument of each method."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def all(self, tenant_id: str) -> Sequence[CustomRole]:
        """The tenant's own, by name."""
        rows = await self._pool.read(f"{_ROLE} ORDER BY name", tenant_id, tenant_id=tenant_id)
        return [_role(row) for row in rows]

    async def one(self, tenant_id: str, name: str) -> CustomRole:
        """Raises NotFound."""
        rows = await self._pool.read(f"{_ROLE} AND name = $2", tenant_id, name, tenant_id=tenant_id)
        if not rows:
            raise no_role(name)
        return _role(rows[0])

    async def create(self, tenant_id: str, name: str, description: str, permissions: Sequence[str]) -> CustomRole:
        """Raises AlreadyExists."""
        values.check_slug(name)
        if name in {role.value for role in Role}:
            raise AlreadyExists(f"{name} is a role that every tenant has.")
        description = values.clean_line(description, "the description of a role")
        async with self._pool.tenant(tenant_id) as connection:
            await require_room(connection, tenant_id, Counted.ROLES)
            with violating({"roles_pkey": AlreadyExists(f"There is a role {name} already.")}):
                rows = await connection.fetch(
                    """
                    INSERT INTO platform.roles (tenant_id, name, description, permissions) VALUES ($1, $2, $3, $4)
                    RETURNING name, description, permissions, created_at
                    """,
                    tenant_id,
                    name,
                    description,
                    sorted(set(permissions)),
                )
            made = _role(rows[0])
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="role.created",
                    target=name,
                    target_name=name,
                    after={"description": description, "permissions": list(made.permissions)},
                ),
            )
        return made

    async def change(
        self,
        tenant_id: str,
        name: str,
        description: str | None,
        permissions: Sequence[str] | None,
        check: Callable[[CustomRole], None] = lambda _: None,
    ) -> CustomRole:
        """The role with what is given changed. ``check`` sees it as it is, and may raise. Raises NotFound."""
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(f"{_ROLE} AND name = $2 FOR NO KEY UPDATE", tenant_id, name)
            if not rows:
                raise no_role(name)
            old = _role(rows[0])
            check(old)
            rows = await connection.fetch(
                """
                UPDATE platform.roles SET description = $3, permissions = $4 WHERE tenant_id = $1 AND name = $2
                RETURNING name, description, permissions, created_at
                """,
                tenant_id,
                name,
                old.description if description is None else values.clean_line(description, "the description of a role"),
                list(old.permissions) if permissions is None else sorted(set(permissions)),
            )
            new = _role(rows[0])
            before, after = changed(_role_facts(old), _role_facts(new))
            if after:
                change = Change(
                    tenant_id=tenant_id,
                    action="role.changed",
                    target=name,
                    target_name=name,
                    before=before,
                    after=after,
                )
                await self._trail.record(connection, change)
        return new

    async def delete(self, tenant_id: str, name: str, check: Callable[[CustomRole], None] = lambda _: None) -> None:
        """``check`` sees it as it was, and may raise. Raises NotFound; InUse while members are in it."""
        in_use = InUse(f"Members are in the role {name}. Give them another one first.")
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(f"{_ROLE} AND name = $2 FOR UPDATE", tenant_id, name)
            if not rows:
                raise no_role(name)
            check(_role(rows[0]))
            with violating({"memberships_custom_role_fkey": in_use}):
                await connection.execute(
                    "DELETE FROM platform.roles WHERE tenant_id = $1 AND name = $2", tenant_id, name
                )
            await self._trail.record(
                connection, Change(tenant_id=tenant_id, action="role.deleted", target=name, target_name=name)
            )


def _role(row: asyncpg.Record) -> CustomRole:
    return CustomRole(
        name=row["name"],
        description=row["description"],
        permissions=tuple(row["permissions"]),
        created_at=row["created_at"],
    )


def _role_facts(role: CustomRole) -> dict[str, str | list[str]]:
    return {"description": role.description, "permissions": list(role.permissions)}

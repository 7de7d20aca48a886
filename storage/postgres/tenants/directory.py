"""The Directory port: tenants, people, memberships, and exceptions to the route table."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg

from policies.audit import Change
from policies.identity.tenants import SLUG, Membership, Role, RouteOverride, Tenant, TenantStatus, User, UserStatus
from storage.ports import AlreadyExists, NotFound, StorageError
from storage.postgres import values
from storage.postgres.absences import no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, new_id
from storage.postgres.order import Order, by_age
from storage.postgres.people.newcomers import NewPerson, add_person, tell_of_person
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import TENANT, TENANTS, tenant_of

if TYPE_CHECKING:
    from storage import ports


class Leaving(StorageError):
    """The tenant is being deleted."""


_SORTS = {"slug": Order("slug"), **by_age("id")}


class PostgresDirectory:
    """See :class:`storage.ports.Directory`. Storing what no tenant or person can be called raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def create_tenant(self, slug: str, name: str) -> Tenant:
        """A new, active tenant."""
        values.check_slug(slug)
        name = values.clean_name(name, of="a tenant")
        async with self._pool.operator() as connection:
            taken = AlreadyExists(f"There is a tenant {slug} already.", what="tenant")
            with violating({"tenants_slug_key": taken}):
                (row,) = await connection.fetch(
                    f"INSERT INTO platform.tenants (id, slug, name) VALUES ($1, $2, $3) RETURNING {TENANT}",  # noqa: S608
                    new_id(Kind.TENANT),
                    slug,
                    name,
                )
            made = tenant_of(row)
            await self._trail.record(
                connection,
                Change(
                    tenant_id=made.id,
                    action="tenant.created",
                    target=made.id,
                    target_name=slug,
                    after={"name": name, "status": made.status},
                ),
            )
        return made

    async def tenant(self, slug: str) -> Tenant:
        """By its short name."""
        _findable(slug)
        rows = await self._pool.read(f"{TENANTS} WHERE slug = $1", slug)
        if not rows:
            raise no_tenant(slug)
        return tenant_of(rows[0])

    async def tenants(self) -> Sequence[Tenant]:
        """All, by slug."""
        rows = await self._pool.read(f"{TENANTS} ORDER BY slug")
        return [tenant_of(row) for row in rows]

    async def tenant_by_id(self, tenant_id: str) -> Tenant:
        """Raises NotFound."""
        rows = await self._pool.read(f"{TENANTS} WHERE id = $1", tenant_id)
        if not rows:
            raise no_tenant(tenant_id)
        return tenant_of(rows[0])

    async def tenants_page(
        self, limit: int, *, sort: str, beyond: str | int | None, status: TenantStatus | None
    ) -> Sequence[Tenant]:
        """Those ``beyond`` a slug or, by age, an id; in one ``status`` where given."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{TENANTS} WHERE ($2::text IS NULL OR status = $2) {order.page('$1', '$3')}",
            order.after(beyond),
            status,
            limit,
        )
        return [tenant_of(row) for row in rows]

    async def rename_tenant(
        self, tenant_id: str, name: str, check: Callable[[Tenant], None] = lambda _: None
    ) -> Tenant:
        """The tenant with its new name. ``check`` sees it as it is, and may raise. Raises NotFound."""
        name = values.clean_name(name, of="a tenant")
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                f"{TENANTS} WHERE id = $1 FOR NO KEY UPDATE",
                tenant_id,
            )
            if not rows:
                raise no_tenant(tenant_id)
            tenant = tenant_of(rows[0])
            check(tenant)
            if tenant.name == name:
                return tenant
            await connection.execute("UPDATE platform.tenants SET name = $2 WHERE id = $1", tenant_id, name)
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="tenant.renamed",
                    target=tenant_id,
                    target_name=tenant.slug,
                    before={"name": tenant.name},
                    after={"name": name},
                ),
            )
        return replace(tenant, name=name)

    async def set_tenant_status(self, slug: str, status: TenantStatus) -> Tenant:
        """The tenant as it is now. Raises NotFound, Leaving."""
        _findable(slug)
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"""
                WITH old AS MATERIALIZED (
                    SELECT id AS old_id, status AS old_status FROM platform.tenants
                    WHERE slug = $1 FOR NO KEY UPDATE
                )
                UPDATE platform.tenants SET status = CASE old_status WHEN 'deleting' THEN old_status ELSE $2 END
                FROM old WHERE id = old_id RETURNING {TENANT}, old_status
                """,  # noqa: S608
                slug,
                status.value,
            )
            if not rows:
                raise no_tenant(slug)
            (row,) = rows
            if row["status"] == TenantStatus.DELETING:
                raise Leaving(f"Tenant {slug} is being deleted. Restore it first.")
            if row["old_status"] != status:
                await self._trail.record(
                    connection,
                    Change(
                        tenant_id=row["id"],
                        action="tenant.suspended" if status is TenantStatus.SUSPENDED else "tenant.resumed",
                        target=row["id"],
                        target_name=slug,
                        before={"status": row["old_status"]},
                        after={"status": status},
                    ),
                )
        return tenant_of(row)

    async def create_user(
        self, tenant_id: str, email: str, name: str, role: Role, password_hash: str | None = None
    ) -> tuple[User, Membership]:
        """The person as stored, and the membership. A person who was there keeps name, password and status.

        The one method that is across tenants and in one, because that person may be another tenant's.
        """
        email = values.clean_email(email)
        name = values.clean_line(name, "the name of a user")
        refusals = {
            "memberships_pkey": AlreadyExists(f"{email} is a member of this tenant already.", what="user"),
            "memberships_tenant_fkey": no_tenant(tenant_id),
        }
        new = NewPerson(email=email, name=name, password_hash=password_hash)
        async with self._pool.together() as one:
            async with one.operator() as connection:
                made = await add_person(connection, new)
                user = await _person(connection, email)
            async with one.tenant(tenant_id) as connection:
                with violating(refusals):
                    (row,) = await connection.fetch(
                        """
                        INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)
                        RETURNING created_at
                        """,
                        tenant_id,
                        user.id,
                        role.value,
                    )
                change = Change(
                    tenant_id=tenant_id,
                    action="membership.created",
                    target=user.id,
                    target_name=email,
                    after={"role": role},
                )
                await self._trail.record(connection, change)
            if made is not None:
                async with one.operator() as connection:
                    await tell_of_person(connection, self._trail, made)
        return user, Membership(tenant_id=tenant_id, user_id=user.id, role=role, created_at=row["created_at"])

    async def users(self, tenant_id: str) -> Sequence[tuple[User, Membership]]:
        """The tenant's members, by e-mail."""
        rows = await self._pool.read(
            """
            SELECT u.id, u.email, u.name, u.status, u.created_at, m.role, m.created_at AS joined_at
            FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
            WHERE m.tenant_id = $1
            ORDER BY u.email
            """,
            tenant_id,
            tenant_id=tenant_id,
        )
        return [
            (
                _user(row),
                Membership(tenant_id=tenant_id, user_id=row["id"], role=Role(row["role"]), created_at=row["joined_at"]),
            )
            for row in rows
        ]

    async def set_user_status(self, tenant_id: str, email: str, status: UserStatus) -> User:
        """The person as it is now. The status is the person's, and so the same in every tenant that knows it."""
        nobody = NotFound(f"No member of this tenant has the e-mail address {email}.", what="user")
        try:
            email = values.clean_email(email)
        except ValueError as error:
            raise nobody from error
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.users u SET status = $3
                FROM (
                    SELECT id, status FROM platform.users
                    WHERE lower(email) = $2
                        AND EXISTS (SELECT FROM platform.memberships WHERE user_id = users.id AND tenant_id = $1)
                    FOR NO KEY UPDATE
                ) old
                WHERE u.id = old.id
                RETURNING u.id, u.email, u.name, u.status, u.created_at, old.status AS old_status
                """,
                tenant_id,
                email,
                status.value,
            )
            if not rows:
                raise nobody
            (row,) = rows
            if row["old_status"] != status:
                await self._trail.record(
                    connection,
                    Change(
                        tenant_id=tenant_id,
                        action="user.disabled" if status is UserStatus.DISABLED else "user.enabled",
                        target=row["id"],
                        target_name=email,
                        before={"status": row["old_status"]},
                        after={"status": status},
                    ),
                )
        return _user(row)

    async def set_operator(self, email: str, *, operator: bool) -> User:
        """Give or take the platform. Raises NotFound."""
        email = values.clean_email(email)
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                """
                UPDATE platform.users u SET operator = $2
                FROM (SELECT id, operator FROM platform.users WHERE lower(email) = $1 FOR NO KEY UPDATE) old
                WHERE u.id = old.id
                RETURNING u.id, u.email, u.name, u.status, u.created_at, old.operator AS was
                """,
                email,
                operator,
            )
            if not rows:
                raise NotFound(f"Nobody has the e-mail address {email}.", what="user")
            (row,) = rows
            if row["was"] != operator:
                await self._trail.record(
                    connection,
                    Change(
                        tenant_id="",
                        action="operator.granted" if operator else "operator.revoked",
                        target=row["id"],
                        target_name=email,
                    ),
                )
        return _user(row)

    async def operators(self) -> Sequence[User]:
        """Who may act across tenants, by e-mail."""
        rows = await self._pool.read(
            "SELECT id, email, name, status, created_at FROM platform.users WHERE operator ORDER BY email"
        )
        return [_user(row) for row in rows]

    async def set_route_override(self, override: RouteOverride) -> None:
        """Only prohibitions are kept; ``allowed`` is their absence."""
        route = values.clean_name(override.route, of="a route")
        async with self._pool.tenant(override.tenant_id) as connection:
            if override.allowed:
                done = await connection.execute(
                    "DELETE FROM platform.route_overrides WHERE tenant_id = $1 AND route = $2",
                    override.tenant_id,
                    route,
                )
            else:
                with violating({"route_overrides_tenant_fkey": no_tenant(override.tenant_id)}):
                    done = await connection.execute(
                        """
                        INSERT INTO platform.route_overrides (tenant_id, route) VALUES ($1, $2)
                        ON CONFLICT DO NOTHING
                        """,
                        override.tenant_id,
                        route,
                    )
            if not done.endswith(" 0"):
                await self._trail.record(
                    connection,
                    Change(
                        tenant_id=override.tenant_id,
                        action="route.allowed" if override.allowed else "route.denied",
                        target=route,
                        target_name=route,
                    ),
                )

    async def route_overrides(self, tenant_id: str) -> Sequence[RouteOverride]:
        """The routes that the tenant may not use, by name."""
        rows = await self._pool.read(
            "SELECT route FROM platform.route_overrides WHERE tenant_id = $1 ORDER BY route",
            tenant_id,
            tenant_id=tenant_id,
        )
        return [RouteOverride(tenant_id=tenant_id, route=row["route"], allowed=False) for row in rows]


async def _person(connection: Connection, email: str) -> User:
    """New, there already, or committed this moment by another tenant, which the insert has waited for."""
    rows = await connection.fetch(
        "SELECT id, email, name, status, created_at FROM platform.users WHERE lower(email) = $1", email
    )
    return _user(rows[0])


def _findable(slug: str) -> None:
    if SLUG.fullmatch(slug) is None:
        raise no_tenant(slug)


def _user(row: asyncpg.Record) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        status=UserStatus(row["status"]),
        created_at=row["created_at"],
    )


if TYPE_CHECKING:
    _promised: type[ports.Directory] = PostgresDirectory

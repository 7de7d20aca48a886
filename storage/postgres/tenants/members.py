"""Memberships: who is in which role, and that an owner stays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from policies.audit import Change, changed
from policies.identity.permissions import OPERATOR, ROLES, Permission, permitted
from policies.identity.tenants import Role, UserStatus
from storage.ports import AlreadyExists, StorageError
from storage.postgres.absences import no_member, no_person, no_role
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.ids import Kind, is_id
from storage.postgres.order import LAST_TEXT, Order
from storage.postgres.pool import Pool

_PLACE, _PLACE_DIGITS = "%Y%m%d%H%M%S%f", 20


class LastOwner(StorageError):
    """Without this member the tenant would have no owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person in a tenant. ``custom_role`` is the tenant's own role that stands in place of ``role``."""

    user_id: str
    email: str
    name: str
    status: UserStatus
    role: Role
    custom_role: str | None
    joined_at: datetime

    @property
    def place(self) -> str:
        """Where it is among the tenant's members by the time for which they are that."""
        return f"{self.joined_at.astimezone(UTC):{_PLACE}}{self.user_id}"


_MEMBER = """
    SELECT m.user_id, u.email, u.name, u.status, m.role, m.custom_role, m.created_at
    FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
    WHERE m.tenant_id = $1
"""
_BY_EMAIL = Order("lower(u.email)")
"""As addresses are stored, and their index has it."""
_AGES = {
    "created": " AND (m.created_at, m.user_id) > ($2, $5) ORDER BY m.created_at, m.user_id LIMIT $4",
    "-created": " AND (m.created_at, m.user_id) < ($2, $5) ORDER BY m.created_at DESC, m.user_id DESC LIMIT $4",
}
_BEFORE_ALL = {
    "created": (datetime.min.replace(tzinfo=UTC), ""),
    "-created": (datetime.max.replace(tzinfo=UTC), LAST_TEXT),
}


class PostgresMembers:
    """One tenant's people, by the first argument of each method."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def page(
        self, tenant_id: str, limit: int, *, sort: str, beyond: str | int | None, role: Role | None, email: str = ""
    ) -> Sequence[Member]:
        """Those ``beyond`` an address or, by age, a member's ``place``; in one built-in ``role`` where given.

        ``email``: a part of the address, in lower case.
        """
        if sort == "email":
            end, positions = _BY_EMAIL.page("$2", "$4"), tuple[object, ...]((_BY_EMAIL.after(beyond),))
        else:
            end, positions = _AGES[sort], _BEFORE_ALL[sort] if beyond is None else _read_place(str(beyond))
        arguments = [tenant_id, positions[0], role, limit, *positions[1:], email]
        rows = await self._pool.read(
            f"{_MEMBER} AND ($3::text IS NULL OR m.role = $3) AND strpos(lower(u.email), ${len(arguments)}) > 0 {end}",
            *arguments,
            tenant_id=tenant_id,
        )
        return [_member(row) for row in rows]

    async def member(self, tenant_id: str, user_id: str) -> Member:
        """Raises NotFound."""
        if not is_id(Kind.USER, user_id):
            raise no_member(user_id)
        rows = await self._pool.read(f"{_MEMBER} AND m.user_id = $2", tenant_id, user_id, tenant_id=tenant_id)
        if not rows:
            raise no_member(user_id)
        return _member(rows[0])

    async def add(self, tenant_id: str, user_id: str, role: Role, custom_role: str | None) -> Member:
        """A person whom the platform knows, as a member from now on.

        Raises NotFound, also for a custom role that the tenant has not; AlreadyExists for a member.
        """
        if not is_id(Kind.USER, user_id):
            raise no_person(user_id)
        refusals = {
            "memberships_custom_role_fkey": no_role(custom_role),
            "memberships_user_id_fkey": no_person(user_id),
            "memberships_pkey": AlreadyExists("This person is a member of this tenant already."),
        }
        async with self._pool.tenant(tenant_id) as connection:
            with violating(refusals):
                await connection.execute(
                    "INSERT INTO platform.memberships (tenant_id, user_id, role, custom_role) VALUES ($1, $2, $3, $4)",
                    tenant_id,
                    user_id,
                    role.value,
                    custom_role,
                )
            made = _member((await connection.fetch(f"{_MEMBER} AND m.user_id = $2", tenant_id, user_id))[0])
            if made.status is UserStatus.DELETED:
                raise no_person(user_id)
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="membership.created",
                    target=user_id,
                    target_name=made.email,
                    after=_facts(made),
                ),
            )
        return made

    async def shared_tenants(self, one: str, other: str) -> Sequence[str]:
        """The ids of the tenants that two people are both members of."""
        rows = await self._pool.read(
            """
            SELECT a.tenant_id FROM platform.memberships a JOIN platform.memberships b USING (tenant_id)
            WHERE a.user_id = $1 AND b.user_id = $2
            """,
            one,
            other,
        )
        return [row["tenant_id"] for row in rows]

    async def set_role(
        self,
        tenant_id: str,
        user_id: str,
        role: Role,
        custom_role: str | None,
        check: Callable[[Member], None] = lambda _: None,
    ) -> Member:
        """The member in the new role. ``check`` sees the member as it is, and may raise.

        Raises NotFound, also for a custom role that the tenant has not; LastOwner.
        """
        if not is_id(Kind.USER, user_id):
            raise no_member(user_id)
        unknown_role = {"memberships_custom_role_fkey": no_role(custom_role)}
        async with self._pool.tenant(tenant_id) as connection:
            old = await _locked(connection, tenant_id, user_id)
            check(old)
            with violating(unknown_role):
                await connection.execute(
                    "UPDATE platform.memberships SET role = $3, custom_role = $4 WHERE tenant_id = $1 AND user_id = $2",
                    tenant_id,
                    user_id,
                    role.value,
                    custom_role,
                )
            if old.role is Role.OWNER and old.custom_role is None:
                await _require_owner(connection, tenant_id)
            new = _member((await connection.fetch(f"{_MEMBER} AND m.user_id = $2", tenant_id, user_id))[0])
            before, after = changed(_facts(old), _facts(new))
            if after:
                change = Change(
                    tenant_id=tenant_id,
                    action="membership.changed",
                    target=user_id,
                    target_name=new.email,
                    before=before,
                    after=after,
                )
                await self._trail.record(connection, change)
        return new

    async def remove(self, tenant_id: str, user_id: str, check: Callable[[Member], None] = lambda _: None) -> Member:
        """Who was removed. The member's keys in this tenant are revoked; sessions and log-ins there end.

        ``check`` sees the member as it was, and may raise. Raises NotFound, LastOwner.
        """
        if not is_id(Kind.USER, user_id):
            raise no_member(user_id)
        async with self._pool.tenant(tenant_id) as connection:
            # Whatever hangs on a membership shares a lock on its row, and such locks know no queue: a member who makes
            # keys without a pause could never be removed. A lock on the table is waited for in turn; readers go on.
            await connection.execute("LOCK TABLE platform.memberships IN EXCLUSIVE MODE")
            old = await _locked(connection, tenant_id, user_id)
            check(old)
            keys = await connection.fetch(
                """
                UPDATE platform.api_keys k SET user_id = NULL, revoked_at = coalesce(k.revoked_at, now())
                FROM (SELECT id, revoked_at FROM platform.api_keys WHERE tenant_id = $1 AND user_id = $2) was
                WHERE k.tenant_id = $1 AND k.id = was.id
                RETURNING k.id, k.name, was.revoked_at IS NULL AS just_now
                """,
                tenant_id,
                user_id,
            )
            await connection.execute(
                "DELETE FROM platform.memberships WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
            )
            if old.role is Role.OWNER and old.custom_role is None:
                await _require_owner(connection, tenant_id)
            revoked = [key for key in keys if key["just_now"]]
            for key in revoked:
                change = Change(tenant_id=tenant_id, action="key.revoked", target=key["id"], target_name=key["name"])
                await self._trail.record(connection, change)
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="membership.deleted",
                    target=user_id,
                    target_name=old.email,
                    before=_facts(old),
                    after={"keys_revoked": len(revoked)},
                ),
            )
        return old


async def permissions_in(pool: Pool, tenant_id: str, user_id: str) -> frozenset[Permission]:
    """What a person may do in a tenant at this moment: nothing when disabled; an operator everything, everywhere."""
    rows = await pool.read(
        """
        SELECT u.operator, m.role, m.custom_role, r.permissions
        FROM platform.users u
        LEFT JOIN platform.memberships m ON m.user_id = u.id AND m.tenant_id = $1
        LEFT JOIN platform.roles r ON r.tenant_id = m.tenant_id AND r.name = m.custom_role
        WHERE u.id = $2 AND u.status = 'active'
        """,
        tenant_id,
        user_id,
    )
    return held(rows[0]) if rows else frozenset()


def held(row: asyncpg.Record) -> frozenset[Permission]:
    """What an active person may, by ``operator``, ``role``, ``custom_role`` and that one's ``permissions``."""
    if row["operator"]:
        return OPERATOR
    if row["custom_role"] is None:
        return ROLES[Role(row["role"])] if row["role"] else frozenset()
    return permitted(frozenset(row["permissions"]), None)


async def _locked(connection: Connection, tenant_id: str, user_id: str) -> Member:
    """The member, locked together with all owners. Raises NotFound.

    Two who step down at once must not each see the other still there.
    """
    await connection.execute(
        "SELECT FROM platform.memberships WHERE tenant_id = $1 AND (role = 'owner' OR user_id = $2)"
        " ORDER BY user_id FOR NO KEY UPDATE",
        tenant_id,
        user_id,
    )
    rows = await connection.fetch(f"{_MEMBER} AND m.user_id = $2", tenant_id, user_id)
    if not rows:
        raise no_member(user_id)
    return _member(rows[0])


async def _require_owner(connection: Connection, tenant_id: str) -> None:
    left = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
            WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.custom_role IS NULL AND u.status = 'active'
        )
        """,
        tenant_id,
    )
    if not left:
        raise LastOwner("This is the tenant's last owner.")


def _read_place(place: str) -> tuple[datetime, str]:
    """See :attr:`Member.place`."""
    return datetime.strptime(f"{place[:_PLACE_DIGITS]}+0000", f"{_PLACE}%z"), place[_PLACE_DIGITS:]


def _member(row: asyncpg.Record) -> Member:
    return Member(
        user_id=row["user_id"],
        email=row["email"],
        name=row["name"],
        status=UserStatus(row["status"]),
        role=Role(row["role"]),
        custom_role=row["custom_role"],
        joined_at=row["created_at"],
    )


def _facts(member: Member) -> dict[str, str | None]:
    return {"role": member.role.value, "custom_role": member.custom_role}

"""People across tenants, as operators see them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from policies.audit import Change
from policies.tenants import UserStatus
from storage.ports import NotFound
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, is_id
from storage.postgres.order import Order, by_age
from storage.postgres.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A person whom some tenant knows, or knew. ``tenants`` are slugs."""

    id: str
    email: str
    name: str
    status: UserStatus
    operator: bool
    created_at: datetime
    last_login_at: datetime | None
    tenants: tuple[str, ...]


_KNOWN = """
    SELECT u.id, u.email, u.name, u.status, u.operator, u.created_at, u.last_login_at,
        ARRAY(
            SELECT t.slug FROM platform.memberships m JOIN platform.tenants t ON t.id = m.tenant_id
            WHERE m.user_id = u.id ORDER BY t.slug
        ) AS tenants
    FROM platform.users u WHERE u.status <> 'deleted'
"""
_SORTS = {"email": Order("u.email"), **by_age("u.id")}


class PostgresUsers:
    """The operator's; those who deleted themselves are nowhere to be seen."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def page(
        self,
        limit: int,
        *,
        sort: str = "email",
        beyond: str | int | None = None,
        email: str = "",
        status: UserStatus | None = None,
    ) -> Sequence[Known]:
        """Those ``beyond`` an address or, by age, an id; whose address contains ``email`` (in lower case)."""
        order = _SORTS[sort]
        rows = await self._pool.read(
            f"{_KNOWN} AND strpos(u.email, $2) > 0 AND ($3::text IS NULL OR u.status = $3) {order.page('$1', '$4')}",
            order.after(beyond),
            email,
            status,
            limit,
        )
        return [_known(row) for row in rows]

    async def user(self, user_id: str) -> Known:
        """Raises NotFound."""
        rows = await self._pool.read(f"{_KNOWN} AND u.id = $1", user_id) if is_id(Kind.USER, user_id) else []
        if not rows:
            raise _nobody(user_id)
        return _known(rows[0])

    async def set_status(
        self, user_id: str, status: UserStatus, check: Callable[[Known], None] = lambda _: None
    ) -> Known:
        """The person as it is now, in every tenant. ``check`` sees it as it was, and may raise. Raises NotFound."""
        if not is_id(Kind.USER, user_id):
            raise _nobody(user_id)
        async with self._pool.operator() as connection:
            rows = await connection.fetch(f"{_KNOWN} AND u.id = $1 FOR NO KEY UPDATE OF u", user_id)
            if not rows:
                raise _nobody(user_id)
            old = _known(rows[0])
            check(old)
            if old.status is not status:
                await connection.execute("UPDATE platform.users SET status = $2 WHERE id = $1", user_id, status)
                await self._trail.record(
                    connection,
                    Change(
                        tenant_id="",
                        action="user.disabled" if status is UserStatus.DISABLED else "user.enabled",
                        target=user_id,
                        target_name=old.email,
                        before={"status": old.status},
                        after={"status": status},
                    ),
                )
            (row,) = await connection.fetch(f"{_KNOWN} AND u.id = $1", user_id)
        return _known(row)


def _nobody(user_id: str) -> NotFound:
    return NotFound(f"There is no user {user_id!r}.")


def _known(row: asyncpg.Record) -> Known:
    return Known(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        status=UserStatus(row["status"]),
        operator=row["operator"],
        created_at=row["created_at"],
        last_login_at=row["last_login_at"],
        tenants=tuple(row["tenants"]),
    )

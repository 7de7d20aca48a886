"""The Subjects port: whose a token is, as things are now."""

from typing import TYPE_CHECKING

import asyncpg

from policies.identity.principals import Method, Principal, Standing
from policies.identity.tenants import Role, TenantStatus, UserStatus
from policies.limits.calendars import Calendar
from storage.postgres.limits import limits_of, limits_sql
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import MEANT
from storage.postgres.tenants.members import held

if TYPE_CHECKING:
    from storage import token_ports as ports

_IDENTIFY = f"""
    SELECT t.id AS tenant_id, t.slug, t.status AS tenant_status, u.status AS user_status,
        m.role, m.custom_role, r.permissions, coalesce(u.operator, false) AS operator,
        a.id AS account_id, a.scopes, a.disabled_at IS NOT NULL AS disabled,
        t.time_zone, t.anchor_day, {limits_sql("t.id", "$2", "NULL")} AS limits,
        p.limits AS plan_limits, p.routes AS plan_routes,
        ARRAY(SELECT o.route FROM platform.route_overrides o WHERE o.tenant_id = t.id) AS denied_routes
    FROM platform.tenants t
    LEFT JOIN platform.plans p ON p.name = t.plan
    LEFT JOIN platform.memberships m ON m.tenant_id = t.id AND m.user_id = $2
    LEFT JOIN platform.users u ON u.id = m.user_id
    LEFT JOIN platform.roles r ON r.tenant_id = m.tenant_id AND r.name = m.custom_role
    LEFT JOIN platform.service_accounts a ON a.tenant_id = t.id AND a.id = $2
    WHERE {MEANT}
"""  # noqa: S608  made of this package's own column names


class PostgresSubjects:
    """See :class:`storage.token_ports.Subjects`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def identify_subject(self, tenant: str, subject: str) -> Principal | None:
        """One round trip."""
        rows = await self._pool.read(_IDENTIFY, tenant, subject)
        if not rows or (subject and not (rows[0]["role"] or rows[0]["account_id"])):
            return None
        return _principal(rows[0], subject)


def _principal(row: asyncpg.Record, subject: str) -> Principal:
    role = row["custom_role"] or row["role"] or (Role.SERVICE if row["account_id"] else None)
    scopes = row["scopes"] if row["account_id"] else held(row)
    limits = limits_of(row["limits"], row["plan_limits"])
    return Principal(
        method=Method.JWT,
        standing=_standing(row),
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        user_id=subject,
        scopes=frozenset(scopes),
        roles=(role,) if role else (),
        tenant_rate=limits.tenant_rate,
        allowances=limits.allowances,
        calendar=Calendar(row["time_zone"], row["anchor_day"]),
        denied_routes=frozenset(row["denied_routes"]),
        plan_routes=frozenset(row["plan_routes"] or ()),
    )


def _standing(row: asyncpg.Record) -> Standing:
    if row["tenant_status"] != TenantStatus.ACTIVE:
        return Standing.TENANT_SUSPENDED
    if row["disabled"]:
        return Standing.REVOKED
    if row["role"] and row["user_status"] != UserStatus.ACTIVE:
        return Standing.USER_DISABLED
    return Standing.GOOD


if TYPE_CHECKING:
    _promised: type[ports.Subjects] = PostgresSubjects

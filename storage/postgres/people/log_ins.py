"""Who is logged in to a tenant, with a browser or a program; and the end of all of a person's log-ins.

That end is in the transaction of what causes it: nobody can be killed in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind, is_id
from storage.postgres.order import by_age
from storage.postgres.people.sessions import end_sessions_in
from storage.postgres.pool import Pool
from storage.postgres.tokens.families import end_families_in, revoke_in

_TIME = 5
"""Where the time begins in an id: its prefix is before it, and both kinds' are as long."""
_SORTS = by_age(f"substr(id, {_TIME})")
_BROWSERS = """
    SELECT 'browser' AS kind, id, user_id, methods, '' AS client, '{}'::text[] AS scopes, address, agent, created_at,
        seen_at, expires_at
    FROM platform.sessions WHERE tenant_id = $1 AND ended_at IS NULL AND expires_at > now()
"""
_PROGRAMS = """
    SELECT 'program' AS kind, id, user_id, '{}'::text[] AS methods, client_id AS client, scopes, address, agent,
        created_at, rotated_at AS seen_at, expires_at
    FROM platform.refresh_families WHERE tenant_id = $1 AND ended_at IS NULL AND expires_at > now()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """One that lives: a browser's session, or that of a program that renews its token.

    ``methods`` is told of browsers; ``client`` and ``scopes`` of programs, which are seen when they renew.
    """

    kind: Literal["browser", "program"]
    id: str
    user_id: str
    methods: Sequence[str]
    client: str
    scopes: Sequence[str]
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


async def log_ins_in(
    pool: Pool, tenant_id: str, limit: int, *, sort: str, beyond: str | int | None, user_id: str = ""
) -> Sequence[LogIn]:
    """The living ones in a tenant: those ``beyond`` another's id, of one person where given."""
    order = _SORTS[sort]
    by_id = order._replace(column="id")
    each = [
        f"({select} AND ($2 = '' OR user_id = $2) {by_id.page(position, '$4')})"
        for select, position in ((_BROWSERS, f"'{Kind.SESSION}' || $3"), (_PROGRAMS, f"'{Kind.FAMILY}' || $3"))
    ]
    rows = await pool.read(
        f"SELECT * FROM ({' UNION ALL '.join(each)}) both_kinds WHERE true {order.page('$3', '$4')}",  # noqa: S608
        tenant_id,
        user_id,
        order.after(beyond if beyond is None else str(beyond)[_TIME - 1 :]),
        limit,
        tenant_id=tenant_id,
    )
    return [LogIn(**dict(row)) for row in rows]


async def log_in_of(pool: Pool, tenant_id: str, log_in_id: str) -> LogIn | None:
    """A living one in a tenant."""
    select = next((s for k, s in ((Kind.SESSION, _BROWSERS), (Kind.FAMILY, _PROGRAMS)) if is_id(k, log_in_id)), None)
    if select is None:
        return None
    rows = await pool.read(f"{select} AND id = $2", tenant_id, log_in_id, tenant_id=tenant_id)
    return LogIn(**dict(rows[0])) if rows else None


async def end_log_ins(connection: Connection, trail: AuditTrail, user_id: str, why: str) -> None:
    """Sessions, and log-ins that can be renewed, in every tenant: the operator's scope. Access tokens go with them."""
    await end_sessions_in(connection, trail, user_id, why)
    await end_families_in(connection, trail, user_id)


async def end_tokens(connection: Connection, user_id: str) -> None:
    """Void every token that names the person and was issued until now, whatever it was made for."""
    await revoke_in(connection, f"subject:{user_id}")

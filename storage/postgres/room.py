"""How many of a thing a tenant may have: its plan says, or the default does. What has ended does not count."""

import json

from policies.limits.plans import MOST, Counted
from storage.ports import Full
from storage.postgres.address import Connection

_LIVE = {
    Counted.KEYS: "platform.api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
    Counted.SERVICE_ACCOUNTS: "platform.service_accounts WHERE disabled_at IS NULL",
    Counted.WEBHOOKS: "platform.webhooks WHERE true",
    Counted.INVITATIONS: "platform.invitations WHERE accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()",
    Counted.ROLES: "platform.roles WHERE true",
}


async def require_room(connection: Connection, tenant_id: str, what: Counted, *, times: int = 1) -> None:
    """Raises Full. Until the transaction ends, whoever else makes things in the tenant waits.

    ``times`` as many may be there for what takes the place of something that goes on for a while.
    """
    rows = await connection.fetch(
        "SELECT p.most FROM platform.tenants t LEFT JOIN platform.plans p ON p.name = t.plan"
        " WHERE t.id = $1 FOR NO KEY UPDATE OF t",
        tenant_id,
    )
    if not rows:
        return  # the foreign key says so
    most = times * json.loads(rows[0]["most"] or "{}").get(what, MOST[what])
    there = await connection.fetchval(
        f"SELECT count(*) FROM (SELECT FROM {_LIVE[what]} AND tenant_id = $1 LIMIT $2) AS counted",  # noqa: S608  this table
        tenant_id,
        most,
    )
    if there >= most:
        raise Full(f"There are {most} {what.replace('_', ' ')}, which is the most.")


async def before_memberships(connection: Connection) -> None:
    """Lock memberships before any row, as the removal of a member does: for what will be checked against one."""
    await connection.execute("LOCK TABLE platform.memberships IN ROW SHARE MODE")

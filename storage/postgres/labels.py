"""What people call the things that usage names by id: keys by their name, members by their address."""

from collections.abc import Iterable, Mapping
from typing import Final

from storage.postgres.pool import Pool

_CALLED: Final = {
    "key": """
        SELECT id, name AS called FROM platform.api_keys
        WHERE id = ANY($2::text[]) AND ($1::text IS NULL OR tenant_id = $1)
    """,
    "user": """
        SELECT u.id, u.email AS called FROM platform.users u
        WHERE u.id = ANY($2::text[]) AND ($1::text IS NULL OR EXISTS (
            SELECT FROM platform.memberships m WHERE m.user_id = u.id AND m.tenant_id = $1
        ))
    """,
}


async def called(pool: Pool, tenant_id: str | None, by: str | None, ids: Iterable[str]) -> Mapping[str, str]:
    """By id, of those that are still there; nothing of what is not named by id. Without a tenant: of all tenants."""
    wanted = sorted({*ids} - {""})
    if by not in _CALLED or not wanted:
        return {}
    rows = await pool.read(_CALLED[by], tenant_id, wanted, tenant_id=tenant_id)
    return {row["id"]: row["called"] for row in rows}

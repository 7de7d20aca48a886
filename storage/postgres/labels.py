"""What people call the things that usage names by id: keys by their name, members by their address."""

from collections.abc import Iterable, Mapping
from typing import Final

from storage.postgres.pool import Pool

_CALLED: Final = {
    "key": "SELECT id, name AS called FROM platform.api_keys WHERE tenant_id = $1 AND id = ANY($2::text[])",
    "user": """
        SELECT u.id, u.email AS called FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
        WHERE m.tenant_id = $1 AND u.id = ANY($2::text[])
    """,
}


async def called(pool: Pool, tenant_id: str, by: str | None, ids: Iterable[str]) -> Mapping[str, str]:
    """By id, of those that are still there; nothing of what is not named by id."""
    wanted = sorted({*ids} - {""})
    if by not in _CALLED or not wanted:
        return {}
    rows = await pool.read(_CALLED[by], tenant_id, wanted, tenant_id=tenant_id)
    return {row["id"]: row["called"] for row in rows}

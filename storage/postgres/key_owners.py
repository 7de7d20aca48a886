"""Whose a key is to be, and what that one holds: no key is given more."""

from collections.abc import Set as AbstractSet

from policies.permissions import excess
from storage.ports import ExceedsOwner
from storage.postgres.members import held
from storage.postgres.pool import Pool


async def require_held(pool: Pool, tenant_id: str, user_id: str | None, scopes: AbstractSet[str]) -> None:
    """Raises ExceedsOwner for scopes that the member lacks now. A key of the tenant, or of no member, passes."""
    if user_id is None:
        return
    rows = await pool.read(
        """
        SELECT u.operator, m.role, m.custom_role, r.permissions
        FROM platform.memberships m
        JOIN platform.users u ON u.id = m.user_id
        LEFT JOIN platform.roles r ON r.tenant_id = m.tenant_id AND r.name = m.custom_role
        WHERE m.tenant_id = $1 AND m.user_id = $2
        """,
        tenant_id,
        user_id,
    )
    lacking = excess(held(rows[0]), scopes) if rows else []  # without a membership the foreign key refuses
    if lacking:
        raise ExceedsOwner(f"The owner of this key does not hold {', '.join(lacking)}: give it fewer scopes.")

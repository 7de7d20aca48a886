"""Whose a key is to be, and what that one holds: no key is given more."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from policies.identity.permissions import excess
from storage.ports import ExceedsOwner
from storage.postgres.absences import no_enabled_account
from storage.postgres.ids import Kind, is_id
from storage.postgres.pool import Pool
from storage.postgres.tenants.members import held


async def require_held(
    pool: Pool, tenant_id: str, scopes: AbstractSet[str], *, user_id: str | None, service_account_id: str | None
) -> None:
    """Raises ExceedsOwner for scopes that the owner lacks now; NotFound for an account that is not there, or disabled.

    A key of the tenant itself passes.
    """
    lacking: Sequence[str] = ()
    if service_account_id is not None:
        lacking = sorted(scopes - await _of_account(pool, tenant_id, service_account_id))
    elif user_id is not None:
        lacking = await _lacked_by_member(pool, tenant_id, user_id, scopes)
    if lacking:
        raise ExceedsOwner(f"The owner of this key does not hold {', '.join(lacking)}: give it fewer scopes.")


async def _of_account(pool: Pool, tenant_id: str, account_id: str) -> frozenset[str]:
    rows = []
    if is_id(Kind.SERVICE, account_id):
        rows = await pool.read(
            "SELECT scopes FROM platform.service_accounts WHERE tenant_id = $1 AND id = $2 AND disabled_at IS NULL",
            tenant_id,
            account_id,
            tenant_id=tenant_id,
        )
    if not rows:
        raise no_enabled_account(account_id)
    return frozenset(rows[0]["scopes"])


async def _lacked_by_member(pool: Pool, tenant_id: str, user_id: str, scopes: AbstractSet[str]) -> Sequence[str]:
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
    return excess(held(rows[0]), scopes) if rows else ()  # without a membership the foreign key refuses

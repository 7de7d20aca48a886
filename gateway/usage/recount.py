"""Has what the account knows counted in a limit that is set: while there was none, nobody counted."""

import contextlib

from gateway.usage.limit_use import tell
from policies.limits.allowances import Kind
from storage.ports import Unavailable
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.usage.ledger import PostgresLedger
from storage.redis.holds import RedisHolds

_PATIENCE_S = 1.0


async def recount(
    tenant_id: str, holder: str, *, book: PostgresLimitBook, ledger: PostgresLedger, redis_url: str, now_ms: int
) -> None:
    """All that ``holder``, a tenant, a user or a key, has of days and months; with its plan's.

    Without Redis each counts on from where it was.
    """
    grants = [one for one in await book.limits(tenant_id, [holder]) if one.allowance.kind is Kind.QUOTA]
    if not grants:
        return
    with contextlib.suppress(Unavailable, ValueError):  # an address that is none was named where limits are counted
        holds = RedisHolds(redis_url, timeout=_PATIENCE_S)
        try:
            await tell(grants, tenant_id, await book.calendar(tenant_id), now_ms, holds, ledger)
        finally:
            await holds.close()

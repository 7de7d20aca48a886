"""How much of limits is in use, for operations that only look."""

from collections.abc import Sequence
from typing import Any

from gateway.portal.api.operations import Ask
from gateway.usage.limit_use import Use, uses
from gateway.usage.recount import recount
from policies.limits.calendars import Calendar
from policies.limits.holding import NOTHING_SPENT, Spent
from storage.ports import Grant
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.usage.ledger import PostgresLedger
from storage.redis.holds import RedisHolds

_PATIENCE_S = 1.0


async def counted(
    ask: Ask[Any, Any], grants: Sequence[Grant], calendar: Calendar, now_ms: int, expected: Spent = NOTHING_SPENT
) -> Sequence[Use]:
    """The use of every grant, in their order. Raises Unavailable."""
    holds = RedisHolds(ask.parts.redis_url, timeout=_PATIENCE_S)
    try:
        return await uses(grants, ask.tenant_id, calendar, now_ms, holds, PostgresLedger(ask.parts.pool), expected)
    finally:
        await holds.close()


async def recounted(ask: Ask[Any, Any], tenant_id: str, holder: str) -> None:
    """Have the limits that were set know what was used before."""
    parts = ask.parts
    await recount(
        tenant_id,
        holder,
        book=PostgresLimitBook(parts.pool, ask.trail),
        ledger=PostgresLedger(parts.pool),
        redis_url=parts.redis_url,
        now_ms=int(parts.now().timestamp() * 1000),
    )

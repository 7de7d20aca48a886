"""How much of a calendar period's allowances is used, and where that is heading."""

from typing import Any

from pydantic import Field

from gateway.portal.api.counting import counted
from gateway.portal.api.limits import LimitShown, shown
from gateway.portal.api.operations import Ask, InTenant, Operations
from gateway.portal.api.paging import OldestFirst, Page
from gateway.portal.api.shapes import Instant
from gateway.usage.limit_use import Quota, quota
from policies.identity.permissions import Permission
from policies.limits.allowances import Kind
from storage.postgres.limits import PostgresLimitBook, place

operations = Operations("usage")


class QuotaOf(OldestFirst, InTenant):
    """Whose. The tenant's own always; a key's or a member's beside them."""

    key_id: str | None = Field(default=None, max_length=64)
    user_id: str | None = Field(default=None, max_length=64)


class QuotaShown(LimitShown):
    """An allowance of this calendar period; figures in requests, bytes, or milliseconds of audio."""

    name: str
    allowed: int
    used: int = Field(description="With what requests under way have reserved.")
    left: int
    since: Instant
    resets_at: Instant
    forecast: int | None = Field(
        description="What will have been used at the period's end at the pace so far; null in its first 24th."
    )
    exhausted_at: Instant | None = Field(
        description="When nothing will be left at this pace; null: not in this period."
    )


@operations.get("/usage/quotas", Permission.USAGE_READ, query=QuotaOf, answer=Page[QuotaShown])
async def list_quotas(ask: Ask[QuotaOf, Any]) -> Page[QuotaShown]:
    """What is used of each day's and month's allowance, what is left, and when it will be used up at this pace."""
    query, book = ask.query, PostgresLimitBook(ask.parts.pool, ask.trail)
    calendar, now_ms = await book.calendar(ask.tenant_id), int(ask.parts.now().timestamp() * 1000)
    grants = [
        grant
        for grant in await book.limits(ask.tenant_id, [one for one in (query.key_id, query.user_id) if one])
        if grant.allowance.kind is Kind.QUOTA
    ]
    page, following = ask.cursors.cut(grants, query, place)
    found = await counted(ask, page, calendar, now_ms)
    return Page(data=[_shown(quota(use, calendar, now_ms)) for use in found], next_cursor=following)


def _shown(one: Quota) -> QuotaShown:
    grant = one.use.grant
    return QuotaShown(
        **shown(grant).model_dump(),
        name=grant.allowance.name,
        allowed=grant.allowance.count,
        used=one.use.used,
        left=max(grant.allowance.count - one.use.used, 0),
        since=one.period.start,
        resets_at=one.period.end,
        forecast=one.forecast.at_end,
        exhausted_at=one.exhausted_at,
    )

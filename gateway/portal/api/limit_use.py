"""How much of every limit is in use at this moment."""

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from gateway.portal.api.counting import counted
from gateway.portal.api.limits import LimitList, LimitShown, book, grants_of, shown
from gateway.portal.api.operations import Ask, Operations
from gateway.portal.api.paging import Page
from gateway.portal.api.shapes import Instant
from gateway.usage.limit_use import Use
from policies.identity.permissions import Permission
from policies.limits.allowances import Kind
from policies.limits.calendars import Calendar
from storage.postgres.limits import place

operations = Operations("limits")


class LimitInUse(LimitShown):
    """A limit, and its use; figures in requests, bytes, milliseconds of audio, or what is held at one time."""

    name: str
    allowed: int
    used: int = Field(description="With what requests under way have reserved; in shadow it may be more than allowed.")
    left: int
    resets_at: Instant | None = Field(
        description="When none of it is in use any more if nothing else comes, or its period ends; null where nothing "
        "is in use, and for what is held."
    )


@operations.get("/limits/use", Permission.LIMITS_READ, query=LimitList, answer=Page[LimitInUse])
async def list_limit_use(ask: Ask[LimitList, Any]) -> Page[LimitInUse]:
    """What is in use of every limit that is set, in the order of the limits themselves."""
    calendar, now_ms = await book(ask).calendar(ask.tenant_id), int(ask.parts.now().timestamp() * 1000)
    grants = await grants_of(ask, ask.query, ask.cursors)
    found = await counted(ask, grants, calendar, now_ms)
    lines = [_shown(use, calendar, now_ms) for use in found]
    return ask.cursors.page(lines, ask.query.limit, [place(grant) for grant in grants])


def _shown(use: Use, calendar: Calendar, now_ms: int) -> LimitInUse:
    allowance = use.grant.allowance
    return LimitInUse(
        **shown(use.grant).model_dump(),
        name=allowance.name,
        allowed=allowance.count,
        used=use.used,
        left=max(allowance.count - use.used, 0),
        resets_at=_reset(use, calendar, now_ms),
    )


def _reset(use: Use, calendar: Calendar, now_ms: int) -> datetime | None:
    allowance = use.grant.allowance
    if allowance.kind is Kind.QUOTA:
        return calendar.period(allowance.calendar, now_ms).end
    if allowance.kind is Kind.LEASE or not use.used:
        return None
    return datetime.fromtimestamp((now_ms + use.whole_ms) / 1000, UTC)

"""The page of a tenant's statement, to look at and to print: what ``/platform/v1/usage/statement`` says."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import Field

from gateway.portal.api.operations import InTenant
from gateway.portal.api.statements import Made, make
from gateway.portal.api.subject import Subject, of_session
from gateway.portal.entry import browser
from gateway.portal.entry.identity import trail
from gateway.portal.own.account import account_page, own
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import validated
from gateway.portal.web.problem import Problem
from gateway.usage.statements import CREDITS, MONTH
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import Tenant
from policies.limits.calendars import Calendar
from storage.ports import NotFound
from storage.postgres.tenants.directory import PostgresDirectory

routes = web.RouteTableDef()

_MONTHS = 13


class _Wanted(InTenant):
    """Empty choices of the form are none."""

    month: str = Field(default="", pattern=f"^$|{MONTH}")
    by: Literal["", "key", "user", "route"] = ""


@routes.get("/account/statement")
async def page(request: web.Request) -> web.Response:
    """One month of the tenant that one is in; operators choose the tenant (``?tenant=``)."""
    session = await browser.required(request)
    account, parts = await own(request, session), request.app[PARTS]
    who = await of_session(request, session)
    who.require(Permission.USAGE_READ)
    wanted = validated(_Wanted, dict(request.query))
    tenant = await _tenant(request, who, wanted.tenant)
    made = await make(parts, tenant, wanted.month or None, wanted.by, asking=who.tenant_id)
    return account_page(
        request, "statement.html", account, session, title=f"Statement {made.period.label[:7]}", tab="statement",
        made=made, statement=made.statement, by=wanted.by, months=_months(made.calendar, made, parts.now().timestamp()),
        last_day=_last_day(made), now=parts.now().astimezone(ZoneInfo(made.calendar.zone)), clock=clock,
        credits=CREDITS if any(line.credit for line in made.statement.lines) else "",
        other=wanted.tenant or "",
    )  # fmt: skip


async def _tenant(request: web.Request, who: Subject, slug: str | None) -> Tenant:
    directory = PostgresDirectory(request.app[PARTS].pool, trail(request))
    if not slug:
        return await directory.tenant_by_id(who.tenant_id)
    try:
        found = await directory.tenant(slug)
    except NotFound as error:
        raise Problem(Refusal.NOT_FOUND) from error
    if found.id != who.tenant_id and not who.is_operator:
        raise Problem(Refusal.NOT_FOUND)
    return found


def _months(calendar: Calendar, made: Made, now: float) -> Sequence[str]:
    """The newest first, from the one that goes on; the one that is shown among them."""
    period = calendar.period("month", int(now * 1000))
    found = []
    for _ in range(_MONTHS):
        found.append(period.label[:7])
        period = calendar.period("month", period.start_ms - 1)
    return sorted({*found, made.period.label[:7]}, reverse=True)


def _last_day(made: Made) -> str:
    """As people say it: the last day that is in it."""
    zone = ZoneInfo(made.calendar.zone)
    return (made.period.end - timedelta(milliseconds=1)).astimezone(zone).date().isoformat()


def clock(milliseconds: int) -> str:
    """``1:02:03.456``: hours, minutes, seconds."""
    sign = "-" if milliseconds < 0 else ""
    seconds, rest = divmod(abs(milliseconds), 1000)
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"

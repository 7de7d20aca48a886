"""A tenant's statements: a month's usage by its price list. ``gateway.portal.own.statement`` is the page of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.shapes import Instant
from gateway.portal.parts import Parts
from gateway.portal.web.problem import Problem
from gateway.usage.statements import MONTH, NoPriceList, csv_text, month_of, price_list, rate, read_month
from policies.account.rating import Line, Statement
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import Tenant
from policies.limits.calendars import Calendar, Period
from storage.ports import RawRemoved
from storage.postgres.labels import called
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.tenants.plans import PostgresPlans

operations = Operations("usage")

_PATIENCE_S = 25.0
"""Less than the gateway waits for the portal: whoever asks is told why, and the connection is free again."""


class StatementOf(InTenant):
    """Which month, and how broken down."""

    month: str | None = Field(
        default=None,
        pattern=MONTH,
        description="The tenant's month that begins in `2026-11`. Default: the last one that is over.",
    )
    by: Literal["key", "user", "route"] | None = Field(
        default=None, description="A line for each of them, not only for each model."
    )
    format: Literal["json", "csv"] = "json"


class LineShown(Shown):
    """One line of a statement."""

    label: str = Field(description="The key, user or route that `by` asks for; empty without.")
    name: str = Field(description="Of a key its name, of a member the address; empty where there is none any more.")
    model: str
    kind: Literal["usage", "credit"] = Field(
        description="A credit takes back, below 0, what jobs were charged that failed later or were shorter than "
        "estimated, in this month or an earlier one."
    )
    requests: int
    audio_ms: int
    billable_ms: int
    price_per_minute: str
    amount: str = Field(description="In whole units of the currency's last decimal; all of them add up to the total.")


class StatementShown(Shown):
    """What a tenant owes for a month of its calendar."""

    tenant: str
    month: str
    since: Instant
    until: Instant
    time_zone: str
    complete: bool = Field(description="Whether the month is over.")
    plan: str = Field(description="The price list.")
    currency: str
    lines: list[LineShown]
    requests: int
    audio_ms: int
    billable_ms: int
    amount: str
    unmeasured: int = Field(
        description="Requests and jobs that named their audio by URL, and of which no answer told the length."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A statement, and whose and when."""

    tenant: Tenant
    calendar: Calendar
    period: Period
    complete: bool
    statement: Statement
    names: Mapping[str, str]
    """What people call the labels of its lines."""


async def make(parts: Parts, tenant: Tenant, month: str | None, by: str | None, *, asking: str) -> Made:
    """Rate a month for one who asks in the tenant ``asking``.

    Raises Problem: no price list (404); a month to come, too large or without records (422); see LongReads.
    """
    if parts.price_lists is None:
        raise Problem(Refusal.NOT_FOUND, "There are no price lists: the operator names them in the setting plans_file.")
    calendar = await PostgresLimitBook(parts.pool, parts.trail).calendar(tenant.id)
    rating = await PostgresPlans(parts.pool, parts.trail).rating_of(tenant.id)
    now = parts.now()
    try:
        period = month_of(calendar, read_month(month) if month else None, now)
        plan = price_list(parts.price_lists, tenant.slug, rating)
        async with parts.long_reads.ledger(asking) as ledger, asyncio.timeout(_PATIENCE_S):
            (made,) = await rate(ledger, tenant.id, period, [plan], by)
    except TimeoutError as error:
        told = "It has more requests than can be rated while one waits. Ask the operator for 'gateway usage statement'."
        raise Problem(Refusal.INVALID_INPUT, fields={"month": told}) from error
    except NoPriceList as error:  # which lists there are is the operator's business
        raise Problem(Refusal.NOT_FOUND, "The operator has named no price list for this tenant.") from error
    except (ValueError, RawRemoved) as error:
        raise Problem(Refusal.INVALID_INPUT, fields={"month": f"{error}"}) from error
    return Made(
        tenant=tenant,
        calendar=calendar,
        period=period,
        complete=period.end <= now,
        statement=made,
        names=await called(parts.pool, tenant.id, by, (line.label for line in made.lines)),
    )


@operations.get("/usage/statement", Permission.USAGE_READ, query=StatementOf, answer=StatementShown)
async def show_statement(ask: Ask[StatementOf, Any]) -> StatementShown | web.Response:
    """What a month costs, line by line: amounts add up to the total, to the cent. As JSON or CSV."""
    query = ask.query
    tenant = await ask.directory.tenant_by_id(ask.tenant_id)
    made = await make(ask.parts, tenant, query.month, query.by, asking=ask.who.tenant_id)
    if query.format == "csv":
        name = f"statement-{tenant.slug}-{made.period.label[:7]}.csv"
        return web.Response(
            text=csv_text(made.statement, query.by),
            content_type="text/csv",
            charset="utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
    return StatementShown(
        tenant=tenant.slug,
        month=made.period.label[:7],
        since=made.period.start,
        until=made.period.end,
        time_zone=made.calendar.zone,
        complete=made.complete,
        plan=made.statement.plan.name,
        currency=made.statement.plan.currency,
        lines=[_shown(line, made.names) for line in made.statement.lines],
        requests=made.statement.requests,
        audio_ms=made.statement.audio_ms,
        billable_ms=made.statement.billable_ms,
        amount=f"{made.statement.amount:f}",
        unmeasured=made.statement.unmeasured,
    )


def _shown(line: Line, names: Mapping[str, str]) -> LineShown:
    return LineShown(
        label=line.label,
        name=names.get(line.label, ""),
        model=line.model,
        kind="credit" if line.credit else "usage",
        requests=line.requests,
        audio_ms=line.audio_ms,
        billable_ms=line.billable_ms,
        price_per_minute=f"{line.price:f}",
        amount=f"{line.amount:f}",
    )

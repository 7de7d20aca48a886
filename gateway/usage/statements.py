"""Statements: a tenant's month, rated by price lists. What the command, the API and the page have in common.

A month is one of the tenant's calendar, as its quotas have it: in its time zone, from its anchor day on.
"""

import csv
import io
import re
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway.usage.export import harmless
from policies.account.price_book import PlansInvalid, PriceBook
from policies.account.rating import Line, Plan, Rating, Statement
from policies.account.usage import UsageRecord
from policies.limits.calendars import Calendar, Period

if TYPE_CHECKING:
    from gateway.configuration.settings import Settings

MONTH = r"^(20[0-9]{2})-(0[1-9]|1[0-2])$"
LABELS: Mapping[str, Callable[[UsageRecord], str]] = {
    "key": lambda record: record.key_id,
    "user": lambda record: record.user_id,
    "route": lambda record: record.route,
}
"""What lines can be told apart by, beside the model."""
COLUMNS = ("model", "requests", "audio_ms", "billable_ms", "price_per_minute", "amount")
KINDS = ("usage", "credit")
"""The kind of a line, by whether it is a credit."""

CREDITS = (
    "A credit takes back what jobs were charged that failed later, or were shorter than estimated, in this month or an"
    " earlier one."
)


class NoPriceList(ValueError):
    """No price list is known for the tenant; the message says which one was looked for."""


class Records(Protocol):
    """Where raw records are."""

    def export(self, tenant_id: str, since: datetime, until: datetime) -> AsyncIterator[UsageRecord]:
        """See :class:`storage.ports.Ledger`."""


def read_price_lists(path: Path) -> PriceBook:
    """The file's. Raises PlansInvalid, whose faults name the file."""
    try:
        return PriceBook.read(tomllib.loads(path.read_text("utf-8"), parse_float=Decimal))
    except PlansInvalid as error:
        raise PlansInvalid(f"{path}: {fault}" for fault in error.faults) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlansInvalid([f"{path}: it cannot be read: {getattr(error, 'strerror', None) or error}."]) from error


def price_lists(settings: "Settings") -> PriceBook | None:
    """Those of the setting ``plans_file``; None without. Raises PlansInvalid."""
    return read_price_lists(settings.plans_file) if settings.plans_file else None


def read_month(text: str) -> tuple[int, int]:
    """Year and month of ``2026-11``. Raises ValueError."""
    match = re.match(MONTH, text)
    if match is None:
        raise ValueError(f"{text!r} is not a month: write one such as 2026-11")
    return int(match[1]), int(match[2])


def month_of(calendar: Calendar, month: tuple[int, int] | None, now: datetime) -> Period:
    """The one that begins in that month; without one the last that is over. Raises ValueError for the future."""
    now_ms = int(now.timestamp() * 1000)
    if month is None:
        return calendar.period("month", calendar.period("month", now_ms).start_ms - 1)
    period = calendar.month(*month)
    if period.start_ms > now_ms:
        raise ValueError(f"the month that begins on {period.label} is still to come")
    return period


def price_list(book: PriceBook, tenant: str, rating: str, name: str | None = None) -> Plan:
    """The one called ``name``, else the tenant's in the book, else the one that its plan names: ``rating``.

    Raises NoPriceList.
    """
    plan = book.plans.get(name) if name else book.plan_of(tenant, rating)
    if plan is not None:
        return plan
    if name:
        asked = f"there is no plan {name!r}"
    elif rating:
        asked = f"the file has no price list {rating!r}, which the plan of tenant '{tenant}' names"
    else:
        asked = f"the file gives tenant '{tenant}' no plan"
    raise NoPriceList(f"{asked}; it has {', '.join(sorted(book.plans)) or 'none at all'}")


async def rate(
    records: Records, tenant_id: str, period: Period, plans: Sequence[Plan], by: str | None = None
) -> list[Statement]:
    """One statement for each plan, of the same records, which are read once. Raises RawRemoved."""
    label = LABELS[by] if by else lambda _: ""
    ratings = [Rating(plan) for plan in plans]
    async for record in records.export(tenant_id, period.start, period.end):
        for rating in ratings:
            rating.add(record, label(record))
    return [rating.statement() for rating in ratings]


def flat(made: Statement, by: str | None) -> dict[str, Any]:
    """As plain data. Amounts are texts, because a float would lose a cent."""
    return {
        "plan": made.plan.name,
        "currency": made.plan.currency,
        "lines": [row(line, by) for line in made.lines],
        "requests": made.requests,
        "audio_ms": made.audio_ms,
        "billable_ms": made.billable_ms,
        "amount": f"{made.amount:f}",
        "unmeasured": made.unmeasured,
    }


def row(line: Line, by: str | None) -> dict[str, Any]:
    """One line, its label first where lines have one, its kind last."""
    figures = (line.model, line.requests, line.audio_ms, line.billable_ms, f"{line.price:f}", f"{line.amount:f}")
    return {**({by: line.label} if by else {}), **dict(zip(COLUMNS, figures, strict=True)), "kind": KINDS[line.credit]}


def csv_text(made: Statement, by: str | None) -> str:
    """RFC 4180, with a heading and the total at the end; no cell is a formula."""
    buffer, currency = io.StringIO(), made.plan.currency
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([*([by] if by else []), *COLUMNS, "currency", "kind"])
    for line in made.lines:
        cells = row(line, by)
        texts = {name: harmless(cells[name]) for name in (by, "model") if name}  # amounts may begin with a minus
        *figures, kind = (cells | texts).values()
        writer.writerow([*figures, currency, kind])
    total = ("total", made.requests, made.audio_ms, made.billable_ms, "", f"{made.amount:f}", currency, "total")
    writer.writerow([*([""] if by else []), *total])
    return buffer.getvalue()

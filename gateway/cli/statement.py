"""``gateway usage statement``: a tenant's month, rated by a price list, and rated again by another one."""

import csv
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Given, common, with_stores
from gateway.cli.output import print_json, print_table, remark, stamp
from gateway.cli.values import SLUG, Written
from gateway.usage_export import harmless
from policies.price_book import PlansInvalid, PriceBook
from policies.rating import Line, Plan, Rating, Statement
from policies.tenants import Tenant

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from policies.usage import UsageRecord

_LABELS: Mapping[str, Callable[["UsageRecord"], str]] = {
    "key": lambda record: record.key_id,
    "user": lambda record: record.user_id,
    "route": lambda record: record.route,
}
_COLUMNS = ("model", "requests", "audio_ms", "billable_ms", "price_per_minute", "amount")


def _read_month(text: str) -> datetime:
    try:
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not a month: write one such as 2026-11") from None
    return month


def _read_book(text: str) -> PriceBook:
    try:
        return PriceBook.read(tomllib.loads(Path(text).read_text("utf-8"), parse_float=Decimal))
    except PlansInvalid as error:
        raise ValueError(f"{text} cannot be used: {' '.join(error.faults)[:-1]}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{text} cannot be read: {error}") from error


_MONTH, _BOOK = Written("month", _read_month), Written("file", _read_book)


@click.command()
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@click.option("--month", type=_MONTH, help="A month in UTC, such as 2026-11. Default: the last one that is over.")
@click.option("--plans", "book", type=_BOOK, required=True, help="TOML file with price lists.")
@click.option("--plan", "name", help="The price list. Default: the tenant's in the file, else its plan's.")
@click.option("--against", type=_BOOK, help="Rate again by this file, and show what changes.")
@click.option("--against-plan", help="Rate again by this price list. Default: the tenant's in that file.")
@click.option("--by", type=click.Choice(list(_LABELS)), help="A line for each of them, not only for each model.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True)
@common
def statement(
    given: Given,
    tenant: str,
    month: datetime | None,
    book: PriceBook,
    name: str | None,
    against: PriceBook | None,
    against_plan: str | None,
    by: str | None,
    form: str,
) -> None:
    """What a tenant owes for a month, line by line: amounts add up to the total.

    Prices are applied to the raw records, which never change: the same month can be rated again at any time.
    """
    first = month or _last_month(datetime.now(UTC))
    wanted = [(book, name, "--plan")]
    if against or against_plan:
        wanted.append((against or book, against_plan, "--against-plan"))
    for each, chosen, option in wanted:
        if chosen:
            _plan(each, tenant, chosen, "", option)  # found before any store is asked
    made = with_stores(given, lambda stores: _rated(stores, tenant, first, wanted, _LABELS.get(by or "")))
    head = {"tenant": tenant, "from": stamp(first), "to": stamp(_next_month(first))}
    if given.json or form == "json":
        print_json({**head, **_flat(made[0], by), **_difference(made)})
    elif form == "csv":
        _write_csv(made[0], by)
    else:
        _print(head, made, by)


def _plan(book: PriceBook, tenant: str, name: str | None, rating: str, option: str) -> Plan:
    plan = book.plans.get(name) if name else book.plan_of(tenant, rating)
    if plan is None:
        known = ", ".join(sorted(book.plans)) or "none at all"
        asked = f"there is no plan {name!r}" if name else f"the file gives tenant '{tenant}' no plan"
        if rating and not name:
            asked = f"the file has no price list {rating!r}, which the plan of tenant '{tenant}' names"
        raise click.UsageError(f"{asked}; it has {known}. Name one with {option}, or add it to the file.")
    return plan


async def _rated(
    stores: "Stores",
    tenant: str,
    first: datetime,
    wanted: Sequence[tuple[PriceBook, str | None, str]],
    label: Callable[["UsageRecord"], str] | None,
) -> list[Statement]:
    from gateway.cli.usage import complete  # noqa: PLC0415  that module has this command in its group

    found = await stores.directory.tenant(tenant)
    rating = await _rating_of(stores, found)
    ratings = [Rating(_plan(book, tenant, name, rating, option)) for book, name, option in wanted]
    await complete(stores)
    async for record in stores.ledger.export(found.id, first, _next_month(first)):
        for each in ratings:
            each.add(record, label(record) if label else "")
    return [each.statement() for each in ratings]


async def _rating_of(stores: "Stores", tenant: Tenant) -> str:
    """The price list that the tenant's plan names; empty without one."""
    from storage.postgres.plans import PostgresPlans  # noqa: PLC0415  slow: see the package's docstring

    return (await PostgresPlans(stores.pool, stores.trail).plan(tenant.plan)).rating if tenant.plan else ""


def _next_month(first: datetime) -> datetime:
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _last_month(now: datetime) -> datetime:
    year, month = (now.year, now.month - 1) if now.month > 1 else (now.year - 1, 12)
    return datetime(year, month, 1, tzinfo=UTC)


def _flat(made: Statement, by: str | None) -> dict[str, Any]:
    return {
        "plan": made.plan.name,
        "currency": made.plan.currency,
        "lines": [_row(line, by) for line in made.lines],
        "requests": made.requests,
        "audio_ms": made.audio_ms,
        "billable_ms": made.billable_ms,
        "amount": str(made.amount),
    }


def _row(line: Line, by: str | None) -> dict[str, Any]:
    figures = (line.model, line.requests, line.audio_ms, line.billable_ms, f"{line.price:f}", f"{line.amount:f}")
    return {**({by: line.label} if by else {}), **dict(zip(_COLUMNS, figures, strict=True))}


def _difference(made: Sequence[Statement]) -> dict[str, Any]:
    """What another price list makes of the same records."""
    if len(made) == 1:
        return {}
    now, other = made
    return {
        "against": {
            "plan": other.plan.name,
            "currency": other.plan.currency,
            "billable_ms": other.billable_ms,
            "amount": str(other.amount),
            "difference": str(other.amount - now.amount),
            "lines": [
                {
                    "label": one.label,
                    "model": one.model,
                    "amount": str(two.amount),
                    "difference": str(two.amount - one.amount),
                }
                for one, two in _paired(now, other)
            ],
        }
    }


def _paired(now: Statement, other: Statement) -> list[tuple[Line, Line]]:
    """Lines of both; one that only one of them has is nothing in the other."""
    lines = [{(line.label, line.model): line for line in made.lines} for made in (now, other)]
    keys = sorted({*lines[0], *lines[1]})
    return [(_line(lines[0], now.plan, key), _line(lines[1], other.plan, key)) for key in keys]


def _line(lines: Mapping[tuple[str, str], Line], plan: Plan, key: tuple[str, str]) -> Line:
    label, model = key
    nothing = Line(
        label=label, model=model, requests=0, audio_ms=0, billable_ms=0, price=plan.price_of(model), amount=Decimal()
    )
    return lines.get(key, nothing)


def _write_csv(made: Statement, by: str | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow([*([by] if by else []), *_COLUMNS, "currency"])
    for line in made.lines:
        writer.writerow([harmless(str(cell)) for cell in (*_row(line, by).values(), made.plan.currency)])
    total = ("total", made.requests, made.audio_ms, made.billable_ms, "", made.amount, made.plan.currency)
    writer.writerow([*([""] if by else []), *total])


def _print(head: Mapping[str, str], made: Sequence[Statement], by: str | None) -> None:
    now = made[0]
    click.echo(f"Tenant {head['tenant']}, {head['from']} to {head['to']}, plan {now.plan.name} ({now.plan.currency})\n")
    headings = [*([by.upper()] if by else []), *(column.upper() for column in _COLUMNS)]
    rows = [tuple(_row(line, by).values()) for line in now.lines]
    total = ("total", now.requests, now.audio_ms, now.billable_ms, "", f"{now.amount:f}")
    print_table(headings, [*rows, (*([""] if by else []), *total)])
    for other in made[1:]:
        if other.plan.currency != now.plan.currency:
            remark("The two plans are in different currencies: their difference means nothing.")
        click.echo(f"\nPlan {other.plan.name}: {other.amount:f} {other.plan.currency}, {other.amount - now.amount:+f}")

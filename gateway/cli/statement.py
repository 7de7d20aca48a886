"""``gateway usage statement``: a tenant's month, rated by a price list, and rated again by another one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Command, Given, common, with_stores
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import SLUG_OR_ID, Written
from gateway.cli.whole_account import complete
from gateway.times import stamp
from gateway.usage.statements import (
    COLUMNS,
    CREDITS,
    KINDS,
    LABELS,
    NoPriceList,
    csv_text,
    flat,
    month_of,
    price_list,
    price_lists,
    rate,
    read_month,
    read_price_lists,
    row,
)
from policies.account.price_book import PlansInvalid, PriceBook
from policies.account.rating import Line, Plan, Statement
from policies.limits.calendars import UTC_MONTHS
from storage.ports import NotFound

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


def _read_book(text: str) -> PriceBook:
    try:
        return read_price_lists(Path(text))
    except PlansInvalid as error:
        raise ValueError(f"{error}"[:-1]) from error


_MONTH, _BOOK = Written("month", read_month), Written("file", _read_book)


@click.command(cls=Command)
@click.option("--tenant", type=SLUG_OR_ID, required=True, help="The tenant's slug; of a removed one its id.")
@click.option("--month", type=_MONTH, help="The one that begins in, say, 2026-11. Default: the last that is over.")
@click.option("--plans", "book", type=_BOOK, help="TOML file with price lists. Default: the setting 'plans_file'.")
@click.option("--plan", "name", help="The price list. Default: the tenant's in the file, else its plan's.")
@click.option("--against", type=_BOOK, help="Rate again by this file, and show what changes.")
@click.option("--against-plan", help="Rate again by this price list. Default: the tenant's in that file.")
@click.option("--by", type=click.Choice(list(LABELS)), help="A line for each of them, not only for each model.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True,
              help="What is printed.")  # fmt: skip
@common
def statement(
    given: Given,
    tenant: str,
    month: tuple[int, int] | None,
    book: PriceBook | None,
    name: str | None,
    against: PriceBook | None,
    against_plan: str | None,
    by: str | None,
    form: str,
) -> None:
    """What a tenant owes for a month, line by line: amounts add up to the total.

    Months are those of the tenant's quotas: in its time zone, from its anchor day on. Prices are applied to the raw
    records, which never change: the same month can be rated again at any time.
    """
    book = book or _configured(given)
    wanted = [(book, name, "--plan")]
    if against or against_plan:
        wanted.append((against or book, against_plan, "--against-plan"))
    for each, chosen, option in wanted:
        if chosen:
            _plan(each, tenant, chosen, "", option)  # found before any store is asked
    head, made = with_stores(given, lambda stores: _rated(stores, tenant, month, wanted, by))
    if given.json or form == "json":
        print_json({**head, **flat(made[0], by), **_difference(made)})
    elif form == "csv":
        click.echo(csv_text(made[0], by), nl=False)
    else:
        _print(head, made, by)


def _configured(given: Given) -> PriceBook:
    try:
        found = price_lists(given.settings())
    except PlansInvalid as error:
        raise click.ClickException(str(error)) from error
    if found is None:
        raise click.UsageError("name a file with price lists by --plans FILE, or set 'plans_file' once and for all.")
    return found


def _plan(book: PriceBook, tenant: str, name: str | None, rating: str, option: str) -> Plan:
    try:
        return price_list(book, tenant, rating, name)
    except NoPriceList as error:
        raise click.UsageError(f"{error}. Name one with {option}, or add it to the file.") from error


async def _rated(
    stores: "Stores",
    tenant: str,
    month: tuple[int, int] | None,
    wanted: Sequence[tuple[PriceBook, str | None, str]],
    by: str | None,
) -> tuple[Mapping[str, str], list[Statement]]:
    from storage.postgres.tenants.plans import PostgresPlans  # noqa: PLC0415  slow: see the package's docstring

    tenant_id = await stores.tenant_id(tenant)
    rating = await PostgresPlans(stores.pool, stores.trail).rating_of(tenant_id)
    try:
        calendar = await stores.limits.calendar(tenant_id)
        tenant = (await stores.directory.tenant_by_id(tenant_id)).slug
    except NotFound:
        calendar = UTC_MONTHS
        remark("It was removed, its calendar and its plan with it: months are those of UTC.")
    plans = [_plan(book, tenant, name, rating, option) for book, name, option in wanted]
    try:
        period = month_of(calendar, month, datetime.now(UTC))
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    await complete(stores)
    head = {
        "tenant": tenant,
        "month": period.label[:7],
        "from": stamp(period.start),
        "to": stamp(period.end),
        "time_zone": calendar.zone,
    }
    return head, await rate(stores.ledger, tenant_id, period, plans, by)


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
                    "kind": KINDS[one.credit],
                    "amount": str(two.amount),
                    "difference": str(two.amount - one.amount),
                }
                for one, two in _paired(now, other)
            ],
        }
    }


def _paired(now: Statement, other: Statement) -> list[tuple[Line, Line]]:
    """Lines of both; one that only one of them has is nothing in the other."""
    lines = [{line.key: line for line in made.lines} for made in (now, other)]
    keys = sorted({*lines[0], *lines[1]})
    return [(_line(lines[0], now.plan, key), _line(lines[1], other.plan, key)) for key in keys]


def _line(lines: Mapping[tuple[str, str, bool], Line], plan: Plan, key: tuple[str, str, bool]) -> Line:
    label, model, credit = key
    nothing = Line(
        label=label, model=model, requests=0, audio_ms=0, billable_ms=0, price=plan.price_of(model), amount=Decimal(),
        credit=credit,
    )  # fmt: skip
    return lines.get(key, nothing)


def _print(head: Mapping[str, str], made: Sequence[Statement], by: str | None) -> None:
    now = made[0]
    click.echo(
        f"Tenant {head['tenant']}, month {head['month']} in {head['time_zone']} ({head['from']} to {head['to']}),"
        f" plan {now.plan.name} ({now.plan.currency})\n"
    )
    headings = [*([by.upper()] if by else []), *(column.upper() for column in COLUMNS), "KIND"]
    rows = [tuple(row(line, by).values()) for line in now.lines]
    print_table(headings, [*rows, _total(now, by)])
    if any(line.credit for line in now.lines):
        click.echo(f"\n{CREDITS}")
    if now.unmeasured:
        click.echo(f"\nNot measured: {now.unmeasured} requests that named their audio by URL, and told no length.")
    for other in made[1:]:
        if other.plan.currency != now.plan.currency:
            remark("The two plans are in different currencies: their difference means nothing.")
        click.echo(
            f"\nPlan {other.plan.name}: {other.amount:f} {other.plan.currency}, {other.amount - now.amount:+f}\n"
        )
        rows = [(*row(two, by).values(), f"{two.amount - one.amount:+f}") for one, two in _paired(now, other)]
        print_table([*headings, "DIFFERENCE"], [*rows, (*_total(other, by), f"{other.amount - now.amount:+f}")])


def _total(made: Statement, by: str | None) -> tuple[object, ...]:
    figures = made.requests, made.audio_ms, made.billable_ms
    return (*([""] if by else []), "total", *figures, "", f"{made.amount:f}", "")

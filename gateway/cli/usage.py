"""``gateway usage``."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli.command import Given, Group, common, with_stores
from gateway.cli.output import is_terminal, print_facts, print_json, print_table, remark
from gateway.cli.statement import statement
from gateway.cli.values import PAST, SLUG_OR_ID
from gateway.cli.whole_account import archive, complete
from gateway.times import stamp
from storage.ports import Difference, StorageError, UsageTotals

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

_BY_ID = ("key", "user")
_LABELS = (*_BY_ID, "route", "model", "outcome", "day", "hour")
_MOST_GROUPS = 1_000_000
_TOTALS = ("requests", "audio_ms", "bytes_in", "bytes_out", "errors", "denied", "unmeasured")


class _Group(NamedTuple):
    """One line of a breakdown; in a series ``since`` is when its hour or day begins. ``name``: what people call it."""

    since: datetime | None
    label: str
    name: str
    totals: UsageTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """One tenant's figures."""

    since: datetime
    until: datetime
    totals: UsageTotals
    groups: Sequence[_Group] = ()


@click.group(cls=Group)
def usage() -> None:
    """What tenants have used."""


def _of_a_range(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say whose usage, and of what time."""
    for option in (
        click.option("--to", "until", type=PAST, help="End, exclusive. Default: now."),
        click.option("--from", "since", type=PAST, help="Start: 2026-11-01, or 24h, 7d ago. Default: the month's."),
        click.option("--tenant", type=SLUG_OR_ID, required=True, help="The tenant's slug; of a removed one its id."),
    ):
        command = option(command)
    return command


@usage.command()
@_of_a_range
@click.option("--by", type=click.Choice(_LABELS), help="Break the totals down.")
@click.option("--bucket", type=click.Choice(["1h", "1d"]), help="Each of these for itself, hour by hour or day by day.")
@common
def report(
    given: Given, tenant: str, since: datetime | None, until: datetime | None, by: str | None, bucket: str | None
) -> None:
    """A tenant's totals. Times are in UTC; without any, from the start of this month to now.

    `errors` are answers with a status of 400 or more, `denied` those that the gateway itself refused or cut off,
    `unmeasured` requests and jobs that named their audio by URL, and of which no answer told the length.
    """

    async def ask(stores: "Stores") -> _Report:
        tenant_id = await stores.tenant_id(tenant)
        await complete(stores)
        first, last = _range(since, until)
        totals = await stores.ledger.totals(tenant_id, first, last)
        groups = [] if by is None else await _groups(stores, tenant_id, first, last, by, bucket)
        return _Report(since=first, until=last, totals=totals, groups=groups)

    _check_order(since, until)
    if bucket is not None and by in (None, "day", "hour"):
        raise click.UsageError("--bucket is for --by key, user and such; --by hour and --by day are series already.")
    _print_report(given, tenant, by, bucket, with_stores(given, ask))


@usage.command()
@_of_a_range
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Default: jsonl, one JSON object a line.")
@common
def export(given: Given, tenant: str, since: datetime | None, until: datetime | None, form: str | None) -> None:
    """Every record of a tenant in order of time, streamed: a range of any size is no strain.

    In CSV a text that a spreadsheet would run as a formula has an apostrophe in front.
    """
    if given.json and form == "csv":
        raise click.UsageError("--json and --format csv exclude each other.")
    _check_order(since, until)
    written = with_stores(given, lambda stores: _export(stores, tenant, since, until, form or "jsonl"))
    remark(f"{written} records.")


@usage.command()
@common
def reconcile(given: Given) -> None:
    """Recompute every sum from the records, and every record from this machine's journals; exit 1 when they differ.

    Those are the journals in use, as far as they are shipped, and those of the last days (`journal_archive_days`).
    """

    async def compare(stores: "Stores") -> Sequence[Difference]:
        from storage.archive_comparison import archive_differences  # noqa: PLC0415  slow: see the package's docstring

        await complete(stores)
        books = await stores.ledger.reconcile()
        journals = stores.settings.state_dir / "journal"
        return [*books, *[one async for one in archive_differences(archive(stores), journals, stores.ledger)]]

    differences = with_stores(given, compare)
    if given.json:
        print_json({"agree": not differences, "differences": [asdict(difference) for difference in differences]})
    elif not differences:
        click.echo(
            "The books agree: raw records, hourly and daily sums, the journals as far as shipped, and their archive."
        )
    for difference in () if given.json else differences:
        figures = _differing(difference)
        click.echo(difference.where if figures in difference.where else f"{difference.where}: {figures}")
    if differences:
        remark(f"{len(differences)} differences. Keep this output and a backup of the database before anything else.")
        sys.exit(1)


usage.add_command(statement)


def _range(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The range that is meant. Its end is exclusive, and records carry whole milliseconds: the current one counts."""
    now = datetime.now(UTC)
    until = until or now.replace(microsecond=now.microsecond // 1000 * 1000) + timedelta(milliseconds=1)
    if since is None:
        in_it = until - timedelta(microseconds=1)  # the end may be the very start of the next month
        since = in_it.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    _check_order(since, until)
    return since, until


def _check_order(since: datetime | None, until: datetime | None) -> None:
    if since is not None and until is not None and since >= until:
        raise click.UsageError(f"--from {stamp(since)} is not before --to {stamp(until)}.")


async def _groups(
    stores: "Stores", tenant_id: str, since: datetime, until: datetime, by: str, bucket: str | None
) -> list[_Group]:
    from storage.postgres.usage.series import PostgresUsageSeries  # noqa: PLC0415  slow: see the package's docstring

    names = await _names(stores, tenant_id, by)
    if bucket is None:
        sums = await stores.ledger.breakdown(tenant_id, since, until, by)
        return [_Group(None, label, names.get(label, ""), totals) for label, totals in sums]
    series = PostgresUsageSeries(stores.pool)
    found = await series.sums(tenant_id, since, until, bucket=bucket, by=by, most=_MOST_GROUPS)
    return [_Group(one.since, one.label, names.get(one.label, ""), one.totals) for one in found]


async def _names(stores: "Stores", tenant_id: str, by: str) -> dict[str, str]:
    """What people call the things that a breakdown names by id."""
    if by == "key":
        return {key.id: key.name for key in await stores.keys.keys(tenant_id)}
    if by == "user":
        return {user.id: user.email for user, _ in await stores.directory.users(tenant_id)}
    return {}


def _print_report(given: Given, tenant: str, by: str | None, bucket: str | None, found: _Report) -> None:
    span = {"from": _moment(found.since), "to": _moment(found.until)}
    if given.json:
        groups = [{**_labelled(by, group), **_figures(group.totals)} for group in found.groups]
        print_json({"tenant": tenant, **span, **_figures(found.totals), **({"by": by, "groups": groups} if by else {})})
        return
    if is_terminal():
        click.echo(f"Tenant {tenant}, {span['from']} to {span['to']}: {_spoken(found.totals.audio_ms)} of audio\n")
    if by is None:
        print_facts(_figures(found.totals))
        return
    lines = [*found.groups, _Group(found.since if bucket else None, "total", "", found.totals)]
    print_table(
        [heading.upper() for heading in (*_labelled(by, lines[-1]), *_TOTALS)],
        [(*_labelled(by, group).values(), *_figures(group.totals).values()) for group in lines],
    )


def _labelled(by: str | None, group: _Group) -> dict[str, str]:
    """What heads a line of a breakdown: in a series its time, then its label, and for an id what people call it."""
    if by is None:
        return {}
    time = {} if group.since is None else {"since": _moment(group.since)}
    return {**time, by: group.label, **({"name": group.name} if by in _BY_ID else {})}


def _figures(totals: UsageTotals) -> dict[str, int]:
    return {name: getattr(totals, name) for name in _TOTALS}


def _moment(moment: datetime) -> str:
    return stamp(moment, "milliseconds" if moment.microsecond else "seconds")


def _spoken(milliseconds: int) -> str:
    """``1:02:03.456``."""
    return str(timedelta(milliseconds=milliseconds)).removesuffix("000")


async def _export(stores: "Stores", tenant: str, since: datetime | None, until: datetime | None, form: str) -> int:
    from gateway.usage.export import FORMATS, flat  # noqa: PLC0415  slow: see the package's docstring

    tenant_id = await stores.tenant_id(tenant)
    await complete(stores)
    heading, line = FORMATS[form]
    out = sys.stdout.buffer  # always UTF-8: the data goes to another program, not to this terminal's locale
    out.write(heading.encode())
    written = 0
    try:
        async for record in stores.ledger.export(tenant_id, *_range(since, until)):
            out.write(line(flat(record, tenant)).encode())
            written += 1
    except StorageError as error:
        raise StorageError(f"The export ended after {written} records and is not complete: {error}") from error
    finally:
        out.flush()
    return written


def _differing(difference: Difference) -> str:
    expected, found = asdict(difference.expected), asdict(difference.found)
    changed = [name for name in expected if found[name] != expected[name]]
    return ", ".join(f"{name} {found[name]} instead of {expected[name]}" for name in changed) or "see there"

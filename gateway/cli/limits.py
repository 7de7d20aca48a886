"""``gateway limits``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Given, common, with_stores
from gateway.cli.limit_rows import Row, rows
from gateway.cli.output import print_json, print_table
from gateway.cli.values import AUDIO, BYTES, NONE, PLACES, REQUESTS, ROUTE, SLUG
from policies.allowances import Allowance, What
from policies.calendars import Calendar
from storage.ports import Invalidation, NotFound

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

_OPTIONS = (
    ("requests", REQUESTS, "600/m|100000/month|none", "Requests in a window, or in a day or month."),
    ("bytes", BYTES, "10GB/d|1TB/month|none", "Bytes of request bodies."),
    ("audio", AUDIO, "3600s/h|100h/month|none", "Time of audio."),
    ("concurrency", PLACES[What.CONCURRENCY], "N|none", "Requests at one time."),
    ("streams", PLACES[What.STREAMS], "N|none", "WebSockets open at one time."),
)


@click.group()
def limits() -> None:
    """Limits of tenants, users and keys.

    A window N/s, N/m, N/h or N/d admits a burst of N and refills evenly; a calendar period N/day or N/month begins anew
    in the tenant's time zone. All limits that fit a request hold; the tightest wins. A tenant without a plain request
    rate has the setting 'default_requests'.
    """


def with_amounts(command: Any) -> Any:
    """Options for limits of every kind; ``command`` gets each as a tuple, with None for 'none'."""
    for name, kind, metavar, text in reversed(_OPTIONS):
        command = click.option(f"--{name}", name, type=kind, multiple=True, metavar=metavar, help=text)(command)
    return command


@limits.command("set")
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@click.option("--key", "key_id", metavar="ID", help="One of its keys, instead of the tenant as a whole.")
@click.option("--user", "email", metavar="E-MAIL", help="One of its members, with all keys and sessions.")
@click.option("--route", type=ROUTE, metavar="NAME", help="On one route of the table alone.")
@with_amounts
@click.option("--shadow", is_flag=True, help="Count and report only; refuse nobody.")
@click.option("--time-zone", metavar="ZONE", help="Where the tenant's days and months begin, such as Europe/Berlin.")
@click.option("--anchor-day", type=click.IntRange(1, 31), metavar="DAY", help="The day that its months begin with.")
@common
def set_limits(
    given: Given,
    tenant: str,
    key_id: str | None,
    email: str | None,
    route: str | None,
    *,
    shadow: bool,
    time_zone: str | None,
    anchor_day: int | None,
    **amounts: tuple[Allowance | None, ...],
) -> None:
    """Set limits, or lift them with 'none'. What is not named stays as it is.

    One limit of a kind can have a window and calendar periods at once: give the option more than once.
    """
    lifted = [What(name) for name, found in amounts.items() if None in found]
    granted = [replace(a, shadow=shadow) for found in amounts.values() for a in found if a is not None]
    if not (lifted or granted or time_zone or anchor_day):
        raise click.UsageError("name at least one limit, such as --requests 600/m or --audio 100h/month")
    if key_id and email:
        raise click.UsageError("a limit is a key's or a user's, not both")

    async def change(stores: "Stores") -> None:
        found = await stores.directory.tenant(tenant)
        user_id = await _member(stores, found.id, email) if email else None
        if time_zone or anchor_day:
            old = await stores.limits.calendar(found.id)
            calendar = _calendar(time_zone or old.zone, anchor_day or old.anchor_day)
            await stores.limits.set_calendar(found.id, calendar)
        if lifted or granted:
            await stores.limits.set_limits(
                found.id, user_id=user_id, key_id=key_id, route=route or "", lifted=lifted, granted=granted
            )
        await stores.announce(Invalidation(tenant_id=found.id, key_id=key_id or ""))

    with_stores(given, change)
    texts: dict[str, list[str]] = {name: [str(a) for a in found if a] for name, found in amounts.items() if found}
    if given.json:
        said: dict[str, Any] = {
            name: values[0] if len(values) == 1 else values or None for name, values in texts.items()
        }
        optional = {"user": email, "route": route, "shadow": shadow, "time_zone": time_zone, "anchor_day": anchor_day}
        said |= {name: value for name, value in optional.items() if value}
        print_json({"tenant": tenant, "key": key_id, **said})
        return
    holder = f"Key {key_id} of tenant {tenant}" if key_id else f"User {email} of tenant {tenant}" if email else ""
    said_texts = [f"{name} {' and '.join(values) or NONE}" for name, values in texts.items()]
    said_texts += [f"time zone {time_zone}"] if time_zone else []
    said_texts += [f"anchor day {anchor_day}"] if anchor_day else []
    where = f" on route {route}" if route else ""
    click.echo(f"{holder or f'Tenant {tenant}'}{where}: {', '.join(said_texts)}{' (shadow)' if shadow else ''}.")


def _calendar(zone: str, anchor_day: int) -> Calendar:
    try:
        return Calendar.checked(zone, anchor_day)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


async def _member(stores: "Stores", tenant_id: str, email: str) -> str:
    for user, _ in await stores.directory.users(tenant_id):
        if user.email == email.lower():
            return user.id
    raise NotFound(f"This tenant has no member {email!r}.")


@limits.command()
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@common
def show(given: Given, tenant: str) -> None:
    """What limits a tenant, its users and its keys, and how much of it is in use now."""

    async def ask(stores: "Stores") -> tuple[Sequence[Row], Calendar, str | None]:
        found = await stores.directory.tenant(tenant)
        default = stores.settings.default_requests
        return await rows(stores, found), await stores.limits.calendar(found.id), str(default) if default else None

    found, calendar, default = with_stores(given, ask)
    plain = {row.holder_id: row.limit for row in found if row.is_plain}
    if given.json:
        print_json(
            {
                "tenant": tenant,
                "requests": plain.get(""),
                "default_requests": default,
                "time_zone": calendar.zone,
                "anchor_day": calendar.anchor_day,
                "keys": [
                    {"id": row.holder_id, "name": row.holder, "requests": row.limit}
                    for row in found
                    if row.is_plain and row.scope == "key"
                ],
                "limits": [row.as_json() for row in found],
            }
        )
        return
    lines = [row.as_line() for row in found]
    if "" not in plain:
        lines.insert(0, ("default", "setting default_requests", "requests", default or NONE, "", "", ""))
    print_table(("FOR", "NAME", "WHAT", "LIMIT", "IN USE", "WHOLE AGAIN", "REMARKS"), lines)

"""``gateway limits``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Given, Group, common, tell, with_stores
from gateway.cli.known_routes import check_route
from gateway.cli.limit_rows import Row, recounted, rows
from gateway.cli.output import print_json, print_table
from gateway.cli.people import member
from gateway.cli.values import AUDIO, BYTES, EMAIL, NONE, PLACES, REQUESTS, ROUTE, tenant_option
from policies.limits.allowances import Allowance, What, check_apart
from policies.limits.calendars import Calendar
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

_OPTIONS = (
    ("requests", REQUESTS, "600/m|100000/month|none", "Requests in a window, or in a day or month."),
    ("bytes", BYTES, "10GB/d|1TB/month|none", "Bytes of request bodies."),
    ("audio", AUDIO, "3600s/h|100h/month|none", "Time of audio."),
    ("concurrency", PLACES[What.CONCURRENCY], "N|none", "Requests at one time."),
    ("streams", PLACES[What.STREAMS], "N|none", "WebSockets open at one time."),
)


@click.group(cls=Group)
def limits() -> None:
    """Limits of tenants, users and keys.

    A window N/s, N/m, N/h or N/d admits a burst of N and refills evenly; a calendar period N/day or N/month begins anew
    in the tenant's time zone. All limits that fit a request hold; the tightest wins. A tenant without a plain request
    rate has the setting 'default_requests'.
    """


def with_amounts(command: Any) -> Any:
    """Options for limits of every kind; ``command`` gets each as a tuple, with None for 'none'."""
    for name, kind, metavar, text in reversed(_OPTIONS):
        command = click.option(
            f"--{name}", name, type=kind, multiple=True, metavar=metavar, help=text, callback=_apart
        )(command)
    return command


def _apart(_: click.Context, __: click.Parameter, given: tuple[Allowance | None, ...]) -> tuple[Allowance | None, ...]:
    try:
        check_apart(one for one in given if one)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error
    return given


@limits.command("set")
@tenant_option
@click.option("--key", "key_id", metavar="ID", help="One of its keys, instead of the tenant as a whole.")
@click.option("--user", "email", type=EMAIL, help="One of its members, with all keys and sessions.")
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
    wish = _Wish(
        tenant=tenant, key_id=key_id, email=email, route=route or "", shadow=shadow, time_zone=time_zone,
        anchor_day=anchor_day, amounts={name: found for name, found in amounts.items() if found},
    )  # fmt: skip
    if not (wish.amounts or time_zone or anchor_day):
        raise click.UsageError("name at least one limit, such as --requests 600/m or --audio 100h/month")
    if key_id and email:
        raise click.UsageError("a limit is a key's or a user's, not both")
    with_stores(given, wish.carry_out)
    tell(given, wish.as_json(), wish.sentence())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to be set. ``amounts`` by kind; None among them lifts all of a kind."""

    tenant: str
    key_id: str | None
    email: str | None
    route: str
    shadow: bool
    time_zone: str | None
    anchor_day: int | None
    amounts: Mapping[str, tuple[Allowance | None, ...]]

    async def carry_out(self, stores: "Stores") -> None:
        """Calendar and limits, and then tell the gateways."""
        found = await stores.directory.tenant(self.tenant)
        limited = [What(name) for name, given in self.amounts.items() if any(given)]
        if self.route and limited:  # one of a former table can be lifted
            check_route(stores, self.route, limited)
        user_id = await member(stores, found.id, self.tenant, self.email) if self.email else None
        if self.time_zone or self.anchor_day:
            old = await stores.limits.calendar(found.id)
            calendar = _calendar(self.time_zone or old.zone, self.anchor_day or old.anchor_day)
            await stores.limits.set_calendar(found.id, calendar)
        if self.amounts:
            await stores.limits.set_limits(
                found.id,
                user_id=user_id,
                key_id=self.key_id,
                route=self.route,
                lifted=[What(name) for name, given in self.amounts.items() if None in given],
                granted=[replace(one, shadow=self.shadow) for given in self.amounts.values() for one in given if one],
            )
            await recounted(stores, found.id, self.key_id or user_id or found.id)
        await stores.announce(Invalidation(tenant_id=found.id, key_id=self.key_id or ""))

    def as_json(self) -> dict[str, Any]:
        """What was set, as it was written."""
        texts = {name: [str(one) for one in given if one] for name, given in self.amounts.items()}
        said = {name: values[0] if len(values) == 1 else values or None for name, values in texts.items()}
        rest = {
            "user": self.email, "route": self.route, "shadow": self.shadow, "time_zone": self.time_zone,
            "anchor_day": self.anchor_day,
        }  # fmt: skip
        return {
            "tenant": self.tenant,
            "key": self.key_id,
            **said,
            **{name: value for name, value in rest.items() if value},
        }

    def sentence(self) -> str:
        """The same for a person."""
        whose = f"Tenant {self.tenant}"
        if self.key_id or self.email:
            whose = f"{f'Key {self.key_id}' if self.key_id else f'User {self.email}'} of tenant {self.tenant}"
        parts = [
            f"{name} {' and '.join(str(one) for one in given if one) or NONE}" for name, given in self.amounts.items()
        ]
        parts += [f"time zone {self.time_zone}"] if self.time_zone else []
        parts += [f"anchor day {self.anchor_day}"] if self.anchor_day else []
        where = f" on route {self.route}" if self.route else ""
        return f"{whose}{where}: {', '.join(parts)}{' (shadow)' if self.shadow else ''}."


def _calendar(zone: str, anchor_day: int) -> Calendar:
    try:
        return Calendar.checked(zone, anchor_day)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


@limits.command()
@tenant_option
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
        lines.insert(0, ("default", "setting default_requests", "requests", default or NONE, "", "", "", ""))
    print_table(("FOR", "NAME", "WHAT", "LIMIT", "IN USE", "WHOLE AGAIN", "AT THIS PACE", "REMARKS"), lines)

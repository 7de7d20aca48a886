"""``gateway limits``."""

from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, common, with_stores
from gateway.cli.output import print_json, print_table
from gateway.cli.values import NONE, RATE, SLUG
from policies.limits import Rate
from storage.ports import Invalidation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.cli.stores import Stores


@click.group()
def limits() -> None:
    """Request rates of tenants and keys.

    A rate N/s, N/m, N/h or N/d admits a burst of N and refills evenly. A request must fit its key's rate and its
    tenant's; a tenant without one has the setting 'default_requests'.
    """


@limits.command("set")
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@click.option("--key", "key_id", metavar="ID", help="One of its keys, instead of the tenant as a whole.")
@click.option("--requests", "rate", type=RATE, required=True, metavar="RATE|none", help="Such as 600/m; none lifts it.")
@common
def set_limits(given: Given, tenant: str, key_id: str | None, rate: Rate | None) -> None:
    """Set the request rate of a tenant, or of one of its keys."""

    async def change(stores: "Stores") -> None:
        found = await stores.directory.tenant(tenant)
        await stores.limits.set_limits(found.id, key_id=key_id, requests=rate)
        await stores.announce(Invalidation(tenant_id=found.id, key_id=key_id or ""))

    with_stores(given, change)
    if given.json:
        print_json({"tenant": tenant, "key": key_id, "requests": _text(rate)})
    else:
        holder = f"Key {key_id} of tenant {tenant}" if key_id else f"Tenant {tenant}"
        click.echo(f"{holder}: requests {_text(rate) or NONE}.")


@limits.command()
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@common
def show(given: Given, tenant: str) -> None:
    """What limits a tenant: its own rate, or the default, and those of its keys."""

    async def ask(stores: "Stores") -> "tuple[Sequence[tuple[str | None, Rate]], dict[str, str], Rate | None]":
        found = await stores.directory.tenant(tenant)
        names = {key.id: key.name for key in await stores.keys.keys(found.id)}
        return await stores.limits.limits(found.id), names, stores.settings.default_requests

    found, names, default = with_stores(given, ask)
    own = next((rate for key_id, rate in found if key_id is None), None)
    keys = [(key_id, names.get(key_id, ""), str(rate)) for key_id, rate in found if key_id is not None]
    if given.json:
        print_json(
            {
                "tenant": tenant,
                "requests": _text(own),
                "default_requests": _text(default),
                "keys": [{"id": key_id, "name": name, "requests": rate} for key_id, name, rate in keys],
            }
        )
        return
    first = ("tenant", tenant, own) if own else ("default", "setting default_requests", default or NONE)
    print_table(("FOR", "NAME", "REQUESTS"), [first, *keys])


def _text(rate: Rate | None) -> str | None:
    return None if rate is None else str(rate)

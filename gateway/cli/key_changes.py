"""``gateway key set``, ``disable`` and ``enable``: what of a key can change while it stays the same key."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Command, Given, common, with_stores
from gateway.cli.key_rows import Held, facts, holder, owned
from gateway.cli.known_routes import check_routes, check_scopes
from gateway.cli.output import print_json, remark
from gateway.cli.values import FUTURE, NAME, NONE, SCOPE, Written
from policies.identity.principals import Standing
from policies.networks import network
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.keys.rows import KeyChange


def _network(text: str) -> str:
    return text if text == NONE else str(network(text))


def _entry(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if text != NONE and not (name and equals):
        raise ValueError(f"{text!r} is not a note: write NAME=VALUE")
    return name, value


_NETWORK, _ENTRY = Written("network", _network), Written("name=value", _entry)


def bindings(command: Any) -> Any:
    """The options ``networks``, ``routes`` and ``metadata``, each as often as wanted."""
    for option in (
        click.option("--metadata", type=_ENTRY, multiple=True, metavar="NAME=VALUE", help="A note of your own."),
        click.option("--route", "routes", multiple=True, metavar="NAME", help="Where alone it may be used."),
        click.option("--network", "networks", type=_NETWORK, multiple=True, help="Whence alone: an address or a CIDR."),
    ):
        command = option(command)
    return command


@click.command("set", cls=Command)
@click.argument("key_id", metavar="ID")
@click.option("--name", type=NAME, help="What the key is for.")
@click.option("--scope", "scopes", type=SCOPE, multiple=True, help="What it may do from now on, all of it.")
@click.option("--expires", type=FUTURE, help="When it ends: 90d, or a date.")
@bindings
@common
def set_key(
    given: Given,
    key_id: str,
    name: str | None,
    scopes: tuple[str, ...],
    expires: datetime | None,
    networks: tuple[str, ...],
    routes: tuple[str, ...],
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """Change a key: in effect within a second. What is not named stays; 'none' lifts networks, routes or notes."""
    from storage.postgres.keys.rows import KeyChange  # noqa: PLC0415  slow: see the package's docstring

    if not (name or scopes or expires or networks or routes or metadata):
        raise click.UsageError("name what is to change, such as --expires 90d")
    change = KeyChange(
        name=name,
        scopes=frozenset(scopes) or None,
        expires_at=expires,
        networks=_unless_none(networks),
        routes=_unless_none(routes),
        metadata=None if not metadata else {} if metadata == ((NONE, ""),) else dict(metadata),
    )
    _print(given, with_stores(given, lambda stores: _change(stores, key_id, change)), "changed")


@click.command(cls=Command)
@click.argument("key_id", metavar="ID")
@common
def disable(given: Given, key_id: str) -> None:
    """Refuse a key until it is enabled again. ID is that of `key list`."""
    _print(given, with_stores(given, lambda stores: _enable(stores, key_id, enabled=False)), "disabled")


@click.command(cls=Command)
@click.argument("key_id", metavar="ID")
@common
def enable(given: Given, key_id: str) -> None:
    """Accept a disabled key again. A revoked one stays revoked."""
    _print(given, with_stores(given, lambda stores: _enable(stores, key_id, enabled=True)), "enabled")


def _unless_none(written: tuple[str, ...]) -> tuple[str, ...] | None:
    """What was named; nothing for 'none'; None when nothing was said."""
    return () if written == (NONE,) else written or None


async def _enable(stores: "Stores", key_id: str, *, enabled: bool) -> Held:
    from storage.postgres.keys.rows import KeyChange  # noqa: PLC0415  slow: see the package's docstring

    return await _change(stores, key_id, KeyChange(enabled=enabled))


async def _change(stores: "Stores", key_id: str, change: "KeyChange") -> Held:
    check_routes(stores, change.routes or ())
    check_scopes(stores, change.scopes or ())
    tenant = await holder(stores, key_id)
    row = await stores.keys.change_key(tenant.id, key_id, change)
    await stores.announce(Invalidation(tenant_id=tenant.id, key_id=key_id))
    (changed,) = await owned(stores, tenant, [row])
    return changed


def _print(given: Given, held: Held, what: str) -> None:
    if given.json:
        print_json(facts(held))
    else:
        click.echo(f"Key {held.row.id} ({held.row.name}) of tenant {held.tenant.slug} is {what}.")
        if held.row.standing is Standing.REVOKED:
            remark("It is revoked, or its service account is disabled, and stays so. Make another: gateway key create")

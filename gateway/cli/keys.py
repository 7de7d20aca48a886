"""``gateway key``. A key is on the screen once, when it is made; nothing here or in the stores can show it again."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.key_changes import bindings, disable, enable, set_key
from gateway.cli.key_rows import Held, facts, holder, owned
from gateway.cli.known_routes import check_routes, check_scopes
from gateway.cli.minting import mint
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.people import member
from gateway.cli.values import DURATION, EMAIL, FUTURE, NAME, SCOPE, tenant_option
from gateway.times import maybe_stamp, stamp
from policies.identity.tenants import ApiKey
from storage.ports import Invalidation, NewKey

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

DEFAULT_SCOPE = "transcribe"
_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A new key: the secret itself, the row that stands for it, and whose it is."""

    secret: str
    row: ApiKey
    tenant: str
    old_ends_at: datetime | None = None


@click.group(cls=Group)
def key() -> None:
    """API keys: make, list, change, rotate, revoke."""


@key.command()
@tenant_option
@click.option("--name", type=NAME, required=True, help="What the key is for.")
@click.option(
    "--scope", "scopes", type=SCOPE, multiple=True, default=(DEFAULT_SCOPE,), show_default=True,
    help="What it may do; give it again for another.",
)  # fmt: skip
@click.option("--expires", type=FUTURE, help="When it ends: 90d, or a date. Default: never.")
@click.option("--user", "email", type=EMAIL, help="The member whose key it is; it ends with that person's access.")
@click.option("--service-account", "account_id", metavar="ID", help="The program whose key it is, instead of a member.")
@click.option("--test", is_flag=True, help="Make a thk_test_ key, for tests.")
@bindings
@common
def create(
    given: Given,
    tenant: str,
    name: str,
    scopes: tuple[str, ...],
    expires: datetime | None,
    email: str | None,
    account_id: str | None,
    networks: tuple[str, ...],
    routes: tuple[str, ...],
    metadata: tuple[tuple[str, str], ...],
    *,
    test: bool,
) -> None:
    """Make a key, and print it: the only time that it can be seen."""
    if email and account_id:
        raise click.UsageError("a key is a member's or a service account's: name one of the two")

    async def make(stores: "Stores") -> _Made:
        found = await stores.directory.tenant(tenant)
        owner = None if email is None else await member(stores, found.id, tenant, email)
        check_routes(stores, routes)
        check_scopes(stores, scopes)
        secret, digest = mint(stores, test=test)
        row = await stores.keys.create_key(
            found.id,
            NewKey(
                name=name,
                digest=digest,
                last4=secret[-4:],
                scopes=frozenset(scopes),
                expires_at=expires,
                user_id=owner,
                service_account_id=account_id,
                networks=networks,
                routes=routes,
                metadata=dict(metadata),
            ),
        )
        return _Made(secret=secret, row=row, tenant=tenant)

    _print_made(given, with_stores(given, make))


@key.command("list")
@tenant_option
@click.option("--user", "email", type=EMAIL, help="Only those of this member.")
@click.option("--service-account", "account_id", metavar="ID", help="Only those of this program.")
@click.option("--unused", type=DURATION, help="Only those not used for so long, and not revoked: 90d.")
@click.option("--expiring", type=DURATION, help="Only those that are valid, and not for so long any more: 30d.")
@common
def list_keys(
    given: Given,
    tenant: str,
    email: str | None,
    account_id: str | None,
    unused: timedelta | None,
    expiring: timedelta | None,
) -> None:
    """A tenant's keys, newest first, ended ones included."""

    async def ask(stores: "Stores") -> list[Held]:
        found, now = await stores.directory.tenant(tenant), datetime.now(UTC)
        rows = await stores.keys.keys_page(
            found.id,
            _MOST,
            user_id=None if email is None else await member(stores, found.id, tenant, email),
            service_account_id=account_id,
            unused_since=_moved(now, unused, -1) if unused is not None else None,
            ending_before=_moved(now, expiring, 1) if expiring is not None else None,
        )
        return await owned(stores, found, rows)

    held = with_stores(given, ask)
    if given.json:
        print_json([facts(each) for each in held])
        return
    print_table(
        ("ID", "NAME", "KEY", "SCOPES", "OWNER", "STATUS", "CREATED", "EXPIRES", "LAST USED"),
        [
            (
                each.row.id,
                each.row.name,
                f"…{each.row.last4}",
                " ".join(sorted(each.row.scopes)),
                each.user.email if each.user else each.row.service_account_id,
                each.status,
                stamp(each.row.created_at),
                maybe_stamp(each.row.expires_at),
                each.row.last_used and stamp(each.row.last_used.at),
            )
            for each in held
        ],
    )
    if not held and not (unused or expiring or email or account_id):
        remark(f"Tenant {tenant} has no key yet. Make one: gateway key create --tenant {tenant} --name NAME")


@key.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap", type=DURATION, default="1h", show_default=True,
    help="How long the old key still works; 0s ends it now.",
)  # fmt: skip
@click.option("--test", is_flag=True, help="Make the successor a thk_test_ key.")
@common
def rotate(given: Given, key_id: str, overlap: timedelta, *, test: bool) -> None:
    """Replace a key by a new one with the same name, scopes, limits, owner and expiry. ID is that of `key list`."""

    async def replace(stores: "Stores") -> _Made:
        tenant = await holder(stores, key_id)
        secret, digest = mint(stores, test=test)
        row = await stores.keys.rotate_key(
            tenant.id, key_id, digest=digest, last4=secret[-4:], old_ends_at=_moved(datetime.now(UTC), overlap, 1)
        )
        await stores.announce(Invalidation(tenant_id=tenant.id, key_id=key_id))
        ends = (await stores.keys.key(tenant.id, key_id)).expires_at
        return _Made(secret=secret, row=row, tenant=tenant.slug, old_ends_at=ends)

    made = with_stores(given, replace)
    _print_made(given, made)
    if made.old_ends_at is not None:
        remark(f"The old key {key_id} works until {stamp(made.old_ends_at)}.")


@key.command()
@click.argument("key_id", metavar="ID")
@yes_option
@common
def revoke(given: Given, key_id: str, *, yes: bool) -> None:
    """End a key now and for ever. ID is that of `key list`."""
    confirm(f"Revoke key {key_id}? It can never be used again.", yes=yes)

    async def end(stores: "Stores") -> Held:
        tenant = await holder(stores, key_id)
        row = await stores.keys.revoke_key(tenant.id, key_id)
        await stores.announce(Invalidation(tenant_id=tenant.id, key_id=key_id))
        (ended,) = await owned(stores, tenant, [row])
        return ended

    ended = with_stores(given, end)
    tell(given, facts(ended), f"Key {ended.row.id} ({ended.row.name}) of tenant {ended.tenant.slug} is revoked.")


def _moved(now: datetime, by: timedelta, direction: int) -> datetime:
    try:
        return now + direction * by
    except OverflowError:
        raise click.BadParameter(f"{by.days} days are outside the calendar.") from None


def _print_made(given: Given, made: _Made) -> None:
    row = made.row
    if given.json:
        facts: dict[str, object] = {
            "id": row.id,
            "key": made.secret,
            "name": row.name,
            "tenant": made.tenant,
            "scopes": sorted(row.scopes),
            "expires_at": maybe_stamp(row.expires_at),
            "last4": row.last4,
        }
        print_json(facts)
    else:
        click.echo(made.secret)
        until = f"until {stamp(row.expires_at)}" if row.expires_at else "for ever"
        remark(f"Key {row.id} of tenant {made.tenant}, for {' '.join(sorted(row.scopes))}, valid {until}.")
        remark("Keep it now: it is not shown again.")


for command in (set_key, disable, enable):
    key.add_command(command)

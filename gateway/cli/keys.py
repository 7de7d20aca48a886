"""``gateway key``. A key is on the screen once, when it is made; nothing here or in the stores can show it again."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, common, with_stores
from gateway.cli.output import maybe_stamp, print_json, print_table, remark, stamp
from gateway.cli.values import DURATION, EMAIL, FUTURE, NAME, SCOPE, SLUG
from policies.credentials import RANDOM_BYTES, mint_key
from policies.principals import Standing
from policies.tenants import ApiKey, Tenant, TenantStatus, User, UserStatus
from storage.ports import Invalidation, NotFound

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

DEFAULT_SCOPE = "transcribe"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A new key: the secret itself, the row that stands for it, and whose it is."""

    secret: str
    row: ApiKey
    tenant: str
    old_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A key with those on whom it depends."""

    row: ApiKey
    tenant: Tenant
    user: User | None

    @property
    def status(self) -> str:
        """Why the gateway would refuse it, in the order in which it looks; else ``active``."""
        if self.row.revoked_at is not None:
            return Standing.REVOKED
        if self.tenant.status is not TenantStatus.ACTIVE:
            return Standing.TENANT_SUSPENDED
        if self.user is not None and self.user.status is not UserStatus.ACTIVE:
            return Standing.USER_DISABLED
        return "expired" if self.row.expires_at is not None and self.row.expires_at <= datetime.now(UTC) else "active"


@click.group()
def key() -> None:
    """API keys: make, list, rotate, revoke."""


@key.command()
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@click.option("--name", type=NAME, required=True, help="What the key is for.")
@click.option(
    "--scope", "scopes", type=SCOPE, multiple=True, default=(DEFAULT_SCOPE,), show_default=True,
    help="What it may do; give it again for another.",
)  # fmt: skip
@click.option("--expires", type=FUTURE, help="When it ends: 90d, or a date. Default: never.")
@click.option("--user", "email", type=EMAIL, help="The member whose key it is; it ends with that person's access.")
@click.option("--test", is_flag=True, help="Make a thk_test_ key, for tests.")
@common
def create(
    given: Given,
    tenant: str,
    name: str,
    scopes: tuple[str, ...],
    expires: datetime | None,
    email: str | None,
    *,
    test: bool,
) -> None:
    """Make a key, and print it: the only time that it can be seen."""

    async def make(stores: "Stores") -> _Made:
        found = await stores.directory.tenant(tenant)
        owner = None if email is None else await _member(stores, found.id, tenant, email)
        secret, digest = _mint(stores, test=test)
        row = await stores.keys.create_key(
            found.id,
            name=name,
            digest=digest,
            last4=secret[-4:],
            scopes=frozenset(scopes),
            expires_at=expires,
            user_id=owner,
        )
        return _Made(secret=secret, row=row, tenant=tenant)

    _print_made(given, with_stores(given, make))


@key.command("list")
@click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")
@common
def list_keys(given: Given, tenant: str) -> None:
    """A tenant's keys, newest first, ended ones included."""

    async def ask(stores: "Stores") -> list[_Held]:
        found = await stores.directory.tenant(tenant)
        members = await _members(stores, found.id)
        return [_Held(row, found, members.get(row.user_id or "")) for row in await stores.keys.keys(found.id)]

    held = with_stores(given, ask)
    if given.json:
        print_json([_facts(each) for each in held])
        return
    print_table(
        ("ID", "NAME", "KEY", "SCOPES", "USER", "STATUS", "CREATED", "EXPIRES"),
        [
            (
                each.row.id,
                each.row.name,
                f"…{each.row.last4}",
                " ".join(sorted(each.row.scopes)),
                each.user and each.user.email,
                each.status,
                stamp(each.row.created_at),
                maybe_stamp(each.row.expires_at),
            )
            for each in held
        ],
    )
    if not held:
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
        tenant = await _holder(stores, key_id)
        secret, digest = _mint(stores, test=test)
        row = await stores.keys.rotate_key(
            tenant.id, key_id, digest=digest, last4=secret[-4:], old_ends_at=_after(overlap)
        )
        await stores.announce(Invalidation(tenant_id=tenant.id, key_id=key_id))
        ends = next(old.expires_at for old in await stores.keys.keys(tenant.id) if old.id == key_id)
        return _Made(secret=secret, row=row, tenant=tenant.slug, old_ends_at=ends)

    made = with_stores(given, replace)
    _print_made(given, made)
    if made.old_ends_at is not None:
        remark(f"The old key {key_id} works until {stamp(made.old_ends_at)}.")


@key.command()
@click.argument("key_id", metavar="ID")
@common
def revoke(given: Given, key_id: str) -> None:
    """End a key now and for ever. ID is that of `key list`."""

    async def end(stores: "Stores") -> _Held:
        tenant = await _holder(stores, key_id)
        row = await stores.keys.revoke_key(tenant.id, key_id)
        await stores.announce(Invalidation(tenant_id=tenant.id, key_id=key_id))
        return _Held(row, tenant, (await _members(stores, tenant.id)).get(row.user_id or ""))

    ended = with_stores(given, end)
    if given.json:
        print_json(_facts(ended))
    else:
        click.echo(f"Key {ended.row.id} ({ended.row.name}) of tenant {ended.tenant.slug} is revoked.")


def _mint(stores: "Stores", *, test: bool) -> tuple[str, bytes]:
    """A new secret, and what is stored instead of it."""
    from gateway.snapshot import digest  # noqa: PLC0415  slow: see the package's docstring

    secret = mint_key(secrets.token_bytes(RANDOM_BYTES), live=not test)
    return secret, digest(stores.secret_for("api-keys"), secret.encode("ascii"))


async def _member(stores: "Stores", tenant_id: str, slug: str, email: str) -> str:
    for user in (await _members(stores, tenant_id)).values():
        if user.email == email:
            return user.id
    raise NotFound(f"Tenant {slug} has no member {email}. See them: gateway user list --tenant {slug}")


async def _members(stores: "Stores", tenant_id: str) -> dict[str, User]:
    return {user.id: user for user, _ in await stores.directory.users(tenant_id)}


async def _holder(stores: "Stores", key_id: str) -> Tenant:
    """The tenant that holds a key."""
    tenant_id = await stores.keys.key_tenant(key_id)
    return next(tenant for tenant in await stores.directory.tenants() if tenant.id == tenant_id)


def _after(overlap: timedelta) -> datetime:
    try:
        return datetime.now(UTC) + overlap
    except OverflowError:
        raise click.BadParameter("that is outside the calendar.", param_hint="--overlap") from None


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


def _facts(held: _Held) -> dict[str, object]:
    row = held.row
    return {
        "id": row.id,
        "name": row.name,
        "tenant": held.tenant.slug,
        "user": held.user and held.user.email,
        "scopes": sorted(row.scopes),
        "status": held.status,
        "created_at": stamp(row.created_at),
        "expires_at": maybe_stamp(row.expires_at),
        "revoked_at": maybe_stamp(row.revoked_at),
        "last4": row.last4,
    }

"""``gateway service-account``: programs that ask for tokens. A secret is on the screen once, when it is made."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.known_routes import check_scopes
from gateway.cli.minting import mint_secret
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import DURATION, NAME, NONE, SCOPE, tenant_option
from gateway.times import maybe_stamp, stamp
from policies.identity.permissions import INTROSPECT
from policies.identity.tenants import ServiceAccount
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


@click.group("service-account", cls=Group)
def service_account() -> None:
    """Programs of a tenant that get short tokens for a secret."""


@service_account.command()
@tenant_option
@click.option("--name", type=NAME, required=True, help="What the program is.")
@click.option(
    "--scope", "scopes", type=SCOPE, multiple=True, default=("transcribe",), show_default=True,
    help="What its tokens may do; give it again for another. 'introspect' lets it ask about its tenant's tokens.",
)  # fmt: skip
@click.option(
    "--audience", "audiences", type=SCOPE, multiple=True,
    help="Another service that it may have tokens for; give it again for another. The gateway itself needs no mention.",
)  # fmt: skip
@common
def create(given: Given, tenant: str, name: str, scopes: tuple[str, ...], audiences: tuple[str, ...]) -> None:
    """Make an account and its secret, and print both: the only time that the secret can be seen."""

    async def make(stores: "Stores") -> tuple[ServiceAccount, str]:
        check_scopes(stores, scopes, INTROSPECT)
        found = await stores.directory.tenant(tenant)
        secret, digest = mint_secret(stores)
        account = await stores.service_accounts.create(
            found.id, name=name, scopes=frozenset(scopes), audiences=frozenset(audiences), digest=digest
        )
        return account, secret

    _print_secret(given, *with_stores(given, make))


@service_account.command("list")
@tenant_option
@common
def list_accounts(given: Given, tenant: str) -> None:
    """A tenant's service accounts, by name."""

    async def ask(stores: "Stores") -> list[ServiceAccount]:
        return [*await stores.service_accounts.accounts((await stores.directory.tenant(tenant)).id)]

    found = with_stores(given, ask)
    if given.json:
        print_json([_facts(account) for account in found])
        return
    print_table(
        ("ID", "NAME", "SCOPES", "AUDIENCES", "STATUS", "CREATED"),
        [
            (
                account.id,
                account.name,
                " ".join(sorted(account.scopes)),
                " ".join(sorted(account.audiences)),
                "disabled" if account.disabled_at else "active",
                stamp(account.created_at),
            )
            for account in found
        ],
    )


@service_account.command("set")
@click.argument("account_id", metavar="ID")
@click.option("--name", type=NAME, help="What the program is.")
@click.option("--scope", "scopes", type=SCOPE, multiple=True, help="What its tokens may do from now on, all of it.")
@click.option("--audience", "audiences", type=SCOPE, multiple=True, help="Its other services; 'none' lifts them.")
@common
def set_account(
    given: Given, account_id: str, name: str | None, scopes: tuple[str, ...], audiences: tuple[str, ...]
) -> None:
    """Change an account: in effect within a second, also for its tokens. What is not named stays."""
    if not (name or scopes or audiences):
        raise click.UsageError("name what is to change, such as --scope transcribe")

    async def change(stores: "Stores") -> ServiceAccount:
        check_scopes(stores, scopes, INTROSPECT)
        account = await stores.service_accounts.account(account_id)
        account = await stores.service_accounts.change(
            account.tenant_id,
            account_id,
            name=name,
            scopes=frozenset(scopes) or None,
            audiences=frozenset(audiences) - {NONE} if audiences else None,
        )
        await stores.announce(Invalidation(tenant_id=account.tenant_id, user_id=account.id))
        return account

    _print_done(given, with_stores(given, change), "changed")


@service_account.command()
@click.argument("account_id", metavar="ID")
@click.option(
    "--overlap", type=DURATION, default="1h", show_default=True, help="How long the old secret works; 0s ends it now."
)
@common
def rotate(given: Given, account_id: str, overlap: timedelta) -> None:
    """Make a new secret. ID is that of `service-account list`."""

    async def replace(stores: "Stores") -> tuple[ServiceAccount, str]:
        account = await stores.service_accounts.account(account_id)
        secret, digest = mint_secret(stores)
        await stores.service_accounts.rotate(
            account.tenant_id, account_id, digest=digest, old_ends_at=datetime.now(UTC) + overlap
        )
        return account, secret

    _print_secret(given, *with_stores(given, replace))


@service_account.command()
@click.argument("account_id", metavar="ID")
@yes_option
@common
def disable(given: Given, account_id: str, *, yes: bool) -> None:
    """Give it no more tokens, and refuse those that it has, and its keys."""
    confirm(f"Disable service account {account_id}? All of its tokens and keys are refused.", yes=yes)

    async def end(stores: "Stores") -> ServiceAccount:
        account = await stores.service_accounts.account(account_id)
        account = await stores.service_accounts.disable(account.tenant_id, account_id)
        await stores.announce(Invalidation(tenant_id=account.tenant_id, user_id=account.id))
        return account

    _print_done(given, with_stores(given, end), "disabled")


def _print_done(given: Given, account: ServiceAccount, done: str) -> None:
    tell(given, _facts(account), f"Service account {account.id} ({account.name}) is {done}.")


def _print_secret(given: Given, account: ServiceAccount, secret: str) -> None:
    if given.json:
        print_json(_facts(account) | {"client_id": account.id, "client_secret": secret})
        return
    click.echo(f"{account.id} {secret}")
    remark(f"The id and the secret of service account {account.name}. Keep the secret now: it is not shown again.")


def _facts(account: ServiceAccount) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "scopes": sorted(account.scopes),
        "audiences": sorted(account.audiences),
        "status": "disabled" if account.disabled_at else "active",
        "created_at": stamp(account.created_at),
        "disabled_at": maybe_stamp(account.disabled_at),
    }

"""``gateway signing-keys``. Private keys are on no screen: they are made here, sealed, and stored."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from gateway.cli.command import Command, Given, Group, common, confirm, with_stores, yes_option
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import DURATION
from gateway.times import maybe_stamp, stamp
from policies.identity.signing_keys import LEAD, OVERLAP, SigningKey, Stage
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores

# RFC 7638 with SHA-256, in base64url.
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_LEAD = f"{LEAD // timedelta(minutes=1)}m"


@click.group("signing-keys", cls=Group)
def signing_keys() -> None:
    """The keys that sign tokens: list, rotate, revoke."""


@signing_keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are gone as well.")
@common
def list_keys(given: Given, *, everything: bool) -> None:
    """All keys in the order in which they become active, and what each is good for now."""

    async def ask(stores: "Stores") -> list[SigningKey]:
        return [*await stores.signing_keys.keys()]

    now = datetime.now(UTC)
    found = [key for key in with_stores(given, ask) if everything or key.stage(now) is not Stage.GONE]
    if given.json:
        print_json([_facts(key, now) for key in found])
        return
    print_table(
        ("ID", "ALGORITHM", "STAGE", "ACTIVE", "RETIRING", "GONE"),
        [
            (
                key.id,
                key.algorithm,
                key.stage(now),
                stamp(key.active_at),
                maybe_stamp(key.retiring_at),
                maybe_stamp(key.gone_at),
            )
            for key in found
        ],
    )
    if not found:
        remark("There is no key yet: the gateway makes the first one when it starts.")


@signing_keys.command()
@click.option(
    "--after", type=DURATION, default=_LEAD, show_default=True,
    help="How long the new key is published before it signs; those who keep our key set need some minutes.",
)  # fmt: skip
@click.option(
    "--algorithm", type=click.Choice(["EdDSA", "ES256"]), help="Default: that of the key which signs now, else EdDSA."
)
@click.option("--new-secret", is_flag=True, help="GATEWAY_SECRET_KEY was changed on purpose: the keys do not open.")
@common
def rotate(given: Given, after: timedelta, algorithm: str | None, *, new_secret: bool) -> None:
    """Make a new key that takes over. What the old one signed stays good until it expires; nobody notices."""

    async def make(stores: "Stores") -> SigningKey:
        now = datetime.now(UTC)
        made = await _successor(stores, now, after, algorithm)
        await stores.signing_keys.succeed(made, OVERLAP)
        await stores.announce(Invalidation())
        return made

    _print_new(given, with_stores(given, make, new_secret=new_secret))


class _TakesThumbprint(Command):
    """Takes an id for an id: one thumbprint of 64 begins with a hyphen, as an option does."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ids = [word for word in args if _THUMBPRINT.fullmatch(word)]
        if ids and "--" not in args:
            args = [*(word for word in args if word not in ids), "--", *ids]
        return super().parse_args(ctx, args)


@signing_keys.command(cls=_TakesThumbprint)
@click.argument("key_id", metavar="ID")
@yes_option
@common
def revoke(given: Given, key_id: str, *, yes: bool) -> None:
    """Believe a key no more, from now on: for one that others may have. All that it signed is refused within seconds.

    If it was the key that signs, a new one takes its place at once; if it was to sign next, when its turn comes.
    """
    confirm(f"Revoke signing key {key_id}? Every token that it signed is refused from now on.", yes=yes)

    async def end(stores: "Stores") -> SigningKey | None:
        from gateway.identity.signing import SEALING, heirs  # noqa: PLC0415  slow: see the package's docstring

        now = datetime.now(UTC)
        made = await stores.signing_keys.end(key_id, now, heirs(stores.secret_for(SEALING), now))
        await stores.announce(Invalidation())
        return made

    made = with_stores(given, end)
    if given.json:
        print_json({"id": key_id, "stage": Stage.GONE, "successor": made and made.id})
        return
    click.echo(f"Key {key_id} is gone. Whoever holds a token that it signed must get a new one.")
    if made is not None:
        remark(f"Key {made.id} signs from {stamp(made.active_at)} on.")


async def _successor(stores: "Stores", now: datetime, after: timedelta, algorithm: str | None) -> SigningKey:
    from gateway.identity.signing import SEALING, successor  # noqa: PLC0415  slow: see the package's docstring

    keys = await stores.signing_keys.keys()
    return successor(keys, stores.secret_for(SEALING), now, after=after, algorithm=algorithm or "")


def _print_new(given: Given, made: SigningKey) -> None:
    now = datetime.now(UTC)
    if given.json:
        print_json(_facts(made, now))
    else:
        click.echo(made.id)
        remark(f"The new key ({made.algorithm}) signs from {stamp(made.active_at)} on.")


def _facts(key: SigningKey, now: datetime) -> dict[str, object]:
    return {
        "id": key.id,
        "algorithm": key.algorithm,
        "stage": key.stage(now),
        "created_at": stamp(key.created_at),
        "active_at": stamp(key.active_at),
        "retiring_at": maybe_stamp(key.retiring_at),
        "gone_at": maybe_stamp(key.gone_at),
    }

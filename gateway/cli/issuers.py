"""``gateway issuer``: others whose access tokens are taken."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import SLUG
from gateway.times import maybe_stamp
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from gateway.configuration.issuers import IssuerSettings
    from gateway.identity.issuer_book import IssuerBook, KnownIssuer


@click.group(cls=Group)
def issuer() -> None:
    """Others whose access tokens are taken."""


_FIELDS = (
    click.option("--issuer", metavar="ISS", help="What its tokens have as 'iss', to the letter."),
    click.option("--jwks-url", metavar="URL", help="Where its keys are (a JWK Set)."),
    click.option("--audience", metavar="AUD", help="What its tokens for this gateway have as 'aud'."),
    click.option("--algorithm", "algorithms", multiple=True, help="Which of its keys are used: EdDSA, ES256, RS256."),
    click.option("--type", "types", multiple=True, help="The 'typ' of its access tokens. Default: at+jwt."),
    click.option("--tenant", metavar="SLUG", help="The tenant of all of its people,"),
    click.option("--tenant-claim", metavar="CLAIM", help="or the claim that tells; a.b is b inside a."),
    click.option("--tenant-of", "tenants", multiple=True, metavar="VALUE=SLUG", help="What that claim's values mean."),
    click.option("--scope-claim", metavar="CLAIM", help="The claim with the scopes. Default: scope."),
    click.option("--scope", "scopes", multiple=True, metavar="THEIRS=OURS", help="What they mean here."),
    click.option("--roles-claim", metavar="CLAIM", help="The claim that holds roles or groups."),
    click.option("--role", "roles", multiple=True, metavar="THEIRS=ROLE", help="What they mean here."),
)


def _fields(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe an issuer."""
    for option in reversed(_FIELDS):
        command = option(command)
    return command


@issuer.command()
@click.argument("name", type=SLUG)
@_fields
@common
def create(given: Given, name: str, **fields: Any) -> None:
    """Take another issuer's access tokens: --issuer, --jwks-url and --audience. What no option names gives nothing."""
    one = _settings(_named(fields))

    async def make(stores: "Stores") -> "KnownIssuer":
        try:
            made = await _book(stores).create(name, one)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        await stores.announce(Invalidation())
        return made

    tell(given, _facts(with_stores(given, make)), f"Tokens of {one.issuer} are taken.")


@issuer.command("list")
@common
def list_issuers(given: Given) -> None:
    """All of them, those of the settings first."""

    async def ask(stores: "Stores") -> list["KnownIssuer"]:
        return [*await _book(stores).all()]

    found = with_stores(given, ask)
    if given.json:
        print_json([_facts(each) for each in found])
        return
    print_table(
        ("NAME", "ISSUER", "AUDIENCE", "STATE", "SOURCE"),
        [
            (each.name, each.settings.issuer, each.settings.audience, _state(each), _facts(each)["source"])
            for each in found
        ],
    )
    if not found:
        remark("Tokens of no other issuer are taken.")


@issuer.command()
@click.argument("name", type=SLUG)
@_fields
@common
def edit(given: Given, name: str, **fields: Any) -> None:
    """Change an issuer: what no option names stays. Of an option with several values all are replaced.

    An empty text takes a value away: --tenant "" --tenant-claim org.
    """
    changes = _named(fields)
    if not changes:
        raise click.UsageError("Say what changes.")

    async def change(stores: "Stores") -> "KnownIssuer":
        try:
            found = await _book(stores).change(
                name, lambda current: (_settings(current.settings.model_dump() | changes), current.enabled)
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        await stores.announce(Invalidation())
        return found

    tell(given, _facts(with_stores(given, change)), f"The issuer {name} is changed.")


@issuer.command()
@click.argument("name", type=SLUG)
@yes_option
@common
def disable(given: Given, name: str, *, yes: bool) -> None:
    """Refuse an issuer's tokens until it is enabled again; its guests' streams end."""
    confirm(f"Refuse all tokens of the issuer {name}? Its guests' streams end at once.", yes=yes)
    _set(given, name, enabled=False)


@issuer.command()
@click.argument("name", type=SLUG)
@common
def enable(given: Given, name: str) -> None:
    """Take a disabled issuer's tokens again."""
    _set(given, name, enabled=True)


@issuer.command()
@click.argument("name", type=SLUG)
@yes_option
@common
def remove(given: Given, name: str, *, yes: bool) -> None:
    """Forget an issuer: its tokens are refused, its guests' streams end."""
    confirm(f"Remove the issuer {name}? Its tokens are refused at once.", yes=yes)

    async def end(stores: "Stores") -> None:
        await _book(stores).delete(name)
        await stores.announce(Invalidation())

    with_stores(given, end)
    tell(given, {"name": name}, f"The issuer {name} is removed.")


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """What the command line names; of several values, an empty one alone takes all away."""
    named = {option: value for option, value in fields.items() if value not in (None, ())}
    return {option: () if value == ("",) else value for option, value in named.items()}


def _settings(fields: dict[str, Any]) -> "IssuerSettings":
    """Raises UsageError with every fault."""
    from pydantic import ValidationError  # noqa: PLC0415  slow: see the package's docstring

    from gateway.configuration.issuers import IssuerSettings  # noqa: PLC0415  the same

    try:
        return IssuerSettings.model_validate(fields)
    except ValidationError as error:
        faults = [f"{detail['loc'][0]}: {detail['msg'].removeprefix('Value error, ')}" for detail in error.errors()]
        raise click.UsageError("\n".join(faults)) from None


def _set(given: Given, name: str, *, enabled: bool) -> None:
    async def change(stores: "Stores") -> "KnownIssuer":
        found = await _book(stores).change(name, lambda current: (current.settings, enabled))
        await stores.announce(Invalidation())
        return found

    tell(given, _facts(with_stores(given, change)), f"The issuer {name} is {'enabled' if enabled else 'disabled'}.")


def _book(stores: "Stores") -> "IssuerBook":
    from gateway.identity.issuer_book import IssuerBook  # noqa: PLC0415  slow: see the package's docstring
    from storage.postgres.tokens.issuers import PostgresIssuers  # noqa: PLC0415  the same

    return IssuerBook(stores.settings, PostgresIssuers(stores.pool, stores.trail))


def _state(issuer: "KnownIssuer") -> str:
    return "enabled" if issuer.enabled else "disabled"


def _facts(issuer: "KnownIssuer") -> dict[str, Any]:
    return {
        "name": issuer.name,
        "source": "settings" if issuer.in_settings else "api",
        "enabled": issuer.enabled,
        "created_at": maybe_stamp(issuer.created_at),
        **issuer.settings.to_message(),
    }

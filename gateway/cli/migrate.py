"""``gateway migrate``."""

from typing import TYPE_CHECKING

import click

from gateway.cli.command import Command, Given, common, with_stores
from gateway.cli.output import print_json, print_table, remark
from gateway.times import maybe_stamp

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.history import MigrationStatus


@click.command(cls=Command)
@click.option("--status", "only_status", is_flag=True, help="List every migration and change nothing.")
@common
def migrate(given: Given, *, only_status: bool) -> None:
    """Bring the database schema up to date, or show where it is.

    Several may run at once: one migrates, the others wait for it. Only the schema `platform` is touched.
    """
    if only_status:
        _print_status(given, with_stores(given, _status, as_it_is=True))
    else:
        _print_applied(given, with_stores(given, _migrate, as_it_is=True))


async def _migrate(stores: "Stores") -> list[str]:
    from storage.postgres.migrate import migrate  # noqa: PLC0415  slow: see the package's docstring

    return await migrate(stores.database_url)


async def _status(stores: "Stores") -> "list[MigrationStatus]":
    from storage.postgres.migrate import status  # noqa: PLC0415  slow: see the package's docstring

    return await status(stores.database_url)


def _print_applied(given: Given, applied: list[str]) -> None:
    if given.json:
        print_json({"applied": applied})
        return
    for name in applied:
        click.echo(name)
    remark(f"{len(applied)} applied." if applied else "Nothing to do: the schema is up to date.")


def _print_status(given: Given, found: "list[MigrationStatus]") -> None:
    rows = [(status.name, str(status.state), maybe_stamp(status.applied_at)) for status in found]
    if given.json:
        print_json([{"name": name, "state": state, "applied_at": applied_at} for name, state, applied_at in rows])
        return
    print_table(("NAME", "STATE", "APPLIED"), rows)
    if any(state != "applied" for _, state, _ in rows):
        remark("Not everything is in order: `gateway migrate` applies what is pending, and explains what it cannot.")

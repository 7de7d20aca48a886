"""``gateway serve``: production."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.command import Command, Given, common
from gateway.cli.config import missing, upstream_faults
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid, load
from gateway.processes.members import StartFailed
from gateway.processes.sockets import PortTaken
from gateway.processes.supervisor import Supervisor
from gateway.telemetry import application_log
from policies.price_book import PlansInvalid
from policies.route_table import RoutesInvalid
from storage.ports import StorageError


@click.command(cls=Command)
@common
def serve(given: Given) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. SIGHUP reads settings, secrets and routes again."""
    settings = settings_or_exit(given.overrides, given.config, embedded=given.embedded)
    application_log.configure(settings.log_level)
    run(Supervisor(settings, embedded=given.embedded, read=reader(given, embedded=given.embedded)).run())


def reader(given: Given, *, embedded: bool, overrides: Mapping[str, Any] | None = None) -> Callable[[], Settings]:
    """How the settings are read again at a reload: from the sources of the start. It raises SettingsInvalid."""

    def read() -> Settings:
        settings = load(given.overrides if overrides is None else overrides, given.config)
        if faults := missing(settings, embedded=embedded) + upstream_faults(settings):
            raise SettingsInvalid(faults)
        return settings

    return read


def settings_or_exit(overrides: dict[str, Any], config: Path | None, *, embedded: bool) -> Settings:
    """The settings; every fault on standard error and exit 1 when there is one."""
    faults: list[str] = []
    unusable: Collection[tuple[str, ...]] = ()
    settings: Settings | None
    try:
        settings = load(overrides, config)
    except SettingsInvalid as error:
        faults, settings, unusable = error.faults, error.rest, error.unusable
    if settings is not None:
        faults += missing(settings, embedded=embedded, unusable=unusable) + upstream_faults(settings, unusable)
        if not faults:
            return settings
    for fault in faults:
        click.echo(fault, err=True)
    click.echo("Nothing was started. `gateway check-config` checks again.", err=True)
    sys.exit(1)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed; say in a sentence what prevented the start, and exit 1."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _run(main)
    except (StorageError, PortTaken, RoutesInvalid, PlansInvalid, StartFailed) as error:
        click.echo(f"The gateway did not start: {error}", err=True)
        sys.exit(1)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)

"""``gateway serve``: production."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from gateway.cli.command import Command, Given, common
from gateway.cli.config import judged
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid
from gateway.processes.members import StartFailed
from gateway.processes.sockets import PortTaken
from gateway.processes.supervisor import Supervisor
from gateway.telemetry import application_log
from gateway.telemetry.log_file import LogFile
from policies.account.price_book import PlansInvalid
from policies.routing.route_table import RoutesInvalid
from storage.ports import StorageError

_STDOUT, _STDERR = 1, 2


@click.command(cls=Command)
@common
def serve(given: Given) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain. SIGHUP reads settings, secrets and routes again."""
    settings = settings_or_exit(given.overrides, given.config, embedded=given.embedded)
    application_log.configure(settings.log_level)
    log = LogFile(_STDOUT)

    def read() -> Settings:
        log.reopen(_STDERR)
        return judged(given.overrides, given.config, embedded=given.embedded)

    run(Supervisor(settings, embedded=given.embedded, read=read).run())


def settings_or_exit(overrides: dict[str, Any], config: Path | None, *, embedded: bool) -> Settings:
    """The settings; every fault on standard error and exit 1 when there is one."""
    try:
        return judged(overrides, config, embedded=embedded)
    except SettingsInvalid as error:
        for fault in error.faults:
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

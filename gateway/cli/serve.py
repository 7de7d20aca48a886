"""``gateway serve``: production."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from gateway.crew import StartFailed
from gateway.settings import Settings, SettingsInvalid, load
from gateway.sockets import PortTaken
from gateway.supervisor import Supervisor
from gateway.telemetry import application_log
from policies.routes import RoutesInvalid
from storage.ports import StorageError


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--embedded", is_flag=True, help="Bring PostgreSQL and Valkey along, under the state directory.")
def serve(config: Path | None, *, embedded: bool) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain."""
    settings = settings_or_exit({}, config, embedded=embedded)
    application_log.configure(settings.log_level)
    run(Supervisor(settings, embedded=embedded).run())


def settings_or_exit(overrides: dict[str, Any], config: Path | None, *, embedded: bool) -> Settings:
    """The settings; every fault on standard error and exit 1 when there is one."""
    faults: list[str] = []
    try:
        settings = load(overrides, config)
    except SettingsInvalid as error:
        faults = error.faults
    else:
        if not embedded:
            faults = [
                f"GATEWAY_{name.upper()}: it is required; or add --embedded to bring your own"
                for name in ("database_url", "redis_url", "secret_key")
                if getattr(settings, name) is None
            ]
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
    except (StorageError, PortTaken, RoutesInvalid, StartFailed) as error:
        click.echo(f"The gateway did not start: {error}", err=True)
        sys.exit(1)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)

"""SIGHUP: settings, secrets and routes are read again, judged whole, and put in force by new workers, or not at all.

A fault leaves everything as it was; log line and metric say so. What the parent itself has bound or opened stays until
a restart: a change of it is named in the log and left out.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.settings import Settings
from gateway.configuration.sources import SettingsInvalid
from gateway.processes.crew import Crew
from gateway.processes.members import StartFailed
from gateway.processes.systemd import Systemd
from policies.account.price_book import PlansInvalid
from policies.routing.route_table import RoutesInvalid
from storage.ports import StorageError

_log = structlog.get_logger("gateway.reload")

FIXED = (
    "listen", "listen_socket", "ops_listen", "state_dir", "database_url", "redis_url", "usage_stream", "usage_http_url",
    "usage_http_token",
)  # fmt: skip
"""Settings that a reload cannot change."""


class Reloader:
    """Reloads one after the other. However often it is asked meanwhile, one more follows.

    ``read`` gives the settings anew, judged with all that they name, or raises SettingsInvalid; ``applied`` hears of
    those that are in force now.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        crew: Crew,
        systemd: Systemd,
        *,
        read: Callable[[], Settings],
        applied: Callable[[Settings], None],
    ) -> None:
        self._blueprint = blueprint
        self._crew = crew
        self._systemd = systemd
        self._read = read
        self._applied = applied
        self._asked = asyncio.Event()
        self.failures = 0
        self.last_successful = True
        """A start is a success: it was read and it serves."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._blueprint.settings

    def ask(self) -> None:
        """Reload soon."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._systemd.reloading()
            await self._reload()
            self._systemd.ready("serving" if self.last_successful else "serving; the last reload failed, see the log")

    async def _reload(self) -> None:
        _log.info("reloading")
        try:
            blueprint = self._prepare()
            await self._crew.left()  # else a signal a second would leave a crowd of old workers
            await self._crew.replace(blueprint)
        except SettingsInvalid as error:
            self._failed(error.faults)
        except (RoutesInvalid, PlansInvalid) as error:  # changed since they were judged
            self._failed(list(error.faults))
        except (StartFailed, StorageError, OSError) as error:
            self._failed([str(error)])
        else:
            self._blueprint = blueprint
            self._applied(blueprint.settings)
            self.last_successful = True
            _log.info("reloaded", workers=blueprint.settings.workers)

    def _prepare(self) -> Blueprint:
        settings = self._read()
        fixed = [name for name in FIXED if getattr(settings, name) != getattr(self.settings, name)]
        if bool(settings.workers) != bool(self.settings.workers):
            fixed.append("workers")
        if fixed:
            _log.warning("these settings change at a restart only, and were left as they are", settings=fixed)
            settings = settings.model_copy(update={name: getattr(self.settings, name) for name in fixed})
        secret = settings.secret_key
        key = self._blueprint.secret_key if secret is None else secret.get_secret_value()
        return replace(self._blueprint, settings=settings, secret_key=key)

    def _failed(self, faults: list[str]) -> None:
        self.failures += 1
        self.last_successful = False
        _log.error("the reload failed; what was in force stays in force", faults=faults)

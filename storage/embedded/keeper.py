"""Keeps one server alive: starts again what died, at once the first time, then with patience."""

import asyncio
import contextlib
import logging
from asyncio.subprocess import Process
from time import monotonic
from typing import Protocol

from storage.embedded.errors import StartFailed
from storage.embedded.process import Log

log = logging.getLogger("storage.embedded")

_FIRST_DELAY = 0.5  # seconds, after the second death in a row
_LONGEST_DELAY = 30.0
_STEADY = 60.0  # seconds of life after which earlier deaths are forgotten
_LOG_CHECK = 60.0  # seconds between two looks at the size of the log


class Server(Protocol):
    """What can be kept."""

    name: str
    log: Log

    async def start(self) -> Process:
        """Start it and see it answer. Raises StartFailed; nothing is left running then."""

    async def stop(self, process: Process) -> None:
        """End it in good order."""


class Keeper:
    """One server and the task that watches it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now; None between a death and the next start."""
        return self._process.pid if self._process else None

    async def open(self) -> None:
        """Start the server for the first time. Raises StartFailed, and does not try again then."""
        self._server.log.keep_small()
        self._process = await self._server.start()
        self._watch = asyncio.create_task(  # noqa: TID251  owned here: close() cancels it and awaits its end
            self._keep(), name=f"keep {self._server.name}"
        )

    async def close(self) -> None:
        """End watch and server. Idempotent."""
        if self._watch:
            self._watch.cancel()
            await asyncio.wait({self._watch})
            self._watch = None
        if self._process:
            await self._server.stop(self._process)
            self._process = None

    async def _keep(self) -> None:
        delay = 0.0
        while True:
            if self._process:
                started = monotonic()
                await self._ended(self._process)
                log.error("%s (process %d) ended with status %s; starting it again",
                          self._server.name, self._process.pid, self._process.returncode)  # fmt: skip
                self._process = None
                if monotonic() - started > _STEADY:
                    delay = 0.0
            await asyncio.sleep(delay)
            delay = min(max(_FIRST_DELAY, 2 * delay), _LONGEST_DELAY)
            try:
                self._process = await self._server.start()
            except (StartFailed, OSError) as error:
                log.error("%s does not start; trying again in %.1f s: %s", self._server.name, delay, error)  # noqa: TRY400  the message is the whole story
            else:
                log.warning("%s runs again (process %d)", self._server.name, self._process.pid)

    async def _ended(self, process: Process) -> None:
        while process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _LOG_CHECK)
            self._server.log.keep_small()

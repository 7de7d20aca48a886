"""The portal as the parent starts it: beside the workers, or in the parent's own loop with ``workers = 0``."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from typing_extensions import override

from gateway.configuration.blueprint import Blueprint
from gateway.portal.application import application
from gateway.portal.parts import Parts
from gateway.processes.serving import Farewell
from gateway.processes.sockets import serve_file
from gateway.processes.worker import main
from storage.ports import Invalidation

_KEEP_ALIVE_S = 75.0
"""Longer than the gateway keeps an idle connection: it is never this end that hangs up on a request."""
_AUTOGROUP = Path("/proc/self/autogroup")
_NICE = 10
"""A tenth of another session's weight: a worker that wakes up does not wait for a password that is being checked."""
_TRIES = 3


class Portal:
    """Serves pages and the API on the socket that the gateway alone can open, until drained."""

    def __init__(self, blueprint: Blueprint, sockets: list[socket.socket]) -> None:
        self._blueprint = blueprint
        self._sockets = sockets
        self._stack = contextlib.AsyncExitStack()
        self._servers: list[asyncio.Server] = []
        self._parts: Parts | None = None
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Open the parts. PostgreSQL and Redis may be down: who needs them is told so."""
        self._parts = await self._stack.enter_async_context(Parts.open(self._blueprint))
        self._runner = web.AppRunner(
            application(self._parts),
            access_log=None,  # the gateway in front writes the one line of every request
            handle_signals=False,
            keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=self._blueprint.settings.drain_timeout,
            auto_decompress=False,
        )
        await self._runner.setup()
        self._stack.push_async_callback(self._runner.cleanup)

    async def accept(self, numbers: Sequence[int]) -> None:
        """Listen, on descriptors of its own that it can close."""
        assert self._runner is not None
        assert self._runner.server is not None
        for number in numbers:
            self._servers.append(await serve_file(self._runner.server, self._sockets[number].dup()))

    async def decline(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def snapshot(self) -> dict[str, Any]:
        """The metrics of the portal."""
        assert self._parts is not None
        return self._parts.metrics.snapshot()

    def forget(self, change: Invalidation) -> None:
        """Tell those who keep something; most ask the stores each time."""
        for listener in self._parts.listeners if self._parts is not None else ():
            listener(change)

    def cut_off(self) -> None:
        """Its connections are the workers' own; they end them."""

    def end_streams(self) -> None:
        """It has none."""

    async def drain(self, farewell: Farewell) -> None:  # noqa: ARG002  its clients are the workers, which end first
        """Let requests finish, then close."""
        await self.decline()
        await self._stack.aclose()


class Session(Portal):
    """The portal in a process and a session of its own."""

    @override
    async def drain(self, farewell: Farewell) -> None:
        """As any other: the end of the whole gateway waits for it, which on a busy machine was four times as long."""
        weigh(0)
        await super().drain(farewell)


def weigh(nice: int, autogroup: Path = _AUTOGROUP) -> None:
    """Weigh less than the data plane where the kernel weighs sessions, as this process is one (sched(7), autogroup).

    A thread's niceness says nothing there to other sessions. Where there is no such thing nothing changes.
    """
    for _ in range(_TRIES):
        try:
            autogroup.write_text(str(nice))
        except BlockingIOError:  # one change in 100 ms, on the whole machine
            time.sleep(0.1)
        except OSError:
            return
        else:
            return


if __name__ == "__main__":
    weigh(_NICE)
    main(Session)

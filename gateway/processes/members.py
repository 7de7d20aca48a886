"""One worker, or the portal, as the parent sees it: a process of its own, or a part of the parent's loop.

Either is opened first and accepts connections when it is told to, so that several can be made ready before the first of
them is let at the listening sockets that they all share.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import structlog

from gateway.configuration.blueprint import Blueprint
from gateway.processes.control import Channel, Gone, Message
from gateway.processes.serving import Farewell, Serving
from gateway.tasks import Tasks
from storage.ports import Invalidation

_log = structlog.get_logger("gateway.crew")

_START_S = 60.0
_FIGURES_S = 2.0
_DECLINE_S = 10.0
"""How long a worker may take to accept what waits in its queue: whoever waits there still is reset by the close."""
_INSIST_S = 5.0
"""How long after its drain time a worker is killed."""


class StartFailed(Exception):
    """A worker did not come up."""


class Member(Protocol):
    """What a crew is made of."""

    number: int
    kind: str
    figures: dict[str, Any] | None
    """As last heard, so that what a killed worker counted stays counted."""

    @property
    def up(self) -> bool:
        """Whether it serves, or could."""

    async def open(self) -> None:
        """Start, and wait until it could serve. Raises StartFailed."""

    async def accept(self, numbers: Sequence[int]) -> None:
        """Let it at these of the listening sockets, and at no other."""

    async def decline(self) -> None:
        """Take no new connections; those that are there go on. Returns when that is so."""

    async def ask_figures(self) -> None:
        """Bring ``figures`` up to date, if it still answers."""

    async def ping(self) -> None:
        """Whether its loop turns. Raises Gone."""

    def forget(self, change: Invalidation) -> None:
        """Pass a change on."""

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""

    def end_streams(self) -> None:
        """End its streams now, though it had been given time for them."""

    async def drain(self, farewell: Farewell) -> None:
        """Let it finish, then insist."""

    def kill(self) -> None:
        """End it now."""


class Process:
    """A worker in a process of its own."""

    module = "gateway.processes.worker"
    kind = "worker"

    def __init__(self, blueprint: Blueprint, sockets: list[socket.socket], number: int, tasks: Tasks) -> None:
        self._blueprint = blueprint
        self._sockets = sockets
        self.number = number
        self._tasks = tasks
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self.figures: dict[str, Any] | None = None

    @property
    def up(self) -> bool:
        """It has said that it is ready, and lives."""
        return self._ready.is_set() and self._process is not None and self._process.returncode is None

    async def open(self) -> None:
        """Start, and wait until it could serve. Raises StartFailed."""
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *(s.fileno() for s in self._sockets)]
        try:
            # -P: a stray storage.py in the working directory must not hide ours.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", self.module, str(theirs.fileno()),
                pass_fds=descriptors, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise StartFailed(f"{self.kind} {self.number} could not be started: {error.strerror}") from error
        finally:
            theirs.close()
        try:
            await self._introduce(ours)
        except asyncio.CancelledError:
            self.kill()
            raise

    async def _introduce(self, ours: socket.socket) -> None:
        assert self._process is not None
        self._channel = await Channel.over(ours, self._hear)
        self._tasks.start(self._channel.run(), f"channel to {self.kind} {self.number}")
        self._channel.tell(
            {
                "do": "open",
                "blueprint": self._blueprint.to_message(),
                "sockets": [s.fileno() for s in self._sockets],
            }
        )
        ended = self._tasks.start(self._process.wait(), f"{self.kind} {self.number} until it ends")
        ready = self._tasks.start(self._ready.wait(), f"{self.kind} {self.number} until it is ready")
        await asyncio.wait({ended, ready}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self.kill()
            status = self._process.returncode
            what = f"ended with status {status} as it started"
            if status is None:
                what = f"did not come up within {_START_S:g} s"
            raise StartFailed(f"{self.kind} {self.number} {what}; its log says why")

    async def _hear(self, message: Message) -> None:
        if message.get("ready"):
            self._ready.set()
        if "drained" in message:
            self.figures = message["drained"]

    async def accept(self, numbers: Sequence[int]) -> None:
        """Let it at the listening sockets: until it is there, connections wait in their queues."""
        self._tell("accept", sockets=list(numbers))

    async def decline(self) -> None:
        """Take no new connections. One that does not answer will not accept any either, or is killed later."""
        if self._channel is not None:
            with contextlib.suppress(Gone):
                await self._channel.ask("decline", _DECLINE_S)

    def _tell(self, do: str, **details: Any) -> None:
        if self._channel is not None:
            self._channel.tell({"do": do, **details})

    async def ask_figures(self) -> None:
        """Bring ``figures`` up to date, if it still answers."""
        if self._channel is not None and self.up:
            try:
                figures = await self._channel.ask("metrics", _FIGURES_S)
            except Gone:
                return
            if self.up:  # else they were counted as a dead one's, as last heard before
                self.figures = figures

    async def ping(self) -> None:
        """Whether its loop turns. Raises Gone."""
        if self._channel is None or not self.up:
            raise Gone(f"the {self.kind} is being started")
        await self._channel.ask("ping", _FIGURES_S)

    def forget(self, change: Invalidation) -> None:
        """Pass a change on; a worker that is not up yet knows nothing it could forget."""
        self._tell("forget", change=asdict(change))

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal. One that could not even be forked ended at once."""
        return await self._process.wait() if self._process is not None else -1

    def end_streams(self) -> None:
        """End its streams now."""
        self._tell("end_streams")

    async def drain(self, farewell: Farewell) -> None:
        """Let it finish, then insist."""
        if self._process is None or self._process.returncode is not None or self._channel is None:
            return
        self._tell("drain", farewell=asdict(farewell))
        try:
            async with asyncio.timeout(farewell.within_s + _INSIST_S):
                await self._process.wait()
        except TimeoutError:
            _log.warning(f"{self.kind} did not drain in time", worker=self.number, within_s=farewell.within_s)
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it now; what it had journalled is in the account all the same."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class PortalProcess(Process):
    """The portal in a process of its own: what takes long there holds up no request of the data plane."""

    module = "gateway.processes.portal"
    kind = "portal"


class InProcess:
    """The one worker of ``workers = 0``, or its portal, in the parent's own loop."""

    number = 0

    def __init__(self, serving: Serving, kind: str) -> None:
        self._serving = serving
        self.kind = kind
        self.figures: dict[str, Any] | None = None
        self.up = False
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Open it; a fault of it is the parent's own."""
        await self._serving.open()
        self.up = True

    async def accept(self, numbers: Sequence[int]) -> None:
        """Let it at the listening sockets."""
        await self._serving.accept(numbers)

    async def decline(self) -> None:
        """Take no new connections."""
        await self._serving.decline()

    async def ask_figures(self) -> None:
        """Bring ``figures`` up to date."""
        if self.up:
            self.figures = self._serving.snapshot()

    async def ping(self) -> None:
        """Whether it is open. Raises Gone."""
        if not self.up:
            raise Gone(f"the {self.kind} is being started")

    def forget(self, change: Invalidation) -> None:
        """Pass a change on."""
        if self.up:
            self._serving.forget(change)

    async def ended(self) -> int:
        """Wait until it was drained."""
        await self._ended.wait()
        return 0

    def end_streams(self) -> None:
        """End its streams now."""
        if self.up:
            self._serving.end_streams()

    async def drain(self, farewell: Farewell) -> None:
        """Let it finish; there is no process to insist on."""
        if self.up:
            await self._serving.drain(farewell)
            self.figures = self._serving.snapshot()
            self.up = False
        self._ended.set()

    def kill(self) -> None:
        """There is no process to end: cut its connections off."""
        self._serving.cut_off()

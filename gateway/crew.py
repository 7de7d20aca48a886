"""The workers and the portal: started, watched, started again when they die, asked for their figures, drained."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog

from gateway.control import Channel, Gone, Message
from gateway.services import Blueprint
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.worker import Serving, Worker
from storage.ports import Invalidation

_log = structlog.get_logger("gateway.crew")

_START_S = 20.0
_FIGURES_S = 2.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 10.0
"""A worker that lived this long was well: its death starts the back-off anew."""


class StartFailed(Exception):
    """A worker did not come up."""


class _Process:
    """One worker, or the portal, in a process of its own."""

    module = "gateway.worker"
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
        """As last heard, so that what a killed worker counted stays counted."""

    @property
    def up(self) -> bool:
        return self._ready.is_set() and self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, and wait until it serves. Raises StartFailed."""
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
        self._channel = await Channel.over(ours, self._hear)
        self._tasks.start(self._channel.run(), f"channel to {self.kind} {self.number}")
        self._channel.tell(
            {
                "do": "serve",
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
            raise StartFailed(f"{self.kind} {self.number} did not come up within {_START_S:g} s; its log says why")

    async def _hear(self, message: Message) -> None:
        if message.get("ready"):
            self._ready.set()

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
        if self._channel is not None:
            self._channel.tell({"do": "forget", "change": asdict(change)})

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal. One that could not even be forked ended at once."""
        return await self._process.wait() if self._process is not None else -1

    async def drain(self, within_s: float) -> None:
        """Let it finish, then insist."""
        if self._process is None or self._process.returncode is not None or self._channel is None:
            return
        self._channel.tell({"do": "drain"})
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            _log.warning(f"{self.kind} did not drain in time", worker=self.number, within_s=within_s)
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class _PortalProcess(_Process):
    """The portal in a process of its own: what takes long there holds up no request of the data plane."""

    module = "gateway.portal"
    kind = "portal"


class _InProcess:
    """The one worker of ``workers = 0``, or its portal, in the parent's own loop."""

    number = 0

    def __init__(self, worker: Serving) -> None:
        self._worker = worker
        self.figures: dict[str, Any] | None = None
        self.up = False

    async def start(self) -> None:
        await self._worker.start()
        self.up = True

    async def ping(self) -> None:
        if not self.up:
            raise Gone("the portal is being started")

    async def ask_figures(self) -> None:
        if self.up:
            self.figures = self._worker.snapshot()

    def forget(self, change: Invalidation) -> None:
        if self.up:
            self._worker.forget(change)

    def kill(self) -> None:
        """There is no process to end: cut its connections off."""
        self._worker.cut_off()

    async def drain(self, _: float) -> None:
        self.up = False
        await self._worker.drain()


class Crew:
    """All workers, and the portal if it is given a socket. With ``workers = 0`` there is one, and no process."""

    def __init__(
        self,
        blueprint: Blueprint,
        sockets: list[socket.socket],
        tasks: Tasks,
        portal_socket: socket.socket | None = None,
    ) -> None:
        self._blueprint = blueprint
        self._sockets = sockets
        self._tasks = tasks
        self._portal_socket = portal_socket
        self._members: list[_Process | _InProcess] = []
        self._portal: _Process | _InProcess | None = None
        self._retired = Metrics()
        self._draining = False

    async def start(self) -> None:
        """Start all, and return when all serve. Raises StartFailed."""
        count = self._blueprint.settings.workers
        if not count:
            await self._start_in_process()
            return
        processes = [self._make(number) for number in range(1, count + 1)]
        self._members = [*processes]
        if self._portal_socket is not None:
            self._portal = self._make_portal(self._portal_socket)
            processes.append(self._portal)
        await asyncio.gather(*(process.start() for process in processes))
        for process in processes:
            self._tasks.start(self._keep(process), f"keeper of {process.kind} {process.number}")

    async def _start_in_process(self) -> None:
        self._members = [_InProcess(Worker(self._blueprint, self._sockets))]
        if self._portal_socket is not None:
            from gateway.portal.process import Portal  # noqa: PLC0415  with processes the parent needs none of it

            self._portal = _InProcess(Portal(self._blueprint, [self._portal_socket]))
        for member in self._all():
            await member.start()

    def _all(self) -> list[_Process | _InProcess]:
        return self._members if self._portal is None else [*self._members, self._portal]

    def _make(self, number: int) -> _Process:
        return _Process(self._blueprint, self._sockets, number, self._tasks)

    def _make_portal(self, listening: socket.socket) -> _Process:
        return _PortalProcess(self._blueprint, [listening], 1, self._tasks)

    async def _keep(self, process: _Process) -> None:
        """Start a worker again whenever it dies, later and later while that keeps happening."""
        pause = _FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            status = await process.ended()
            if self._draining:
                return
            self._retire(process)
            _log.error(f"{process.kind} died", worker=process.number, exit_status=status)
            if time.monotonic() - started > _STEADY_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            if self._draining:
                return
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            process = await self._replace(process)

    async def _replace(self, dead: _Process) -> _Process:
        process: _Process
        if dead is self._portal:
            assert self._portal_socket is not None
            self._portal = process = self._make_portal(self._portal_socket)
        else:
            process = self._make(dead.number)
            self._members[self._members.index(dead)] = process
        try:
            await process.start()
        except StartFailed as error:
            _log.error(f"{process.kind} did not start", worker=process.number, reason=str(error))
        else:
            _log.info(f"{process.kind} started", worker=process.number)
        return process

    def _retire(self, process: _Process) -> None:
        if process.figures is not None:
            self._retired.merge(process.figures, alive=False)
            process.figures = None  # counted once, though the process stays a member until another takes its place

    def up(self) -> Mapping[str, bool]:
        """Each worker by number, and whether it serves."""
        return {str(member.number): member.up for member in self._members}

    async def ping_portal(self) -> None:
        """Whether the portal answers. Raises Gone."""
        if self._portal is not None:
            await self._portal.ping()

    async def metrics(self) -> Metrics:
        """The figures of all that live and all that died, merged."""
        await asyncio.gather(*(member.ask_figures() for member in self._all()))
        merged = Metrics()
        merged.merge(self._retired.snapshot(), alive=False)
        for member in self._all():
            if member.figures is not None:
                merged.merge(member.figures, alive=member.up)
        return merged

    def forget(self, change: Invalidation) -> None:
        """Tell every worker of a change."""
        for member in self._all():
            member.forget(change)

    def kill(self) -> None:
        """End all workers now; what they had journalled is in the account all the same."""
        for member in self._all():
            member.kill()

    async def drain(self) -> None:
        """End all workers, politely first."""
        self._draining = True
        within_s = self._blueprint.settings.drain_timeout + 5.0
        await asyncio.gather(*(member.drain(within_s) for member in self._members))
        if self._portal is not None:  # last: what workers have in flight may be the portal's to answer
            await self._portal.drain(within_s)

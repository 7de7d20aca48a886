"""One process that serves: the public listener and everything a request needs. Started by the parent, told what to do.

Settings, secrets included, arrive over the control channel and never on a command line or in an environment, where
other processes could read them. When the channel closes the parent is dead, and the worker drains and ends.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from gateway.configuration.blueprint import Blueprint
from gateway.processes.control import Channel, Message
from gateway.processes.services import Services
from gateway.processes.serving import Farewell, Make, Serving
from gateway.processes.sockets import QUEUE, serve_file
from gateway.tasks import Tasks
from gateway.telemetry import application_log
from policies.metering.streams import Ending
from storage.ports import Invalidation

_ACCEPTS = 64
"""How many connections asyncio's own loop accepts before it turns to those that are there, or complains of EMFILE."""
_TURNS = 3
"""In how many turns of the loop a connection that was accepted is made: asyncio's own needs two, uvloop one."""
_ORPHANED_S = 1.0
"""How long an unused connection stays open when the parent has died."""


class Worker:
    """Serves on listening sockets until drained. In-process with ``workers = 0``, else a process of its own."""

    def __init__(self, blueprint: Blueprint, sockets: list[socket.socket]) -> None:
        self._blueprint = blueprint
        self._sockets = sockets
        self._stack = contextlib.AsyncExitStack()
        self._servers: dict[int, asyncio.Server] = {}
        self.services: Services | None = None

    async def open(self) -> None:
        """Open the services."""
        self.services = await self._stack.enter_async_context(Services.open(self._blueprint))

    async def accept(self, numbers: Sequence[int]) -> None:
        """Listen on descriptors of its own, which it can close. What waits in a queue is the next listener's."""
        assert self.services is not None
        for number in self._servers.keys() - set(numbers):
            self._servers.pop(number).close()
        loop = asyncio.get_running_loop()
        for number in set(numbers) - self._servers.keys():
            listening = self._sockets[number]
            make = self.services.server
            if listening.family == socket.AF_UNIX:
                self._servers[number] = await serve_file(make, listening.dup())
                continue
            self._servers[number] = await loop.create_server(make, sock=listening.dup(), backlog=_ACCEPTS)
            listening.listen(QUEUE)  # asyncio has taken its word for the length of the queue as well

    async def decline(self) -> None:
        """Stop listening, but for what waits in the queues: the port is closed next, and would reset it."""
        numbers = list(self._servers)
        self._stop_listening()
        loop = asyncio.get_running_loop()
        for number in numbers:
            assert self.services is not None
            while waiting := _next_in(self._sockets[number]):
                await loop.connect_accepted_socket(self.services.server, waiting)

    def _stop_listening(self) -> None:
        while self._servers:
            self._servers.popitem()[1].close()

    def snapshot(self) -> dict[str, Any]:
        """The metrics of this worker."""
        assert self.services is not None
        self.services.metrics.full_journals = int(self.services.journal.full)
        return self.services.metrics.snapshot()

    def forget(self, change: Invalidation) -> None:
        """Drop what a change may have made untrue."""
        assert self.services is not None
        self.services.forget(change)

    def cut_off(self) -> None:
        """End every connection now."""
        if self.services is not None:
            for connection in self.services.server.connections:
                connection.force_close()

    def end_streams(self) -> None:
        """End every stream with 1012: connect again."""
        if self.services is not None:
            self.services.proxy.draining = True
            self.services.streams.end_all(Ending.SHUTTING_DOWN)

    async def drain(self, farewell: Farewell) -> None:
        """Stop listening, let requests and streams have their time, flush the log and the journal, close."""
        self._stop_listening()
        for _ in range(_TURNS):  # who was accepted a moment ago is among those that drain
            await asyncio.sleep(0)
        if self.services is not None:
            ending = asyncio.get_running_loop().call_later(farewell.streams_s, self.end_streams)
            await self.services.server.drain(farewell.within_s, farewell.idle_s)
            ending.cancel()
        await self._stack.aclose()


def _next_in(listening: socket.socket) -> socket.socket | None:
    """The connection that has waited longest in the queue; None where none waits, or no file is left for it."""
    try:
        waiting, _ = listening.accept()
    except OSError:
        return None
    waiting.setblocking(False)  # noqa: FBT003  its only argument
    return waiting


class _Led:
    """One that serves, as its parent leads it over the control channel."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        """What is done in turn: the blueprint first, and the drain at last."""
        self._worker: Serving | None = None

    async def serve(self, end: socket.socket) -> None:
        """From the first order to the last."""
        channel = await Channel.over(end, self._hear)
        reading = Tasks().start(channel.run(), "control channel")
        reading.add_done_callback(self._orphaned)
        first = await self._orders.get()
        if first["do"] == "drain":
            return
        blueprint = Blueprint.from_message(first["blueprint"])
        application_log.configure(blueprint.settings.log_level)
        sockets = [socket.socket(fileno=number) for number in first["sockets"]]
        worker = self._worker = self._make(blueprint, sockets)
        await worker.open()
        _spare_the_collector()
        channel.tell({"ready": True})
        while (order := await self._orders.get())["do"] != "drain":
            pass
        alone = {"within_s": blueprint.settings.drain_timeout, "idle_s": _ORPHANED_S}
        await worker.drain(Farewell(**order.get("farewell", alone)))
        channel.tell({"drained": worker.snapshot()})
        channel.close()
        await asyncio.wait({reading})

    async def _hear(self, message: Message) -> Any:
        """The answer to a question of the parent's; what is an order for later is put in its turn."""
        worker = self._worker
        match message["do"]:
            case "metrics" if worker is not None:
                return worker.snapshot()
            case "forget" if worker is not None:
                worker.forget(Invalidation(**message["change"]))
            case "ping":
                return True
            case "accept" if worker is not None:
                await worker.accept(message["sockets"])
            case "decline" if worker is not None:
                await worker.decline()
            case "end_streams" if worker is not None:
                worker.end_streams()
            case _:
                self._orders.put_nowait(message)
        return None

    def _orphaned(self, _: object) -> None:
        """The parent is dead: drain, and give streams no time."""
        self._orders.put_nowait({"do": "drain"})
        if self._worker is not None:
            self._worker.end_streams()


def _spare_the_collector() -> None:
    gc.collect()
    gc.freeze()  # what start-up made lives as long as the process: the collector need not walk it again
    gc.set_threshold(20_000, 50, 100)  # requests free what they make by reference count; 700 is for scripts


def main(make: Make = Worker) -> None:
    """Run what ``make`` makes over the control socket whose descriptor is the one argument."""
    # The parent decides when a worker ends: Ctrl-C reaches the whole foreground group, and must not cut requests off.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        asyncio.run(_Led(make).serve(end))
    else:
        uvloop.run(_Led(make).serve(end))


if __name__ == "__main__":
    main()

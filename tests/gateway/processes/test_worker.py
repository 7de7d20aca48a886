"""A worker's beginning and end: it can sign before it serves; who waits when it stops listening is served."""

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp.web_protocol import RequestHandler

from gateway.dataplane.listener import PublicServer
from gateway.processes.serving import Farewell
from gateway.processes.sockets import listen, listen_at_files
from gateway.processes.supervisor import Supervisor
from gateway.processes.worker import Worker
from gateway.telemetry.metrics import Metrics
from storage.ports import StorageError
from tests.gateway.processes.test_crew import blueprint

_ASKED = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def test_who_waits_in_the_queue_when_it_declines_is_answered(tmp_path: Path) -> None:
    """The loop does not run between the connect and the decline, so that the connection is still in the queue."""
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        worker = Worker(blueprint(tmp_path, 0), [listening])
        await worker.open()
        await worker.accept([0])
        waiting = socket.create_connection(listening.getsockname())
        waiting.sendall(_ASKED)
        await worker.decline()
        listening.shutdown(socket.SHUT_RDWR)
        reader, writer = await asyncio.open_connection(sock=waiting)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        await worker.drain(Farewell(within_s=1.0, idle_s=0.0))


async def test_whoever_is_accepted_as_the_drain_begins_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody else is connected, in one turn of the loop: the drain found nobody, and ended before it answered."""
    ends, answered = [], []
    make, shutdown = PublicServer.__call__, PublicServer.shutdown

    def making(server: PublicServer) -> RequestHandler:
        ends.append(asyncio.get_running_loop().create_task(worker.drain(Farewell(within_s=30.0, idle_s=30.0))))
        return make(server)

    async def shutting(server: PublicServer, timeout: float | None = None) -> None:
        assert worker.services is not None
        answered.append(worker.services.metrics.denials[("unknown_route",)])
        await shutdown(server, timeout)

    monkeypatch.setattr(PublicServer, "__call__", making)
    monkeypatch.setattr(PublicServer, "shutdown", shutting)
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        worker = Worker(blueprint(tmp_path, 0), [listening])
        await worker.open()
        await worker.accept([0])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
            writer.close()
            await ends[0]
    assert answered == [1], "when all had finished"


async def test_a_file_is_listened_at_as_a_port_is_and_keeps_its_name(tmp_path: Path) -> None:
    """Another worker may listen at it, as after a reload; who waits when this one declines is answered here as well."""
    (listening,) = listen_at_files(tmp_path / "http.sock", "GATEWAY_LISTEN_SOCKET", 0)
    with listening:
        worker = Worker(blueprint(tmp_path, 0), [listening])
        await worker.open()
        await worker.accept([0])
        served = await asyncio.open_unix_connection(listening.getsockname())
        served[1].write(_ASKED)
        async with asyncio.timeout(30):
            assert (await served[0].read()).startswith(b"HTTP/1.1 404 ")
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(listening.getsockname())
        waiting.sendall(_ASKED)
        await worker.decline()
        assert (tmp_path / "http.sock").is_socket()
        reader, writer = await asyncio.open_unix_connection(sock=waiting)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        served[1].close()
        await worker.drain(Farewell(within_s=1.0, idle_s=0.0))


async def test_a_worker_without_room_for_records_says_so(tmp_path: Path) -> None:
    """It refuses every request, so no balancer should send it any."""
    one = blueprint(tmp_path, 0)
    (tmp_path / "journal").mkdir()
    with (tmp_path / "journal" / f"{0:032x}.00000000.journal").open("wb") as other:
        other.truncate(one.settings.journal_max_bytes)
    worker = Worker(one, [])
    await worker.open()
    parent = Supervisor(one.settings, embedded=False, read=lambda: one.settings)
    parent._crew = Crew(worker.snapshot())
    with pytest.raises(StorageError, match="1 of the workers have no room"):
        await parent._look_at_journals()
    await worker.drain(Farewell(within_s=1.0, idle_s=0.0))


class Crew:
    """What the parent asks, of one worker."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self._snapshot = snapshot

    async def metrics(self) -> Metrics:
        """As :meth:`gateway.processes.crew.Crew.metrics`."""
        figures = Metrics()
        figures.merge(self._snapshot, alive=True)
        return figures


async def test_a_worker_that_is_open_can_sign(tmp_path: Path, migrated_url: str) -> None:
    """One that replaces a dead one gets requests at once; the first went to the upstream without an assertion."""
    worker = Worker(replace(blueprint(tmp_path, 0), database_url=migrated_url), [])
    await worker.open()
    assert worker.services is not None
    assert worker.services.tokens.ring.can_sign(datetime.now(UTC))
    await worker.drain(Farewell(within_s=1.0, idle_s=0.0))

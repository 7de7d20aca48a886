"""The command: it starts at once, stops at once, leaves nothing behind, says where it listens and errors."""

import asyncio
import contextlib
import io
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.demo.samples import SAMPLES
from tests.gateway.demo.conftest import Running, launch, place, start

FIRST = SAMPLES[0].path.read_bytes()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A transcriber that this test may end."""
    own = launch(tmp_path)
    with own.process:
        yield own
        own.process.kill()


def ended(pid: int, within_seconds: float = 5) -> bool:
    """Whether a process ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor) as watched:
        return bool(select.select([watched], [], [], within_seconds)[0])


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_with_status_0_and_without_a_word(running: Running, order: signal.Signals):
    workshop = running.workshop
    running.process.send_signal(order)
    out, _ = running.process.communicate(timeout=30)
    assert (running.process.returncode, out, running.errors.read_bytes()) == (0, b"", b"")
    assert ended(workshop)


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_an_order_that_reaches_all_its_processes_is_obeyed_in_silence_too(running: Running, order: signal.Signals):
    for pid in (running.workshop, running.process.pid):
        os.kill(pid, order)
    assert running.process.wait(30) == 0
    assert running.errors.read_bytes() == b""


async def test_an_open_stream_does_not_keep_it_from_stopping(running: Running):
    async with aiohttp.ClientSession(running.url) as client, client.ws_connect("/v1/listen") as call:
        await call.send_bytes(FIRST[44:])
        await call.receive()
        running.process.terminate()
        assert await asyncio.to_thread(running.process.wait, 5) == 0
    assert running.errors.read_bytes() == b""


def test_its_processes_end_with_it_even_when_it_is_killed(running: Running):
    workshop = running.workshop
    running.process.kill()
    assert ended(workshop)


def test_without_its_workshop_it_ends_and_says_so(running: Running):
    os.kill(running.workshop, signal.SIGKILL)
    assert running.process.wait(30) == 1
    assert b"lost the process that holds its model" in running.errors.read_bytes()


async def test_a_client_that_vanishes_frees_its_recogniser(running: Running):
    form = aiohttp.FormData({"stream": "true"})
    form.add_field("file", io.BytesIO(FIRST + FIRST[44:] * 100), filename="long.wav")
    async with aiohttp.ClientSession(running.url) as client:
        answer = await client.post("/v1/audio/transcriptions", data=form)
        await answer.content.readline()
        recogniser = running.recogniser
        answer.close()
        assert await asyncio.to_thread(ended, recogniser)
    assert running.errors.read_bytes() == b""


async def test_a_job_too_many_waits_for_a_recogniser_while_the_server_answers_on(running: Running):
    async with aiohttp.ClientSession(running.url) as client, contextlib.AsyncExitStack() as calls:
        held = [await calls.enter_async_context(client.ws_connect("/v1/listen")) for _ in range(16)]
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.post("/v1/listen", data=SAMPLES[-1].path.read_bytes()))
            async with client.get("/health") as answer:
                assert (await answer.json())["status"] == "ok"
            assert not waiting.done()
            await held[0].close()
        assert waiting.result().status == 200


async def test_it_serves_on_a_unix_socket_and_takes_it_away_at_the_end(tmp_path: Path):
    path, errors = tmp_path / "socket", tmp_path / "stderr"
    process = start(errors, "--unix", str(path))
    with process:
        assert place(process) == str(path)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
            answer = await client.get("http://localhost/health")
            assert (await answer.json())["model"] in {"loading", "ready"}
        process.terminate()
        assert process.wait(30) == 0
    assert not path.exists()
    assert errors.read_bytes() == b""


def test_an_address_in_use_is_an_error_with_a_reason(tmp_path: Path):
    errors = tmp_path / "stderr"
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        start(errors, "--port", str(taken.getsockname()[1])) as process,
    ):
        assert process.wait(30) == 1
    assert b"cannot listen" in errors.read_bytes()


def test_a_file_that_stands_where_the_socket_should_is_left_alone(tmp_path: Path):
    errors, file = tmp_path / "stderr", tmp_path / "file"
    file.write_text("mine")
    with start(errors, "--unix", str(file)) as process:
        assert process.wait(30) == 1
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a-\x00secret\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer a-secret\r\n\r\n",
        b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na-secret\r\n",
        b"POST /v1/listen HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\na-secret",
        b"hello\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_refused_and_nothing_of_it_is_printed(transcriber: Running, request_bytes: bytes):
    """The shared fixture holds the transcriber to having printed nothing at all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(transcriber.url.rsplit(":", 1)[1]))
    writer.write(request_bytes)
    assert b" 4" in await reader.readline()
    writer.close()
    await writer.wait_closed()

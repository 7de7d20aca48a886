"""One real demo transcriber, in a process of its own, for all tests of this folder."""

import ctypes
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.demo.recogniser import Recogniser

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A transcriber that answers, and where."""

    process: subprocess.Popen[bytes]
    url: str
    errors: Path

    @property
    def workshop(self) -> int:
        """The id of the process that holds the model."""
        return child(self.process.pid)

    @property
    def recogniser(self) -> int:
        """The id of the process that does the one job under way."""
        return child(self.workshop)


def child(pid: int) -> int:
    """The id of a process's only child."""
    (only,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(only)


def start(errors: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command; it ends with the test run, whatever becomes of that."""
    prctl = ctypes.CDLL(None).prctl
    with errors.open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway.demo.transcriber", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - one system call, no lock
        )


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def health(port: int) -> Any:
    """What ``GET /health`` says, asked again until somebody listens; at most 10 s."""
    deadline = time.monotonic() + 10
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health")
            answer = json.load(connection.getresponse())
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            connection.close()
            return answer


def launch(folder: Path) -> Running:
    """A transcriber on a port of its own."""
    port, errors = free_port(), folder / "stderr"
    process = start(errors, "--port", str(port))
    health(port)
    return Running(process, f"http://127.0.0.1:{port}", errors)


@pytest.fixture(scope="session")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Shared by all tests; at the end it must have printed nothing at all."""
    running = launch(tmp_path_factory.mktemp("transcriber"))
    yield running
    running.process.terminate()
    out, _ = running.process.communicate(timeout=10)
    assert (out, running.errors.read_bytes()) == (b"", b"")


@pytest.fixture
async def http_client(transcriber: Running):
    """An HTTP client whose paths are the transcriber's."""
    async with aiohttp.ClientSession(transcriber.url) as session:
        yield session


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    """The model, in this process."""
    return Recogniser()

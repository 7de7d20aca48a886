"""One real demo transcriber, in a process of its own, for all tests of this folder."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def place(process: subprocess.Popen[bytes]) -> str:
    """Where it says that it listens, once it does."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the transcriber ended without a word on standard output"
    return line.split()[-1].decode()


def launch(folder: Path) -> Running:
    """A transcriber on a port of its own."""
    errors = folder / "stderr"
    process = start(errors, "--port", "0")
    return Running(process, place(process), errors)


@pytest.fixture(scope="session")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Shared by all tests; at the end it must have printed nothing more."""
    running = launch(tmp_path_factory.mktemp("transcriber"))
    yield running
    running.process.terminate()
    out, _ = running.process.communicate(timeout=30)
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

"""Places for state directories, and processes that own them."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.servers import scratch
from tests.storage.embedded.owner import Said
from tests.storage.embedded.portable import Portable, ours


class Owner:
    """A running owner.py, to be ended in good order (``close``) or not (``kill``)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.state = Path(process.args[-1])
        self.pid = process.pid
        line = process.stdout.readline()
        if not line:
            process.communicate()
            raise AssertionError("the owner ended without a word; its reason is on standard error")
        self.said = Said(**json.loads(line))

    def close(self) -> None:
        """End it in good order."""
        self.process.communicate()

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, which the servers' user may pass through."""
    with scratch() as path:
        yield path


@pytest.fixture(scope="session")
def made_once() -> Iterator[Path]:
    """A state directory whose servers were started once and stopped. Not to be used itself: copy it."""
    with scratch() as path:
        owner = Owner(_run(ours(), path / "state"))
        owner.close()
        assert not owner.said.error, owner.said.error
        yield path / "state"


@pytest.fixture
def copy_state(made_once: Path) -> Callable[[Path], Path]:
    """Make a state directory with data, which nobody uses, at a path."""
    return lambda path: _copy(made_once, path)


@pytest.fixture
def state(place: Path, made_once: Path) -> Path:
    """A state directory with data, which nobody uses."""
    return _copy(made_once, place / "state")


@pytest.fixture(scope="module")
def idle(made_once: Path) -> Iterator[Path]:
    """The same for all tests of a file, each of which leaves it in order."""
    with scratch() as path:
        yield _copy(made_once, path / "state")


@pytest.fixture(scope="module")
def running(idle: Path) -> Iterator[Owner]:
    """An owner for tests that only look at it. Its environment holds a secret."""
    code = ours()
    owner = Owner(_run(code, idle, env={**code.environment, "GATEWAY_SECRET_KEY": "do-not-tell"}))
    yield owner
    owner.close()


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Start a process that owns a state directory; all are gone at the end of the test."""
    with contextlib.ExitStack() as ends:

        def start(
            state: Path, *, portable: Portable | None = None, wrapper: Sequence[str] = (), **popen: object
        ) -> Owner:
            process = _run(portable or ours(), state, wrapper=wrapper, **popen)
            ends.callback(_end, process)
            return Owner(process)

        yield start


def _copy(made: Path, path: Path) -> Path:
    subprocess.run(["cp", "-a", made, path], check=True)
    return path


def _run(code: Portable, state: Path, *, wrapper: Sequence[str] = (), **popen: object) -> subprocess.Popen[bytes]:
    given = {"env": code.environment, **popen}
    return subprocess.Popen(
        [*wrapper, code.python, code.script, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **given
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.communicate()
    process.stdin.close()
    process.stdout.close()

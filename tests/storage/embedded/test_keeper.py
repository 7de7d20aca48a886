"""When a server that died is started again, told by a server that is none."""

import asyncio
import logging
from pathlib import Path

import pytest

from storage.embedded import StartFailed, keeper
from storage.embedded.keeper import Keeper
from storage.embedded.process import Log


class FakeProcess:
    """A process that ends when it is told to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over = asyncio.Event()

    async def wait(self) -> int:
        """Tell the status once it has ended."""
        await self._over.wait()
        return self.returncode

    def die(self) -> None:
        """End as by kill -9."""
        self.returncode = -9
        self._over.set()


class FakeServer:
    """Starts fake processes; refuses as often as it is told to, and says when it was asked."""

    name = "Fake"

    def __init__(self, log: Path) -> None:
        self.log = Log(log)
        self.asked = asyncio.Queue()
        self.failures: list[Exception] = []
        self.stopped: list[int] = []
        self.process: FakeProcess | None = None
        self.dies_at_once = False
        self._pid = 0

    async def start(self) -> FakeProcess:
        """Start, or refuse."""
        self.asked.put_nowait(self._pid)
        if self.failures:
            raise self.failures.pop(0)
        self._pid += 1
        self.process = FakeProcess(self._pid)
        if self.dies_at_once:
            self.process.die()
        return self.process

    async def stop(self, process: FakeProcess) -> None:
        """Note that it was asked."""
        self.stopped.append(process.pid)


@pytest.fixture
def server(tmp_path) -> FakeServer:
    return FakeServer(tmp_path / "fake.log")


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """How long the keeper meant to wait. It does not."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(keeper.asyncio, "sleep", note)
    return waited


async def _asked(server: FakeServer, times: int) -> None:
    for _ in range(times):
        await server.asked.get()


async def test_the_first_restart_comes_at_once_and_later_ones_with_patience(server, pauses):
    kept = Keeper(server)
    await kept.open()
    server.dies_at_once = True
    server.process.die()
    await _asked(server, 10)
    await kept.close()
    assert pauses[:9] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_a_steady_life_makes_up_for_earlier_deaths(server, pauses, monkeypatch):
    now = 0.0
    monkeypatch.setattr(keeper, "monotonic", lambda: now)
    kept = Keeper(server)
    await kept.open()
    await _asked(server, 1)
    for _ in range(3):
        await _settled(kept)
        now += 61.0
        server.process.die()
        await _asked(server, 1)
    await kept.close()
    assert pauses == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("failure", [StartFailed("no"), OSError(28, "No space left on device")])
async def test_a_restart_that_fails_is_tried_again_for_ever_and_logged(server, pauses, caplog, failure):
    kept = Keeper(server)
    await kept.open()
    server.failures = [failure] * 4
    server.process.die()
    await _asked(server, 6)
    await _settled(kept)
    assert kept.pid == 2
    await kept.close()
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 5 + [logging.WARNING]


async def test_a_first_start_that_fails_is_not_tried_again(server, pauses):
    server.failures = [StartFailed("no")]
    kept = Keeper(server)
    with pytest.raises(StartFailed):
        await kept.open()
    await kept.close()
    assert server.asked.qsize() == 1
    assert server.stopped == []


async def test_closing_ends_the_server_once(server):
    kept = Keeper(server)
    await kept.open()
    await kept.close()
    await kept.close()
    assert server.stopped == [1]
    assert kept.pid is None


async def test_a_grown_log_is_set_aside_while_the_server_goes_on_writing(server):
    with server.log.path.open("ab") as writer:
        writer.write(b"x" * (4 * 1024 * 1024 + 1))
        writer.flush()
        server.log.keep_small()
        writer.write(b"later\n")
    assert server.log.path.read_bytes() == b"later\n"
    assert server.log.path.with_suffix(".log.1").stat().st_size == 4 * 1024 * 1024 + 1


async def _settled(kept: Keeper) -> None:
    while kept.pid is None:
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)

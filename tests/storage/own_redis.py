"""A Redis of one test's own, to be stopped, filled or demoted; the one of the test run is everybody's."""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.embedded.binaries import find_valkey
from storage.redis.nodes import Nodes
from tests.ports import free_port
from tests.storage.waiting import until


@dataclass
class OwnRedis:
    """A running server: over a Unix socket, and over TCP on loopback."""

    url: str
    tcp_url: str
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        """Stop it in mid-sentence: it accepts connections, as the kernel does that, and answers nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """For the test's own questions."""
        return Redis.from_url(self.url)


def hurry(nodes: Nodes) -> None:
    """From here on a server that is silent for a fifth of a second is down; until here a busy machine had its time."""
    wire = nodes.main.wire
    assert wire is not None
    nodes._timeout = nodes.main._timeout = wire._timeout = 0.2
    if wire._watch is not None:  # set for when the other time would be over
        wire._watch.cancel()
        wire._watch = None


def relax(nodes: Nodes) -> None:
    """It has all its time again, over connections that are made from here on."""
    nodes._timeout = nodes.main._timeout = 30.0


@asynccontextmanager
async def own_redis(directory: Path, *options: str) -> AsyncIterator[OwnRedis]:
    """Run one with an empty memory and no file."""
    path = directory / "redis.sock"
    port = free_port()
    process = subprocess.Popen(  # noqa: ASYNC220  a handle that stops and continues it, and nothing to read
        [find_valkey().program, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "",
         "--appendonly", "no", "--dir", directory, *options],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    server = OwnRedis(f"unix://{path}", f"redis://127.0.0.1:{port}", process)
    try:
        await until(path.exists)
        async with server.client() as client:
            while True:
                with contextlib.suppress(RedisError):
                    await client.ping()
                    break
                await asyncio.sleep(0.01)
        yield server
    finally:
        server.thaw()
        process.kill()
        process.wait()

"""What a small request costs a worker beside the kernel: ``python -m tests.bench.inside``.

64 clients and the upstream are transports in this process that give back at once, by turns of the loop; the limiter's
answers are made up. All between the sockets is real: parser, decision, relay, settlement, journal, access log. With
``--forward`` a proxy asks the second door; with ``--allowance audio=3600s/h`` and its like, as often as wanted, the
tenant has limits beyond plain request rates; with ``--keys N`` so many keys are used in turn, over all connections, as
clients behind one proxy do. Of many short windows the cheapest tells: other work on the machine makes a
window dearer and never cheaper. To compare two states of the code give each its own ``PYTHONPATH``, in turn, several times.
"""

import argparse
import asyncio
import gc
import ipaddress
import itertools
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway.dataplane.listener import PublicServer
from gateway.telemetry.access_log import AccessLog
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.pool import UpstreamPool
from policies.limits.allowances import Allowance, What
from policies.limits.rates import Charge, Rate, Taken
from storage.journal.writer import Journal
from storage.ports import Waiter
from storage.redis.holds import RedisHolds
from storage.redis.wire import Deliver
from tests.bench.cost import ANSWER
from tests.gateway.harness import Gateway, Options, running

CLIENTS = 64
TOGETHER = 16
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
RATE = Rate(900_000_000, 60_000)
REQUEST = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\n\r\n"
QUESTION = REQUEST.replace(b"/v1/models", b"/auth/verify").replace(
    b"\r\n\r\n", b"\r\nX-Original-URI: /v1/models\r\nX-Original-Method: GET\r\n\r\n"
)
_SILENT = socket.socketpair()
UPSTREAMS = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (len(ANSWER), ANSWER)
)


class Line(asyncio.Transport):
    """Hands what is written to a function. Whoever asks for its socket gets one that is open and silent."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "socket": _SILENT[0]})
        self.write = written  # type: ignore[assignment,method-assign]

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def close(self) -> None:
        """At the end, where nobody listens any more."""

    abort = close


class Turns:
    """Calls, gathered until the loop's next turn: as the kernel tells of many sockets at once."""

    def __init__(self) -> None:
        self.over = False
        self._calls: list[tuple[Callable[[Any], None], Any]] = []

    def call(self, function: Callable[[Any], None], argument: Any) -> None:
        """Soon."""
        if not self._calls:
            asyncio.get_running_loop().call_soon(self._run)
        self._calls.append((function, argument))

    def _run(self) -> None:
        calls, self._calls = self._calls, []
        for function, argument in () if self.over else calls:
            function(argument)


class Counters:
    """Admits everything, a turn later: :data:`TOGETHER` requests share what is left, as those that are taken in one run."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._figures: tuple[int, ...] = ()
        self._behind = 0

    def take(self, charges: tuple[Charge, ...]) -> asyncio.Future[Taken]:
        """As the port."""
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self.take_for(charges, future)
        return future

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        """As the port."""
        if not self._behind:
            self._behind, self._figures = TOGETHER, (RATE.count - TOGETHER, 1) * len(charges)
        self._behind -= 1
        self._turns.call(waiter.set_result, Taken(charges, self._figures, None, 0, self._behind))


class Nodes:
    """Redis, that has the limits beyond plain request rates: grants everything, a turn later."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def run(self, script: object, keys: Sequence[bytes], arguments: Sequence[bytes], deliver: Deliver) -> None:
        """As Redis' nodes."""
        del script, arguments
        self._turns.call(deliver, [1, 0, 0, *(1_000, 1_000, 0, 0) * (len(keys) // 2)])


class Clients:
    """They ask again whenever they are answered, each what is next in turn."""

    def __init__(self, server: PublicServer, requests: Sequence[bytes], turns: Turns) -> None:
        in_turn = itertools.cycle(requests)
        self.answers = 0
        self._until = 0
        self._enough: asyncio.Future[None] | None = None
        for _ in range(CLIENTS):
            connection = server()

            def answered(data: bytes, ask: Callable[[bytes], None] = connection.data_received) -> None:
                assert data.startswith(b"HTTP/1.1 200"), data
                self.answers += 1
                if self.answers == self._until and self._enough is not None:
                    self._enough.set_result(None)
                turns.call(ask, next(in_turn))

            connection.connection_made(Line(answered))
            turns.call(connection.data_received, next(in_turn))

    async def run(self, requests: int) -> float:
        """CPU in microseconds a request."""
        self._enough, self._until = asyncio.get_running_loop().create_future(), self.answers + requests
        began = time.thread_time()
        await self._enough
        return (time.thread_time() - began) * 1e6 / requests


async def measure(gateway: Gateway, place: Path, options: argparse.Namespace) -> list[float]:
    """The windows, after one that warms up."""
    turns = Turns()
    settlement = gateway.proxy._settlement
    settlement._journal = journal = Journal(place / "journal", limit_bytes=8 << 30)
    settlement._log = AccessLog(os.open(place / "log", os.O_WRONLY | os.O_CREAT), gateway.metrics)
    gatekeeper = gateway.proxy._gatekeeper
    gatekeeper._counters = Counters(turns)
    gatekeeper._holder._holds = holds = RedisHolds("redis://127.0.0.1:1")
    holds._nodes = Nodes(turns)  # type: ignore[assignment]

    async def connect(pool: UpstreamPool) -> UpstreamConnection:
        connection = UpstreamConnection(pool)
        connection.connection_made(Line(lambda _: turns.call(connection.data_received, UPSTREAMS)))
        return connection

    UpstreamPool.connect = connect  # type: ignore[assignment,method-assign]
    limits: dict[str, Any] = {"key_rate": RATE, "tenant_rate": RATE, "allowances": tuple(options.allowance)}
    request = QUESTION if options.forward else REQUEST
    requests = [request % gateway.add_key(**limits).encode() for _ in range(options.keys)]
    server = next(one for one in gc.get_objects() if isinstance(one, PublicServer))
    keeping = asyncio.get_running_loop().create_task(journal.keep())
    clients = Clients(server, requests, turns)
    await clients.run(options.requests)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)  # as the worker does
    windows = [await clients.run(options.requests) for _ in range(options.windows)]
    turns.over = True
    keeping.cancel()
    journal.close()
    return windows


def allowance(text: str) -> Allowance:
    """As ``gateway limits set`` has it: ``audio=3600s/h``."""
    what, _, limit = text.partition("=")
    return Allowance.parse(What(what), limit)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=25)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--forward", action="store_true")
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--allowance", action="append", type=allowance, default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as place:
        async with running(Options(trusted=(LOOPBACK,))) as gateway:
            windows = await measure(gateway, Path(place), options)
            print(
                f"{min(windows):.1f} CPU us/request in the cheapest window, {statistics.median(windows):.1f} in the median"
            )


if __name__ == "__main__":
    uvloop.run(main())

"""Wound: an answer that is another request's, comes twice or never, where requests come again while others go wrong.

Clients on kept connections send the same request again and again, and now and then another one, two at once, a part of
one, or nothing any more. Meanwhile limiter and upstream answer early, late, otherwise, or not at all. Each answer of
the upstream holds what it was asked; in the end records, lines and figures are compared with what clients were told.
"""

import asyncio
import contextlib
import random
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.configuration.upstreams import UpstreamSettings
from policies.limits.rates import Charge, Rate, Taken
from storage.ports import Unavailable, Waiter
from tests.certificates import LOOPBACK, make_certificate
from tests.gateway.dataplane.test_repeats import Errands
from tests.gateway.harness import Gateway, Options, RecordingUpstream, Seen, running
from tests.storage.waiting import until
from tests.wounds.wire import SMUGGLED

CLIENTS, TURNS = 8, 100
_OFTEN = 0.92
"""How often everything goes its usual way."""

HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Limiter:
    """The gateway's counters, with answers that come when chance has it."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self._count = gateway.counters.take_now
        self._chance = chance
        gateway.counters.take = self.take  # type: ignore[method-assign]
        gateway.counters.take_for = self.take_for  # type: ignore[method-assign]

    async def take(self, charges: tuple[Charge, ...]) -> Taken:
        waiter: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self.take_for(charges, waiter)
        return await waiter

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        loop = asyncio.get_running_loop()
        when = self._chance.choice(("now", "now", "soon", "later", "much later"))
        if when == "now":
            self._tell(charges, waiter)
        elif when == "soon":
            loop.call_soon(self._tell, charges, waiter)
        else:
            loop.call_later(self._chance.random() * (0.002 if when == "later" else 0.02), self._tell, charges, waiter)

    def _tell(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        taken = self._count(charges)
        if waiter.done():
            return
        fate = self._chance.random()
        if fate < 0.01:
            waiter.set_exception(Unavailable("Redis is down"))
        elif fate < 0.02:
            waiter.set_result(Taken(charges, taken.figures, charges[0], 1_000))
        else:
            waiter.set_result(taken)


def echoed(seen: Seen) -> bytes:
    """What tells one request from every other."""
    return f"{seen.target} {seen.all('x-request-id')[0]}".encode()


class Service:
    """An upstream that mostly does as it did before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def respond(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        for _turn in range(self._chance.randrange(4)):
            await asyncio.sleep(0)
        body, fate = echoed(seen), self._chance.random()
        usual = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if fate < _OFTEN:
            await asyncio.sleep(self._chance.random() * 0.01 * (fate < _OFTEN / 5))
            writer.write(usual)
            return
        said, then = self._chance.choice(self._otherwise(usual, body))
        if then == "in two":
            writer.write(said[:-7])
            await asyncio.sleep(self._chance.random() * 0.005)
            said = said[-7:]
        writer.write(said)
        if then == "close":
            writer.close()
        elif then == "reset":
            writer.transport.abort()

    @staticmethod
    def _otherwise(usual: bytes, body: bytes) -> list[tuple[bytes, str]]:
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return [
            (usual, "in two"),
            (usual, "close"),
            (usual[:-7], "close"),
            (usual, "reset"),
            (HINT + usual, ""),
            (HINT + usual, "in two"),
            (usual.replace(b"200 OK", b"404 No"), ""),
            (usual.replace(b"200 OK", b"503 No"), ""),
            (usual.replace(b"\r\n", b"\r\nX-New: 1\r\n", 1), ""),
            (usual + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", ""),
            (chunks, ""),
            (chunks, "in two"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + body, "close"),
            (b"", "close"),
            (b"nonsense\r\n\r\n", ""),
        ]


@dataclass
class Client:
    """One after the other on one connection, until that is closed; then on the next."""

    gateway: Gateway
    number: int
    chance: random.Random
    told: dict[str, int] = field(default_factory=dict)
    """Statuses by request id, of answers that came whole."""
    asked: int = 0
    left: int = 0
    """Requests whose answer nobody waited for, or which the gateway did not answer before it closed."""

    @property
    def usual(self) -> str:
        return f"/v1/models/of-{self.number}"

    def _request(self, target: str, *lines: str, method: str = "GET", body: str = "") -> bytes:
        head = [f"{method} {target} HTTP/1.1", "Host: a", f"X-API-Key: {self.gateway.key}", *lines]
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

    async def run(self) -> None:
        turns = TURNS
        while turns > 0 and self.gateway.server.idle is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
            due: deque[str] = deque()
            try:
                async with asyncio.timeout(60):
                    while turns > 0:
                        turns -= 1
                        if not await self._turn((reader, writer), due):
                            break
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # cut off: what had no answer is counted
            finally:
                self.left += len(due)
                writer.close()

    async def _turn(self, client: Connection, due: deque[str]) -> bool:
        """Ask, and see that answers are those of the questions; whether the connection goes on."""
        reader, writer = client
        odd = self.chance.random() > _OFTEN
        pieces, targets = self.chance.choice(self._oddly()) if odd else ([self._request(self.usual)], [self.usual])
        self.asked += len(targets)
        due += targets
        for piece in pieces:
            writer.write(piece)
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
        if self.chance.random() < 0.04:
            await asyncio.sleep(self.chance.random() * 0.004)
            writer.transport.abort()
            return False
        while due:
            if not await self._hear(reader, due):
                return False
        return True

    def _oddly(self) -> list[tuple[list[bytes], list[str]]]:
        """The usual request and what comes behind it, in the pieces in which it is sent; and what is to be answered."""
        usual, other = self.usual, f"{self.usual}/other"
        same, cut = self._request(usual), self.chance.randrange(1, 60)
        hidden = f"GET {SMUGGLED} HTTP/1.1\r\n\r\n"
        post = self._request("/v1/listen", f"Content-Length: {len(hidden)}", method="POST", body=hidden)
        return [
            ([same, same], [usual] * 2),
            ([same * 40], [usual] * 40),
            ([same] * 40, [usual] * 40),
            ([same, self._request(other)], [usual, other]),
            ([same, same[:cut], same[cut:]], [usual] * 2),
            ([same, post, same], [usual, "/v1/listen", usual]),
            ([same, post[:-9], post[-9:]], [usual, "/v1/listen"]),
            ([same, b"GET / HT\0P/1.1\r\n\r\n"], [usual, "-"]),
            ([same, self._request(other, "Connection: close")], [usual, other]),
            ([same, self._request(other, "Connection: upgrade", "Upgrade: h2c"), same], [usual, other]),
            ([same.replace(b"HTTP/1.1", b"HTTP/1.0")], [usual]),
            ([self._request(f"http://a{usual}")] * 3, [usual] * 3),
        ]

    async def _hear(self, reader: asyncio.StreamReader, due: deque[str]) -> bool:
        while (head := (await reader.readuntil(b"\r\n\r\n")).decode()).startswith("HTTP/1.1 103 "):
            pass
        status = int(head.split()[1])
        fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
        body = b""
        if "transfer-encoding" in fields:
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        elif "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
        else:
            body = await reader.read()
        request_id, target = fields["x-request-id"], due.popleft()
        assert request_id not in self.told
        self.told[request_id] = status
        if status == 200 or b"of-" in body:
            assert body == f"{target} {request_id}".encode()
        else:
            assert request_id.encode() in body
        return fields.get("connection") != "close"


async def compare(gateway: Gateway, clients: list[Client]) -> None:
    """One record, one line and one count each; and nothing is left behind."""
    metrics = gateway.metrics
    await until(lambda: not metrics.inflight and not metrics.connections)
    await until(lambda: all(pool._all <= set(pool._idle) for pool in gateway.upstreams.addresses))
    for _ in range(5):
        await asyncio.sleep(0)
    told = {request_id: status for client in clients for request_id, status in client.told.items()}
    assert len(told) == sum(len(client.told) for client in clients)
    lines = {str(line["request_id"]): line for line in gateway.lines}
    assert len(lines) == len(gateway.lines) == sum(sum(f.requests.values()) for f in metrics.routes.values())
    rows = {record.request_id: record for record in gateway.journal.records}
    assert len(rows) == len(gateway.journal.rows) == len({record.event_id for record in rows.values()})
    assert {i for i, line in lines.items() if "tenant_id" in line} == rows.keys()
    for request_id, status in told.items():
        assert lines[request_id]["status"] == status
        if request_id in rows:
            assert rows[request_id].status == status
    assert len(lines) <= sum(client.asked for client in clients)
    assert len(lines) - len(told) <= sum(client.left for client in clients)
    seen = Counter(one.all("x-request-id")[0] for one in gateway.upstream.seen)
    assert not seen or max(seen.values()) == 1
    assert SMUGGLED not in {one.target for one in gateway.upstream.seen}
    server = gateway.server
    for left_behind in (server.heading, server.reading, server.writing, server.census._by_address):
        assert not left_behind
    assert all(task.get_coro().__name__ != "start" for task in asyncio.all_tasks())  # type: ignore[union-attr]


@contextlib.asynccontextmanager
async def listening(kind: str, upstream: RecordingUpstream, place: Path) -> AsyncIterator[UpstreamSettings]:
    """The one upstream, by the addresses that it is given in the settings."""
    certificate, secret = make_certificate(place, LOOPBACK)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, secret)
    async with contextlib.AsyncExitStack() as stack:
        if kind == "unix":
            await stack.enter_async_context(await asyncio.start_unix_server(upstream._serve, place / "service"))
            yield UpstreamSettings(addresses=(f"unix:{place / 'service'}",))
            return
        ports = []
        for _ in range(2 if kind == "two addresses" else 1):
            server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0, ssl=tls if kind == "TLS" else None)
            await stack.enter_async_context(server)
            ports.append(server.sockets[0].getsockname()[1])
        if kind == "TLS":
            yield UpstreamSettings(addresses=(f"https://127.0.0.1:{ports[0]}",), ca_file=certificate)
        else:
            yield UpstreamSettings(addresses=tuple(f"http://127.0.0.1:{port}" for port in ports))


KINDS = ("one address", "two addresses", "unix", "TLS", "a drain")


@pytest.mark.parametrize(("seed", "kind"), [(seed, kind) for kind in KINDS for seed in range(2)])
async def test_each_question_has_its_own_answer_and_one_record(seed: int, kind: str, tmp_path: Path) -> None:
    chance, upstream = random.Random(seed), RecordingUpstream()
    upstream.respond = Service(chance).respond
    async with listening(kind, upstream, tmp_path) as addresses, running(
        Options(default_rate=Rate(1_000_000, 60_000), upstream_settings=addresses)
    ) as gateway:  # fmt: skip
        gateway.upstream = upstream
        Limiter(gateway, chance)
        errands = Errands(gateway)
        clients = [Client(gateway, number, chance) for number in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
            if kind == "a drain":
                await until(lambda: errands.begun > CLIENTS)
                group.create_task(gateway.server.drain(2.0, 0.05))
        assert errands.begun > CLIENTS
        assert errands.stuck or kind == "a drain"
        await compare(gateway, clients)

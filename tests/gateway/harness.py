"""A gateway on a real socket in front of an upstream that records every byte: what the door tests stand on.

The registry is a dictionary and the counters are the in-process ones (both pass the ports' contract where a test needs
more than look-ups, the e2e journeys use PostgreSQL and Valkey); everything between the two sockets is the product.
"""

import asyncio
import contextlib
import functools
import io
import os
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from gateway.configuration.patience import Patience
from gateway.configuration.reserved import ROUTES as RESERVED
from gateway.configuration.upstreams import UpstreamSettings
from gateway.dataplane.clients import Census
from gateway.dataplane.forward_auth import ForwardAuth, Manners
from gateway.dataplane.gatekeeper import Gatekeeper
from gateway.dataplane.inquiries import Network, TrustedProxies
from gateway.dataplane.jobs import Jobs
from gateway.dataplane.key_uses import KeyUses
from gateway.dataplane.listener import PublicServer
from gateway.dataplane.proxy import Proxy
from gateway.dataplane.relay import Relay
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.streams import Streams
from gateway.identity.bearers import Bearers
from gateway.identity.digests import digest
from gateway.identity.snapshot import Snapshot
from gateway.shipped import shipped
from gateway.tasks import Tasks
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.pool import UpstreamPool
from policies.account.usage import UsageRecord
from policies.http.cors import Cors
from policies.http.credentials import RANDOM_BYTES, mint_key
from policies.http.headers import folded
from policies.http.tickets import Ticket, is_reusable
from policies.identity.principals import Method, Principal, Standing
from policies.limits.rates import Charge, Rate, Taken
from policies.routing.route_table import RouteTable
from policies.routing.routes import PORTAL
from storage.local_counters import LocalCounters
from storage.ports import JobBook, Unavailable, Waiter
from storage.postgres.keys.uses import KeyUse
from storage.usage_rows import decode
from tests.gateway.holding import Holding
from tests.storage.memory_jobs import MemoryJobs

PEPPER = b"pepper for tests, thirty-two byte"
SMALL = b'{"text":"hello"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(SMALL), SMALL)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the upstream received it."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    connection: int
    head: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header, by exact name without case."""
        return [v.decode("latin-1") for n, v in self.headers if n.lower() == name.lower().encode()]

    def names(self) -> set[str]:
        """Header names in lower case."""
        return {n.decode("latin-1").lower() for n, _ in self.headers}


Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Seen], Awaitable[None]]


async def say_ok(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
    """A small JSON answer."""
    writer.write(OK)


class RecordingUpstream:
    """Records requests; answers with ``respond``, which writes raw bytes. ``early`` runs before the body is read."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.respond: Respond = say_ok
        self.early: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[bool]] | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if self.early is not None and await self.early(reader, writer, head):
                    continue
                seen = await _read(reader, head, number)
                self.seen.append(seen)
                await self.respond(reader, writer, seen)
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError, ValueError):
            pass  # a ValueError: the gateway cut the request off before a chunk's size
        finally:
            self._writers.discard(writer)
            writer.close()


async def _read(reader: asyncio.StreamReader, head: bytes, number: int) -> Seen:
    first, *rest = head[:-4].split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ")
    headers = tuple((n, v.strip()) for n, _, v in (line.partition(b":") for line in rest))
    fields = {n.lower(): v for n, v in headers}
    body = b""
    if b"content-length" in fields:
        body = await reader.readexactly(int(fields[b"content-length"]))
    elif b"transfer-encoding" in fields:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return Seen(method, target, headers, body, number, head)


class MemoryKeys:
    """Keys by digest. ``down`` makes the registry unreachable; ``asked`` counts look-ups."""

    def __init__(self) -> None:
        self.by_digest: dict[bytes, Principal] = {}
        self.down = False
        self.asked = 0

    async def identify_key(self, key: bytes) -> Principal | None:
        self.asked += 1
        if self.down:
            raise Unavailable("the registry is down")
        return self.by_digest.get(key)


class MemorySessions:
    """Browser sessions by secret; ``down`` makes their stores unreachable."""

    def __init__(self) -> None:
        self.by_secret: dict[bytes, Principal] = {}
        self.down = False
        self.asked = 0

    async def identify(self, secret: bytes) -> Principal | None:
        self.asked += 1
        if self.down:
            raise Unavailable("Redis is down")
        return self.by_secret.get(secret)


class SwitchableCounters(LocalCounters):
    """In-process counters that can be made unreachable."""

    down = False

    async def take(self, charges: tuple[Charge, ...]) -> Taken:
        if self.down:
            raise Unavailable("Redis is down")
        return self.take_now(charges)

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        if self.down:
            waiter.set_exception(Unavailable("Redis is down"))
        else:
            super().take_for(charges, waiter)


class MemoryTickets:
    """Tickets in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Ticket] = {}
        self.down = False

    async def keep(self, secret: bytes, ticket: Ticket, life_s: int) -> None:  # noqa: ARG002  tests end them
        self.kept[secret] = ticket

    async def take(self, secret: bytes) -> Ticket | None:
        if self.down:
            raise Unavailable("Redis is down")
        return self.kept.get(secret) if is_reusable(secret) else self.kept.pop(secret, None)


class MemoryJournal:
    """Keeps rows; ``full`` refuses new work as the real one does."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.full = False

    def append(self, row: bytes) -> None:
        self.rows.append(row)

    def append_all(self, rows: Sequence[bytes]) -> int:
        self.rows += rows
        return len(rows)

    @property
    def records(self) -> list[UsageRecord]:
        """The rows, decoded."""
        return [decode(row) for row in self.rows]


@dataclass
class Gateway:
    """A running gateway and everything a test looks at."""

    port: int
    keys: MemoryKeys
    counters: SwitchableCounters
    journal: MemoryJournal
    metrics: Metrics
    snapshot: Snapshot
    proxy: Proxy
    upstream: RecordingUpstream
    upstreams: Upstream
    server: PublicServer
    streams: Streams
    tickets: MemoryTickets
    _log: AccessLog
    _log_path: Path
    key: str = ""
    sessions: MemorySessions = field(default_factory=MemorySessions)
    numbers: int = 0
    holding: Holding = field(init=False)

    def add_key(self, principal: Principal | None = None, **changes: object) -> str:
        """A new key of the tenant ``ten_a``, or as told."""
        self.numbers += 1
        key = mint_key(self.numbers.to_bytes(RANDOM_BYTES))
        made = principal or replace(PRINCIPAL, key_id=f"key_{self.numbers}", **changes)
        self.keys.by_digest[digest(PEPPER, key.encode())] = made
        return key

    @property
    def pool(self) -> UpstreamPool:
        """The connections to the upstream's one address."""
        (pool,) = self.upstreams.addresses
        return pool

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[dict[str, object]]:
        """The access log."""
        self._log.flush()
        return [orjson.loads(line) for line in self._log_path.read_bytes().splitlines()]

    async def raw(self, data: bytes, *, timeout: float = 30.0) -> bytes:
        """Send bytes on a new connection, and return all that comes until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(timeout):
                return await reader.read()
        finally:
            writer.close()

    async def ask(
        self,
        method: str = "GET",
        target: str = "/v1/models",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        key: str | None = "",
    ) -> "Answer":
        """One request on a connection of its own. ``key``: the usual one, another, or None for no credential."""
        lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test", "Connection: close"]
        if key is not None:
            lines.append(f"Authorization: Bearer {key or self.key}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
            async with asyncio.timeout(30):
                return Answer.parse(await reader.read())
        finally:
            writer.close()


PRINCIPAL = Principal(
    method=Method.API_KEY,
    standing=Standing.GOOD,
    tenant_id="ten_a",
    tenant_slug="a",
    key_id="key_0",
    user_id="usr_a",
    scopes=frozenset({"transcribe"}),
    roles=("member",),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, taken apart."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    rest: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> "Answer":
        """Take the first answer of a connection; ``rest`` is what follows a body of declared length."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = tuple((n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines))
        fields = dict(headers)
        rest = b""
        if "content-length" in fields:
            length = int(fields["content-length"])
            body, rest = body[:length], body[length:]
        elif fields.get("transfer-encoding") == "chunked":
            body, rest = unchunk(body)
        return cls(int(first.split(" ")[1]), headers, body, rest)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [v for n, v in self.headers if n == name.lower()]

    def __getitem__(self, name: str) -> str:
        """The one value of a header."""
        (value,) = self.all(name)
        return value

    @property
    def code(self) -> str:
        """The stable code of a refusal in the dialect of OpenAI or of AssemblyAI."""
        said = orjson.loads(self.body)
        return said["error"]["code"] if isinstance(said["error"], dict) else said["code"]


def unchunk(data: bytes) -> tuple[bytes, bytes]:
    """A chunked body and what follows it. Raises ValueError when it does not end."""
    stream, body = io.BytesIO(data), b""
    while True:
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            raise ValueError("the chunked body was cut off")
        size = int(line.split(b";")[0], 16)
        if not size:
            break
        body += stream.read(size)
        stream.read(2)
    stream.readline()
    return body, stream.read()


@functools.cache
def shipped_routes() -> RouteTable:
    """What the gateway ships, and its own."""
    return RouteTable.compile(tomllib.loads(shipped("routes.toml").read_text())).with_own(RESERVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a test's gateway differs from the shipped one."""

    routes: RouteTable = field(default_factory=shipped_routes)
    trusted: tuple[Network, ...] = ()
    manners: Manners = field(default_factory=Manners)
    default_rate: Rate | None = None
    fresh_s: float = 15.0
    stale_s: float = 60.0
    upstream_url: str = ""
    patience: Patience = field(default_factory=Patience)
    most: int = 0
    most_per_address: int = 0
    upstream_settings: UpstreamSettings | None = None
    bearers: Bearers | None = None
    assertion: Callable[[Principal, str], str] | None = None
    jobs: JobBook = field(default_factory=MemoryJobs)
    cors_origins: tuple[str, ...] = ()


async def _forget_uses(uses: Sequence[KeyUse]) -> None:
    """Last uses of keys have tests of their own."""


@contextlib.asynccontextmanager
async def running(options: Options | None = None) -> AsyncIterator[Gateway]:
    """A gateway with one good key, in front of a recording upstream."""
    options = options or Options()
    upstream, keys, journal, metrics, tasks = RecordingUpstream(), MemoryKeys(), MemoryJournal(), Metrics(), Tasks()
    await upstream.start()
    descriptor, name = tempfile.mkstemp(suffix=".log")
    log = AccessLog(descriptor, metrics)
    counters = SwitchableCounters(lambda: time.monotonic() * 1000)
    holding = Holding(metrics)
    sessions, uses = MemorySessions(), KeyUses(_forget_uses)
    snapshot = Snapshot(
        keys,
        PEPPER,
        time.monotonic,
        options.fresh_s,
        options.stale_s,
        bearers=options.bearers,
        metrics=metrics,
        sessions=sessions,
    )
    trusted, tickets = TrustedProxies(options.trusted), MemoryTickets()
    settlement = Settlement(metrics, log, journal, "test-")
    gatekeeper = Gatekeeper(
        routes=options.routes,
        snapshot=snapshot,
        counters=counters,
        local=LocalCounters(lambda: time.monotonic() * 1000),
        holder=holding.holder(),
        uses=uses,
        metrics=metrics,
        accepts_usage=lambda: not journal.full,
        tickets=tickets,
        default_rate=options.default_rate,
        now_ms=lambda: int(time.time() * 1000),
        assertion=options.assertion,
    )
    addresses = options.upstream_settings or UpstreamSettings(
        addresses=(options.upstream_url or f"http://127.0.0.1:{upstream.port}",)
    )
    upstreams = Upstream("default", addresses, metrics, 2.0)
    upstreams.start(tasks)
    streams = Streams(gatekeeper, settlement, metrics, tasks)
    jobs = Jobs(options.jobs, metrics, holding.holds)
    proxy = Proxy(
        gatekeeper=gatekeeper,
        jobs=jobs,
        forward_auth=ForwardAuth(gatekeeper, jobs, settlement, trusted, options.manners),
        relay=Relay({"default": upstreams, PORTAL: upstreams}, streams, jobs, settlement, metrics, tasks),
        settlement=settlement,
        metrics=metrics,
        trusted=trusted,
        withheld=frozenset({folded(addresses.credential_header.encode())} if addresses.credential else ()),
        session_cookie="tahoe_session",
        cors=Cors(options.cors_origins),
    )
    census = Census(metrics, trusted, most=options.most, most_per_address=options.most_per_address)
    server = PublicServer(proxy, census, options.patience, settlement.write_down)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    gateway = Gateway(
        port,
        keys,
        counters,
        journal,
        metrics,
        snapshot,
        proxy,
        upstream,
        upstreams,
        server,
        streams,
        tickets,
        log,
        Path(name),
    )
    gateway.holding = holding
    gateway.sessions = sessions
    gateway.key = gateway.add_key()
    try:
        yield gateway
    finally:
        listening.close()
        streams.close()
        server.pre_shutdown()
        await server.shutdown(1.0)
        server.stop_ticking()
        upstreams.close()
        await upstream.stop()
        await tasks.close()
        settlement.tell()
        log.flush()
        os.close(descriptor)
        Path(name).unlink()

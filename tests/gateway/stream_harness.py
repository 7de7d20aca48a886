"""Real WebSocket peers on both sides of the gateway of ``harness``: an upstream that does as its script says."""

import asyncio
import contextlib
import ssl
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.configuration.reserved import ROUTES as RESERVED
from gateway.shipped import shipped
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Gateway, Options, running

PATH = "/v1/realtime"
Script = Callable[[ServerConnection], Awaitable[None]]


async def echo(peer: ServerConnection) -> None:
    """Say back what is said."""
    async for message in peer:
        await peer.send(message)


@dataclass
class StreamUpstream:
    """A WebSocket server that records what it was asked, and runs ``script`` on every stream."""

    script: Script = echo
    subprotocols: tuple[str, ...] = ()
    refuse: Response | None = None
    requests: list[Request] = field(default_factory=list)
    closes: list[tuple[int | None, str | None]] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: Server | None = None

    async def start(self) -> None:
        def choose(_: ServerConnection, offered: Any) -> Any:
            return next((name for name in offered if name in self.subprotocols), None)

        def look(_: ServerConnection, request: Request) -> Response | None:
            self.requests.append(request)
            return self.refuse

        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=look, select_subprotocol=choose, max_size=None,
            ping_interval=None, close_timeout=1, ssl=self.tls,
        )  # fmt: skip
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, peer: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.script(peer)
        await peer.wait_closed()
        self.closes.append((peer.close_code, peer.close_reason))


@dataclass
class Site:
    """A gateway, the upstream behind it, and a way in."""

    gateway: Gateway
    upstream: StreamUpstream

    def connect(self, path: str = PATH, *, key: str | None = "", **options: Any) -> connect:
        """A real client; ``key`` as in :meth:`Gateway.ask`."""
        headers = dict(options.pop("additional_headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.gateway.key}"
        options = {"ping_interval": None, "close_timeout": 3, "max_size": None, "proxy": None} | options
        return connect(f"ws://127.0.0.1:{self.gateway.port}{path}", additional_headers=headers, **options)

    async def settled(self, count: int = 1) -> None:
        """Wait until so many requests have been settled."""
        async with asyncio.timeout(30):
            while len(self.gateway.lines) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def upstream_closed(self, count: int = 1) -> None:
        """Wait until so many streams have ended at the upstream."""
        async with asyncio.timeout(30):
            while len(self.upstream.closes) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


def options_for(port: int, route: dict[str, Any]) -> Options:
    """The shipped routes, with other settings for those that take streams, to an upstream on a port."""
    table = tomllib.loads(shipped("routes.toml").read_text())
    for entry in table["routes"]:
        if entry.get("websocket"):
            entry.update(route)
    return Options(upstream_url=f"http://127.0.0.1:{port}", routes=RouteTable.compile(table).with_own(RESERVED))


@contextlib.asynccontextmanager
async def site(script: Script = echo, **route: Any) -> AsyncIterator[Site]:
    """Both running; ``route`` changes the settings of every stream route."""
    upstream = StreamUpstream(script)
    await upstream.start()
    try:
        async with running(options_for(upstream.port, route)) as gateway:
            yield Site(gateway, upstream)
    finally:
        await upstream.stop()


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end; the close frame that was received."""
    async with asyncio.timeout(30):
        await client.wait_closed()
    return client.close_code, client.close_reason


NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # both from RFC 6455 section 1.3
MASK = b"\x37\xfa\x21\x3d"


def opening(key: str | None, *lines: str, path: str = PATH, nonce: str = NONCE) -> bytes:
    """A client's handshake; ``lines`` come last."""
    credential = [f"Authorization: Bearer {key}"] if key is not None else []
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: gateway.test", "Connection: Upgrade", "Upgrade: websocket",
         "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {nonce}", *credential, *lines, "", ""]
    ).encode()  # fmt: skip


class RawPeer:
    """One end of a stream as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def exactly(self, size: int) -> bytes:
        """So many bytes."""
        async with asyncio.timeout(30):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All that comes until the end, whether clean or not; ``was_reset`` tells."""
        found = bytearray()
        self.was_reset = False
        try:
            async with asyncio.timeout(30):
                while piece := await self.reader.read(65_536):
                    found += piece
        except ConnectionError:
            self.was_reset = True
        return bytes(found)

    def vanish(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()


class RawUpstream:
    """Agrees to every stream and hands it out as bytes; ``tail`` goes out in one segment with the 101."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[RawPeer] = asyncio.Queue()
        self.answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.lines = b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
        self.tail = b""
        self.opened = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await _gone(self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        self.opened += 1
        writer.write(self.answer + self.lines + b"\r\n" + self.tail)
        self.peers.put_nowait(RawPeer(reader, writer, head))


@dataclass
class RawSite:
    """A gateway between two raw ends."""

    gateway: Gateway
    upstream: RawUpstream
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def send(self, *pieces: bytes) -> RawPeer:
        """A new connection that sends these, each in a segment of its own; the answer is for the test to read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port, limit=1 << 24)
        self._writers.add(writer)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return RawPeer(reader, writer, b"")

    async def open(self, *lines: str, key: str = "", **options: Any) -> tuple[RawPeer, RawPeer]:
        """An open stream: the client's end, and the upstream's."""
        client = await self.send(opening(key or self.gateway.key, *lines, **options))
        async with asyncio.timeout(30):
            client.head = await client.reader.readuntil(b"\r\n\r\n")
            assert client.head.startswith(b"HTTP/1.1 101 "), client.head
            return client, await self.upstream.peers.get()

    async def over(self) -> None:
        """Wait until no stream is open, and the request of each is settled: that is a moment later."""
        metrics = self.gateway.metrics
        async with asyncio.timeout(30):
            while metrics.open_streams or metrics.inflight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def leave(self) -> None:
        """Close the clients' ends."""
        await _gone(self._writers)


async def _gone(writers: set[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_site(**route: Any) -> AsyncIterator[RawSite]:
    """Both running; ``route`` as in :func:`site`."""
    upstream = RawUpstream()
    await upstream.start()
    try:
        async with running(options_for(upstream.port, route)) as gateway:
            made = RawSite(gateway, upstream)
            try:
                yield made
            finally:
                await made.leave()
    finally:
        await upstream.stop()

"""Real WebSocket peers on both sides of the gateway of ``harness``: an upstream that does as its script says."""

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.reserved import ROUTES as RESERVED
from gateway.shipped import shipped
from policies.routes import RouteTable
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
    _server: Server | None = None

    async def start(self) -> None:
        def choose(_: ServerConnection, offered: Any) -> Any:
            return next((name for name in offered if name in self.subprotocols), None)

        def look(_: ServerConnection, request: Request) -> Response | None:
            self.requests.append(request)
            return self.refuse

        self._server = await serve(
            self._serve, "127.0.0.1", 0, process_request=look, select_subprotocol=choose, max_size=None,
            ping_interval=None, close_timeout=1,
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
        async with asyncio.timeout(5):
            while len(self.gateway.lines) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def upstream_closed(self, count: int = 1) -> None:
        """Wait until so many streams have ended at the upstream."""
        async with asyncio.timeout(5):
            while len(self.upstream.closes) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def site(script: Script = echo, **route: Any) -> AsyncIterator[Site]:
    """Both running; ``route`` changes the settings of every stream route."""
    upstream = StreamUpstream(script)
    await upstream.start()
    try:
        table = tomllib.loads(shipped("routes.toml").read_text())
        for entry in table["routes"]:
            if entry.get("websocket"):
                entry.update(route)
        options = Options(
            upstream_url=f"http://127.0.0.1:{upstream.port}", routes=RouteTable.compile(table).with_own(RESERVED)
        )
        async with running(options) as gateway:
            yield Site(gateway, upstream)
    finally:
        await upstream.stop()


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end; the close frame that was received."""
    async with asyncio.timeout(5):
        await client.wait_closed()
    return client.close_code, client.close_reason

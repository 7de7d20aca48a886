"""The public listener: aiohttp's low-level server, one bound handler, and a connection class that knows our needs.

What aiohttp leaves to us and this file answers: errors of its parser in our own shape, a client that goes away while
the upstream works, a body that stops arriving (it has no time-out for that), and back-pressure for answers that are
written to the transport directly.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from typing_extensions import override

from gateway.inquiries import Known

_TICK_S = 0.5
LINGER_S = 2.0
"""How long a refused upload is read and thrown away, so that its sender can read the answer before the close."""
HEADER_S = 65.0
"""How long a connection may sit idle, or take to send a request's header."""


class BodyTooSlow(Exception):
    """The client's body stopped arriving."""


class Answered:
    """What the handler returns: the answer has been written already. Stands where aiohttp expects a response."""

    __slots__ = ("keep_alive",)
    __http_exception__ = False

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Nothing is left to do."""


KEEP = Answered(keep_alive=True)
CLOSE = Answered(keep_alive=False)


class Handler(Protocol):
    """The one handler of the public listener."""

    async def __call__(self, request: web.BaseRequest) -> Answered:
        """Answer, settle, and say whether the connection may be used again."""

    def unreadable(self, connection: "ClientConnection", *, too_large: bool) -> Answered:
        """Answer what the parser could not read."""


class ClientConnection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_handler", "_server", "body_deadline", "client_gone", "known", "peer")

    def __init__(self, server: "PublicServer", handler: Handler, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._server = server
        self._handler = handler
        self.client_gone: Callable[[], None] | None = None
        """Called once when the client leaves during an exchange."""
        self.body_deadline = float("inf")
        self.peer = "unix"
        """The address of the other end of the socket; ``unix`` for a socket file."""
        self.known: Known | None = None
        """The last header of this connection, worked out."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = peer[0]

    async def drained(self) -> None:
        """Wait until the client has taken what was written. Raises ConnectionError when it has gone."""
        await self._drain_helper()

    async def next_piece(self, body: StreamReader, idle_s: float) -> bytes:
        """The next piece of a body, empty at its end. Raises BodyTooSlow, or ConnectionError when the client has gone."""
        self.body_deadline = self._loop.time() + idle_s
        self._server.reading[self] = body
        try:
            return await body.readany()
        finally:
            self._server.reading.pop(self, None)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        gone, self.client_gone = self.client_gone, None
        if gone is not None:
            gone()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """Answer a parser's refusal in our shape, without echoing a byte of it; our own bugs are aiohttp's to log."""
        if isinstance(exc, HttpProcessingError):
            return self._handler.unreadable(self, too_large=isinstance(exc, LineTooLong))
        return super().handle_error(request, status, exc, message)


class PublicServer(web.Server):
    """Makes connections, and looks twice a second for bodies that have stopped arriving."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, access_log=None)  # type: ignore[arg-type]  # Answered stands in for StreamResponse
        self._handler = handler
        self.reading: dict[ClientConnection, StreamReader] = {}
        self._ticker: asyncio.TimerHandle | None = None

    @override
    def __call__(self) -> RequestHandler:
        if self._ticker is None:
            self._tick()
        return ClientConnection(
            self,
            self._handler,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=HEADER_S,
            lingering_time=LINGER_S,
            max_line_size=8_190,
            max_field_size=8_190,
            max_headers=128,
        )

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection, body in [(c, b) for c, b in self.reading.items() if c.body_deadline < now]:
            connection.body_deadline = float("inf")
            body.set_exception(BodyTooSlow())
        self._ticker = loop.call_later(_TICK_S, self._tick)

    def stop_ticking(self) -> None:
        """Let the loop end."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

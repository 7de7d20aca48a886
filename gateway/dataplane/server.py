"""A client's connection on the public listener: aiohttp's low-level protocol with a loop of our own around its parser.

aiohttp parses and keeps the flow control; what it does around a handler for general use (a task, a request, a
writer and a response object for every message) is a third of its cost, so :meth:`ClientConnection.start` is ours. It
also answers what aiohttp leaves to its user: errors of its parser in our own shape, a client that goes away while the
upstream works, a header or a body that comes too slowly, and back-pressure for direct writes.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, EmptyStreamReader, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from typing_extensions import override

from gateway.dataplane.inflow import BUFFER_BYTES, Inflow, Take
from gateway.dataplane.inquiries import Known
from policies.verdict import Refusal

if TYPE_CHECKING:
    from gateway.dataplane.listener import PublicServer

TICK_S = 0.5
"""How often the listener looks for what comes too slowly, in seconds."""
LINGER_S = 2.0
"""How long a refused upload is read and thrown away, so that its sender can read the answer before the close."""
_UNREAD_S = 10.0
"""How long a client may leave what was written to it unread between requests, or at the end."""
_MAX_HEADER = 65_536
"""The largest header taken, in bytes; its lines and their number have bounds of their own."""
_BEGINNING = 4_096
"""How much is kept of a header that does not end, to know a browser by."""
_NO_LINGER = struct.pack("ii", 1, 0)
"""With it a close is a reset (socket(7), SO_LINGER)."""


class BodyTooSlow(Exception):
    """The client's body stopped arriving, or trickles."""


class Next(enum.Enum):
    """What becomes of the connection after an answer."""

    KEEP = enum.auto()
    CLOSE = enum.auto()


KEEP, CLOSE = Next.KEEP, Next.CLOSE


class Handler(Protocol):
    """The one handler of the public listener. It writes its answers to the connection itself."""

    async def __call__(self, connection: "ClientConnection", message: RawRequestMessage, body: StreamReader) -> Next:
        """Answer, settle, and say whether the connection may be used again."""

    def unreadable(self, connection: "ClientConnection", refusal: Refusal) -> None:
        """Answer what is no request: what the parser could not read, or a connection that is one too many."""


class ClientConnection(RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_admitted",
        "_again",
        "_between",
        "_body",
        "_had_bytes",
        "_handler",
        "_header_bytes",
        "_idle_s",
        "_last",
        "_last_request",
        "_later",
        "_rated",
        "_server",
        "_take_by",
        "_unsent",
        "_waited_s",
        "beginning",
        "body_deadline",
        "client_gone",
        "known",
        "peer",
    )

    def __init__(self, server: "PublicServer", handler: Handler, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._server = server
        self._handler = handler
        self._body: StreamReader | None = None
        self.client_gone: Callable[[], None] | None = None
        """Called once when the client leaves during an exchange."""
        self.body_deadline = float("inf")
        self.peer = "unix"
        """The address of the other end of the socket; ``unix`` for a socket file."""
        self.known: Known | None = None
        """The last header of this connection, worked out."""
        self.beginning = b""
        """Of a header that is not complete, or cannot be read: at the most :data:`_BEGINNING` bytes."""
        self._later = b""
        self._last_request = False
        self._between = True
        """Whether the parser is certainly between two messages."""
        self._last = b""
        self._again: tuple[RawRequestMessage, StreamReader] | None = None
        """The request that ``_last`` was, byte for byte and whole."""
        self._admitted = False
        self._header_bytes = 0
        """How much has arrived of a header that is not complete."""
        self._rated: StreamReader | Inflow | None = None
        """The body whose rate is being watched; the two below belong to it."""
        self._had_bytes = 0
        self._waited_s = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = peer[0]
        self._admitted = self._server.census.enter(self.peer, transport.get_extra_info("socket").fileno())
        if self._admitted:
            super().connection_made(transport)
        else:
            self._turn_away(cast("asyncio.Transport", transport))

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Say that it is one too many, and nothing else: aiohttp's side never hears of the connection."""
        self.transport = transport
        self._handler.unreadable(self, Refusal.TOO_MANY_CONNECTIONS)
        self._manager = None
        self.force_close()

    @override
    def data_received(self, data: bytes) -> None:
        """Parse, unless these are the bytes of the last request again: clients poll, and parsing is a third of a poll.

        Only a request without a body is recognised, which came in one piece with nothing before or behind it.
        """
        waiter = self._waiter
        if self._again is not None and data == self._last and waiter is not None and not waiter.done():
            self._messages.append(self._again)
            waiter.set_result(None)
            return
        queued, between = len(self._messages), self._between
        body = self._messages[-1][1] if queued else self._body
        in_header = body is None or body.is_eof()
        super().data_received(data)
        self._again = None
        self._between = False
        if len(self._messages) == queued:
            if data and in_header and not self._upgraded:
                self._header_grew(data)
            return
        if len(data) + self._header_bytes > _MAX_HEADER:
            self._refuse_oversize(queued)
        if isinstance(self._messages[-1][0], RawRequestMessage):
            self.beginning = b""
        elif not self._header_bytes:
            self.beginning = data[:_BEGINNING]
        if self._header_bytes:
            self._header_came()
        if not between or len(self._messages) != queued + 1 or not data.endswith(b"\r\n\r\n"):
            return
        message, body = self._messages[-1]
        if isinstance(message, RawRequestMessage) and isinstance(body, EmptyStreamReader) and not message.upgrade:
            self._between = True
            if data.count(b"\r\n\r\n") == 1 and not queued and not message.should_close:
                self._last, self._again = data, (message, body)

    def _header_grew(self, piece: bytes) -> None:
        """A piece of a header: its time runs from the first one, and is not renewed."""
        if not self._header_bytes:
            self.beginning = piece[:_BEGINNING]
            self._server.heading[self] = self._loop.time() + self._server.patience.header_s
        self._header_bytes += len(piece)
        if self._header_bytes > _MAX_HEADER:
            self.give_up_header(Refusal.REQUEST_HEADERS_TOO_LARGE)

    def _header_came(self) -> None:
        self._header_bytes = 0
        self._server.heading.pop(self, None)

    def _refuse_oversize(self, queued: int) -> None:
        """Judge the headers that came complete as those in pieces are: how they were cut decides nothing."""
        for place in range(queued, len(self._messages)):
            message = self._messages[place][0]
            if isinstance(message, RawRequestMessage) and _size(message) > _MAX_HEADER:
                while len(self._messages) > place:
                    self._messages.pop()
                self.give_up_header(Refusal.REQUEST_HEADERS_TOO_LARGE)
                return

    def give_up_header(self, refusal: Refusal) -> None:
        """Answer a header that will not be read to its end, and take nothing more."""
        self._server.heading.pop(self, None)
        self._close = True
        self._messages.append((cast("RawRequestMessage", refusal), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._admitted:
            self._admitted = False
            self._server.census.leave(self.peer)
            self._server.heading.pop(self, None)
        if self._server.idle is not None:
            self._server.idle.set()
        body, gone = self._body, self.client_gone
        self.client_gone = None
        if body is not None and not body.is_eof():
            body.set_exception(ConnectionResetError("the client has gone"))
        if gone is not None:
            gone()

    def write(self, data: bytes) -> None:
        """Write now, behind what waits. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        if self._later:
            self.flush()
        self.transport.write(data)

    def write_soon(self, data: bytes) -> None:
        """Write at the end of this loop iteration. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        if not self._later:
            self._server.outbox.put(self)
        self._later += data

    def flush(self) -> None:
        """Write what waits, if anybody is left to read it."""
        later, self._later = self._later, b""
        if later and self.transport is not None:
            self.transport.write(later)

    async def drained(self, idle_s: float) -> None:
        """Wait until the client has taken what was written; one that takes nothing for ``idle_s`` is cut off.

        Raises ConnectionError when it has gone.
        """
        if not self._paused:
            return await self._drain_helper()
        self._unsent, self._idle_s = float("inf"), idle_s
        self._server.writing.add(self)
        try:
            return await self._drain_helper()
        finally:
            self._server.writing.discard(self)

    def has_stalled(self, now: float) -> bool:
        """Whether a client that is waited for has taken nothing for too long."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if unsent < self._unsent:
            self._unsent, self._take_by = unsent, now + self._idle_s
        return self._take_by < now

    @property
    def has_switched(self) -> bool:
        """Whether the parser takes nothing more for HTTP, because the last request asked for an upgrade."""
        return bool(self._upgraded)

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Leave the socket to another protocol after an upgrade, with what has come for it; reading is paused.

        The other one tells :meth:`connection_lost` here. Raises ConnectionResetError when the client has gone.
        """
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.pause_reading()
        transport.set_protocol(protocol)
        tail, self._message_tail = self._message_tail, b""
        self._parser = self.known = None
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        return transport, tail

    def cut(self) -> None:
        """End the connection by a reset: to an answer without a length an orderly close would be its end."""
        self._later = b""
        if self.transport is not None:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

    async def next_piece(self, body: StreamReader, idle_s: float) -> bytes:
        """The next piece of a body, empty at its end.

        Raises BodyTooSlow, RequestPayloadError when it is not well-formed, ConnectionError when the client has gone.
        """
        self.body_deadline = self._loop.time() + idle_s
        self._server.reading[self] = body
        try:
            return await body.readany()
        except (RequestPayloadError, HttpProcessingError):
            # aiohttp's text repeats bytes of the body; the pure-Python parser even hands out its own exception.
            raise RequestPayloadError("the body's framing is malformed") from None
        finally:
            self._server.reading.pop(self, None)

    def pour(self, body: StreamReader, left: int, idle_s: float, take: Take) -> Inflow | None:
        """A way for the rest of a body of known length around the parser; None while the parser still holds a part.

        Also where it is not worth the trouble. All that has come of the body must have been read.
        """
        if left < 2 * BUFFER_BYTES or self.transport is None or self._reading_paused or self._buffer_paused:
            return None
        return Inflow(self, self._server.scratch, body, left, idle_s=idle_s, take=take)

    def read_into(self, inflow: Inflow, idle_s: float) -> None:
        """Let it have what comes, and watch how it comes. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        if self.transport.get_protocol() is not inflow:
            self.transport.set_protocol(inflow)
        self.body_deadline = self._loop.time() + idle_s
        self._server.reading[self] = inflow
        self.transport.resume_reading()

    def stop_reading(self) -> None:
        """Let the client wait."""
        self._server.reading.pop(self, None)
        if self.transport is not None:
            self.transport.pause_reading()

    def body_came(self, body: StreamReader, total_bytes: int) -> None:
        """All of a body has gone around the parser: a new one reads on behind it."""
        self._server.reading.pop(self, None)
        self._parser = HttpRequestParser(
            self, self._loop, self._read_bufsize, max_line_size=self.max_line_size,
            max_field_size=self.max_field_size, max_headers=self.max_headers, payload_exception=RequestPayloadError,
            auto_decompress=False, max_msg_queue_size=self._max_msg_queue_size,
        )  # fmt: skip
        if self.transport is not None:
            self.transport.set_protocol(self)
        body.total_bytes = total_bytes
        body.feed_eof()

    def trickles(self, body: StreamReader | Inflow) -> bool:
        """Whether a body that is waited for comes below the least rate. Asked at every tick of the server.

        Only time spent waiting for the client counts: a body that the upstream holds up is not slow.
        """
        if body is not self._rated:
            self._rated, self._had_bytes, self._waited_s = body, body.total_bytes, 0.0
            return False
        patience = self._server.patience
        self._waited_s += TICK_S
        if self._waited_s < patience.body_window_s:
            return False
        slow = body.total_bytes - self._had_bytes < patience.body_rate * self._waited_s
        self._had_bytes, self._waited_s = body.total_bytes, 0.0
        return slow

    @property
    def body_broke(self) -> bool:
        """Whether the parser gave up inside the body that is being read: it queues an error and tells nobody else."""
        return bool(self._messages) and self._body is not None and not self._body.is_eof()

    def finish(self) -> None:
        """Take one more request at most, and answer it with ``Connection: close``.

        Not closed at once: a request may be on its way, and whoever sent it would have to guess what became of it.
        """
        self._last_request = True
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        if not self._request_in_progress:
            self._await_next()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served."""
        return self._request_in_progress

    @override
    async def start(self) -> None:
        """Serve one message after the other until the connection ends. Runs as the connection's one task."""
        try:
            while not self._force_close:
                if not self._messages:
                    await self._next_message()
                else:
                    await asyncio.sleep(0)  # pipelined: the others have their turn first
                if self._paused:
                    await self.drained(_UNREAD_S)  # it sends and does not read: its answers must not pile up here
                message, body = taken = self._messages.popleft()
                if taken is not self._again:  # the parser knows nothing of a repeated one
                    self._make_room()
                self._body = body
                self._request_in_progress = True
                last = self._last_request
                try:
                    if isinstance(message, RawRequestMessage):
                        after = await self._handler(self, _closing(message) if last else message, body)
                        # After an upgrade that was not taken the parser has stopped: what follows was meant otherwise.
                        after = CLOSE if message.upgrade else after
                    else:
                        after = self._refuse_unreadable(message)
                finally:
                    self._finish_request()
                if not body.is_eof():
                    await self._linger(body)
                    break
                self._body = None
                if after is CLOSE or last or self._close or self._force_close:
                    break
                self._await_next()
        except ConnectionError:
            pass  # the client has gone; the handler has settled what there was
        finally:
            self._task_handler = None
            self.flush()
            self._close_soon()

    def _close_soon(self) -> None:
        """Close when what was written has been taken; a client that takes nothing is cut off."""
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self._loop.call_later(_UNREAD_S, self.cut)
            self.transport.close()

    def _refuse_unreadable(self, fault: Any) -> Next:
        """What stands in the place of a message: an error of the parser, or a refusal of :meth:`give_up_header`."""
        refusal = fault if isinstance(fault, Refusal) else _refusal_of(fault.exc)
        self._handler.unreadable(self, refusal)
        return CLOSE

    def _finish_request(self) -> None:
        """Tell aiohttp's shutdown, if it waits for idle connections."""
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)

    async def _next_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _make_room(self) -> None:
        """Tell the parser that one message was taken; it stops emitting when many are pipelined."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    def _await_next(self) -> None:
        """Start the time within which the next request must begin; if it has, the time in which its header must end."""
        patience, now = self._server.patience, self._loop.time()
        self._next_keepalive_close_time = now + patience.idle_s
        if self._header_bytes:
            self._server.heading[self] = now + patience.header_s
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    @override
    def _process_keepalive(self) -> None:
        """The time to begin is over. A request that has begun has a time of its own."""
        self._keepalive_handle = None
        if not self._header_bytes:
            super()._process_keepalive()

    async def _linger(self, body: StreamReader) -> None:
        """Read on for a moment: a close with unread data is a reset, and the reset would eat the answer."""
        await asyncio.sleep(0)  # an upload that was cancelled just now still holds the body
        try:
            async with asyncio.timeout(self._lingering_time):
                while not body.is_eof() and not self._force_close:
                    await body.readany()
        except (TimeoutError, BodyTooSlow, RequestPayloadError, HttpProcessingError):
            return


def _closing(message: RawRequestMessage) -> RawRequestMessage:
    """The request as if its client had said ``Connection: close``."""
    return message._replace(should_close=True)


def _refusal_of(fault: HttpProcessingError) -> Refusal:
    """Too long a line has a type of its own in aiohttp; too many of them have only a sentence."""
    if isinstance(fault, LineTooLong) or fault.message == "Too many headers received":
        return Refusal.REQUEST_HEADERS_TOO_LARGE
    return Refusal.MALFORMED_REQUEST


def _size(message: RawRequestMessage) -> int:
    """Of a header, in bytes, with its line ends."""
    return len(message.method) + len(message.path) + sum(len(n) + len(v) + 4 for n, v in message.raw_headers)

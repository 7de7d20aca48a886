"""A client's connection on the public listener: aiohttp's low-level protocol with a loop of our own around its parser.

aiohttp parses and keeps the flow control; what it does around a handler for general use (a task, a request, a
writer and a response object for every message) is a third of its cost, so :meth:`ClientConnection.start` is ours. It
also answers what aiohttp leaves to its user: errors of its parser in our own shape, a client that goes away while the
upstream works, a header or a body that comes too slowly.
"""

import asyncio
import enum
import re
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from typing_extensions import override

from gateway.dataplane import delivery
from gateway.dataplane.delivery import Delivery
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.inquiries import Known
from gateway.dataplane.intake import Listener
from gateway.dataplane.recall import Memory
from gateway.dataplane.repeats import Errand, Recurrent, Refrain
from policies.account.usage import Outcome
from policies.http.verdict import Refusal

_UNREAD_LOOK_S = 0.1
"""When a connection is looked at again that was to be closed for want of a request, and had one in its socket."""
_LATE_S = 0.1
"""How late the loop may be for a connection without a request: beyond that its client may have stood still as well."""
_OTHER_VERSION = re.compile(rb"[A-Z]+ [!-~]+ HTTP/(?!1\.)[0-9](?:\.[0-9])?\r\n")
"""A request line of another major version than ours."""


class Next(enum.Enum):
    """What becomes of the connection after an answer."""

    KEEP = enum.auto()
    CLOSE = enum.auto()


KEEP, CLOSE = Next.KEEP, Next.CLOSE


class Handler(Protocol):
    """The one handler of the public listener. It writes its answers to the connection itself."""

    async def __call__(self, connection: "ClientConnection", message: RawRequestMessage, body: StreamReader) -> Next:
        """Answer, settle, and say whether the connection may be used again."""

    def again(self, connection: "ClientConnection", refrain: Recurrent) -> bool:
        """Answer a request that comes again, without the connection's task; False where the task is needed."""

    async def go_on(self, connection: "ClientConnection", errand: Errand) -> Next:
        """Answer what got stuck on that way, as ``__call__`` does."""

    def unreadable(self, connection: "ClientConnection", refusal: Refusal) -> None:
        """Answer what is no request: what the parser could not read, or a connection that is one too many."""

    def failed(self, connection: "ClientConnection", exchange: Exchange) -> None:
        """Answer for a bug of ours, which is being handled, in place of the answer that was to leave."""


class ClientConnection(Delivery):
    """One client's connection: which of its requests is served when, and by whom."""

    __slots__ = (
        "_admitted", "_errand", "_handler", "_has_more_time", "_last_request", "client_gone", "known", "peer",
        "refrain",
    )  # fmt: skip

    def __init__(self, server: Listener, handler: Handler, **options: Any) -> None:
        super().__init__(server, **options)
        self._handler = handler
        self.client_gone: Callable[[], None] | None = None
        """Called once when the client leaves during an exchange."""
        self.peer = ""
        """The address of the other end of the socket; ``unix`` for a socket file."""
        self.known: Known | None = None
        """The last header of this connection, worked out."""
        self.refrain: Refrain | None = None
        """What the last request amounts to if it comes again."""
        self._errand: Errand | None = None
        self._last_request = False
        self._has_more_time = False
        """Whether the time to begin is given once more."""
        self._admitted = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        if peer is None:
            # Reset before it was taken: uvloop asks the socket, which no longer knows. What came before can be read
            # all the same, and would be whose nobody knows: a socket file's, which is trusted, if it were guessed.
            self._manager = None
            cast("asyncio.Transport", transport).abort()
            return
        self.peer = peer[0] if isinstance(peer, tuple) else "unix"
        self._admitted = self._server.census.enter(self.peer, transport.get_extra_info("socket").fileno())
        self._last_request = self._server.idle is not None  # it waited in the queue while a drain began
        if self._admitted:
            super().connection_made(transport)
        else:
            self._turn_away(cast("asyncio.Transport", transport))

    def _turn_away(self, transport: asyncio.Transport) -> None:
        """Say that it is one too many, and nothing else: aiohttp's side never hears of the connection."""
        self.transport = transport
        self._handler.unreadable(self, Refusal.TOO_MANY_CONNECTIONS)
        self._manager = None
        leaving = self._server.leaving
        if self._server.census.may_stay(transport.get_extra_info("socket").fileno(), len(leaving)):
            self.transport = None
            delivery.LastWord(transport, leaving)
        self.force_close()

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

    def retract(self, exchange: Exchange) -> None:
        """Have something else said in place of what waits, and end; nothing where that is beyond us, too."""
        self._later = b""
        try:
            self._handler.failed(self, exchange)
        except Exception:  # noqa: BLE001  the second bug of one request, the first is logged: not the other clients' price
            self.cut()
        else:
            self.force_close()

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

    # --- a request that comes again ----------------------------------------------------------------------------------

    @override
    def _comes_again(self) -> bool:
        refrain = self.refrain
        if refrain is None or self._again is None or refrain.message is not self._again[0]:
            return False
        if self._paused or self._last_request:
            return False
        return self._handler.again(self, refrain)

    @override
    def _is_remembered(self, memory: Memory, data: bytes) -> bool:
        if self._header_bytes or not self._between:
            return False
        question = memory.find((self.peer, data))
        if question is None or self._paused or self._last_request:
            return False
        self.known = question.known
        if self._handler.again(self, question):
            return True
        memory.forget((self.peer, data))
        return False

    def run(self, errand: Errand) -> None:
        """It is being served without the task, which rests meanwhile."""
        self._errand = errand
        self._request_in_progress = True
        self.client_gone = errand.abandon

    def ran(self) -> None:
        """It has been answered, or nobody waits for it. What came behind it is the task's."""
        self._errand = self.client_gone = None
        if self._handler_waiter is None:
            self._request_in_progress = False
        else:
            self._finish_request()
        if self._messages:
            self.resume()
        elif not self._force_close:
            self._await_next()

    def resume(self) -> None:
        """Wake the task."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the task ----------------------------------------------------------------------------------------------------

    @override
    async def start(self) -> None:
        """Serve one message after the other until the connection ends. Runs as the connection's one task."""
        try:
            while not self._force_close:
                errand = await self._next()
                after = await (self._serve(self._messages.popleft()) if errand is None else self._go_on(errand))
                if after is CLOSE or self._close or self._force_close:
                    if self._is_sent_more and not self._close:
                        await self._hear_out()
                    break
                self._await_next()
        except ConnectionError:
            pass  # the client has gone; the handler has settled what there was
        finally:
            self._task_handler = None
            if self._errand is not None:  # the time to finish is over
                self._errand.abandon(Outcome.GATEWAY_FAILED, 503)
            self.send_now()
            self._close_soon()

    async def _next(self) -> Errand | None:
        """Wait for a message, or for an errand that is stuck, which is the answer then.

        What comes behind an errand waits until that is over. Raises ConnectionError when the client has gone.
        """
        if self._messages and self._errand is None:
            await asyncio.sleep(0)  # pipelined: the others have their turn first
        while self._errand is not None or not self._messages:
            if self._force_close:
                raise ConnectionResetError("the client has gone")
            await self._next_message()
            if self._errand is not None and self._errand.is_stuck:
                return self._errand
        if self._paused:
            await self.drained(delivery.UNREAD_S)  # it sends and does not read: its answers must not pile up here
        return None

    async def _serve(self, taken: tuple[Any, StreamReader]) -> Next:
        """Answer a message, or what stands in the place of one."""
        message, body = taken
        self._body = body
        self._request_in_progress = True
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        last = self._last_request
        try:
            if isinstance(message, RawRequestMessage):
                after = await self._handler(self, _closing(message) if last else message, body)
                # After an upgrade that was not taken the parser has stopped: what follows was meant otherwise.
                after = CLOSE if message.upgrade or last else after
            else:
                after = await self._refuse_unreadable(message)
        finally:
            self._finish_request()
        if not body.is_eof():
            await self._linger(body)
            return CLOSE
        self._body = None
        return after

    async def _go_on(self, errand: Errand) -> Next:
        """Answer what got stuck on its way."""
        self._errand = self.client_gone = None
        try:
            return await self._handler.go_on(self, errand)
        finally:
            self._finish_request()

    async def _refuse_unreadable(self, fault: Any) -> Next:
        """What stands in the place of a message: an error of the parser, or a refusal of :meth:`give_up_header`.

        What follows is thrown away.
        """
        refusal = fault if isinstance(fault, Refusal) else _refusal_of(fault.exc, self.beginning)
        self._handler.unreadable(self, refusal)
        await self._hear_out()
        return CLOSE

    def _finish_request(self) -> None:
        """Tell aiohttp's shutdown, if it waits for idle connections."""
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)

    def _await_next(self) -> None:
        """Start the time within which the next request must begin; if it has, the time in which its header must end."""
        patience, now = self._server.patience, self._loop.time()
        self._next_keepalive_close_time = now + patience.idle_s
        self._has_more_time = False
        if self._header_bytes:
            self._server.heading[self] = now + patience.header_s
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    @override
    def _process_keepalive(self) -> None:
        """The time to begin is over. A request that has begun has a time of its own.

        One may have come since the loop looked last, as a busy loop's turn takes a while: it is read first. Where
        the loop comes much too late, the machine was busy or stood still: the client gets the time once more, as its
        request and the close would cross. Once: a loop that is always late has too many connections already.
        """
        self._keepalive_handle = None
        if self._header_bytes or self._errand is not None:
            return
        if self._loop.time() > self._next_keepalive_close_time + _LATE_S and not self._has_more_time:
            self._await_next()
            self._has_more_time = True
            return
        if self._has_unread:
            self._keepalive_handle = self._loop.call_later(_UNREAD_LOOK_S, self._process_keepalive)
            return
        super()._process_keepalive()


def _closing(message: RawRequestMessage) -> RawRequestMessage:
    """The request as if its client had said ``Connection: close``."""
    return message._replace(should_close=True)


def _refusal_of(fault: HttpProcessingError, beginning: bytes) -> Refusal:
    """Too long a line has a type of its own in aiohttp; too many of them have only a sentence.

    ``PRI * HTTP/2.0`` is how HTTP/2 begins where no other protocol was agreed on before (RFC 9113 section 3.4).
    """
    if _OTHER_VERSION.match(beginning):
        return Refusal.UNSUPPORTED_HTTP_VERSION
    if fault.message.startswith("Content-Length overflow"):
        return Refusal.BODY_TOO_LARGE  # a valid number (RFC 9110 section 8.6), and more than any route takes
    if isinstance(fault, LineTooLong) or fault.message == "Too many headers received":
        return Refusal.REQUEST_HEADERS_TOO_LARGE
    return Refusal.MALFORMED_REQUEST

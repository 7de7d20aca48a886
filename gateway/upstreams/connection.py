"""Connections to one address of an upstream: pooled, parsed by llhttp, with back-pressure both ways.

One connection carries one exchange at a time. A request whose bytes may have been seen is not sent again (RFC 9110
section 9.2.2 would allow it for some methods; metering and money do not); one of which certainly nothing was written
ends in ``Unsent``, and may be. A connection goes back to the pool only after an answer that ended cleanly with nothing
behind it; anything else closes it (CVE-2026-39821 class: a stray byte is the next caller's answer).

Deadlines are set here; the pool's ticker looks at them.
"""

import asyncio
import contextlib
import math
import os
import select
from typing import TYPE_CHECKING, NamedTuple, cast

import httptools
from typing_extensions import override

from policies.headers import AnswerHead

if TYPE_CHECKING:
    from gateway.upstreams.pool import UpstreamPool

_HIGH_WATER = 262_144
"""Bytes of an answer kept for a client that reads slowly, before the upstream is told to wait."""
_MAX_HEAD = 65_536
"""The largest answer header taken, in bytes, with the interim answers before it: a service that sends nothing but
those would otherwise fill the memory."""
_HUGE_HEAD = f"its answer has a header of more than {_MAX_HEAD} bytes"
_RESTED_S = 0.02
"""A connection that was unused for this long is looked at once more before it is written to."""
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class UpstreamError(Exception):
    """The upstream failed us; the message is for the operator, the client gets the refusal's own words."""


class Unreachable(UpstreamError):
    """No connection: nothing was sent."""


class OutOfFiles(UpstreamError):
    """No connection either, for want of an open file: that is no fault of the upstream."""


class Broke(UpstreamError):
    """The connection ended, or what came is not HTTP."""


class Unsent(Broke):
    """The connection ended before a byte of the request was written: it may be sent on another one."""


class TooSlow(UpstreamError):
    """The first byte or the next one did not come in time."""


class Abandoned(UpstreamError):
    """We gave up ourselves, because the client has gone."""


class Usual(NamedTuple):
    """An answer's header that may come again: with all of it known, how long the whole answer is."""

    header: bytes
    status: int
    head: AnswerHead
    size: int


class UpstreamConnection(asyncio.Protocol):
    """One connection.

    ``begin``, then ``write`` as often as needed, then ``answered``, then ``read`` until empty, then ``release``. After
    ``answered``: ``status``, ``head`` and ``body_done``. After a 101 to an upgrade comes ``hand_over`` instead.
    """

    __slots__ = (
        "_answer_waiter", "_asked", "_bodyless", "_buffered", "_chunks", "_drain_waiter", "_failure", "_idle_s",
        "_interim", "_later", "_loop", "_parser", "_raw", "_raw_start", "_read_paused", "_rested", "_reusable", "_tail",
        "_transport", "_until_close", "_upgrade", "_write_paused", "body_done", "deadline", "end_by", "head",
        "idle_since", "pool", "status",
    )  # fmt: skip

    def __init__(self, pool: "UpstreamPool") -> None:
        self.pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer_waiter: asyncio.Future[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._failure: Exception | None = None
        self._asked = False
        self._raw = b""
        self._raw_start = 0
        self._later = b""
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._idle_s = 0.0
        # An upstream may hang up, and an exchange may fail, before anything was asked.
        self._until_close = self._reusable = self.body_done = self._upgrade = False
        self._tail: bytes | None = None
        """What came behind a 101; None before one."""
        self.head: AnswerHead | None = None
        self._rested = False
        self.idle_since = 0.0
        """When the last exchange ended; 0.0 while the first one lasts."""
        self.deadline = self.end_by = float("inf")

    # --- the request -------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(
        self, head: bytes, *, bodyless_answer: bool, idle_s: float, total_s: float = math.inf, upgrade: bool = False
    ) -> None:
        """Write a request's head soon, and a small body with it. ``bodyless_answer`` for HEAD (RFC 9112 section 6.3).

        The exchange ends in TooSlow after ``total_s`` at the latest. With ``upgrade`` a 101 is an answer as well.

        Raises Unsent when the upstream has hung up already.
        """
        if self._transport is None:
            raise self._failure or Unsent("it closed the connection")
        self._asked = True
        now = self._loop.time()
        self._rested = now - self.idle_since > _RESTED_S
        self.end_by = now + total_s
        self._bodyless = bodyless_answer
        self._upgrade = upgrade
        self._idle_s = idle_s
        self._until_close = self._interim = self._reusable = self.body_done = False
        self.status = 0
        self.head = None
        self._later = head
        self.pool.outbox.put(self)

    def flush(self) -> None:
        """Write what waits, if the upstream is still there; else whoever waits for the answer gets Unsent."""
        later = self._later
        if not later or self._transport is None:
            return
        if self._rested and self._has_ended(self._transport):
            self.fail(Unsent("it closed the connection at rest"))
            return
        self._later = b""
        self._transport.write(later)

    @staticmethod
    def _has_ended(transport: asyncio.Transport) -> bool:
        """Whether the other end's farewell is in the socket already, though the loop has not told of it yet.

        A turn of a busy loop takes milliseconds, and a service that restarts closes its connections at any moment.
        """
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), _ENDED)
        return bool(poll.poll(0))

    def expect_answer(self, within_s: float) -> None:
        """The request is out: the answer's head is due."""
        if self.head is None:
            self.deadline = self._loop.time() + within_s

    @property
    def holds_nothing(self) -> bool:
        """Whether all that was written has gone to the socket."""
        return self._transport is None or not self._transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a piece of the body. Raises what went wrong before.

        A piece that is not ``bytes`` must stay as it is until the upstream ``holds_nothing``.
        """
        if self._failure is not None:
            raise self._failure
        assert self._transport is not None
        if self._later:
            self.flush()
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the upstream takes more, or has answered for good, or the route's idle time has passed."""
        if not self._write_paused or self.body_done:
            return
        if self._failure is not None:
            raise self._failure
        self.deadline = self._loop.time() + self._idle_s
        self._drain_waiter = self._loop.create_future()
        try:
            await self._drain_waiter
        finally:
            self._drain_waiter = None
            self.deadline = float("inf")

    # --- the answer --------------------------------------------------------------------------------------------------

    def answered(self) -> asyncio.Future[None]:
        """Done when the answer's head is there; with a small answer its body is as well. Raises UpstreamError.

        Not a coroutine, and to be awaited at once: on the hot path a frame more is paid on every request.
        """
        waiter = self._answer_waiter = self._loop.create_future()
        if self._failure is not None:
            waiter.set_exception(self._failure)
        elif self.head is not None:
            waiter.set_result(None)
        return waiter

    async def read(self) -> bytes:
        """The next piece of the body, empty at its end. Raises UpstreamError when it ends otherwise."""
        while not self._chunks:
            if self.body_done:
                return b""
            self.deadline = self._loop.time() + self._idle_s
            await self._next()
        return self.take()

    @property
    def has_piece(self) -> bool:
        """Whether :meth:`read` would not wait."""
        return bool(self._chunks) or self.body_done

    def take(self) -> bytes:
        """All that has arrived of the body."""
        chunks, self._chunks = self._chunks, []
        self._buffered = 0
        if self._read_paused:
            self._read_paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def put_back(self, data: bytes) -> None:
        """Let a part of the body that was read be read again, before what follows it."""
        if data:
            self._chunks.insert(0, data)
            self._buffered += len(data)

    async def _next(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._answer_waiter = self._loop.create_future()
        await self._answer_waiter

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Leave the socket to another protocol after a 101, with what has come for it already; reading is paused.

        Raises what went wrong when it has closed meanwhile.
        """
        transport, tail = self._transport, self._tail
        if transport is None or tail is None:
            raise self._failure or Broke("it closed the connection")
        transport.set_protocol(protocol)
        self._transport = None
        self.pool.forget(self)
        return transport, tail

    def release(self) -> None:
        """Give the connection back after the exchange; it is kept only when both sides left it clean."""
        if self._reusable and self.body_done and self.is_open and not self._chunks:
            self._asked = False
            self.end_by = float("inf")
            self.idle_since = self._loop.time()
            self.pool.put_back(self)
        else:
            self.close()

    def abandon(self) -> None:
        """Give up because the client has gone."""
        self.fail(Abandoned("the client has gone"))

    def fail(self, error: Exception) -> None:
        """End the exchange for this reason and close; whoever waits gets it raised."""
        if self._failure is None:
            self._failure = error
        self._wake_failed(self._failure)
        self.close()

    def close(self) -> None:
        """Close at once: the upstream sees that nobody waits for its answer any more."""
        self.pool.forget(self)
        self._later = b""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's side ----------------------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    @override
    def pause_writing(self) -> None:
        self._write_paused = True

    @override
    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_drain()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._asked or self._later:  # it speaks before it was spoken to
            if self._tail is not None:
                self._tail += data
                return
            self.fail(Unsent("it sent an answer before the request"))
            return
        if self.head is None:
            if not (self._raw or self._bodyless or self._upgrade) and self._recognised(data):
                self._wake_answer()
                return
            self._raw = self._raw + data if self._raw else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._tail is None:
                self.fail(Broke("it switched protocols without having been asked to"))
                return
        except httptools.HttpParserError as error:
            if not self.body_done and self._tail is None:
                self.fail(Broke(f"its answer is not well-formed HTTP: {error.__context__ or error}"))
                return
            self._reusable = False
        if self.head is not None:
            self._wake_answer()
        elif len(self._raw) > _MAX_HEAD:
            self.fail(Broke(_HUGE_HEAD))
        if self._buffered > _HIGH_WATER and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    def _recognised(self, data: bytes) -> bool:
        """Whether this is a whole answer whose header is the last one's, byte for byte: then llhttp would say the same.

        A service tells pollers the same again and again, and parsing is most of what a small answer costs. The parser
        stands between two messages, or the connection would not have been used again.
        """
        usual = self.pool.usual
        if len(data) != usual.size or not data.startswith(usual.header):
            return False
        self.status, self.head = usual.status, usual.head
        self._reusable = self.body_done = True
        body = data[len(usual.header) :]
        if body:
            self._chunks.append(body)
            self._buffered = len(body)
        return True

    @override
    def eof_received(self) -> bool:
        if self._until_close and not self.body_done:
            self.body_done = True
            self._wake_answer()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if exc is not None and transport is not None and self._asked and not self._later and not self.body_done:
            self._hear_last_words(transport)
        self.pool.forget(self)
        if self._until_close and not self.body_done and exc is None and self._failure is None:
            self.body_done = True
            self._wake_answer()
        elif not self.body_done:
            kind = Broke if self._asked and not self._later else Unsent
            self._failure = self._failure or kind(f"it closed the connection{f': {exc}' if exc else ''}")
            self._wake_failed(self._failure)

    def _hear_last_words(self, transport: asyncio.Transport) -> None:
        """Read what it said before it hung up on an upload: a write that fails keeps the loop from reading that.

        Servers that refuse a body answer and close, with the rest of it unread, and so reset the connection. Under TLS
        ``tls_line`` has done it.
        """
        if transport.get_extra_info("ssl_object") is not None:
            return
        with contextlib.suppress(OSError):
            while not self.body_done and (data := os.read(transport.get_extra_info("socket").fileno(), _HIGH_WATER)):
                self.data_received(data)

    def _wake_answer(self) -> None:
        self.deadline = float("inf")
        waiter = self._answer_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.body_done:
            self._wake_drain()

    def _wake_drain(self) -> None:
        waiter = self._drain_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wake_failed(self, error: Exception) -> None:
        for waiter in (self._answer_waiter, self._drain_waiter):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    # --- llhttp's side -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second answer where one was asked for: the connection is not to be trusted any more."""
        if self._asked and self.head is not None:
            raise Broke("it sent more than one answer")

    def on_headers_complete(self) -> None:
        """Walk the head, and decide how the body will end (RFC 9112 section 6.3).

        llhttp has judged it; its lines pass on as they came, which is cheaper than putting them together again. It has
        let only CRLF end a line, so cutting at CRLF reads what it read. Trailers are never looked at.
        """
        status = self._parser.get_status_code()
        raw, start = self._raw, self._raw_start
        while raw[start] in b"\r\n":  # llhttp passes over them one by one: a bare LF too is no line of this header
            start += 1
        end = raw.find(b"\r\n\r\n", start)
        if end > _MAX_HEAD:  # how it was cut decides nothing
            raise Broke(_HUGE_HEAD)
        head = raw[start:end]
        if b"\r\n " in head or b"\r\n\t" in head:
            raise Broke("its header has a line that continues another")
        if status < 200:
            if status == 101 and self._upgrade and self._parser.should_upgrade():
                self._switch(self.pool.read_head(head), raw[end + 4 :])
                return
            if status < 100 or status == 101:
                raise Broke(f"its status {status} answers nothing that was asked")
            self._interim = True
            self._raw_start = end + 4
            return
        self.status = status
        self._raw = b""
        self._raw_start = 0
        self.head = answer = self.pool.read_head(head)
        if answer.length is None and not answer.chunked and status not in (204, 304) and not self._bodyless:
            self._until_close = True
            return
        self._reusable = self._parser.should_keep_alive()
        if status == 204 and (answer.length or answer.chunked):
            self._reusable = False  # it announces a body that cannot be, and may send it
        if self._bodyless and status not in (204, 304):
            # llhttp does not know that the request was HEAD and would wait for the body that the header announces.
            self.body_done = True
            self._parser = httptools.HttpResponseParser(self)
        elif self._reusable and answer.length is not None and not start and status not in (204, 304):
            self.pool.usual = Usual(raw[: end + 4], status, answer, end + 4 + answer.length)

    def _switch(self, head: AnswerHead, tail: bytes) -> None:
        """The upstream speaks another protocol from here on."""
        self.status, self.head, self._tail = 101, head, tail
        self._raw = b""
        self._asked = False
        if self._transport is not None:
            self._transport.pause_reading()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body until it is read."""
        if self.body_done:
            self._reusable = False
            return
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """The end of an interim answer, or of the answer."""
        if self._interim:
            self._interim = False
        elif not self._until_close:
            self.body_done = True

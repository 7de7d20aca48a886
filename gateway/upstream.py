"""Connections to an upstream: pooled, parsed by llhttp, with back-pressure both ways, never retried.

One connection carries one exchange at a time. A request whose bytes may have been seen is not sent again (RFC 9110
section 9.2.2 would allow it for some methods; metering and money do not). A connection goes back to the pool only
after an answer that ended cleanly with nothing behind it; anything else closes it (CVE-2026-39821 class: a stray byte
is the next caller's answer).

Deadlines are looked at twice a second by one ticker for all connections, which is what a timer per request would cost
at full load.
"""

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import unquote, urlsplit

import httptools
from typing_extensions import override

from gateway.outbox import Outbox
from policies.headers import AnswerHead

_HIGH_WATER = 262_144
"""Bytes of an answer kept for a client that reads slowly, before the upstream is told to wait."""
_MAX_HEAD = 65_536
"""The largest answer header taken, in bytes."""
_TICK_S = 0.5
_IDLE_S = 4.0
"""How long an unused connection is kept: below the 5 s after which uvicorn, the usual neighbour, closes its end."""


class UpstreamError(Exception):
    """The upstream failed us; the message is for the operator, the client gets the refusal's own words."""


class Unreachable(UpstreamError):
    """No connection: nothing was sent."""


class Broke(UpstreamError):
    """The connection ended, or what came is not HTTP."""


class TooSlow(UpstreamError):
    """The first byte or the next one did not come in time."""


class Abandoned(UpstreamError):
    """We gave up ourselves, because the client has gone."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens: ``http://host[:port]``, ``https://…``, ``unix:/path``. No path prefix is taken."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Raises ValueError with a sentence."""
        if url.startswith("unix:"):
            path = unquote(url.removeprefix("unix:"))
            path = "/" + path.lstrip("/")
            return cls("localhost", 80, path, tls=False)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"an upstream is http://host:port, https://host:port or unix:/path, not {url!r}")
        if parts.path.strip("/") or parts.query or parts.username:
            raise ValueError(f"an upstream is an origin, without path, query or user: {url!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), "", tls)

    @property
    def authority(self) -> str:
        """What goes into Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class UpstreamConnection(asyncio.Protocol):
    """One connection.

    ``begin``, then ``write`` as often as needed, then ``answered``, then ``read`` until empty, then ``release``. After
    ``answered``: ``status``, ``head`` and ``body_done``. After a 101 to an upgrade comes ``hand_over`` instead.
    """

    __slots__ = (
        "_answer_waiter", "_asked", "_bodyless", "_buffered", "_chunks", "_drain_waiter", "_failure", "_idle_s",
        "_interim", "_later", "_loop", "_parser", "_pool", "_raw", "_raw_start", "_read_paused", "_reusable",
        "_tail", "_transport", "_until_close", "_upgrade", "_write_paused", "body_done", "deadline", "head",
        "idle_since", "status",
    )  # fmt: skip

    def __init__(self, pool: "UpstreamPool") -> None:
        self._pool = pool
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
        self.idle_since = 0.0
        self.deadline = float("inf")

    # --- the request -------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, head: bytes, *, bodyless_answer: bool, idle_s: float, upgrade: bool = False) -> None:
        """Write a request's head soon, and a small body with it. ``bodyless_answer`` for HEAD (RFC 9112 section 6.3).

        With ``upgrade`` a 101 is an answer as well.

        Raises what went wrong when the upstream hung up as soon as it was connected.
        """
        if self._transport is None:
            raise self._failure or Broke("it closed the connection")
        self._asked = True
        self._bodyless = bodyless_answer
        self._upgrade = upgrade
        self._idle_s = idle_s
        self._until_close = self._interim = self._reusable = self.body_done = False
        self.status = 0
        self.head = None
        self._later = head
        self._pool.outbox.put(self)

    def flush(self) -> None:
        """Write what waits, if the upstream is still there."""
        later, self._later = self._later, b""
        if later and self._transport is not None:
            self._transport.write(later)

    def expect_answer(self, within_s: float) -> None:
        """The request is out: the answer's head is due."""
        if self.head is None:
            self.deadline = self._loop.time() + within_s

    def write(self, data: bytes) -> None:
        """Write a piece of the body. Raises what went wrong before."""
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
        self._pool.forget(self)
        return transport, tail

    def release(self) -> None:
        """Give the connection back after the exchange; it is kept only when both sides left it clean."""
        if self._reusable and self.body_done and self.is_open and not self._chunks:
            self._asked = False
            self.idle_since = self._loop.time()
            self._pool.put_back(self)
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
        self._pool.forget(self)
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
            self.fail(Broke("it sent an answer before the request"))
            return
        if self.head is None:
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
        elif len(self._raw) - self._raw_start > _MAX_HEAD:
            self.fail(Broke(f"its answer has a header of more than {_MAX_HEAD} bytes"))
        if self._buffered > _HIGH_WATER and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    @override
    def eof_received(self) -> bool:
        if self._until_close and not self.body_done:
            self.body_done = True
            self._wake_answer()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        if self._until_close and not self.body_done and exc is None and self._failure is None:
            self.body_done = True
            self._wake_answer()
        elif not self.body_done:
            self._failure = self._failure or Broke(f"it closed the connection{f': {exc}' if exc else ''}")
            self._wake_failed(self._failure)

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
        while raw.startswith(b"\r\n", start):  # empty lines before an answer are skipped (RFC 9112 section 2.2)
            start += 2
        end = raw.find(b"\r\n\r\n", start)
        head = raw[start:end]
        if b"\r\n " in head or b"\r\n\t" in head:
            raise Broke("its header has a line that continues another")
        if status < 200:
            if status == 101 and self._upgrade and self._parser.should_upgrade():
                self._switch(AnswerHead.walk(head.split(b"\r\n")[1:]), raw[end + 4 :])
                return
            if status < 100 or status == 101:
                raise Broke(f"its status {status} answers nothing that was asked")
            self._interim = True
            self._raw_start = end + 4
            return
        self.status = status
        self._raw = b""
        self._raw_start = 0
        self.head = answer = AnswerHead.walk(head.split(b"\r\n")[1:])
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


class UpstreamPool:
    """The connections to one upstream. ``connect_s`` bounds the making of a new one."""

    def __init__(self, name: str, url: str, connect_s: float = 5.0) -> None:
        self.name = name
        self.origin = Origin.parse(url)
        self.host_line = b"Host: " + self.origin.authority.encode() + b"\r\n"
        self._connect_s = connect_s
        self.outbox = Outbox()
        self._idle: list[UpstreamConnection] = []
        self._all: set[UpstreamConnection] = set()
        self._tls = ssl.create_default_context() if self.origin.tls else None
        self._ticker: asyncio.TimerHandle | None = None

    def idle(self) -> UpstreamConnection | None:
        """The connection that was used last, of those that nobody uses."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        origin = self.origin
        make = partial(UpstreamConnection, self)
        try:
            async with asyncio.timeout(self._connect_s):
                if origin.path:
                    _, connection = await loop.create_unix_connection(make, origin.path)
                else:
                    _, connection = await loop.create_connection(make, origin.host, origin.port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.name}: {str(error) or f'no connection within {self._connect_s:g} s'}") from error
        self._all.add(connection)
        if self._ticker is None:
            self._ticker = loop.call_later(_TICK_S, self._tick)
        return connection

    def put_back(self, connection: UpstreamConnection) -> None:
        """Keep a clean connection for the next exchange."""
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has closed, or will."""
        self._all.discard(connection)
        if not connection.is_open and connection in self._idle:
            self._idle.remove(connection)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [c for c in self._all if c.deadline < now]:
            connection.fail(TooSlow(f"{self.name}: no answer in time"))
        while self._idle and self._idle[0].idle_since < now - _IDLE_S:
            self._idle.pop(0).close()
        self._ticker = loop.call_later(_TICK_S, self._tick) if self._all else None

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._all):
            connection.close()
        self._idle.clear()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

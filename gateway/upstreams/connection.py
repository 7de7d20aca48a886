"""A connection to one address of an upstream: asked, waited for, kept or closed, with back-pressure both ways.

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
import ssl
from typing import Protocol, cast

from typing_extensions import override

from gateway.outbox import Outbox
from gateway.upstreams.answer import Answer, Familiar
from gateway.upstreams.failures import Abandoned, Broke, Unsent
from policies.http.headers import AnswerHead
from policies.routing.upstreams import Health
from storage.ports import Waiter

_HIGH_WATER = 262_144
"""Bytes of an answer kept for a client that reads slowly, before the upstream is told to wait."""
_RESTED_S = 0.02
"""A connection that was unused for this long is looked at once more before it is written to."""
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Keeper(Protocol):
    """Who keeps the connections to one address, and what connections and their users want of that."""

    outbox: Outbox
    familiar: Familiar
    address: str
    """What it is called in metrics and logs."""
    host_line: bytes
    """The lines that only this address gets: Host and our credential."""
    health: Health
    is_suspect: bool
    """Whether an answer would be news; see ``Health.is_suspect``."""
    others: int
    """Connections in the making, and those that are not in the keeper's care, such as tunnels."""

    def put_back(self, connection: "UpstreamConnection") -> None:
        """Keep a clean connection for the next exchange."""

    def forget(self, connection: "UpstreamConnection") -> None:
        """A connection has closed, or will."""


class UpstreamConnection(Answer, asyncio.Protocol):
    """One connection.

    ``begin``, then ``write`` as often as needed, then ``answered``, then ``read`` until empty, then ``release``. After
    ``answered``: ``status``, ``head`` and ``body_done``. After a 101 to an upgrade comes ``hand_over`` instead. Who
    passes on interim answers waits with ``heard``, and takes what is in ``interim``.
    """

    __slots__ = (
        "_answer_waiter", "_drain_waiter", "_failure", "_idle_s", "_later", "_loop", "_read_paused", "_rested",
        "_transport", "_write_paused", "deadline", "end_by", "idle_since", "pool",
    )  # fmt: skip

    def __init__(self, pool: Keeper) -> None:
        super().__init__(pool.familiar)
        self.pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer_waiter: Waiter[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._failure: Exception | None = None
        self._later = b""
        self._idle_s = 0.0
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
        self._expect(bodyless=bodyless_answer, upgrade=upgrade)
        now = self._loop.time()
        self._rested = now - self.idle_since > _RESTED_S
        self.end_by = now + total_s
        self._idle_s = idle_s
        self._later = head
        self.pool.outbox.put(self)

    def ask(self, head: bytes, waiter: Waiter[None], *, first_byte_s: float, idle_s: float, total_s: float) -> None:
        """``begin``, ``expect_answer`` and ``tell`` in one, for a request without a body: polls pay for each call."""
        if self._transport is None:
            raise self._failure or Unsent("it closed the connection")
        self._expect(bodyless=False, upgrade=False)
        now = self._loop.time()
        self._rested = now - self.idle_since > _RESTED_S
        self.end_by = now + total_s
        self.deadline = now + first_byte_s
        self._idle_s = idle_s
        self._later = head
        self._answer_waiter = waiter
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
        self._ready().write(data)

    def write_chunk(self, data: bytes) -> None:
        """Write a piece of a body without a length. Raises what went wrong before."""
        self._ready().writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    def _ready(self) -> asyncio.Transport:
        if self._failure is not None:
            raise self._failure
        assert self._transport is not None
        if self._later:
            self.flush()
        return self._transport

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

    async def answered(self) -> None:
        """Wait until the answer's head is there. Raises UpstreamError."""
        await self.heard()
        while self.head is None:
            await self.heard()

    def heard(self) -> asyncio.Future[None]:
        """Done when the answer's head is there; with a small answer its body is as well. Raises UpstreamError.

        Or when an interim answer is, which puts off no deadline: then there is no head yet, or ``interim`` came first.

        Not a coroutine, and to be awaited at once: on the hot path a frame more is paid on every request.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        self.tell(waiter)
        return waiter

    def tell(self, waiter: Waiter[None]) -> None:
        """The same for somebody who waits otherwise, and may be told within this call."""
        self._answer_waiter = waiter
        if self._failure is not None:
            waiter.set_exception(self._failure)
        elif self.head is not None:
            waiter.set_result(None)

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
        waiter = self._answer_waiter = self._loop.create_future()
        await waiter

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
        if self._recognised(data):
            self._wake_answer()
            return
        try:
            self._parse(data)
        except Broke as error:
            self.fail(error)
            return
        if self.head is not None:
            self._wake_answer()
        if self._buffered > _HIGH_WATER and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    @override
    def eof_received(self) -> bool:
        if self._until_close and not self.body_done and self._has_parted():
            self.body_done = True
            self._wake_answer()
        return False

    def _has_parted(self) -> bool:
        """Whether the end that was heard is one: under TLS only a farewell ends a body (RFC 9112 section 9.8).

        To asyncio's own loop a connection that was cut looks the same.
        """
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:  # it would read on
            return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if exc is not None and transport is not None and self._asked and not self._later and not self.body_done:
            self._hear_last_words(transport)
        self.pool.forget(self)
        if not self.body_done:
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

    @override
    def _switch(self, head: AnswerHead, tail: bytes) -> None:
        super()._switch(head, tail)
        if self._transport is not None:
            self._transport.pause_reading()

    @override
    def _inform(self, status: int, head: AnswerHead) -> None:
        """Tell it at once, before what is behind it is looked at: who cannot pass it on stops there, without a head."""
        super()._inform(status, head)
        waiter = self._answer_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wake_answer(self) -> None:
        self.deadline = float("inf")
        waiter = self._answer_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.body_done and self._drain_waiter is not None:
            self._wake_drain()

    def _wake_drain(self) -> None:
        waiter = self._drain_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wake_failed(self, error: Exception) -> None:
        for waiter in (self._answer_waiter, self._drain_waiter):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

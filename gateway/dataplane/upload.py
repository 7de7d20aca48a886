"""The body of a request on its way to the upstream: counted and measured as it passes, and held to its limits.

A small body that is at hand is taken whole, to be written together with the head. Every other one is carried on piece
by piece in a task of its own, with back-pressure, while the answer is already waited for.
"""

import asyncio

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.server import ClientConnection
from gateway.tasks import Tasks
from gateway.upstreams.connection import UpstreamConnection, UpstreamError
from policies.admission import Hold
from policies.authorise import Permit
from policies.holding import Spent
from policies.inquiry import Inquiry
from policies.metering import meter_for
from policies.usage import Measured
from policies.verdict import Deny, Refusal

_SMALL_BODY = 262_144
"""A request body up to this size is written together with its head when all of it has arrived."""


class BodyTooLarge(Exception):
    """The client sent more than the route takes."""


class Refused(Exception):
    """What the body turned out to be: more than a limit has left, or nothing whose length will ever be known."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.deny = deny


class Upload:
    """One request's body."""

    __slots__ = (
        "_body", "_chunked", "_connection", "_done", "_exchange", "_first", "_is_awaited", "_permit", "_pump", "_whole",
        "forwarded", "framing", "meter",
    )  # fmt: skip

    def __init__(
        self,
        connection: ClientConnection,
        message: RawRequestMessage,
        body: StreamReader,
        inquiry: Inquiry,
        permit: Permit,
        exchange: Exchange,
    ) -> None:
        head, route = inquiry.head, permit.route
        length = int(head.content_lengths[0]) if head.content_lengths else None
        self._connection = connection
        self._body = body
        self._permit = permit
        self._exchange = exchange
        self._chunked = length is None
        self.framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
        """The line that tells the upstream how the body ends, when it is carried in pieces."""
        self._is_awaited = bool(head.expect) and message.version == (1, 1)
        self._whole: bytes | None = None
        self._first = b""
        """The first piece, where it was read ahead to be measured."""
        self._pump: asyncio.Task[None] | None = None
        self._done = False
        self.forwarded: Measured | None = None
        """What the upstream was sent, where a limit kept the last piece back though the answer was coming already."""
        self.meter = meter_for(route.meter, head.content_type.decode("latin-1"), length, inquiry.query)

    def whole(self) -> bytes | None:
        """All of it, measured, where it is small and has arrived."""
        body = self._body
        if self._whole is not None or self._first or not body.is_eof():
            return self._whole
        if body.total_bytes <= min(_SMALL_BODY, self._permit.route.max_body):
            self._whole = body.read_nowait()
            self._seen(self._whole)
        return self._whole

    async def fit(self, lease: Hold) -> None:
        """Measure it, or the first piece of a large one, before anybody is asked to work on it.

        Raises Refused, and what reading a body raises.
        """
        if self.whole() is None:
            self._invite()
            route = self._permit.route
            self._first = await self._connection.next_piece(self._body, route.idle_s)
            self._seen(self._first)
            if self._exchange.bytes_in > route.max_body:
                raise BodyTooLarge
        await self._reserve(lease)

    def carry_on(self, upstream: UpstreamConnection, tasks: Tasks) -> None:
        """Send it after its head, in the background."""
        self._invite()
        self._pump = tasks.start(self._carry(upstream), "upload")

    def stop(self) -> bool:
        """Carry no more. Whether the upstream has all of it: else it would read the next request as the rest."""
        if self._pump is None or self._done:
            return True
        self._pump.cancel()
        return False

    def _invite(self) -> None:
        """Ask for what the client holds back; never under HTTP/1.0, which knows no interim answers.

        RFC 9110 section 10.1.1.
        """
        if self._is_awaited and not self._body.total_bytes and self._connection.transport is not None:
            self._connection.write(responses.CONTINUE)

    async def _reserve(self, lease: Hold) -> None:
        """See that what it is going to come to is reserved. Raises Refused."""
        audio_ms = self.meter.estimate_ms if self.meter is not None else None
        expected = Spent(audio_ms or 0, self._exchange.bytes_in)
        if lease.exceeds(expected):
            deny = await lease.grow(expected)
            if deny is not None:
                raise Refused(deny)

    async def _carry(self, upstream: UpstreamConnection) -> None:
        """Carry it on. What goes wrong on the client's side ends the exchange; the other side tells itself."""
        route, lease = self._permit.route, self._exchange.lease
        try:
            if self._first:
                piece, self._first = self._first, b""
                await self._send(upstream, piece)
            while piece := await self._connection.next_piece(self._body, route.idle_s):
                if upstream.body_done:
                    return
                # Asked of an exchange alone that is answered as it is heard: of others nothing will be charged.
                before = self.meter.finish() if self._exchange.begun and self.meter is not None else None
                self._seen(piece)
                if self._exchange.bytes_in > route.max_body:
                    self.forwarded = before
                    upstream.fail(BodyTooLarge())
                    return
                if lease is not None and lease.grows:
                    try:
                        await self._reserve(lease)
                    except Refused:
                        self.forwarded = before
                        raise
                await self._send(upstream, piece)
            if self._chunked:
                upstream.write(b"0\r\n\r\n")
            self._done = True
            upstream.expect_answer(route.first_byte_s)
        except UpstreamError:
            return  # the connection holds it for whoever waits for the answer
        except Exception as error:  # noqa: BLE001  the client's fault, or a bug: raised where the answer is awaited
            upstream.fail(error)

    async def _send(self, upstream: UpstreamConnection, piece: bytes) -> None:
        upstream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        await upstream.drained()

    def _seen(self, piece: bytes) -> None:
        self._exchange.bytes_in += len(piece)
        if self.meter is not None:
            self.meter.feed(piece)
            permit = self._permit
            if self.meter.passes_by and not permit.route.unmeasured_callbacks:
                raise Refused(Deny(refusal=Refusal.CALLBACK_NOT_MEASURED, principal=permit.principal))

"""The body of a request on its way to the upstream: counted and measured as it passes, and held to its limits.

A small body that is at hand is taken whole, to be written together with the head. Every other one is carried on piece
by piece in a task of its own, with back-pressure, while the answer is already waited for.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.inflow import Inflow
from gateway.dataplane.server import ClientConnection
from gateway.tasks import Tasks
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import UpstreamError
from policies.account.usage import NOT_AUDIO, AudioSource, Measured
from policies.admission import Hold
from policies.audio.reported import AnswerReader
from policies.authorise import Permit
from policies.http.inquiry import Inquiry
from policies.http.verdict import Deny, Refusal
from policies.limits.holding import Spent
from policies.metering.meters import meter_for

Piece: TypeAlias = bytes | bytearray | memoryview

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
        "_body", "_chunked", "_connection", "_done", "_exchange", "_first", "_held", "_inflow", "_is_awaited",
        "_length", "_permit", "_pump", "_whole", "forwarded", "framing", "meter",
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
        self._length = 0 if length is None or message.upgrade else length
        """The announced one, where the body may go around the parser."""
        self._inflow: Inflow | None = None
        self._held: tuple[bytes, Measured | None] | None = None
        """A piece that waits for its reservation, and what had been measured before it."""
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

    async def fit(self, hold: Hold) -> None:
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
        await self._reserve(hold, margin=False)

    def carry_on(self, upstream: UpstreamConnection, tasks: Tasks) -> None:
        """Send it after its head, in the background."""
        self._invite()
        self._pump = tasks.start(self._carry(upstream), "upload")

    def stop(self) -> bool:
        """Carry no more. Whether the upstream has all of it: else it would read the next request as the rest."""
        if self._pump is None or self._done:
            return True
        self._pump.cancel()
        if self._inflow is not None:
            self._inflow.discard()
        return False

    def measured(self, told: AnswerReader | None, *, is_pending: bool) -> Measured:
        """What its audio comes to, as far as it has passed; ``told`` has read what the answer says of it.

        ``is_pending``: a job was made whose result will tell the audio.
        """
        if self.meter is None:
            return NOT_AUDIO
        if self.forwarded is not None:
            return self.forwarded
        if is_pending:
            return replace(self.meter.finish(), source=AudioSource.PENDING, discrepant=False)
        if told is None:
            return self.meter.finish()
        measured, tokens = self.meter.finish(reported_ms=told.reported_ms), told.tokens
        if tokens is None:
            return measured
        return replace(measured, input_tokens=tokens.input, output_tokens=tokens.output)

    def _invite(self) -> None:
        """Ask for what the client holds back; never under HTTP/1.0, which knows no interim answers.

        RFC 9110 section 10.1.1.
        """
        if self._is_awaited and not self._body.total_bytes and self._connection.transport is not None:
            self._connection.write(responses.CONTINUE)

    @property
    def _expected(self) -> Spent:
        audio_ms = self.meter.estimate_ms if self.meter is not None else None
        return Spent(audio_ms or 0, self._exchange.bytes_in)

    async def _reserve(self, hold: Hold, *, margin: bool = True) -> None:
        """See that what it is going to come to is reserved; by ``margin`` some more, if it has outgrown its beginning.

        Raises Refused.
        """
        expected = self._expected
        if hold.exceeds(expected):
            deny = await hold.grow(expected, margin=margin)
            if deny is not None:
                raise Refused(deny)

    async def _carry(self, upstream: UpstreamConnection) -> None:
        """Carry it on. What goes wrong on the client's side ends the exchange; the other side tells itself."""
        route = self._permit.route
        try:
            if self._first:
                piece, self._first = self._first, b""
                self._send(upstream, piece)
                await upstream.drained()
            while piece := await self._connection.next_piece(self._body, route.idle_s):
                if not self._pass(upstream, piece):
                    await self._catch_up(upstream)
                if upstream.body_done:
                    return
                if self._length and self._exchange.bytes_in == self._body.total_bytes:
                    await self._pour(upstream)
            if self._chunked:
                upstream.write(b"0\r\n\r\n")
            self._done = True
            upstream.expect_answer(route.first_byte_s)
        except UpstreamError:
            return  # the connection holds it for whoever waits for the answer
        except Exception as error:  # noqa: BLE001  the client's fault, or a bug: raised where the answer is awaited
            upstream.fail(error)

    async def _pour(self, upstream: UpstreamConnection) -> None:
        """Carry the rest around the parser, if that can be."""
        left = self._length - self._body.total_bytes
        inflow = self._connection.pour(self._body, left, self._permit.route.idle_s, partial(self._pass, upstream))
        if inflow is None:
            return
        self._inflow = inflow
        while inflow.left and not upstream.body_done:
            await inflow.run()
            await self._catch_up(upstream)

    def _pass(self, upstream: UpstreamConnection, piece: Piece) -> bool:
        """Measure a piece and send it on. False: the piece stays in use until :meth:`_catch_up` is done.

        Raises BodyTooLarge, Refused, and what went wrong upstream.
        """
        exchange, hold = self._exchange, self._exchange.hold
        if upstream.body_done:
            return False
        # Asked of an exchange alone that is answered as it is heard: of others nothing will be charged.
        before = self.meter.finish() if exchange.begun and self.meter is not None else None
        self._seen(piece)
        if exchange.bytes_in > self._permit.route.max_body:
            self.forwarded = before
            raise BodyTooLarge
        if hold is not None and hold.grows and hold.exceeds(self._expected):
            self._held = (bytes(piece), before)
            return False
        self._send(upstream, piece)
        return upstream.holds_nothing

    async def _catch_up(self, upstream: UpstreamConnection) -> None:
        """Reserve what the piece that is held needs, send it, and wait until the upstream takes more."""
        held, self._held = self._held, None
        if held is not None:
            assert self._exchange.hold is not None
            try:
                await self._reserve(self._exchange.hold)
            except Refused:
                self.forwarded = held[1]
                raise
            self._send(upstream, held[0])
        await upstream.drained()

    def _send(self, upstream: UpstreamConnection, piece: Piece) -> None:
        if self._chunked:
            upstream.write_chunk(bytes(piece))
        else:
            upstream.write(piece)

    def _seen(self, piece: Piece) -> None:
        self._exchange.bytes_in += len(piece)
        if self.meter is not None:
            self.meter.feed(piece)
            permit = self._permit
            if self.meter.passes_by and not permit.route.unmeasured_callbacks:
                raise Refused(Deny(refusal=Refusal.CALLBACK_NOT_MEASURED, principal=permit.principal))

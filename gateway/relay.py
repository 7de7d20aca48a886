"""Carries an admitted request to the upstream and its answer back, while the meter watches both pass.

Two shapes of exchange. A *small* one, whose request body is at hand and whose answer arrives in one piece, costs one
write to the upstream and one to the client. Everything else *streams*, with back-pressure both ways. Both settle before
the last byte of the answer is written: what a client has seen complete is in the journal.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EmptyStreamReader, StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway import responses
from gateway.exchange import Exchange, Settlement
from gateway.inquiries import Known, portal_lines
from gateway.jobs import Jobs, Latecomer
from gateway.server import CLOSE, KEEP, BodyTooSlow, ClientConnection, Next
from gateway.streams import Streams
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstream import Abandoned, Broke, TooSlow, Unreachable, Unsent, UpstreamConnection, UpstreamError
from gateway.upstreams import NoneLeft, Upstream
from policies.admission import Admit, Hold
from policies.audio.reported import AnswerReader, answer_reader
from policies.headers import AnswerHead
from policies.holding import Spent
from policies.inquiry import Inquiry
from policies.jobs import asking_plainly
from policies.metering import Meter, meter_for
from policies.ratelimit_fields import state_line
from policies.routes import PORTAL
from policies.stream_meters import stream_meter
from policies.upgrade import Upgrade
from policies.usage import NOT_AUDIO, Measured, Outcome
from policies.verdict import Deny, Refusal
from storage.ports import StorageError

_SMALL_BODY = 262_144
"""A request body up to this size is written together with its head when all of it has arrived."""


_TRIES = 3
"""How many connections a request may find closed before a byte of it was written."""
_HANDSHAKE_S = 30.0
"""How long an upstream may think about an upgrade."""


class BodyTooLarge(Exception):
    """The client sent more than the route takes."""


class Refused(Exception):
    """What the body turned out to be: more than a limit has left, or nothing whose length will ever be known."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.message)
        self.deny = deny


_REFUSALS: dict[type[Exception], Refusal] = {
    Unreachable: Refusal.UPSTREAM_UNREACHABLE,
    NoneLeft: Refusal.UPSTREAM_UNAVAILABLE,
    TooSlow: Refusal.UPSTREAM_TIMEOUT,
    BodyTooSlow: Refusal.BODY_TIMEOUT,
    BodyTooLarge: Refusal.BODY_TOO_LARGE,
    RequestPayloadError: Refusal.MALFORMED_REQUEST,
}


@dataclass(slots=True)
class Incoming:
    """One request on a client's connection."""

    connection: ClientConnection
    message: RawRequestMessage
    body: StreamReader
    known: Known


class Relay:
    """What relaying needs, whoever asks."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        streams: Streams,
        jobs: Jobs,
        settlement: Settlement,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        self._upstreams = upstreams
        self.streams = streams
        self.jobs = jobs
        self.settlement = settlement
        self.metrics = metrics
        self.tasks = tasks

    async def carry(
        self,
        admit: Admit,
        inquiry: Inquiry,
        incoming: Incoming,
        exchange: Exchange,
        upgrade: Upgrade | None = None,
    ) -> Next | Deny:
        """Answer from the upstream, or say why not if the client has seen nothing yet. Only an Admit gets here.

        With ``upgrade`` the upstream may agree to a stream; then this lasts until that is over.

        Raises ConnectionError or Abandoned when the client has gone.
        """
        upstreams = self._upstreams[admit.permit.route.upstream]
        passage = _Passage(self, upstreams, admit, inquiry, incoming, exchange, upgrade)
        try:
            if exchange.lease is not None and exchange.lease.grows:
                await passage.fit(exchange.lease)
            if upgrade is not None:
                upstream = await upstreams.take(new=True)
            else:
                upstream = upstreams.idle() or await upstreams.take()
            while True:
                try:
                    passage.ask(upstream)
                    await upstream.answered()
                    break
                except Unsent as error:
                    upstream = await passage.find_another(upstream, error)
            head = upstream.head
            assert head is not None
            if upstream.pool.is_suspect:
                upstreams.went_well(upstream.pool)
            if upgrade is not None and upstream.status == 101:
                return await passage.switch(upstream, head, upgrade)
            exchange.answered(upstream.status)
            if admit.permit.route.job_kind and upstream.status < 300:
                return await passage.answer_of_job(upstream, head)
            if upstream.body_done:
                return passage.answer_whole(upstream, head)
            return await passage.answer_in_pieces(upstream, head)
        except Abandoned:
            raise
        except (UpstreamError, BodyTooSlow, BodyTooLarge, Refused, RequestPayloadError) as error:
            return passage.failed(error)
        finally:
            passage.close()


class _Passage:
    """One request on its way through."""

    __slots__ = (
        "_admit", "_asked", "_connection", "_data", "_exchange", "_first", "_incoming", "_inquiry", "_meter", "_pump",
        "_reader", "_relay", "_tries", "_upgrade", "_uploaded", "_upstreams", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        relay: Relay,
        upstreams: Upstream,
        admit: Admit,
        inquiry: Inquiry,
        incoming: Incoming,
        exchange: Exchange,
        upgrade: Upgrade | None,
    ) -> None:
        self._relay = relay
        self._upgrade = upgrade
        self._upstreams = upstreams
        self._admit = admit
        self._inquiry = inquiry
        self._incoming = incoming
        self._connection = incoming.connection
        self._exchange = exchange
        self._asked = time.perf_counter()
        self._pump: asyncio.Task[None] | None = None
        self._uploaded = False
        self._tries = 0
        self._data: bytes | None = None
        """The whole body, where it was written with the head."""
        self._first = b""
        """The first piece of the body, where it was read ahead to be measured."""
        self._meter: Meter | None = None
        self._reader: AnswerReader | None = None
        self.upstream: UpstreamConnection | None = None

    # --- towards the upstream ----------------------------------------------------------------------------------------

    def ask(self, upstream: UpstreamConnection) -> None:
        """Write the request; what of its body has not arrived yet follows in the background."""
        self.upstream = upstream
        self._connection.client_gone = upstream.abandon
        if self._connection.transport is None:
            # It went before there was anybody to tell, and nobody tells twice: the upstream would work for no one.
            raise ConnectionResetError("the client has gone")
        if self._upgrade is not None:
            self._begin(upstream, self._upgrade.lines, b"")
            upstream.expect_answer(min(_HANDSHAKE_S, self._admit.permit.route.first_byte_s))
            return
        body = self._incoming.body
        if isinstance(body, EmptyStreamReader):
            self._begin(upstream, b"", b"")
            return
        if self._data is not None:
            self._begin(upstream, b"Content-Length: %d\r\n" % len(self._data), self._data)
            return
        data = None if self._first else self._read_whole(body)
        if data is not None:
            self._begin(upstream, b"Content-Length: %d\r\n" % len(data), data)
            return
        head = self._inquiry.head
        chunked = not head.content_lengths
        framing = (
            b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % int(head.content_lengths[0])
        )
        self._begin(upstream, framing, b"")
        upstream.flush()
        if not upstream.is_open:
            return  # nothing of the body was read: the request can go another way
        upstream.deadline = float("inf")
        if head.expect and not body.total_bytes:
            self._invite()
        self._pump = self._relay.tasks.start(self._upload(upstream, chunked=chunked), "upload")

    def _read_whole(self, body: StreamReader) -> bytes | None:
        """Begin to measure the body; the whole of it, where it is small and has arrived."""
        route, head = self._admit.permit.route, self._inquiry.head
        length = int(head.content_lengths[0]) if head.content_lengths else None
        self._meter = meter_for(route.meter, head.content_type.decode("latin-1"), length, self._inquiry.query)
        if not body.is_eof() or body.total_bytes > min(_SMALL_BODY, route.max_body):
            return None
        self._data = body.read_nowait()
        self._seen(self._data)
        return self._data

    async def fit(self, lease: Hold) -> None:
        """Measure a body, or the first piece of a large one, before anybody is asked to work on it.

        Raises Refused, and what reading a body raises.
        """
        body, route = self._incoming.body, self._admit.permit.route
        if self._upgrade is not None or isinstance(body, EmptyStreamReader):
            return
        if self._read_whole(body) is None:
            if self._inquiry.head.expect and not body.total_bytes:
                self._invite()
            self._first = await self._connection.next_piece(body, route.idle_s)
            self._seen(self._first)
            if self._exchange.bytes_in > route.max_body:
                raise BodyTooLarge
        await self._reserve(lease)

    async def _reserve(self, lease: Hold) -> None:
        """See that what the body is going to come to is reserved. Raises Refused."""
        audio_ms = self._meter.estimate_ms if self._meter is not None else None
        expected = Spent(audio_ms or 0, self._exchange.bytes_in)
        if lease.exceeds(expected):
            deny = await lease.grow(expected)
            if deny is not None:
                raise Refused(deny)

    async def find_another(self, upstream: UpstreamConnection, error: Unsent) -> UpstreamConnection:
        """Another connection after one that was closed before a byte was written.

        Raises Unreachable or NoneLeft, and ``error`` itself when this has happened too often.
        """
        self._tries += 1
        if self._tries == _TRIES:
            raise error
        self._relay.metrics.upstream_retries[(self._upstreams.name, "unsent")] += 1
        if not upstream.idle_since:
            self._upstreams.failed(upstream.pool, error)
        upstream.close()
        self.upstream = None
        return await self._upstreams.take(new=True)

    def _begin(self, upstream: UpstreamConnection, framing: bytes, data: bytes) -> None:
        """Write the head: the path and query that were judged, the lines that pass, and last what only we may say."""
        inquiry, permit = self._inquiry, self._admit.permit
        target = f"{inquiry.path}?{inquiry.query}" if inquiry.query else inquiry.path
        route, passing = permit.route, self._incoming.known.passing
        if route.upstream == PORTAL:
            passing += portal_lines(self._incoming.known)
        elif route.job_kind:
            passing = asking_plainly(passing)
        head = b"%b %b HTTP/1.1\r\n%b%b%b\r\n%b%b\r\n" % (
            inquiry.method.encode("ascii"),
            target.encode("ascii"),
            upstream.pool.host_line,
            passing,
            self._exchange.id_line,
            framing,
            permit.identity,
        )
        upstream.begin(
            head + data,
            bodyless_answer=inquiry.method == "HEAD",
            idle_s=route.idle_s,
            total_s=route.total_s,
            upgrade=self._upgrade is not None,
        )
        upstream.expect_answer(route.first_byte_s)
        if self._alone:
            upstream.flush()

    @property
    def _alone(self) -> bool:
        """Whether no other request is being served: then nothing is gained by holding a write back."""
        return self._relay.metrics.inflight <= 1

    def _invite(self) -> None:
        """Ask for the body; never under HTTP/1.0, which knows no interim answers (RFC 9110 section 10.1.1)."""
        if self._connection.transport is not None and self._incoming.message.version == (1, 1):
            self._connection.write(responses.CONTINUE)

    async def _upload(self, upstream: UpstreamConnection, *, chunked: bool) -> None:
        """Carry the body on. What goes wrong on the client's side ends the exchange; the other side tells itself."""
        route, lease = self._admit.permit.route, self._exchange.lease
        try:
            if self._first:
                piece, self._first = self._first, b""
                upstream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await upstream.drained()
            while piece := await self._connection.next_piece(self._incoming.body, route.idle_s):
                if upstream.body_done:
                    return
                self._seen(piece)
                if self._exchange.bytes_in > route.max_body:
                    upstream.fail(BodyTooLarge())
                    return
                if lease is not None and lease.grows:
                    await self._reserve(lease)
                upstream.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await upstream.drained()
            if chunked:
                upstream.write(b"0\r\n\r\n")
            self._uploaded = True
            upstream.expect_answer(route.first_byte_s)
        except UpstreamError:
            return  # the connection holds it for whoever waits for the answer
        except Exception as error:  # noqa: BLE001  the client's fault, or a bug: raised where the answer is awaited
            upstream.fail(error)

    def _seen(self, piece: bytes) -> None:
        self._exchange.bytes_in += len(piece)
        if self._meter is not None:
            self._meter.feed(piece)
            permit = self._admit.permit
            if self._meter.passes_by and not permit.route.unmeasured_callbacks:
                raise Refused(Deny(refusal=Refusal.CALLBACK_NOT_MEASURED, principal=permit.principal))

    async def switch(self, upstream: UpstreamConnection, head: AnswerHead, upgrade: Upgrade) -> Next:
        """The upstream agreed to a stream: agree as well, and stay until it is over.

        Raises Broke when its handshake is not one, and ConnectionError when the client has gone.
        """
        try:
            handshake = upgrade.answer(head)
        except ValueError as error:
            raise Broke(f"its WebSocket handshake: {error}") from error
        lines = [*handshake, *self._answer_lines(head)]
        connection, streams = self._connection, self._relay.streams
        if connection.transport is None:
            raise ConnectionResetError("the client has gone")
        connection.client_gone = None
        permit, inquiry = self._admit.permit, self._inquiry
        meter = stream_meter(permit.route.meter, inquiry.query)
        if meter is not None:
            self._exchange.measure = meter.measured
        tunnel = streams.tunnel(connection, self._exchange, permit, inquiry.presented, meter)
        tunnel.upstream.transport, upstream_tail = upstream.hand_over(tunnel.upstream)
        tunnel.client.transport, client_tail = connection.hand_over(tunnel.client)
        streams.opened(tunnel)
        tunnel.client.transport.write(responses.head(101, lines))
        upstream.pool.others += 1
        try:
            tunnel.begin(client_tail, upstream_tail)
            await tunnel.over
        finally:
            tunnel.abort()
            upstream.pool.others -= 1
            self._exchange.upstream_s = time.perf_counter() - self._asked
        return CLOSE

    # --- towards the client ------------------------------------------------------------------------------------------

    def answer_whole(self, upstream: UpstreamConnection, head: AnswerHead) -> Next:
        """Head and body in one write."""
        body = upstream.take()
        status = upstream.status
        lines = self._answer_lines(head)
        if self._exchange.method == "HEAD" or status == 304:
            if head.length is not None:
                lines.append(b"Content-Length: %d" % head.length)
        elif status != 204:
            lines.append(b"Content-Length: %d" % len(body))
        answered = self._keep_alive(lines)
        self._passed(body)
        self._settle()
        self._exchange.begun = True
        self._connection.write_soon(responses.head(status, lines) + body)
        if self._alone:
            self._connection.flush()
        return answered

    async def answer_in_pieces(self, upstream: UpstreamConnection, head: AnswerHead) -> Next:
        """Head at once, then every piece as it comes. The last byte waits for the settlement."""
        lines = self._answer_lines(head)
        chunked = head.length is None and self._incoming.message.version == (1, 1)
        if head.length is not None:
            lines.append(b"Content-Length: %d" % head.length)
        elif chunked:
            lines.append(b"Transfer-Encoding: chunked")
        answered = self._keep_alive(lines)
        unsent = responses.head(upstream.status, lines)
        idle_s = self._admit.permit.route.idle_s
        if not upstream.has_piece:
            self._write(unsent)
            unsent = b""
        while piece := await upstream.read():
            self._passed(piece)
            if self._exchange.bytes_out == head.length:
                self._settle()
            self._write(unsent + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece))
            unsent = b""
            await self._connection.drained(idle_s)
        self._settle()
        self._write(unsent + (b"0\r\n\r\n" if chunked else b""))
        return answered if chunked or head.length is not None else CLOSE

    async def answer_of_job(self, upstream: UpstreamConnection, head: AnswerHead) -> Next | Deny:
        """Hold the answer, up to a bound, until what it says of the job is stored; then carry it as any other."""
        relay, watch = self._relay, None
        try:
            watch = await relay.jobs.watch(
                self._admit.permit,
                self._inquiry.path,
                self._measured,
                self._exchange.lease,
                self._exchange.request_id,
            )
        except StorageError as error:
            self._exchange.cause = str(error)
            return Deny(refusal=Refusal.STORE_UNAVAILABLE, principal=self._admit.permit.principal)
        if watch is not None:
            held = bytearray()
            while not watch.is_told and len(held) < watch.most and (piece := await upstream.read()):
                watch.feed(piece)
                held += piece
            if watch.is_told or upstream.body_done or not watch.goes_on:
                deny = await watch.conclude()
                if deny is not None:
                    return deny
            else:
                self._reader = Latecomer(watch, len(held))
            upstream.put_back(bytes(held))
        try:
            if upstream.body_done:
                return self.answer_whole(upstream, head)
            return await self.answer_in_pieces(upstream, head)
        finally:
            if isinstance(self._reader, Latecomer):
                relay.tasks.start(self._reader.conclude(), "settlement of a job")

    def _answer_lines(self, head: AnswerHead) -> list[bytes]:
        lines = [*head.lines, self._exchange.id_line]
        permit, taken = self._admit.permit, self._admit.taken
        if head.own_cookies and permit.route.upstream == PORTAL:
            lines += head.own_cookies
        if taken.charges:
            lines.append(permit.rate_policy)
            lines.append(state_line(taken))
        else:
            lines += self._admit.limit_lines
        if self._meter is not None and self._reader is None:
            self._reader = answer_reader(head.content_type.decode("latin-1"), head.content_encoding.decode("latin-1"))
        return lines

    def _keep_alive(self, lines: list[bytes]) -> Next:
        """Whether the client's connection goes on; a body that is still arriving would be read as the next request."""
        message = self._incoming.message
        if (
            not message.should_close
            and not message.upgrade
            and message.version == (1, 1)
            and self._incoming.body.is_eof()
        ):
            return KEEP
        lines.append(b"Connection: close")
        return CLOSE

    def _passed(self, piece: bytes) -> None:
        self._exchange.bytes_out += len(piece)
        if self._reader is not None:
            self._reader.feed(piece)

    def _write(self, data: bytes) -> None:
        self._exchange.begun = True
        self._connection.write(data)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        exchange = self._exchange
        exchange.upstream_s = time.perf_counter() - self._asked
        if self._meter is not None:
            exchange.measure = self._measured
        self._relay.settlement.settle(exchange)

    def _measured(self) -> Measured:
        if self._meter is None:
            return NOT_AUDIO
        reader = self._reader
        if reader is None:
            return self._meter.finish()
        measured, tokens = self._meter.finish(reported_ms=reader.reported_ms), reader.tokens
        if tokens is None:
            return measured
        return replace(measured, input_tokens=tokens.input, output_tokens=tokens.output)

    def failed(self, error: Exception) -> Deny | Next:
        """A refusal while nothing was sent; afterwards the connection is cut, because a clean end would be a lie."""
        exchange = self._exchange
        if isinstance(error, Refused):
            deny = error.deny
        else:
            refusal = _REFUSALS.get(type(error), Refusal.UPSTREAM_BROKE)
            deny = Deny(refusal=refusal, principal=self._admit.permit.principal)
            exchange.cause = str(error)
        if isinstance(error, UpstreamError):
            exchange.outcome = Outcome.UPSTREAM_FAILED
            self._relay.metrics.upstream_errors[(self._upstreams.name, deny.refusal.code)] += 1
            if self.upstream is not None and self.upstream.head is None and isinstance(error, Broke | TooSlow):
                self._upstreams.failed(self.upstream.pool, error)
        if not exchange.begun:
            exchange.status = 0
            return deny
        exchange.code = deny.refusal.code
        if isinstance(error, Refused):
            exchange.outcome = Outcome.DENIED
        self._settle()
        self._connection.cut()
        return CLOSE

    def close(self) -> None:
        """Leave nothing behind, however the exchange ended; what was measured stays with the exchange."""
        self._connection.client_gone = None
        exchange = self._exchange
        if not exchange.settled:
            exchange.upstream_s = time.perf_counter() - self._asked
            if self._meter is not None:
                exchange.measure = self._measured
        self._relay.metrics.upstream[self._upstreams.name].observe(exchange.upstream_s)
        upstream, pump = self.upstream, self._pump
        if upstream is None:
            return
        if pump is not None and not self._uploaded:
            # The upstream would read the next request on this connection as the rest of the body.
            pump.cancel()
            upstream.close()
        else:
            upstream.release()

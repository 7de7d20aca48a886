"""One request on its way through: asked of an upstream, answered to the client, settled, and closed.

Two shapes of exchange. A *small* one, whose request body is at hand and whose answer arrives in one piece, costs one
write to the upstream and one to the client. Everything else *streams*, with back-pressure both ways. Both settle before
the last byte of the answer is written: what a client has seen complete is in the journal.
"""

import time
from dataclasses import dataclass, replace

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EmptyStreamReader, StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.inquiries import Known, portal_lines, request_head, request_line
from gateway.dataplane.intake import BodyTooSlow
from gateway.dataplane.jobs import Jobs, Latecomer, hear
from gateway.dataplane.server import CLOSE, KEEP, ClientConnection, Next
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.streams import Streams
from gateway.dataplane.upload import BodyTooLarge, Refused, Upload
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import Broke, NoneLeft, OutOfFiles, TooSlow, Unreachable, Unsent, UpstreamError
from policies.account.usage import NOT_AUDIO, Measured, Outcome
from policies.admission import Admit, Hold
from policies.audio.reported import AnswerReader, answer_reader, asking_plainly
from policies.http.headers import AnswerHead
from policies.http.inquiry import Inquiry
from policies.http.upgrade import Upgrade
from policies.http.verdict import Deny, Refusal
from policies.routing.routes import PORTAL
from storage.ports import StorageError

_TRIES = 3
"""How many connections a request may find closed before a byte of it was written."""
_HANDSHAKE_S = 30.0
"""How long an upstream may think about an upgrade."""

_REFUSALS: dict[type[Exception], Refusal] = {
    Unreachable: Refusal.UPSTREAM_UNREACHABLE,
    NoneLeft: Refusal.UPSTREAM_UNAVAILABLE,
    OutOfFiles: Refusal.TOO_MANY_CONNECTIONS,
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

    @property
    def may_stay(self) -> bool:
        """Whether its connection may be used again: a body that is still arriving would be read as the next request."""
        return not self.message.should_close and not self.message.upgrade and self.body.is_eof()


@dataclass(frozen=True, slots=True)
class Equipment:
    """What every passage needs, whoever asks."""

    streams: Streams
    jobs: Jobs
    settlement: Settlement
    metrics: Metrics
    tasks: Tasks


class Passage:
    """One request on its way through."""

    __slots__ = (
        "_admit", "_asked", "_connection", "_equipment", "_exchange", "_incoming", "_inquiry", "_is_pending", "_job",
        "_reader", "_tries", "_upgrade", "_upload", "_upstreams", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        equipment: Equipment,
        upstreams: Upstream,
        admit: Admit,
        inquiry: Inquiry,
        incoming: Incoming,
        exchange: Exchange,
        upgrade: Upgrade | None,
    ) -> None:
        self._equipment = equipment
        self._upgrade = upgrade
        self._upstreams = upstreams
        self._admit = admit
        self._inquiry = inquiry
        self._incoming = incoming
        self._connection = incoming.connection
        self._exchange = exchange
        exchange.upstream = upstreams.name
        self._asked = time.perf_counter()
        self._tries = 0
        self._upload: Upload | None = None
        """The body, where there is one."""
        if upgrade is None and not isinstance(incoming.body, EmptyStreamReader):
            self._upload = Upload(incoming.connection, incoming.message, incoming.body, inquiry, admit.permit, exchange)
        self._reader: AnswerReader | None = None
        self._is_pending = False
        """Whether a job was made whose result will tell the audio."""
        self._job = ""
        """The job that was made."""
        self.upstream: UpstreamConnection | None = None

    # --- towards the upstream ----------------------------------------------------------------------------------------

    async def fit(self, hold: Hold) -> None:
        """See that the body fits into its limits before anybody is asked to work on it.

        Raises Refused, and what reading a body raises.
        """
        if self._upload is not None:
            await self._upload.fit(hold)

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
        upload = self._upload
        if upload is None:
            self._begin(upstream, b"", b"")
            return
        data = upload.whole()
        if data is not None:
            self._begin(upstream, b"Content-Length: %d\r\n" % len(data), data)
            return
        self._begin(upstream, upload.framing, b"")
        upstream.flush()
        if not upstream.is_open:
            return  # nothing of the body was read: the request can go another way
        upstream.deadline = float("inf")
        upload.carry_on(upstream, self._equipment.tasks)

    def go_on(self, upstream: UpstreamConnection, asked: float) -> None:
        """Take over what was asked already; ``asked`` is when, on the clock of an exchange."""
        self.upstream = upstream
        self._asked = asked
        self._connection.client_gone = upstream.abandon
        if upstream.interim:
            self.inform(upstream)

    async def find_another(self, upstream: UpstreamConnection, error: Unsent) -> UpstreamConnection:
        """Another connection after one that was closed before a byte was written.

        Raises Unreachable or NoneLeft, and ``error`` itself when this has happened too often.
        """
        self._tries += 1
        if self._tries == _TRIES:
            raise error
        self._equipment.metrics.upstream_retries[(self._upstreams.name, "unsent")] += 1
        if not upstream.idle_since:
            self._upstreams.failed(upstream.pool, error)
        upstream.close()
        self.upstream = None
        return await self._upstreams.take(new=True)

    def _begin(self, upstream: UpstreamConnection, framing: bytes, data: bytes) -> None:
        """Write the head, and what there is of a body."""
        inquiry, permit = self._inquiry, self._admit.permit
        route, passing = permit.route, self._incoming.known.passing
        if route.upstream == PORTAL:
            passing += portal_lines(self._incoming.known)
        elif route.job_kind or (self._upload is not None and route.meter != "none"):
            passing = asking_plainly(passing)
        line, id_line = request_line(inquiry), self._exchange.id_line
        head = request_head(line, upstream.pool.host_line, passing, id_line, framing, permit.identity)
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
        return self._equipment.metrics.inflight <= 1

    async def switch(self, upstream: UpstreamConnection, head: AnswerHead, upgrade: Upgrade) -> Next:
        """The upstream agreed to a stream: agree as well, and stay until it is over.

        Raises Broke when its handshake is not one, and ConnectionError when the client has gone.
        """
        try:
            handshake = upgrade.answer(head)
        except ValueError as error:
            raise Broke(f"its WebSocket handshake: {error}") from error
        lines = [*handshake, *self._answer_lines(head)]
        try:
            await self._equipment.streams.carry(
                self._connection, upstream, self._exchange, self._admit.permit, self._inquiry, lines
            )
        finally:
            self._exchange.upstream_s = time.perf_counter() - self._asked
        return CLOSE

    # --- towards the client ------------------------------------------------------------------------------------------

    def inform(self, upstream: UpstreamConnection) -> None:
        """Pass on the interim answers that have come, where the client is sure to wait on (RFC 9110 section 15.2).

        Not while a stream is opened: each side has a handshake of its own, and ``websockets`` takes a 103 for a no.
        Nothing has begun by them: a refusal may still follow. Raises ConnectionResetError when the client has gone.
        """
        interim, upstream.interim = upstream.interim, ()
        known = self._incoming.known
        if known.takes_interim and self._upgrade is None:
            self._connection.write(b"".join(responses.interim(status, head, known.cors) for status, head in interim))

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
        self._end()
        self._equipment.settlement.settle_soon(self._exchange, self._connection.retract)
        self._exchange.begun = True
        self._connection.write_soon(responses.head(status, lines) + body)
        if self._alone:
            self._connection.send_now()
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
        meter = None if self._upload is None else self._upload.meter
        late: Latecomer | None = None
        try:
            watch = await self._equipment.jobs.watch(
                self._admit.permit,
                self._inquiry.path,
                self._measured,
                self._exchange.hold,
                self._exchange.request_id,
                body_bytes=self._exchange.bytes_in,
                goes_elsewhere=meter is not None and meter.passes_by,
            )
        except StorageError as error:
            self._exchange.cause = str(error)
            return Deny(refusal=Refusal.STORE_UNAVAILABLE, principal=self._admit.permit.principal)
        if watch is not None:
            heard = await hear(watch, upstream)
            if isinstance(heard, Deny):
                return heard
            self._reader = late = heard
            self._is_pending, self._job = watch.is_pending, watch.name
        whole = False
        try:
            answered = (
                self.answer_whole(upstream, head) if upstream.body_done else await self.answer_in_pieces(upstream, head)
            )
            whole = True
        finally:
            if late is not None:
                self._equipment.tasks.start(late.conclude(whole=whole), "settlement of a job")
        return answered

    def _answer_lines(self, head: AnswerHead) -> list[bytes]:
        if self._reader is None and self._upload is not None and self._upload.meter is not None:
            self._reader = answer_reader(head.content_type.decode("latin-1"), head.content_encoding.decode("latin-1"))
        return responses.passed_on(head, self._admit, self._exchange.id_line, self._incoming.known.cors)

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
        self._end()
        self._equipment.settlement.settle(self._exchange)

    def _end(self) -> None:
        self._exchange.upstream_s = time.perf_counter() - self._asked
        if self._upload is not None:
            self._exchange.measure = self._measured

    def _measured(self) -> Measured:
        if self._upload is None:
            return NOT_AUDIO
        measured = self._upload.measured(self._reader, is_pending=self._is_pending)
        return replace(measured, job=self._job) if self._job else measured

    def failed(self, error: Exception) -> Deny | Next:
        """A refusal while nothing was sent; afterwards the connection is cut, because a clean end would be a lie."""
        exchange = self._exchange
        if isinstance(error, Refused):
            deny = error.deny
        else:
            refusal = _REFUSALS.get(type(error), Refusal.UPSTREAM_BROKE)
            deny = Deny(refusal=refusal, principal=self._admit.permit.principal)
            exchange.cause = str(error)
        if isinstance(error, OutOfFiles):
            self._equipment.metrics.refused_connections[("files",)] += 1
        elif isinstance(error, UpstreamError):
            exchange.outcome = Outcome.UPSTREAM_FAILED
            self._equipment.metrics.upstream_errors[(self._upstreams.name, deny.refusal.code)] += 1
            if self.upstream is not None and self.upstream.head is None and isinstance(error, Broke | TooSlow):
                self._upstreams.failed(self.upstream.pool, error)
        if not exchange.begun:
            exchange.status = 0
            return deny
        exchange.code = deny.refusal.code
        if exchange.outcome is Outcome.OK:  # else the upstream has refused it or failed already, and it is free
            exchange.outcome = Outcome.DENIED
        self._settle()
        self._connection.cut()
        return CLOSE

    def close(self) -> None:
        """Leave nothing behind, however the exchange ended; what was measured stays with the exchange."""
        self._connection.client_gone = None
        if not self._exchange.settled:
            self._end()
        upstream, upload = self.upstream, self._upload
        if upstream is None:
            return
        if upload is None or upload.stop():
            upstream.release()
        else:
            upstream.close()

"""A request that comes again, byte for byte, on the connection that it came on before.

Clients poll. What such a request amounts to is known from the last time: that is its :class:`Refrain`. Asked anew each
time are the credential, the limits and the room in the account, and each time is recorded, counted and logged.

An :class:`Errand` does that without the connection's task. The limiter and the upstream tell it their answers there and
then, where a task would have to be woken through all that waits in it. It knows one way only: that of a request that is
admitted, finds a connection at rest, and is answered in one piece as it was before (:class:`Passing`), or of a proxy's
question that is answered with yes (``recall``). Whatever else happens, it stops where it is, and the task goes on from
there as with any other request.
"""

import enum
import time
from dataclasses import dataclass
from typing import Protocol

from aiohttp.http_parser import RawRequestMessage
from typing_extensions import override

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange, Likeness, Repetition
from gateway.dataplane.gatekeeper import Gatekeeper
from gateway.dataplane.inquiries import Known, request_head, request_line
from gateway.dataplane.settlement import Settlement
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.connection import UpstreamConnection
from policies.account.usage import Outcome
from policies.admission import Admit
from policies.authorise import Permit
from policies.bounds import Bound
from policies.http.cors import without_upstreams
from policies.http.credentials import Presented
from policies.http.headers import AnswerHead
from policies.http.inquiry import Inquiry
from policies.http.verdict import Deny
from policies.limits.holding import Spent
from policies.limits.ratelimit_fields import state_line
from policies.limits.rates import Taken
from policies.routing.routes import PORTAL
from storage.ports import Held

ONE = Spent()
"""What a request without a body has spent that was not refused."""


@dataclass(slots=True)
class Refrain:
    """What a request amounts to when it comes again."""

    message: RawRequestMessage
    inquiry: Inquiry
    line: bytes
    """What the upstream is asked."""
    known: Known
    presented: Presented
    """As it was sent."""
    permit: Permit
    """Holds as long as the gatekeeper says so."""
    bound: tuple[Bound, ...]
    """What bounds it beyond plain request rates."""
    upstream: Upstream
    status: int
    """The answer's status: with another one it is another request to the account."""
    likeness: Likeness
    answer: AnswerHead | None = None
    """The last answer's header, and what an answer with that header begins with: up to the request id, and from behind
    that up to what the limits have left."""
    beginning: bytes = b""
    rest: bytes = b""

    def expect(self, head: AnswerHead) -> None:
        """The answers have another header from now on."""
        cors, permit = self.known.cors, self.permit
        lines = without_upstreams(head.lines) if cors else head.lines
        self.beginning = responses.head_so_far(self.status, [*lines, b"X-Request-ID: "])
        behind = [*cors, permit.rate_policy, b""] if permit.charges and not self.bound else cors
        self.rest = b"\r\n".join([b"", *behind])
        self.answer = head

    def errand(self, desk: "Desk", connection: "Line", request_id: str) -> "Errand":
        """It comes again."""
        return Passing(desk, connection, self, request_id)

    @classmethod
    def of(
        cls, message: RawRequestMessage, inquiry: Inquiry, known: Known, admit: Admit, upstream: Upstream,
        likeness: Likeness | None,
    ) -> "Refrain | None":  # fmt: skip
        """What a request amounts to that was admitted and answered as usual; None where more belongs to it."""
        route, status = admit.permit.route, likeness.status if likeness is not None else 0
        presented, bounds = known.presented, admit.permit.bounds
        is_usual = (
            (bounds is None or not known.head.content_lengths)
            and (admit.hold is None or not admit.hold.grows)
            and not route.job_kind
            and route.upstream != PORTAL
            and message.method != "HEAD"
            and not known.head.request_id
            and 200 <= status < 400
            and status not in (204, 304)
        )
        if likeness is None or not is_usual or not isinstance(presented, Presented):
            return None
        line = request_line(inquiry)
        bound = () if bounds is None else bounds.bodyless
        return cls(message, inquiry, line, known, presented, admit.permit, bound, upstream, status, likeness)


class Recurrent(Protocol):
    """A request that comes again, at either door."""

    message: RawRequestMessage
    known: Known
    presented: Presented
    permit: Permit
    bound: tuple[Bound, ...]

    @property
    def inquiry(self) -> Inquiry:
        """What is judged."""

    def errand(self, desk: "Desk", connection: "Line", request_id: str) -> "Errand":
        """It comes again."""


@dataclass(slots=True)
class Desk:
    """What all errands need."""

    gatekeeper: Gatekeeper
    settlement: Settlement
    metrics: Metrics


class Line(Protocol):
    """The connection that the request came on."""

    @property
    def is_gone(self) -> bool:
        """Whether the client has gone."""

    def run(self, errand: "Errand") -> None:
        """It begins, and the task is not needed."""

    def ran(self) -> None:
        """It is over."""

    def resume(self) -> None:
        """It is stuck: wake the task."""

    def write_soon(self, data: bytes) -> None:
        """Write at the end of this loop iteration. Raises ConnectionResetError when the client has gone."""

    def send_now(self) -> None:
        """Write what waits."""

    def retract(self, exchange: Exchange) -> None:
        """Have something else said in place of what waits, and end."""


class Stage(enum.Enum):
    """How far an errand is."""

    RUNNING = enum.auto()
    STUCK = enum.auto()
    OVER = enum.auto()


RUNNING, STUCK, OVER = Stage.RUNNING, Stage.STUCK, Stage.OVER


class Errand(Repetition):
    """One time that the request comes. It waits as a future would, first of all for ``Taken``."""

    __slots__ = ("_connection", "_desk", "_stage", "asked", "asked_on", "decision", "fault", "refrain")

    def __init__(self, desk: Desk, connection: Line, refrain: Recurrent, request_id: str) -> None:
        self.started = time.perf_counter()
        self.request_id = request_id
        self.refrain = refrain
        self.decision: Admit | Deny | None = None
        self.fault: Exception | None = None
        """A bug of ours, to be told as any other."""
        self._desk = desk
        self._connection = connection
        self._stage = RUNNING
        self.asked_on: UpstreamConnection | None = None
        """The connection that an upstream was asked on, and when."""
        self.asked = 0.0

    def begin(self) -> None:
        """Ask the limiter."""
        refrain, desk = self.refrain, self._desk
        self._connection.run(self)
        desk.metrics.inflight += 1
        try:
            if refrain.bound:
                desk.gatekeeper.hold_for(refrain.permit, refrain.bound, refrain.known.caller.address, self)
            else:
                desk.gatekeeper.take_for(refrain.permit, self)
        except Exception as error:  # noqa: BLE001  whoever reads has others to read for
            self._stop(error)

    @property
    def is_stuck(self) -> bool:
        """Whether the connection's task is to go on with it."""
        return self._stage is STUCK

    def exchange(self) -> Exchange:
        """The facts so far, for the task to go on with."""
        refrain = self.refrain
        path = refrain.message.path.partition("?")[0]
        exchange = Exchange(self.request_id, refrain.message.method, path, refrain.known.caller)
        exchange.started = self.started
        exchange.route = refrain.permit.route
        exchange.principal = refrain.permit.principal
        if isinstance(self.decision, Admit):
            exchange.hold = self.decision.hold
        return exchange

    @override
    def retract(self, _: Repetition) -> None:
        self._connection.retract(self.exchange())

    # --- whoever is asked tells it as a future ------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether there is nothing to tell it any more."""
        return self._stage is not RUNNING

    def set_result(self, result: Taken | Held | None) -> None:
        """Go on."""
        raise NotImplementedError  # where to, its subclasses know

    def set_exception(self, error: BaseException) -> None:  # noqa: ARG002  it is said once more
        """Stop: the limiter cannot be asked. Where something was to be held the task asks again."""
        if self.refrain.bound:
            self._stop()
            return
        try:
            self.decision = self._desk.gatekeeper.uncounted(self.refrain.permit)
        except Exception as bug:  # noqa: BLE001  whoever tells has others to tell
            self._stop(bug)
        else:
            self._stop()

    # --- any other way ------------------------------------------------------------------------------------------------

    def _stop(self, fault: Exception | None = None) -> None:
        """Leave it to the connection's task; a client that has gone has none any more."""
        if self._stage is OVER:
            return
        self.fault = fault
        if self._connection.is_gone:
            self.abandon()
            return
        self._stage = STUCK
        self._connection.resume()

    def abandon(self, outcome: Outcome = Outcome.CLIENT_GONE, status: int = 499) -> None:
        """Settle what nobody waits for any more: the client has gone, or the gateway is closing."""
        if self._stage is OVER:
            return
        self._stage = OVER
        exchange = self.exchange()
        exchange.broke_off(outcome, status)
        self._let_go(exchange)
        self._desk.settlement.settle(exchange)
        self._desk.metrics.inflight -= 1
        self._connection.ran()

    def _let_go(self, exchange: Exchange) -> None:
        """Let go of whoever else was asked."""


class Passing(Errand):
    """A request to an upstream. Behind ``Taken``, or ``Held``, it waits for the answer."""

    __slots__ = ()

    refrain: Refrain

    @override
    def set_result(self, result: Taken | Held | None) -> None:
        """Go on: the limiter has said what was taken or is held, or the upstream has answered."""
        gatekeeper, permit = self._desk.gatekeeper, self.refrain.permit
        try:
            if result is None:
                self._answer()
            elif isinstance(result, Held):
                self._ask(gatekeeper.conclude_held(permit, result))
            else:
                self._ask(gatekeeper.conclude(permit, result))
        except Exception as error:  # noqa: BLE001  whoever tells has others to tell
            self._stop(error)

    @override
    def set_exception(self, error: BaseException) -> None:
        """Stop. That the upstream has failed its connection will say once more."""
        if self.asked_on is None:
            super().set_exception(error)
        else:
            self._stop()

    def _ask(self, decision: Admit | Deny | None) -> None:
        refrain, connection = self.refrain, self._connection
        permit = refrain.permit
        self.decision = decision
        upstream = refrain.upstream.idle() if isinstance(decision, Admit) and not connection.is_gone else None
        if upstream is None:
            self._stop()
            return
        self.asked_on = upstream
        self.asked = time.perf_counter()
        route = permit.route
        id_line = b"X-Request-ID: " + self.request_id.encode()
        upstream.ask(
            request_head(refrain.line, upstream.pool.host_line, refrain.known.passing, id_line, b"", permit.identity),
            self, first_byte_s=route.first_byte_s, idle_s=route.idle_s, total_s=route.total_s,
        )  # fmt: skip
        if self._desk.metrics.inflight <= 1:
            upstream.flush()

    def _answer(self) -> None:
        upstream, connection, decision = self.asked_on, self._connection, self.decision
        assert upstream is not None
        assert isinstance(decision, Admit)
        refrain, head = self.refrain, upstream.head
        if (
            head is None
            or not upstream.body_done
            or upstream.status != refrain.status
            or upstream.pool.is_suspect
            or connection.is_gone
        ):
            self._stop()
            return
        body = upstream.take()
        if head is not refrain.answer:
            refrain.expect(head)
        taken = decision.taken
        whole = b"%b%b%b%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
            refrain.beginning,
            self.request_id.encode(),
            b"" if head.is_dated else responses.date_line(),
            refrain.rest,
            state_line(taken) if taken.charges else b"".join([b"\r\n" + line for line in decision.limit_lines]),
            len(body),
            body,
        )
        self.ends_like(refrain.likeness, len(body), self.asked)
        if decision.hold is not None:
            decision.hold.settle(ONE)
        self._stage = OVER  # nothing below can fail
        self._desk.settlement.settle_again(self)
        connection.write_soon(whole)
        metrics = self._desk.metrics
        if metrics.inflight <= 1:
            connection.send_now()
        metrics.inflight -= 1
        upstream.release()
        connection.ran()

    @override
    def _stop(self, fault: Exception | None = None) -> None:
        if fault is not None and self.asked_on is not None and self._stage is not OVER:
            self.asked_on.close()
        super()._stop(fault)

    @override
    def _let_go(self, exchange: Exchange) -> None:
        if self.asked_on is not None:
            exchange.upstream_s = time.perf_counter() - self.asked
            exchange.upstream = self.refrain.upstream.name
            self.asked_on.close()

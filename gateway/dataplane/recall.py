"""A question of a trusted proxy that comes again, byte for byte, on whichever of the proxy's connections.

A proxy asks for all its clients in turn, over connections that it shares among them: what a question amounts to is
remembered for the whole worker, not for one connection (``repeats``). Its bytes say everything that it is judged by but
the credential, the limits and the room in the account, which are asked each time; settings and routes are those of the
process. So the answer is known but for its id and what the limits have left.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from typing_extensions import override
from yarl import URL

from gateway.dataplane.exchange import Exchange, Likeness
from gateway.dataplane.inquiries import Known
from gateway.dataplane.remembered import Remembered
from gateway.dataplane.repeats import ONE, OVER, Desk, Errand, Line
from policies.admission import Admit
from policies.authorise import Permit
from policies.bounds import Bound
from policies.http.credentials import Presented
from policies.http.inquiry import Inquiry
from policies.http.questions import Dialect
from policies.http.verdict import Deny
from policies.limits.ratelimit_fields import state_line
from policies.limits.rates import Taken
from storage.ports import Held

LONGEST = 4_096
"""Bytes of a question that is worth keeping."""
_NOTHING: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
_NOWHERE = URL()


class Asking(NamedTuple):
    """A question, and what was read in it."""

    dialect: Dialect
    asked: Inquiry | Deny
    """The proxy's own request."""
    inquiry: Inquiry | Deny
    """The one it asks about."""


@dataclass(slots=True)
class Question:
    """What a question that was answered with yes amounts to when it comes again. Immutable by use."""

    message: RawRequestMessage
    known: Known
    asking: Asking
    presented: Presented
    """As it was sent."""
    permit: Permit
    """Holds as long as the gatekeeper says so."""
    bound: tuple[Bound, ...]
    """What bounds it beyond plain request rates."""
    likeness: Likeness
    beginning: bytes
    """How a yes begins, up to the request id."""
    rest: bytes
    """From behind that up to what the limits have left."""

    @classmethod
    def of(
        cls, message: RawRequestMessage, known: Known, asking: Asking, presented: Presented, permit: Permit,
        bound: tuple[Bound, ...], likeness: Likeness, beginning: bytes, rest: bytes,
    ) -> "Question":  # fmt: skip
        """Make one, without what aiohttp has in a message for others: that is half of what it would take of memory."""
        message = message._replace(headers=_NOTHING, url=_NOWHERE)
        return cls(message, known, asking, presented, permit, bound, likeness, beginning, rest)

    @property
    def inquiry(self) -> Inquiry:
        """The proxy's question."""
        assert isinstance(self.asking.inquiry, Inquiry)
        return self.asking.inquiry

    def errand(self, desk: Desk, connection: Line, request_id: str) -> Errand:
        """It comes again."""
        return Reply(desk, connection, self, request_id)


class Reply(Errand):
    """One time that a question comes. There is nothing to wait for behind the limiter."""

    __slots__ = ()

    refrain: Question

    @override
    def set_result(self, result: Taken | Held | None) -> None:
        """The limiter has said what was taken or is held: answer, or stop where the answer is no."""
        gatekeeper, permit = self._desk.gatekeeper, self.refrain.permit
        try:
            assert result is not None
            if isinstance(result, Held):
                self._answer(gatekeeper.conclude_held(permit, result))
            else:
                self._answer(gatekeeper.conclude(permit, result))
        except Exception as error:  # noqa: BLE001  whoever tells has others to tell
            self._stop(error)

    def _answer(self, decision: Admit | Deny | None) -> None:
        question, connection, desk = self.refrain, self._connection, self._desk
        self.decision = decision
        if not isinstance(decision, Admit) or connection.is_gone:
            self._stop()
            return
        taken = decision.taken
        parts = (
            question.beginning,
            self.request_id.encode(),
            question.rest,
            state_line(taken) if taken.charges else b"".join([b"\r\n" + line for line in decision.limit_lines]),
            b"\r\nDate: ",
            rfc822_formatted_time().encode(),
            b"\r\nContent-Length: 0\r\n\r\n",
        )
        whole = b"".join(parts)
        self.ends_like(question.likeness, 0)
        if decision.hold is not None:
            decision.hold.settle(ONE)
        self._stage = OVER  # nothing below can fail
        desk.settlement.settle_again(self)
        connection.write_soon(whole)
        metrics = desk.metrics
        if metrics.inflight <= 1:
            connection.send_now()
        metrics.inflight -= 1
        connection.ran()

    @override
    def exchange(self) -> Exchange:
        exchange, inquiry = super().exchange(), self.refrain.inquiry
        exchange.door = "forward_auth"
        exchange.method, exchange.path = inquiry.method, inquiry.path
        return exchange


Memory: TypeAlias = Remembered[tuple[str, bytes], Question]
"""By the peer, who vouches for the addresses in them, and their bytes."""

"""What one request did: the facts, filled in as it goes, and what requests of one header have in common."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.telemetry.metrics import Histogram, RouteFigures
from policies.account.usage import NOT_AUDIO, Measured, Outcome
from policies.admission import Hold
from policies.http.verdict import Deny
from policies.identity.principals import Principal
from policies.routing.routes import Route


@dataclass(slots=True)
class Booked:
    """How much of a stream earlier records hold, and how many they are."""

    records: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    took: float = 0.0
    measured: Measured = NOT_AUDIO


class Caller:
    """Who asks, as the log says it. Requests of one header share one, and what their lines and rows have in common."""

    __slots__ = ("address", "agent", "common", "lately", "outline", "repeats")

    def __init__(self, address: str, agent: str) -> None:
        self.address = address
        self.agent = agent
        self.lately: tuple[object, ...] = ()
        """What ``common`` and ``outline`` were made from."""
        self.common = b""
        self.outline: str | None = None
        """The outline of its usage row; empty where it has none, None before it is known."""
        self.repeats = False
        """Whether the last request was like the one before."""


class Exchange:
    """The facts of one request, filled in as it goes. Times are ``time.perf_counter()`` seconds, sizes body bytes."""

    __slots__ = (
        "begun", "booked", "bytes_in", "bytes_out", "caller", "cause", "close_code", "code", "common", "door", "ended",
        "hold", "id_line", "measure", "measured", "method", "outcome", "path", "principal", "request_id",
        "retract", "route", "settled", "started", "status", "took", "upstream", "upstream_s",
    )  # fmt: skip

    def __init__(self, request_id: str, method: str, path: str, caller: Caller) -> None:
        self.started = time.perf_counter()
        self.request_id = request_id
        self.id_line = b"X-Request-ID: " + request_id.encode()
        self.method = method
        self.path = path
        self.caller = caller
        self.door = "proxy"
        self.route: Route | None = None
        self.principal: Principal | None = None
        self.status = 0
        self.outcome = Outcome.OK
        self.code = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream = ""
        """The upstream that was asked, or is about to be; ``upstream_s`` is how long it had the request."""
        self.upstream_s = 0.0
        self.measure: Callable[[], Measured] | None = None
        self.hold: Hold | None = None
        self.cause = ""
        """What failed, for the log alone."""
        self.begun = False
        """Whether the client has been sent anything."""
        self.settled = False
        self.took = self.ended = 0.0
        """How long it was until the settlement, and when that was, in seconds since the Unix epoch."""
        self.measured = NOT_AUDIO
        """What is accounted; of a stream, see ``booked``."""
        self.common = b""
        """What its access line has in common with others."""
        self.retract: Callable[[Exchange], None]
        """Set by :meth:`Settlement.settle_soon`."""
        self.booked: Booked | None = None
        """What has been written down of a stream."""
        self.close_code = 0
        """How a stream was closed (RFC 6455 section 7.4)."""

    def stream(self) -> None:
        """It has become a stream: what passes is written down as it goes."""
        self.status = 101
        self.begun = True
        self.booked = Booked()

    def denied(self, deny: Deny) -> None:
        """Note a refusal. Who asked may be known all the same."""
        self.status = deny.refusal.status
        self.code = deny.refusal.code
        if self.outcome is Outcome.OK:
            self.outcome = Outcome.GATEWAY_FAILED if deny.refusal.status >= 500 else Outcome.DENIED
        if deny.principal is not None:
            self.principal = deny.principal

    def broke_off(self, outcome: Outcome, status: int) -> None:
        """Note how it ended, with the status to record where none was sent. What is settled stays as it is."""
        if not self.settled:
            self.outcome = outcome
            self.status = self.status or status

    def answered(self, status: int) -> None:
        """Note the upstream's status. Audio that it sends elsewhere it has not worked on: it comes again there."""
        self.status = status
        if status >= 400 or (status >= 300 and self.route is not None and self.route.meter != "none"):
            self.outcome = Outcome.UPSTREAM_FAILED if status >= 500 else Outcome.UPSTREAM_REFUSED


@dataclass(slots=True)
class Likeness:
    """What a settled exchange has in common with the next one of the same request. Immutable by use."""

    status: int
    outline: str
    """The usage row's: what :func:`storage.usage_rows.fill` fills in."""
    common: bytes
    """The access line's: the fields that follow those of each request."""
    figures: RouteFigures
    labels: tuple[str, int, str]
    """What it is counted under there."""
    upstream: Histogram | None
    """Where it is counted how long the upstream took, if one was asked."""


class Repetition:
    """The facts of a request that is like one before it, where they differ. For its subclass to fill in.

    Whoever makes it notes ``started`` and ``request_id``.
    """

    __slots__ = ("bytes_out", "cause", "ended", "like", "request_id", "started", "took", "upstream_s")

    bytes_in = 0
    started: float
    request_id: str
    ended: float

    def ends_like(self, like: Likeness, bytes_out: int, asked: float | None = None) -> None:
        """Note how it ended; ``asked`` is when the upstream was, if it was."""
        now = time.perf_counter()
        self.took = now - self.started
        self.upstream_s = 0.0 if asked is None else now - asked
        self.like, self.bytes_out, self.cause = like, bytes_out, ""

    def retract(self, _: "Repetition") -> None:
        """Have another answer leave in its place: its record cannot be made."""
        raise NotImplementedError  # who answers knows how, and stands above the facts


Settled: TypeAlias = Exchange | Repetition

"""One open WebSocket: bytes pass both ways with back-pressure, while a walker of each direction watches the frames.

Nothing is put together or taken apart on the way. What the gateway has to say itself, a ping or a close frame, is
written between two frames of the direction, so that no half-sent message is ever corrupted; a direction that does not
come to such a point in time is cut instead.
"""

import asyncio
import os
from typing import Protocol

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.server import ClientConnection
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.stream_end import NEVER, StreamEnd, unmasked
from policies.account.usage import Outcome
from policies.admission import Hold
from policies.authorise import Permit
from policies.http.credentials import Presented
from policies.http.websocket import PING, TEXT, Fault, FrameWalker, close_frame, frame
from policies.identity.principals import Method
from policies.limits.holding import Spent
from policies.metering.streams import GOING_AWAY, Ending, StreamMeter
from policies.routing.routes import Route
from storage.ports import Invalidation

_CHECKPOINT_S = 5.0
"""How often what has passed is written down: a crash loses no more."""
_BURST_BYTES = 65_536
"""How much a client may send between two looks at what is reserved for it."""
_BOUNDARY_S = 0.5
"""How long a frame under way may take to end when the gateway ends the stream."""
_REPLY_S = 1.5
"""How long after that a peer may take to answer our close frame."""
_HANDSHAKE_S = 10.0
"""How long one peer may take to answer the other's close frame."""
_FLUSH_S = 2.0
"""How long what was written at the end may take to go out."""


class Home(Protocol):
    """Who keeps the open streams."""

    settlement: Settlement

    def closed(self, tunnel: "Tunnel", code: int, by: str) -> None:
        """A stream is over."""

    def reserve(self, tunnel: "Tunnel", hold: Hold, spent: Spent) -> None:
        """Have more audio reserved for a stream that has come to ``spent``; it ends when a limit has none left.

        Afterwards the client is listened to again.
        """


class Tunnel:
    """A stream from its 101 to its end; ``over`` is done when both connections are gone.

    ``presented`` is the credential that opened it, by which it can be asked for again. ``lasts``: for how many seconds
    at most, how it ends then, and with which code (empty: the ending's own). ``meter`` sees the payload; without one
    nothing is unmasked.
    """

    __slots__ = (
        "_by", "_connection", "_deadline", "_ends_at", "_exchange", "_home", "_is_warned", "_last", "_message",
        "_meter", "_overdue", "_pinged", "_route", "_written", "_written_at", "client", "code", "due", "ending",
        "loop", "over", "presented", "route", "spoken", "upstream",
    )  # fmt: skip

    def __init__(
        self,
        home: Home,
        connection: ClientConnection,
        exchange: Exchange,
        route: Route,
        presented: Presented | None,
        lasts: tuple[float, Ending, str],
        meter: StreamMeter | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        now = self.loop.time()
        self.route = route
        self._home = home
        self._connection = connection
        self._exchange = exchange
        self.presented = presented
        self._meter = meter
        self.over: asyncio.Future[None] = self.loop.create_future()
        most, watch = route.max_message, (meter.client_piece, meter.upstream_piece) if meter else (None, None)
        self.client = StreamEnd(
            self, FrameWalker(masked=True, max_message=most, consume=watch[0], unmask=unmasked), now
        )
        self.upstream = StreamEnd(self, FrameWalker(masked=False, max_message=most, consume=watch[1]), now)
        self.client.other, self.upstream.other = self.upstream, self.client
        if exchange.hold is not None and exchange.hold.grows:
            self.client.look_at = _BURST_BYTES
        self.spoken = now
        """When a message passed last, either way."""
        self.ending: Ending | None = None
        self._message = ""
        self._is_warned = False
        self.code = 0
        """The close code: of the frame that came first, ours or a peer's."""
        self._by = ""
        self._ends_at, self._last = now + lasts[0], lasts[1:]
        self._pinged = now
        self._written, self._written_at = 0, now
        self._deadline = NEVER
        self._overdue = 0
        self.due = now
        """When to look at it again."""

    @property
    def address(self) -> str:
        """The client's."""
        return self._exchange.caller.address

    def is_touched_by(self, change: Invalidation) -> bool:
        """Whether a change may concern whoever opened it."""
        principal = self._exchange.principal
        if principal is None:
            return False
        if change.revoked:
            return principal.method is not Method.API_KEY
        pairs = (
            (change.key_id, principal.key_id),
            (change.user_id, principal.user_id),
            (change.tenant_id, principal.tenant_id),
        )
        return next((changed == own for changed, own in pairs if changed), True)

    def begin(self, first: bytes, client_tail: bytes, upstream_tail: bytes) -> None:
        """Both transports are ours and the 101 is written: let what came behind the handshakes pass, and read.

        ``first`` is said for the client, metered as if it had said it, and none of the bytes that it sends.
        """
        self._exchange.stream()
        self.upstream.watch()
        if first:
            self.client.data_received(first)
            self.client.walker.text = 0
        for end, tail in ((self.client, client_tail), (self.upstream, upstream_tail)):
            if tail:
                end.data_received(tail)
        for end in (self.client, self.upstream):
            end.go_on()

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, ending: Ending, code: str = "", message: str = "") -> None:
        """End it: close frames both ways as soon as no frame is under way. ``code`` and ``message`` say more exactly.

        Later calls do nothing, and neither does one after a peer has begun to close.
        """
        if self.ending is not None or self.code:
            return
        self.ending, self.code, self._by = ending, ending.close_code, "gateway"
        exchange = self._exchange
        exchange.outcome, exchange.code = ending.outcome, code or ending.code
        self._message = message or ending.message
        self._wait(_BOUNDARY_S, 0)
        for end in (self.client, self.upstream):
            end.walker.stop()
        self._farewell(self.client)
        self._farewell(self.upstream)

    def warn(self) -> None:
        """Tell the client once that a limit will soon end the stream, where its protocol has a message for that.

        Between two messages of the upstream; where it is in the middle of one, the next checkpoint tries again.
        """
        source = self.upstream.walker
        if self._is_warned or self.code or source.in_message or not source.at_boundary:
            return
        self._is_warned = True
        warning = responses.stream_warning(self.route.meter, self._session)
        if warning:
            self.client.say(frame(TEXT, warning))

    def _farewell(self, end: StreamEnd) -> None:
        """Send our close frame to one end, if it can be sent now."""
        assert self.ending is not None
        source = end.other.walker
        if end.said or end.finished:
            return
        if not source.at_boundary:
            if end.other.lost:
                end.cut()  # the rest of the frame will never come
            return
        end.said = True
        if end is self.client:
            measure = self._exchange.measure
            audio_ms = measure().audio_ms if measure is not None else None
            usage = f"{audio_ms / 1000:.3f} s of audio. " if audio_ms else ""
            reason = f"{self._exchange.code}: {usage}{self._message}"
            end.say(self._explanation(source, audio_ms) + close_frame(self.ending.close_code, reason))
        else:
            code = self.ending.close_code if end.walker.fault is not None else GOING_AWAY
            end.say(close_frame(code, f"{self._exchange.code}: {self._message}", os.urandom(4)))
        if end.walker.done:
            end.listen()  # for its answer; and unread data would turn our close into a reset
        if end.other.said and self._overdue == 0:
            self._wait(_REPLY_S, 1)

    def _explanation(self, source: FrameWalker, audio_ms: int | None) -> bytes:
        """A message in the dialect of the route's clients, for those whose library hides close codes."""
        if source.in_message or self.client.walker.fault is not None or self.ending is None:
            return b""
        exchange = self._exchange
        text = responses.stream_error(
            self.route.dialect, self.ending, exchange.code, self._message, exchange.request_id, audio_ms, self._session
        )
        return frame(TEXT, text)

    @property
    def _session(self) -> str:
        return "" if self._meter is None else self._meter.session

    def noticed(self, source: StreamEnd) -> None:
        """Nothing more goes on from one end: it broke the rules, sent a close frame, or we are ending."""
        walker = source.walker
        if self.ending is not None:
            self._farewell(source.other)
            if source.said and walker.close_code is not None:
                source.finish()
        elif walker.fault is not None:
            self._broke(source, walker.fault)
        elif walker.close_code is not None:
            self._closing(source, walker.close_code)

    def _broke(self, source: StreamEnd, fault: Fault) -> None:
        if self.code:  # it was closing anyway
            self.abort()
            return
        self.end(Ending.of(fault), message=fault.message)
        if source is self.upstream:
            self._exchange.outcome = Outcome.UPSTREAM_FAILED

    def _closing(self, source: StreamEnd, code: int) -> None:
        """A close frame has passed."""
        source.other.said = True
        if not self.code:
            self.code, self._by = code, "client" if source is self.client else "upstream"
            if source is self.upstream and code == 1011:
                self._exchange.outcome = Outcome.UPSTREAM_FAILED
            self._wait(_HANDSHAKE_S, 1)
        elif source.said:  # and the other one before: the handshake is complete
            self.client.finish()
            self.upstream.finish()
            self._wait(_FLUSH_S, 2)

    def lost(self, end: StreamEnd, exc: Exception | None) -> None:
        """One connection is gone."""
        if end is self.client:
            self._connection.connection_lost(exc)
            if not self.code:
                self.code, self._by = 1006, "client"
                self._exchange.outcome = Outcome.CLIENT_GONE
            self.upstream.finish()
            self._wait(_FLUSH_S, 2)
        elif not self.client.finished:
            if not self.code:
                self._exchange.cause = (
                    f"the upstream closed the stream without a close frame{f': {exc}' if exc else ''}"
                )
                self.end(Ending.UPSTREAM_GONE)
            elif self.ending is not None:
                self._farewell(self.client)
            elif self.client.walker.close_code is not None:
                self.client.finish()
        if self.client.lost and self.upstream.lost:
            self._book()
            self._home.closed(self, self.code, self._by)
            if not self.over.done():
                self.over.set_result(None)

    def abort(self) -> None:
        """Cut both connections now, unless they are gone."""
        self._book()
        self.client.cut()
        self.upstream.cut()

    def end_by(self, lasts: tuple[float, Ending, str]) -> None:
        """End no later than after so many seconds, and then for this reason."""
        ends_at = self.loop.time() + lasts[0]
        if ends_at < self._ends_at:
            self._ends_at, self._last = ends_at, lasts[1:]
            self.due = min(self.due, ends_at)

    def follow(self, permit: Permit) -> None:
        """Go by the limits that the caller has now."""
        hold = self._exchange.hold
        if hold is not None:
            hold.follow(permit)
            if hold.grows:
                self.client.look_at = min(self.client.look_at, self._exchange.bytes_in + _BURST_BYTES)

    # --- the clock ---------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Do what has become due, and say when to look again."""
        if self._deadline <= now:
            self._overstayed()
        if not self.code:
            self._watch(now)
        if now >= self._written_at + _CHECKPOINT_S:
            self._checkpoint(now)
        route, client = self.route, self.client
        self.due = self._deadline if self.code else min(
            self._ends_at, self.spoken + route.stream_idle_s, max(client.heard, self._pinged) + route.ping_s,
            client.paused_at + route.idle_s, now + _CHECKPOINT_S
        )  # fmt: skip

    def _watch(self, now: float) -> None:
        route, client = self.route, self.client
        if now >= self._ends_at:
            self.end(*self._last)
        elif now >= self.spoken + route.stream_idle_s:
            self.end(Ending.STREAM_IDLE)
        elif now >= client.paused_at + route.idle_s:
            self._gone("it takes nothing of what it is sent")
        elif now >= max(client.heard, self._pinged) + route.ping_s and self.upstream.paused_at == NEVER:
            self._ping(now)

    def _ping(self, now: float) -> None:
        """Ask a silent client for a sign of life. What it answers passes on: an unasked-for pong harms nobody."""
        if self._pinged > self.client.heard:
            self._gone("it did not answer a ping")
            return
        if self.upstream.walker.at_boundary:
            self.client.say(frame(PING, b"tahoe"))
            self._pinged = now

    def _gone(self, cause: str) -> None:
        """The client is there no more, though nobody has closed its connection."""
        self.code, self._by = 1006, "client"
        self._exchange.outcome, self._exchange.cause = Outcome.CLIENT_GONE, cause
        self.client.cut()

    def _wait(self, seconds: float, overdue: int) -> None:
        self._deadline, self._overdue = self.loop.time() + seconds, overdue
        self.due = min(self.due, self._deadline)

    def _overstayed(self) -> None:
        """A deadline has passed: who has no close frame is cut, later the rest is closed, at last all are cut."""
        if self._overdue == 0:
            for end in (self.client, self.upstream):
                if not end.said:
                    end.cut()
            self._wait(_REPLY_S, 1)
        elif self._overdue == 1:
            self.client.finish()
            self.upstream.finish()
            self._wait(_FLUSH_S, 2)
        else:
            self.abort()
            self._deadline = NEVER

    # --- the account -------------------------------------------------------------------------------------------------

    def _book(self) -> int:
        """Tell the exchange what has passed; the sum."""
        sent, received = self.client.walker, self.upstream.walker
        exchange = self._exchange
        exchange.close_code = self.code
        exchange.bytes_in = sent.text + sent.binary
        exchange.bytes_out = received.text + received.binary
        return exchange.bytes_in + exchange.bytes_out

    def outran(self) -> None:
        """Where a burst goes beyond what is reserved, no more of it is read before more is."""
        self._book()
        exchange = self._exchange
        self.client.look_at = exchange.bytes_in + _BURST_BYTES
        spent = Spent(0 if exchange.measure is None else exchange.measure().audio_ms, exchange.bytes_in)
        hold = exchange.hold
        if hold is not None and hold.exceeds(spent):
            self.client.is_ahead = True
            self.client.hold_back()
            self._home.reserve(self, hold, spent)

    def _checkpoint(self, now: float) -> None:
        self._written_at = now
        passed = self._book()
        if passed != self._written:
            self._written = passed
            self._home.settlement.checkpoint(self._exchange)
            exchange = self._exchange
            hold, booked = exchange.hold, exchange.booked
            if hold is not None and hold.grows and booked is not None:
                self._home.reserve(self, hold, Spent(booked.measured.audio_ms, booked.bytes_in))

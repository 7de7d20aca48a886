"""All open streams of a worker: their clock, and what ends many of them at once."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from gateway.dataplane import responses
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.server import ClientConnection
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.tunnel import Tunnel
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.connection import UpstreamConnection
from policies.admission import Hold
from policies.authorise import Permit
from policies.bounds import STREAM_AHEAD
from policies.http.credentials import Presented
from policies.http.inquiry import Inquiry
from policies.http.verdict import Deny, Refusal
from policies.http.websocket import TEXT, frame
from policies.identity.principals import Method
from policies.limits.holding import Spent
from policies.metering.stream_meters import stream_meter
from policies.metering.streams import Ending
from policies.routing.routes import Access, Route
from storage.ports import Invalidation, Unavailable

_log = structlog.get_logger("gateway.streams")

_TICK_S = 0.25
_RECHECK_S = 60.0
"""How often every stream's credential is asked for again, in case no bus told of its end."""
_RETRY_S = 1.0
_APPLICATION = 3000
"""Close codes from here on are clients' and upstreams' own; they share one label."""


class Judge(Protocol):
    """Who knows whether a credential is still good."""

    async def still_good(self, presented: Presented, route: Route, address: str) -> Permit | Deny:
        """Leave, or why not. Raises Unavailable."""

    def pin(self, presented: Presented, permit: Permit) -> bool:
        """Remember of it what :meth:`still_good` will need. False where it may have ended since it got this leave."""


class Streams:
    """Opens, watches and ends them."""

    def __init__(self, judge: Judge, settlement: Settlement, metrics: Metrics, tasks: Tasks) -> None:
        self.settlement = settlement
        self._judge = judge
        self._metrics = metrics
        self._tasks = tasks
        self._open: set[Tunnel] = set()
        self._all_end: Ending | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._recheck_at = 0.0

    async def carry(
        self,
        connection: ClientConnection,
        upstream: UpstreamConnection,
        exchange: Exchange,
        permit: Permit,
        inquiry: Inquiry,
        lines: Sequence[bytes],
    ) -> None:
        """Agree, with these header lines, to a stream that the upstream has agreed to, and stay until it is over.

        Raises ConnectionError when the client has gone, UpstreamError when the upstream has.
        """
        if connection.transport is None:
            raise ConnectionResetError("the client has gone")
        connection.client_gone = None
        meter = stream_meter(permit.route.meter, inquiry.query)
        if meter is not None:
            exchange.measure = meter.measured
        presented = inquiry.presented if isinstance(inquiry.presented, Presented) else None
        if permit.route.access is Access.PUBLIC:
            presented = None  # whatever it is, nobody has looked at it
        is_sure = presented is None or self._judge.pin(presented, permit)
        tunnel = Tunnel(self, connection, exchange, permit.route, presented, _lasts(permit, presented), meter)
        tunnel.upstream.transport, upstream_tail = upstream.hand_over(tunnel.upstream)
        tunnel.client.transport, client_tail = connection.hand_over(tunnel.client)
        self._opened(tunnel)
        if not is_sure:
            self._tasks.start(self._recheck([tunnel]), "streams: credential asked for again")
        tunnel.client.transport.write(responses.head(101, lines))
        upstream.pool.others += 1
        try:
            tunnel.begin(_first(presented), client_tail, upstream_tail)
            await tunnel.over
        finally:
            tunnel.abort()
            upstream.pool.others -= 1

    def _opened(self, tunnel: Tunnel) -> None:
        self._open.add(tunnel)
        if self._all_end is not None:
            asyncio.get_running_loop().call_soon(tunnel.end, self._all_end)
        self._metrics.open_streams += 1
        self._metrics.inflight -= 1  # a stream that idles for hours is no request being served
        if self._ticker is None:
            loop = asyncio.get_running_loop()
            self._recheck_at = loop.time() + _RECHECK_S
            self._ticker = loop.call_later(_TICK_S, self._tick)

    def closed(self, tunnel: Tunnel, code: int, by: str) -> None:
        """See :class:`gateway.dataplane.tunnel.Home`."""
        self._open.discard(tunnel)
        self._metrics.open_streams -= 1
        self._metrics.inflight += 1
        self._metrics.stream_closes[(str(code) if code < _APPLICATION or by == "gateway" else "application", by)] += 1

    def reserve(self, tunnel: Tunnel, hold: Hold, spent: Spent) -> None:
        """See :class:`gateway.dataplane.tunnel.Home`."""
        self._tasks.start(self._reserve(tunnel, hold, spent), "streams: audio reserved")

    async def _reserve(self, tunnel: Tunnel, hold: Hold, spent: Spent) -> None:
        expected = Spent(spent.audio_ms + STREAM_AHEAD.audio_ms, spent.bytes_in + STREAM_AHEAD.bytes_in)
        try:
            deny = await hold.grow(expected, spent)
        finally:
            tunnel.client.is_ahead = False
            tunnel.client.go_on()
        if deny is not None:
            tunnel.end(Ending.LIMIT_REACHED, deny.refusal.code, deny.message)
        elif hold.is_short:
            tunnel.warn()

    def end_all(self, ending: Ending) -> None:
        """End every one, and those that are being opened as soon as they are open."""
        self._all_end = ending
        for tunnel in tuple(self._open):
            tunnel.end(ending)

    def forget(self, change: Invalidation) -> None:
        """Something changed: ask again for whom it may concern, and end the streams of those who may no more."""
        concerned = [tunnel for tunnel in self._open if tunnel.is_touched_by(change)]
        if concerned:
            self._tasks.start(self._recheck(concerned), "streams: credentials asked for again")

    def close(self) -> None:
        """Cut what is left."""
        for tunnel in tuple(self._open):
            tunnel.abort()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for tunnel in [tunnel for tunnel in self._open if tunnel.due <= now]:
            tunnel.look(now)
        if now >= self._recheck_at:
            self._recheck_at = now + _RECHECK_S
            self.forget(Invalidation())
        self._ticker = loop.call_later(_TICK_S, self._tick) if self._open else None

    async def _recheck(self, tunnels: Iterable[Tunnel]) -> None:
        """One question for all streams of a credential from one client on a route, and one at a time: no storms."""
        groups: defaultdict[tuple[bytes, Route, str], list[Tunnel]] = defaultdict(list)
        for tunnel in tunnels:
            if tunnel.presented is not None:
                groups[tunnel.presented.digest or tunnel.presented.secret, tunnel.route, tunnel.address].append(tunnel)
        for (_, route, address), group in groups.items():
            presented = group[0].presented
            assert presented is not None
            now = await self._ask(presented, route, address, group)
            for tunnel in group:
                if isinstance(now, Deny):
                    tunnel.end(Ending.CREDENTIAL_ENDED, now.refusal.code, now.refusal.message)
                elif now is not None:  # a key may have been given an end, or other limits
                    tunnel.end_by(_lasts(now, tunnel.presented))
                    tunnel.follow(now)

    async def _ask(self, presented: Presented, route: Route, address: str, group: list[Tunnel]) -> Permit | Deny | None:
        """Ask until there is an answer: what cannot be asked may have been revoked, or not."""
        while any(tunnel in self._open for tunnel in group):
            try:
                return await self._judge.still_good(presented, route, address)
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
        return None


def _first(presented: Presented | None) -> bytes:
    """What a ticket has said before its client says anything."""
    if presented is None or presented.ticket is None or not presented.ticket.first:
        return b""
    return frame(TEXT, presented.ticket.first.encode(), os.urandom(4))


def _lasts(permit: Permit, presented: Presented | None) -> tuple[float, Ending, str]:
    """How long a stream may last, and what ends it then: the route's bound, a ticket's, or the end of the key."""
    principal, longest = permit.principal, permit.route.stream_longest_s
    if presented is not None and presented.ticket is not None:
        longest = min(longest, presented.ticket.longest_s)
    if principal.method is Method.API_KEY and principal.expires_ms is not None:
        left = principal.expires_ms / 1000 - time.time()
        if left < longest:
            return left, Ending.CREDENTIAL_ENDED, Refusal.API_KEY_EXPIRED.code
    return longest, Ending.STREAM_TOO_LONG, ""

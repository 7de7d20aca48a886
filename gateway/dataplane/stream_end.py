"""One end of an open WebSocket: a socket, and the walker of what comes from it."""

import asyncio
import socket
import struct
from typing import Protocol

from aiohttp._websocket.helpers import websocket_mask
from typing_extensions import override

from policies.http.websocket import FrameWalker
from policies.metering.streams import Ending
from policies.routing.routes import Route

_CONTROLS, _WITHIN_S = 1_000, 10.0
"""More control frames than that, within so many seconds, are a flood."""
_NO_LINGER = struct.pack("ii", 1, 0)
_WATCHED = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)
"""tcp(7): a host that acknowledges nothing for a minute is gone."""
NEVER = float("inf")


def unmasked(data: bytes, key: bytes) -> bytes:
    """As ``policies.http.websocket.masked``, by aiohttp's C: a sixteenth of the time."""
    piece = bytearray(data)
    websocket_mask(key, piece)
    return bytes(piece)


class Between(Protocol):
    """What two ends belong to."""

    loop: asyncio.AbstractEventLoop
    route: Route
    spoken: float
    """When a message passed last, either way."""
    due: float
    """When its clock must look at it."""

    def end(self, ending: Ending) -> None:
        """End the stream."""

    def noticed(self, source: "StreamEnd") -> None:
        """Nothing more goes on from one end: it broke the rules, sent a close frame, or the stream is ending."""

    def outran(self) -> None:
        """As much has come from one end as :attr:`StreamEnd.look_at` says."""

    def lost(self, end: "StreamEnd", exc: Exception | None) -> None:
        """One connection is gone."""


class StreamEnd(asyncio.Protocol):
    """One end: what comes from it is walked and goes on to the other one."""

    __slots__ = ("_flood_at", "_flood_since", "finished", "heard", "is_ahead", "look_at", "lost", "other", "paused_at",
                 "said", "transport", "tunnel", "walker")  # fmt: skip

    def __init__(self, tunnel: Between, walker: FrameWalker, now: float) -> None:
        self.tunnel = tunnel
        self.walker = walker
        self.transport: asyncio.Transport
        self.other: StreamEnd
        self.heard = self._flood_since = now
        self._flood_at = _CONTROLS
        self.paused_at = NEVER
        """Since when it has not taken what is written to it."""
        self.look_at = NEVER
        """At how many bytes of its messages the tunnel wants to be told."""
        self.is_ahead = False
        """Whether more of its limits is being reserved: no more of it is read before."""
        self.said = self.finished = self.lost = False
        """Whether it was sent a close frame; whether we have closed it; whether it is gone."""

    @override
    def data_received(self, data: bytes) -> None:
        walker, tunnel = self.walker, self.tunnel
        self.heard = now = tunnel.loop.time()
        frames, controls = walker.frames, walker.controls
        passing = walker.feed(data)
        if passing and not self.other.finished:
            self.other.transport.write(passing)
        if walker.controls == controls or walker.frames != frames:
            tunnel.spoken = now
        if walker.controls >= self._flood_at:
            self._count_controls(now)
        if walker.binary + walker.text >= self.look_at:
            tunnel.outran()
        if walker.done:
            tunnel.noticed(self)

    def _count_controls(self, now: float) -> None:
        if now - self._flood_since < _WITHIN_S:
            self.tunnel.end(Ending.POLICY_VIOLATED)
        self._flood_at, self._flood_since = self.walker.controls + _CONTROLS, now

    @override
    def pause_writing(self) -> None:
        tunnel = self.tunnel
        self.paused_at = now = tunnel.loop.time()
        tunnel.due = min(tunnel.due, now + tunnel.route.idle_s)
        self.other.hold_back()

    @override
    def resume_writing(self) -> None:
        self.paused_at = NEVER
        self.other.go_on()

    def watch(self) -> None:
        """Have the kernel notice a host that vanished without a word; who answers pings needs none of it."""
        sock = self.transport.get_extra_info("socket")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            for level, option, value in _WATCHED:
                sock.setsockopt(level, option, value)

    def listen(self) -> None:
        """Read on."""
        if not self.finished:
            self.transport.resume_reading()

    def go_on(self) -> None:
        """Read on, where what is read can be written and has room in its limits."""
        if self.other.paused_at == NEVER and not self.is_ahead:
            self.listen()

    def hold_back(self) -> None:
        """Let the kernel's buffers fill until the sender notices."""
        if not self.finished:
            self.transport.pause_reading()

    @override
    def eof_received(self) -> bool:
        return False  # RFC 6455 knows no half-open connection: the transport closes, and connection_lost follows

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.finished = True
        self.tunnel.lost(self, exc)

    def say(self, data: bytes) -> None:
        """Write something of our own, between two frames."""
        if not self.finished:
            self.transport.write(data)

    def finish(self) -> None:
        """Close when what was written has gone out."""
        if not self.finished:
            self.finished = True
            self.transport.close()

    def cut(self) -> None:
        """Close at once, by a reset: a message may have been left in the middle."""
        self.finished = True
        if not self.lost:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

"""What goes to a client: written now or at the turn's end, waited for, and how the connection ends.

An end must not eat the answer before it: a close with something unread is a reset, and a reset takes back what the
client's kernel has not given it yet.
"""

import asyncio
import contextlib
import select
import socket
import struct
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError
from typing_extensions import override

from gateway.dataplane.intake import BodyTooSlow, Intake, Listener

LINGER_S = 2.0
"""How long a refused upload is read and thrown away, so that its sender can read the answer before the close."""
UNREAD_S = 10.0
"""How long a client may leave what was written to it unread between requests, or at the end."""
_NO_LINGER = struct.pack("ii", 1, 0)
"""With it a close is a reset (socket(7), SO_LINGER)."""


class LastWord(asyncio.Protocol):
    """What is left of a connection that was turned away: its client reads why, whatever it sends meanwhile."""

    def __init__(self, transport: asyncio.Transport, others: set["LastWord"]) -> None:
        self._transport = transport
        self._others = others
        others.add(self)
        transport.set_protocol(self)
        transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(LINGER_S, self.end)

    def end(self) -> None:
        """It has had its time."""
        self._transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        self._others.discard(self)


class Delivery(Intake):
    """The writing half of a client's connection, and its ends; what is written is its one subclass's."""

    __slots__ = ("_idle_s", "_later", "_take_by", "_unsent")

    def __init__(self, server: Listener, **options: Any) -> None:
        super().__init__(server, **options)
        self._later = b""

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there to be answered."""
        return self.transport is None

    def write(self, data: bytes) -> None:
        """Write now, behind what waits. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        self.send_now()
        self.transport.write(data)

    def write_soon(self, data: bytes) -> None:
        """Write at the end of this loop iteration. Raises ConnectionResetError when the client has gone."""
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        if not self._later:
            self._server.outbox.put(self)
        self._later += data

    def send_now(self) -> None:
        """Write what waits."""
        if self._later:
            self._server.outbox.flush()

    def flush(self) -> None:
        """Write what waits, if anybody is left to read it. The outbox calls it."""
        later, self._later = self._later, b""
        if later and self.transport is not None:
            self.transport.write(later)

    async def drained(self, idle_s: float) -> None:
        """Wait until the client has taken what was written; one that takes nothing for ``idle_s`` is cut off.

        Raises ConnectionError when it has gone.
        """
        if not self._paused:
            return await self._drain_helper()
        self._unsent, self._idle_s = float("inf"), idle_s
        self._server.writing.add(self)
        try:
            return await self._drain_helper()
        finally:
            self._server.writing.discard(self)

    def has_stalled(self, now: float) -> bool:
        """Whether a client that is waited for has taken nothing for too long."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if unsent < self._unsent:
            self._unsent, self._take_by = unsent, now + self._idle_s
        return self._take_by < now

    # --- the end ----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End the connection by a reset: to an answer without a length an orderly close would be its end."""
        self._later = b""
        if self.transport is not None:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

    def _close_soon(self) -> None:
        """Close when what was written has been taken; a client that takes nothing is cut off."""
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self._loop.call_later(UNREAD_S, self.cut)
            self.transport.close()

    async def _next_message(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def _has_unread(self) -> bool:
        """Whether the socket holds something that the loop has not told of yet."""
        if self.transport is None or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _is_sent_more(self) -> bool:
        """Whether something came behind the last request that will be answered."""
        held = self._messages or self._ahead or self._has_more or self._header_bytes or self._message_tail
        return bool(held) or self._has_unread

    async def _hear_out(self) -> None:
        """Say that nothing follows, and read on until the client has heard it, for as long as a refused upload is read.

        What comes now is not answered, not even a request that would be recognised.
        """
        self._close = True
        self._again = self.memory = None
        self.send_now()
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write_eof()
        self.transport.resume_reading()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lingering_time):
                while not self._force_close:
                    await self._next_message()
                    self._messages.clear()

    async def _linger(self, body: StreamReader) -> None:
        """Read on for a moment: a close with unread data is a reset, and the reset would eat the answer."""
        await asyncio.sleep(0)  # an upload that was cancelled just now still holds the body
        try:
            async with asyncio.timeout(self._lingering_time):
                while not body.is_eof() and not self._force_close:
                    await body.readany()
        except (TimeoutError, BodyTooSlow, RequestPayloadError, HttpProcessingError):
            return

"""The rest of a long body: read from the socket into a buffer of ours, and passed on from there.

aiohttp's way copies every byte three times (out of the loop's buffer, out of the parser, and to join the pieces) and
wakes a task for each piece; that was half of an upload's cost. A body of a known length needs no parser: what is read
here never reaches beyond its end, so the connection goes on with the next request's first byte.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp.streams import StreamReader
from typing_extensions import override

BUFFER_BYTES = 262_144
"""What one read takes at most: larger ones leave the processor's cache before they are written again."""

Take = Callable[[bytearray | memoryview], bool]
"""Takes a piece, which is valid during the call. False: it is kept for longer, or there is something to wait for."""


class Parsed(Protocol):
    """The connection around whose parser a body goes."""

    transport: asyncio.Transport | None
    body_deadline: float

    def read_into(self, inflow: "Inflow", idle_s: float) -> None:
        """Let it have what comes, and watch how it comes. Raises ConnectionResetError when the client has gone."""

    def stop_reading(self) -> None:
        """Let the client wait."""

    def body_came(self, body: StreamReader, total_bytes: int) -> None:
        """All of a body has come: what follows is for the parser again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio tells it."""

    def pause_writing(self) -> None:
        """As asyncio tells it."""

    def resume_writing(self) -> None:
        """As asyncio tells it."""


class Scratch:
    """The one buffer of all connections of a loop: a read and what follows from it are over before the next read."""

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER_BYTES)

    def renew(self) -> None:
        """Leave it to whoever still holds a piece of it."""
        self.buffer = bytearray(BUFFER_BYTES)


class Inflow(asyncio.BufferedProtocol):
    """Stands in a client connection's place on its transport until ``left`` bytes have come.

    ``run`` as often as it takes until ``left`` is 0; ``discard`` when nobody wants the rest.
    """

    __slots__ = ("_body", "_connection", "_idle_s", "_loop", "_scratch", "_take", "_waiter", "left", "total_bytes")

    def __init__(
        self,
        connection: Parsed,
        scratch: Scratch,
        body: StreamReader,
        left: int,
        *,
        idle_s: float,
        take: Take,
    ) -> None:
        self._connection = connection
        self._scratch = scratch
        self._body = body
        self._idle_s = idle_s
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.left = left
        self.total_bytes = body.total_bytes
        """Bytes of the body so far, by which the listener sees whether it trickles."""

    async def run(self) -> None:
        """Read on until ``take`` says stop, or the end. Raises what it raises, BodyTooSlow, and ConnectionError."""
        self._connection.read_into(self, self._idle_s)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self.left and self._take is not _nowhere:
                self._connection.stop_reading()

    def discard(self) -> None:
        """Read the rest and throw it away, as long as the connection lasts."""
        if not self.left:
            return
        self._take = _nowhere
        self._connection.stop_reading()  # it is not watched any more: the connection does not linger for long
        if self._connection.transport is not None:
            self._connection.transport.resume_reading()

    def set_exception(self, error: Exception) -> None:
        """End the body by this."""
        self._body.set_exception(error)
        self._wake(error)

    def _wake(self, error: Exception | None = None) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    # --- asyncio's side ----------------------------------------------------------------------------------------------

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._scratch.buffer)[: self.left]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self.left -= nbytes
        self.total_bytes += nbytes
        self._connection.body_deadline = self._loop.time() + self._idle_s
        buffer = self._scratch.buffer
        error: Exception | None = None
        try:
            goes_on = self._take(buffer if nbytes == BUFFER_BYTES else memoryview(buffer)[:nbytes])
        except Exception as raised:  # noqa: BLE001  raised where it is waited for
            goes_on, error = False, raised
        if not goes_on:
            self._scratch.renew()
        if not self.left:
            self._connection.body_came(self._body, self.total_bytes)
        elif not goes_on:
            self._connection.stop_reading()
        if not (goes_on and self.left):
            self._wake(error)

    @override
    def eof_received(self) -> bool:
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
        self._wake(ConnectionResetError("the client has gone"))

    @override
    def pause_writing(self) -> None:
        self._connection.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._connection.resume_writing()


def _nowhere(_: bytearray | memoryview) -> bool:
    return True

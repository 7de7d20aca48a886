"""A wire with a listener on it: stands between nginx and the gateway, counts connections, keeps what was sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

SOURCE = "127.0.0.2"
"""The address that the wire's far end calls from, so that a gateway can tell nginx from everybody else on loopback."""

Instead = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Tap:
    """``sent`` is every byte towards the far port, of all connections. ``instead`` takes the far end's place."""

    def __init__(self, far_port: int) -> None:
        self._far_port = far_port
        self.port = 0
        self.connections = 0
        self.sent = bytearray()
        self.instead: Instead | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        self._open.add(writer)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.instead is not None:
                await self.instead(reader, writer)
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far_port, local_addr=(SOURCE, 0))
            with contextlib.closing(far_writer):
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, far_writer, self.sent))
                    both.create_task(self._pump(far_reader, writer, bytearray()))

    def hang_up(self) -> None:
        """End every connection there is; the next one sees a change of ``instead``."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        while piece := await reader.read(65_536):
            kept += piece
            writer.write(piece)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def tapped(far_port: int) -> AsyncIterator[Tap]:
    """Lay a wire to a port."""
    tap = Tap(far_port)
    server = await asyncio.start_server(tap.carry, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()

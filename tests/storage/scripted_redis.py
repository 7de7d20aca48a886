"""A Redis that answers as a test tells it to: what a real one cannot be made to do on demand."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Command = tuple[bytes, ...]
Answer = Callable[[Command], Awaitable[bytes | None]]
"""From a command to the bytes of a reply; None says nothing, now and later."""


@dataclass
class Scripted:
    """What was asked so far, over all connections, and how often somebody connected."""

    port: int = 0
    asked: list[Command] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For the client."""
        return f"redis://127.0.0.1:{self.port}"


async def obliging(command: Command) -> bytes:
    """Greet as Redis does, and admit every take of one request with one charge."""
    return b"*5\r\n:1\r\n:0\r\n:0\r\n:9\r\n:1\r\n" if command[0].startswith(b"EVAL") else b"+PONG\r\n"


@asynccontextmanager
async def scripted(answer: Answer = obliging, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """A listener on a port of its own."""
    script = Scripted()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script.connections += 1
        script.writers.append(writer)
        try:
            while True:
                command = await _read(reader)
                script.asked.append(command)
                reply = await answer(command)
                if reply is not None:
                    writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for writer in script.writers:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Command:
    words = []
    for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return tuple(words)

"""A line to a real PostgreSQL that can be cut, go silent, or lose one answer, as networks and restarts do."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit


class Line:
    """A Unix socket in ``directory`` that leads to the server of ``url``; clients take ``self.url``."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@" if user else "", query=f"host={directory}"))
        self.connections = 0
        self._host = options.get("host", [parts.hostname or "localhost"])[0]
        self._port = options.get("port", [parts.port or 5432])[0]
        self._path = directory / ".s.PGSQL.5432"
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task] = set()
        self._losing = b""
        self._audible = asyncio.Event()
        self._audible.set()

    async def up(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._call, self._path)

    async def down(self) -> None:
        """Cut every connection and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection, without a word."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def fall_silent(self) -> None:
        """From now on nothing arrives, new connections included, and nobody is told."""
        self._audible.clear()

    def speak_again(self) -> None:
        """End the silence; what was said meanwhile arrives late."""
        self._audible.set()

    def lose_answer_to(self, message: bytes) -> None:
        """Cut the connection once the server has answered the next message with these bytes; the answer is lost."""
        self._losing = message

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        self._calls.add(call)
        self.connections += 1
        if self._host.startswith("/"):
            far_reader, far_writer = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        ending = asyncio.Event()
        answer_is_lost = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(65536):
                await self._audible.wait()
                if self._losing and self._losing in data:
                    self._losing = b""
                    answer_is_lost.set()
                far_writer.write(data)

        async def answer() -> None:
            while data := await far_reader.read(65536):
                await self._audible.wait()
                if answer_is_lost.is_set():
                    return
                writer.write(data)

        async def until_over(way: Coroutine[None, None, None]) -> None:
            with suppress(ConnectionError):
                await way
            ending.set()

        try:
            async with asyncio.TaskGroup() as both:
                ways = [both.create_task(until_over(way)) for way in (ask(), answer())]
                await ending.wait()
                for way in ways:
                    way.cancel()
        finally:
            self._calls.discard(call)
            writer.transport.abort()
            far_writer.transport.abort()


@asynccontextmanager
async def line(url: str, directory: Path) -> AsyncIterator[Line]:
    """A line that is up, and down afterwards."""
    made = Line(url, directory)
    await made.up()
    try:
        yield made
    finally:
        made.speak_again()
        await made.down()

"""A steady load from kept connections and from new ones, and an honest list of what became of every request."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from gateway.processes.crew import _LAST_CALL_S


class Crossed(Exception):
    """The next request met the close of a connection that had rested for so long that it may be closed unasked."""


@dataclass
class Line:
    """A connection, and when something was last asked on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked_s: float = float("inf")

    async def ask(self, request: bytes) -> tuple[str, bool]:
        """The status, and whether the connection is kept. Raises Crossed."""
        self.writer.write(request)
        asked_s = time.monotonic()
        rested_s, self.asked_s = asked_s - self.asked_s, asked_s
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        except (ConnectionResetError, asyncio.IncompleteReadError) as error:
            if rested_s >= _LAST_CALL_S and not getattr(error, "partial", b""):
                raise Crossed from error
            raise
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        return head.split(b" ")[1].decode(), b"\r\nconnection: close\r\n" not in head


@dataclass
class Load:
    """So many requests a second until stopped. Every fourth one is made on a connection of its own.

    ``outcomes`` counts statuses, and failures by what they were: a refused connection, a reset, half an answer.

    A client that did not come to its turn for longer than an unused connection is kept may speak into the close, which
    no server can prevent (RFC 9112 section 9.5). It does what clients do: such a GET is sent again on a new connection
    (RFC 9110 section 9.2.2). Who was in time is never closed upon, so a break is a failure there.
    """

    host: str
    port: int
    key: str
    rate: int = 500
    clients: int = 20
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End after the requests in flight."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def failed(self) -> dict[str, int]:
        """Everything but 200."""
        return {outcome: n for outcome, n in self.outcomes.items() if outcome != "200"}

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        request = b"GET /v1/models HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer %b\r\n\r\n" % self.key.encode()
        every = self.clients / self.rate
        due = time.monotonic() + every * number / self.clients
        line: Line | None = None
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += every
            began = time.monotonic()
            if line is not None and line.reader.at_eof():  # closed at rest: nothing was asked on it, nothing is lost
                line.writer.close()
                line = None
            try:
                async with asyncio.timeout(30):
                    line = line or await self._connect()
                    try:
                        outcome, kept = await line.ask(request)
                    except Crossed:
                        line.writer.close()
                        line = await self._connect()
                        outcome, kept = await line.ask(request)
            except (OSError, EOFError, TimeoutError) as error:
                outcome, kept = type(error).__name__, False
            self.outcomes[outcome] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if line is not None and (not kept or number % 4 == 0):
                line.writer.close()
                line = None
        if line is not None:
            line.writer.close()

    async def _connect(self) -> Line:
        return Line(*await asyncio.open_connection(self.host, self.port))

"""A steady load from kept connections and from new ones, and an honest list of what became of every request."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Load:
    """So many requests a second until stopped. Every fourth one is made on a connection of its own.

    ``outcomes`` counts statuses, and failures by what they were: a refused connection, a reset, half an answer.
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
        every = self.clients / self.rate
        due = time.monotonic() + every * number / self.clients
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += every
            began = time.monotonic()
            if line is not None and line[0].at_eof():  # closed at rest: nothing was asked on it, so nothing is lost
                line[1].close()
                line = None
            try:
                async with asyncio.timeout(30):
                    line = line or await asyncio.open_connection(self.host, self.port)
                    outcome, kept = await self._ask(*line)
            except (OSError, EOFError, TimeoutError) as error:
                outcome, kept = type(error).__name__, False
            self.outcomes[outcome] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if line is not None and (not kept or number % 4 == 0):
                line[1].close()
                line = None
        if line is not None:
            line[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, bool]:
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer %b\r\n\r\n" % self.key.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        return head.split(b" ")[1].decode(), b"\r\nconnection: close\r\n" not in head

"""An upload of any size passes in bounded memory, whatever its framing and however the upstream reads."""

import asyncio
from pathlib import Path

import pytest

from tests.gateway.harness import OK, Gateway

SIZE = 100_000_000
PIECE = bytes(250_000)
BOUND = 20_000_000


def resident() -> int:
    """Of this process, in which client, gateway and upstream live: what it says is at least the gateway's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


class Reader:
    """An upstream that reads and throws away; after every ``burst`` bytes it stops until the client is stuck."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self.stuck = asyncio.Event()
        self.read = 0
        self.peak = 0

    async def early(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        left = self._burst
        chunked = b"chunked" in head.lower()
        last = b""
        while self.read < SIZE or (chunked and not last.endswith(b"0\r\n\r\n")):
            data = await reader.read(262_144)
            self.read += len(data)
            last = (last + data)[-5:]
            self.peak = max(self.peak, resident())
            left -= len(data)
            if left < 0 and self.read < SIZE * 0.8:
                self.stuck.clear()
                await self.stuck.wait()
                self.peak = max(self.peak, resident())
                left = self._burst
        writer.write(OK)
        return True


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("burst", [SIZE, SIZE // 4])
async def test_memory_does_not_grow_with_an_upload(gateway: Gateway, chunked: bool, burst: int) -> None:
    """At most 20 MB more than before, at full speed, and while the upstream reads nothing for a while."""
    upstream = Reader(burst)
    gateway.upstream.early = upstream.early
    head = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nAuthorization: Token {gateway.key}\r\nConnection: close\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {SIZE}\r\n\r\n"
    framed = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    before = resident()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode())
    for _ in range(SIZE // len(PIECE)):
        writer.write(framed)
        while True:
            try:
                async with asyncio.timeout(0.2):
                    await writer.drain()
                break
            except TimeoutError:
                upstream.stuck.set()
    writer.write(b"0\r\n\r\n" if chunked else b"")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert gateway.journal.records[0].bytes_in == SIZE
    assert upstream.peak - before < BOUND

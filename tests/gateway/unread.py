"""An upstream's answer for a reader that does not read."""

import asyncio


class LargeAnswer:
    """Writes ``size`` bytes of answer, and says in ``stalled`` when the other end has stopped taking them.

    ``wrote`` is how many bytes of the body were handed to the socket so far.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.wrote = 0
        self.stalled = asyncio.Event()

    async def write_to(self, writer: asyncio.StreamWriter) -> None:
        """Head and body."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        while self.wrote < self.size:
            writer.write(bytes(100_000))
            self.wrote += 100_000
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                self.stalled.set()
                await writer.drain()

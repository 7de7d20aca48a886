"""How the parent and a worker talk: JSON lines over a socket pair that both inherited; nobody else can join.

The parent asks ``{"do": …, "n": 1}``, the worker answers ``{"n": 1, "is": …}``; what the worker says unasked has no
``n``. The end of the stream is the other one's death.
"""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

_LONGEST = 16 * 1024 * 1024

Message = dict[str, Any]


class Gone(Exception):
    """The other end is dead, or did not answer in time."""


class Channel:
    """One end. ``run`` reads until the other end closes; ``on_message`` gets what is not an answer to :meth:`ask`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_message: Callable[[Message], Awaitable[Any]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_message = on_message
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def over(cls, end: socket.socket, on_message: Callable[[Message], Awaitable[Any]]) -> "Channel":
        """Take over one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=end, limit=_LONGEST)
        return cls(reader, writer, on_message)

    async def run(self) -> None:
        """Serve the stream to its end."""
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):  # half a line is a death in mid-sentence
                await self._take(orjson.loads(line))
        except ConnectionError:
            pass
        finally:
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(Gone("the other process has ended"))
            self._writer.close()

    async def _take(self, message: Message) -> None:
        if "is" in message:
            future = self._asked.pop(message["n"], None)
            if future is not None and not future.done():  # an answer that comes too late is nobody's
                future.set_result(message["is"])
            return
        answer = await self._on_message(message)
        if "n" in message:
            self.tell({"n": message["n"], "is": answer})

    def tell(self, message: Message) -> None:
        """Send, and expect nothing. To an end that has closed nothing is sent; :meth:`run` notices by itself."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE))

    async def ask(self, do: str, timeout: float, **details: Any) -> Any:
        """Send, and wait for the answer. Raises Gone."""
        if self._writer.is_closing():
            raise Gone("the other process has ended")
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell({"do": do, "n": number, **details})
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            raise Gone(f"no answer to '{do}' within {timeout:g} s") from error
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """End the conversation."""
        self._writer.close()

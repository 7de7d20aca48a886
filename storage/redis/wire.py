"""One Redis connection that writes a command in one piece and hands out replies in order: the limiter's hot path.

redis-py stays in charge of everything else. Here its price, some 80 us of Python a command, would be paid on every loop
tick; hiredis parses, and a command is one ``bytes.join``. A connection whose reply was abandoned is dropped, never
reused: one reply behind is somebody else's data (CVE-2023-28858).
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
from typing_extensions import override

from storage.ports import Unavailable

Reply = object


class RedisRefused(Exception):
    """The server answered with an error; the message is its own."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis is: ``redis://[user:password@]host:port/db``, ``rediss://…``, ``unix:///path?db=0``."""

    host: str
    port: int
    path: str
    username: str
    password: str
    database: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises ValueError, with a sentence that repeats no password."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
        except ValueError:
            raise ValueError(
                "this is no Redis address: is the port a number, and are '/', '@', ':' and '#' in the password written "
                "as %2F, %40, %3A and %23?"
            ) from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"a Redis address begins with redis://, rediss:// or unix://, not {parts.scheme!r}")
        query = parse_qs(parts.query)
        local = parts.scheme == "unix"
        if local and (not parts.path or parts.hostname):
            raise ValueError("a Redis socket is given by its whole path, with three slashes: unix:///run/redis.sock")
        database = query["db"][0] if "db" in query else ("" if local else parts.path.strip("/"))
        if not (database or "0").isdecimal():
            raise ValueError("the Redis database, the last part of the address, is a number")
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=port,
            path=unquote(parts.path) if local else "",
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(database or 0),
            tls=parts.scheme == "rediss",
        )


def encode(*words: bytes) -> bytes:
    """A command in RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n" % len(word))
        parts.append(word)
        parts.append(b"\r\n")
    return b"".join(parts)


class Wire(asyncio.Protocol):
    """A connection after its handshake. ``ask`` is synchronous up to the future it returns."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: Address, timeout: float) -> "Wire":
        """Open, authenticate, choose the database. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                if address.path:
                    _, wire = await loop.create_unix_connection(cls, address.path)
                else:
                    tls = ssl.create_default_context() if address.tls else None
                    _, wire = await loop.create_connection(cls, address.host, address.port, ssl=tls)
                try:
                    await wire.greet(address)
                except BaseException:
                    wire.close()
                    raise
        except (OSError, UnicodeError, RedisRefused) as error:  # UnicodeError: no host can have such a name
            raise Unavailable(f"Redis cannot be reached: {str(error) or 'no answer in time'}") from error
        return wire

    async def greet(self, address: Address) -> None:
        """Authenticate, choose the database, and see that it answers. Raises RedisRefused or Unavailable."""
        if address.password:
            credentials = [w.encode() for w in (address.username, address.password) if w]
            await self.ask(encode(b"AUTH", *credentials))
        if address.database:
            await self.ask(encode(b"SELECT", b"%d" % address.database))
        await self.ask(encode(b"PING"))

    @property
    def is_open(self) -> bool:
        """Whether a command can still be written."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, command: bytes) -> asyncio.Future[Reply]:
        """Write a command. The future gives the reply, or raises RedisRefused or Unavailable."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(Unavailable("the connection to Redis is closed"))
            return future
        self._waiting.append(future)
        self._transport.write(command)
        return future

    def close(self) -> None:
        """Close at once; whoever waits gets Unavailable."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._deliver(reply)
        except hiredis.ProtocolError:
            self.close()

    def _deliver(self, reply: Reply) -> None:
        if not self._waiting:  # a server that pushes what nobody asked for is not in step with us
            self.close()
            return
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(RedisRefused(str(reply)))
        else:
            future.set_result(reply)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable("the connection to Redis broke"))

"""One Redis connection that writes a command in one piece and hands out replies in order: the limiter's hot path.

redis-py stays in charge of everything else. Here its price, some 80 us of Python a command, would be paid on every loop
tick; hiredis parses, and a command is one ``bytes.join``. A connection whose reply was abandoned is dropped, never
reused: one reply behind is somebody else's data (CVE-2023-28858).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
from typing_extensions import override

from storage.ports import Unavailable

Reply = object
Deliver = Callable[[Reply], None]


class RedisRefused(Exception):
    """The server answered with an error; the message is its own."""


class NotSent(Unavailable):
    """There was no connection: the command was certainly not carried out."""


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


_SIZES = [b"$%d\r\n" % size for size in range(256)]


def encode(*words: bytes) -> bytes:
    """A command in RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        size = len(word)
        parts += (_SIZES[size] if size < len(_SIZES) else b"$%d\r\n" % size, word, b"\r\n")
    return b"".join(parts)


class Wire(asyncio.Protocol):
    """A connection after its handshake.

    ``send`` is synchronous: its callback gets the reply as soon as it is parsed, or an exception instead. A reply that
    is not there within ``timeout`` seconds closes the connection, and with it every reply that was still due: whether a
    late one would be theirs nobody can tell. A pause of this process, which may be one of the machine, does not count.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._due: deque[tuple[float, Deliver]] = deque()
        self._gathered: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._doubted: Deliver | None = None

    @classmethod
    async def connect(cls, address: Address, timeout: float) -> "Wire":
        """Open, authenticate, choose the database. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        make = partial(cls, timeout)
        try:
            async with asyncio.timeout(timeout):
                if address.path:
                    _, wire = await loop.create_unix_connection(make, address.path)
                else:
                    tls = ssl.create_default_context() if address.tls else None
                    _, wire = await loop.create_connection(make, address.host, address.port, ssl=tls)
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

    @property
    def is_idle(self) -> bool:
        """Whether it is open and no reply is due."""
        return not self._due and self.is_open

    def send(self, command: bytes, deliver: Deliver, *, soon: bool = False) -> None:
        """Write a command. ``deliver`` is called once: with the reply, or with RedisRefused or Unavailable.

        With ``soon`` it goes out at the end of this loop iteration, in one write with all others: the system call is
        most of what a command costs.
        """
        if self._transport is None or self._transport.is_closing():
            deliver(NotSent("the connection to Redis is closed"))
            return
        self._due.append((self._loop.time() + self._timeout, deliver))
        if soon or self._gathered:
            if not self._gathered:
                self._loop.call_soon(self._flush)
            self._gathered.append(command)
        else:
            self._transport.write(command)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if self._transport is not None:
            self._transport.write(b"".join(gathered))

    async def ask(self, command: bytes) -> Reply:
        """Write a command and wait for its reply. Raises RedisRefused and Unavailable."""
        future: asyncio.Future[Reply] = self._loop.create_future()

        def deliver(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, RedisRefused | Unavailable):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(command, deliver)
        return await future

    def close(self) -> None:
        """Close at once; whoever waits gets Unavailable."""
        self._give_up("the connection to Redis was closed")

    def _look(self) -> None:
        """Whether the oldest reply is overdue.

        As late as this look comes, as long the reply is waited for once more: the whole machine may have paused.
        """
        self._watch = None
        if not self._due:
            return
        (at, deliver), now = self._due[0], self._loop.time()
        if at > now:
            self._watch = self._loop.call_at(at, self._look)
        elif deliver is not self._doubted:
            self._doubted = deliver
            self._watch = self._loop.call_at(2 * now - at, self._look)
        else:
            self._give_up("Redis does not answer in time")

    def _give_up(self, reason: str) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._due:
            self._due.popleft()[1](Unavailable(reason))

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if not self._due:  # a server that says what nobody asked for is not in step with us
                    self.close()
                    return
                _, deliver = self._due.popleft()
                deliver(RedisRefused(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply)
        except hiredis.ProtocolError:
            self.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._give_up("the connection to Redis broke")

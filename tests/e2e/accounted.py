"""Requests that can be accounted for one by one: each has an id and an amount of audio of its own, and a known end.

Bare sockets on one loop, because the machine that is tested has to be paid for by the same processors.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from typing_extensions import override

_BYTES_A_MS = 16
"""Of 16-bit samples at 8 kHz."""
_TARGET = "/v1/listen?encoding=linear16&sample_rate=8000&channels=1"
_ANSWER = b'{"text":"' + b"word " * 40 + b'"}'
_PORTAL_EVERY = 40
_HALVES_EVERY = 5


def audio_of(name: str) -> int:
    """Milliseconds of audio that the request with this id brings; 0 for one that goes to the portal."""
    number = int(name[1:])
    return 1 + number % 61 if number % _PORTAL_EVERY else 0


@dataclass
class Traffic:
    """So many clients, each on one kept connection. Every so many requests go to the portal instead."""

    port: int
    key: str
    clients: int = 16
    rate: float = 350.0
    """Requests a second, together; fewer when the gateway is slower."""
    sent: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    """The status of each request whose answer came whole, by id."""
    cut: set[str] = field(default_factory=set)
    """What was sent in part or whole, and whose answer did not come or not whole."""
    in_flight: set[str] = field(default_factory=set)
    _stopped: bool = False

    def stop(self) -> None:
        """End after what is in flight."""
        self._stopped = True

    async def run(self) -> None:
        """Until stopped."""
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pause = self.clients / self.rate
        due = loop.time() + pause * number / self.clients
        line: socket.socket | None = None
        while not self._stopped:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += pause
            if line is None:
                line = await self._connected()
            if line is not None and not await self._ask(line):
                line.close()
                line = None
        if line is not None:
            line.close()

    async def _connected(self) -> socket.socket | None:
        line = socket.socket()
        line.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self.port))
        except OSError:
            line.close()
            return None
        return line

    async def _ask(self, line: socket.socket) -> bool:
        """One request; whether the connection can take another."""
        name = f"r{self.sent}"
        self.sent += 1
        self.in_flight.add(name)
        try:
            await asyncio.get_running_loop().sock_sendall(line, self._request(name))
            status, kept, told = await _answer(line)
        except (OSError, EOFError):
            self.cut.add(name)
            return False
        finally:
            self.in_flight.discard(name)
        self.answered[told] = status
        return kept

    def _request(self, name: str) -> bytes:
        common = f"Host: gw\r\nAuthorization: Bearer {self.key}\r\nX-Request-ID: {name}\r\n"
        size = audio_of(name) * _BYTES_A_MS
        if not size:
            return f"GET /platform/v1/me HTTP/1.1\r\n{common}\r\n".encode()
        return f"POST {_TARGET} HTTP/1.1\r\n{common}Content-Length: {size}\r\n\r\n".encode() + bytes(size)


class Polls(Traffic):
    """The same request again and again, byte for byte, without an id of its own: the gateway's is in the answer."""

    @override
    def _request(self, name: str) -> bytes:
        return f"GET /v1/models HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {self.key}\r\n\r\n".encode()


async def _answer(line: socket.socket) -> tuple[int, bool, str]:
    """Status and id of an answer that came whole, and whether the connection stays. Raises OSError and EOFError."""
    loop, got = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in got:
        got += await _more(loop, line)
    head, _, body = got.partition(b"\r\n\r\n")
    head = head.lower()
    rest = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0]) - len(body)
    while rest > 0:
        rest -= len(await _more(loop, line))
    told = head.partition(b"\r\nx-request-id:")[2].split(b"\r\n")[0].strip().decode()
    return int(head[9:12]), b"\r\nconnection: close" not in head, told


async def _more(loop: asyncio.AbstractEventLoop, line: socket.socket) -> bytes:
    if not (piece := await loop.sock_recv(line, 65_536)):
        raise EOFError
    return piece


class Service(asyncio.Protocol):
    """One connection to a transcription service that takes its time; some answers come in two halves."""

    def __init__(self) -> None:
        self._served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._got = b""
        self._served += 1
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER)
        later = asyncio.get_running_loop().call_later
        if self._served % _HALVES_EVERY:
            later(0.005, self._transport.write, answer + _ANSWER)
        else:
            later(0.005, self._transport.write, answer + _ANSWER[:99])
            later(0.02, self._transport.write, _ANSWER[99:])


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service is."""

    server_port: int


@asynccontextmanager
async def service() -> AsyncIterator[Listening]:
    """The service, on the loop of the test."""
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0)
    async with server:
        yield Listening(server.sockets[0].getsockname()[1])

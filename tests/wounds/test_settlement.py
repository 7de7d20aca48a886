"""Wound: work that nobody was charged for, or twice (M-01, M-06, D-13).

Whatever happens to a request that was admitted, exactly one record and one log line tell of it, and nothing is left
behind: no request in flight, no connection out of the pool, no task.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from policies.account.usage import Outcome
from policies.routing.route_table import RouteTable
from tests.gateway.harness import OK, Answer, Gateway, Options, Seen, running
from tests.storage.waiting import until
from tests.wounds.wire import request

POST = b"POST /v1/listen HTTP/1.1"
MODELS = b"GET /v1/models HTTP/1.1"
ROUTES = RouteTable.compile(
    {
        "routes": [
            {
                "name": "up",
                "path": "/v1/listen",
                "methods": ["POST"],
                "meter": "raw",
                "first_byte_s": 0.15,
                "idle_s": 0.15,
            },
            {"name": "models", "path": "/v1/models", "methods": ["GET", "HEAD"], "first_byte_s": 0.15, "idle_s": 0.15},
        ]
    }
)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(routes=ROUTES)) as made:
        yield made


async def settled(gateway: Gateway) -> None:
    """Wait for the one record, and see that nothing is left."""
    async with asyncio.timeout(30):
        await until(lambda: not gateway.metrics.inflight and bool(gateway.journal.rows))
        await until(lambda: gateway.pool._all <= set(gateway.pool._idle))
        await until(lambda: not any("upload" in task.get_name() for task in asyncio.all_tasks()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(gateway.journal.rows) == 1
    assert len(gateway.lines) == 1
    assert sum(sum(figures.requests.values()) for figures in gateway.metrics.routes.values()) == 1


def says(answer: bytes, *, close: bool = True) -> Callable[..., Awaitable[None]]:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(answer)
        await writer.drain()
        if close:
            writer.close()

    return respond


HEAD = b"HTTP/1.1 200 OK\r\n"
UPSTREAM = {
    "hangs up at once": (b"", 502, "upstream_broke"),
    "hangs up in the head": (HEAD + b"Content-", 502, "upstream_broke"),
    "hangs up before the body": (HEAD + b"Content-Length: 5\r\n\r\n", None, "upstream_broke"),
    "hangs up in the body": (HEAD + b"Content-Length: 5\r\n\r\nhal", None, "upstream_broke"),
    "hangs up in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal", None, "upstream_broke"),
    "hangs up between chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n", None, "upstream_broke"),
    "speaks nonsense": (b"nonsense\r\n\r\n", 502, "upstream_broke"),
    "speaks nonsense in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", None, "upstream_broke"),
    "both framings": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        502,
        "upstream_broke",
    ),
    "switches protocols": (b"HTTP/1.1 101 Yes\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, "upstream_broke"),
    "an odd coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, "upstream_broke"),
}


@pytest.mark.parametrize("case", UPSTREAM)
@pytest.mark.parametrize("upload", [False, True])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_an_upstream_that_fails_anywhere_is_settled_once(
    gateway: Gateway, case: str, upload: bool, version: bytes
) -> None:
    """S-12, F-03: 502 while nothing was sent, a cut connection afterwards; never a clean short answer."""
    answer, status, code = UPSTREAM[case]
    gateway.upstream.respond = says(answer)
    line, fields, body = (POST, (b"Content-Length: 5",), b"audio") if upload else (MODELS, (), b"")
    line = line.replace(b"HTTP/1.1", version)
    data, cut = b"", False
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, line, *fields, b"Connection: close", body=body))
    try:
        while piece := await reader.read(65_536):
            data += piece
    except ConnectionError:
        cut = True
    writer.close()
    await settled(gateway)
    (record,) = gateway.journal.records
    assert (record.outcome, record.code) == (Outcome.UPSTREAM_FAILED, code)
    assert record.measured.audio_ms == 0
    if status is not None:
        assert (Answer.parse(data).status, record.status) == (status, status)
    else:
        # A reset, so that it is noticed even without a length; a refusal where all was known before the head went out.
        assert cut or Answer.parse(data).status == 502
        assert not data.endswith(b"0\r\n\r\n")


SILENT = {
    "before the head": (b"", 504),
    "in the head": (HEAD + b"Content-", 504),
    "after interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, 504),
    "before the body": (HEAD + b"Content-Length: 5\r\n\r\n", None),
    "in the body": (HEAD + b"Content-Length: 5\r\n\r\nhal", None),
    "in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal", None),
    "before the end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n", None),
    "without a length": (HEAD + b"\r\nhal", None),
}


@pytest.mark.parametrize("case", SILENT)
async def test_an_upstream_that_falls_silent_is_settled_once(gateway: Gateway, case: str) -> None:
    """504 while nothing was sent, a cut connection afterwards."""
    answer, status = SILENT[case]
    gateway.upstream.respond = says(answer, close=False)
    data = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, b"Content-Length: 5", b"Connection: close", body=b"audio"))
    try:
        async with asyncio.timeout(30):
            while piece := await reader.read(65_536):
                data += piece
    except ConnectionError:
        assert status is None
    writer.close()
    await settled(gateway)
    (record,) = gateway.journal.records
    assert (record.outcome, record.code) == (Outcome.UPSTREAM_FAILED, "upstream_timeout")
    if status is not None:
        assert (Answer.parse(data).status, record.status) == (504, 504)
    else:
        assert not data.endswith(b"0\r\n\r\n")


class Leaver:
    """A client that leaves at one point of an exchange. Each method returns when it has left."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.asked, self.carry_on = asyncio.Event(), asyncio.Event()
        gateway.upstream.respond = self.respond

    async def respond(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        """Answer when told to."""
        self.asked.set()
        await self.carry_on.wait()
        writer.write(OK)

    async def connect(self, *data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which this was written."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(b"".join(data))
        return reader, writer

    async def while_the_key_is_looked_up(self) -> None:
        """Before anything was asked of the upstream."""
        looked, go = asyncio.Event(), asyncio.Event()
        real = self.gateway.keys.identify_key

        async def held(key: bytes) -> object:
            looked.set()
            await go.wait()
            return await real(key)

        self.gateway.keys.identify_key = held  # type: ignore[method-assign, assignment]  # the test's own registry
        _, writer = await self.connect(request(self.gateway.key))
        await looked.wait()
        (client,) = self.gateway.server.connections
        writer.transport.abort()
        await until(lambda: client.transport is None)
        go.set()

    async def in_the_upload(self) -> None:
        """By a reset."""
        _, writer = await self.connect(request(self.gateway.key, POST, b"Content-Length: 1000"), b"half")
        await until(lambda: self.gateway.upstream.connections > 0)
        writer.transport.abort()

    async def in_the_upload_by_a_clean_close(self) -> None:
        """By an orderly end."""
        _, writer = await self.connect(request(self.gateway.key, POST, b"Transfer-Encoding: chunked"), b"4\r\nhalf\r\n")
        await until(lambda: self.gateway.upstream.connections > 0)
        writer.close()

    async def before_the_answer(self) -> None:
        """While the upstream works."""
        _, writer = await self.connect(request(self.gateway.key, POST, b"Content-Length: 5"), b"audio")
        await self.asked.wait()
        writer.transport.abort()

    async def in_the_answer(self) -> None:
        """While it flows."""

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"5\r\nhello\r\n")
                await writer.drain()
                await asyncio.sleep(0)

        self.gateway.upstream.respond = endless
        reader, writer = await self.connect(request(self.gateway.key))
        await reader.readuntil(b"hello")
        writer.transport.abort()

    async def in_an_answer_that_it_does_not_read(self) -> None:
        """While it is held back."""

        async def large(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
            self.asked.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            while not writer.is_closing():
                writer.write(bytes(100_000))
                await writer.drain()

        self.gateway.upstream.respond = large
        _, writer = await self.connect(request(self.gateway.key))
        await self.asked.wait()
        (client,) = self.gateway.server.connections
        await until(lambda: client.writing_paused)
        writer.transport.abort()

    async def in_a_pause_of_the_answer(self) -> None:
        """While nothing flows."""

        async def paused(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            await writer.drain()
            await self.carry_on.wait()

        self.gateway.upstream.respond = paused
        reader, writer = await self.connect(request(self.gateway.key))
        await reader.readuntil(b"hello")
        writer.transport.abort()


LEAVING = [name for name in vars(Leaver) if not name.startswith("_") and name not in ("respond", "connect")]


@pytest.mark.parametrize("when", LEAVING)
async def test_a_client_that_leaves_is_settled_once(gateway: Gateway, when: str) -> None:
    """W-11, D-13, M-06: as gone, with what had passed; and the upstream is not kept busy for nobody."""
    leaver = Leaver(gateway)
    await getattr(leaver, when)()
    await settled(gateway)
    leaver.carry_on.set()
    (record,) = gateway.journal.records
    assert record.outcome is Outcome.CLIENT_GONE
    assert not gateway.pool._all
    assert bool(gateway.upstream.seen) <= (when not in ("while_the_key_is_looked_up", "in_the_upload"))


async def test_a_client_that_leaves_after_the_answer_changes_nothing(gateway: Gateway) -> None:
    """The record was written before the last byte was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key))
    await reader.readuntil(b"}")
    writer.transport.abort()
    await settled(gateway)
    assert gateway.journal.records[0].outcome is Outcome.OK


async def test_a_client_that_leaves_before_its_request_is_whole_was_never_there(gateway: Gateway) -> None:
    """No request, no record, no line."""
    for data in (b"", b"GET /v1/mod", request(gateway.key)[:-2]):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(data)
        await writer.drain()
        writer.transport.abort()
    await until(lambda: not gateway.server.connections)
    assert not gateway.journal.rows
    assert not gateway.lines


async def test_what_is_settled_is_settled_before_the_last_byte(gateway: Gateway) -> None:
    """Contract of the journal, for every shape of answer: who has seen it whole finds it in the account."""
    shapes = (
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    )
    for number, shape in enumerate(shapes, start=1):
        gateway.upstream.respond = says(shape, close=shape.endswith(b"end"))
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, MODELS, b"Connection: close"))
        data = await reader.read()
        assert len(gateway.journal.rows) == number
        assert gateway.journal.records[-1].bytes_out == len(Answer.parse(data).body)
        writer.close()


async def test_a_clients_usage_headers_are_nobodys_figures(gateway: Gateway) -> None:
    """M-07: what is charged is what was walked, whatever the client or the upstream's header says."""
    claims = [("X-Audio-Duration", "0"), ("X-Usage-Seconds", "-1"), ("Content-Duration", "NaN"), ("X-Bytes-In", "0")]
    await gateway.ask("POST", "/v1/listen", claims, b"audio")
    assert gateway.journal.records[0].bytes_in == 5

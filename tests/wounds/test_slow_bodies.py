"""Wound: a client that is in no hurry (aiohttp has no time-out for a body: D-01, D-02).

A body may take as long as it likes while it moves. One that stops for longer than its route's ``idle_s`` is given up,
and so is one that trickles: a byte now and then would hold a connection for ever.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator

import pytest

from gateway.configuration.patience import Patience
from policies.account.usage import Outcome
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Answer, Gateway, Options, running
from tests.gateway.unread import LargeAnswer
from tests.storage.waiting import until
from tests.wounds.wire import answers, request

POST = b"POST /v1/listen HTTP/1.1"
IDLE_S = 0.15
PATIENT_S = 1.0
"""Where something has to happen within the bound: a busy machine lets nobody run for a third of a second."""


def impatient(idle_s: float = IDLE_S, **patience: float) -> Options:
    route = {"name": "up", "path": "/v1/listen", "methods": ["POST"], "scope": "transcribe", "idle_s": idle_s}
    return Options(routes=RouteTable.compile({"routes": [route]}), patience=Patience(**patience))


STALLED = {
    "length": (b"Content-Length: 1000", b"half"),
    "length, nothing sent": (b"Content-Length: 1000", b""),
    "length, one byte missing": (b"Content-Length: 1000", bytes(999)),
    "length, far in": (b"Content-Length: 3000000", bytes(2_000_000)),
    "chunk": (b"Transfer-Encoding: chunked", b"10\r\nhalf"),
    "between chunks": (b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n"),
    "chunk size": (b"Transfer-Encoding: chunked", b"4"),
    "before the last": (b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n0\r\n"),
    "in a trailer": (b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n0\r\nX-A: "),
    "huge chunk": (b"Transfer-Encoding: chunked", b"fffffff\r\nhalf"),
}


@pytest.mark.parametrize("case", STALLED)
async def test_a_body_that_stops_is_given_up(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """408 that can be read, the upstream's connection closed, one record, and no word of a failure in the log."""
    framing, body = STALLED[case]
    async with running(impatient()) as gateway:
        gone = asyncio.Event()

        async def early(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: bytes) -> bool:
            while await reader.read(65_536):
                pass
            gone.set()
            raise ConnectionError

        gateway.upstream.early = early
        (answer,) = answers(await gateway.raw(request(gateway.key, POST, framing, body=body)))
        assert (answer.status, answer.code, answer["connection"]) == (408, "body_timeout", "close")
        await asyncio.wait_for(gone.wait(), 30)
        (record,) = gateway.journal.records
        assert (record.status, record.outcome, record.measured.audio_ms) == (408, Outcome.DENIED, 0)
        assert not gateway.upstream.seen
        assert gateway.metrics.inflight == 0
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


async def test_a_body_that_moves_may_take_its_time() -> None:
    """Ten pauses, each shorter than the bound, together longer than it."""
    async with running(impatient(PATIENT_S)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, POST, b"Content-Length: 10", b"Connection: close"))
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(PATIENT_S / 8)  # the pause is what is under test
        assert Answer.parse(await reader.read()).status == 200
        writer.close()
        assert gateway.upstream.seen[0].body == b"x" * 10


async def trickle(gateway: Gateway, pieces: Iterator[bytes], framing: bytes) -> bytes:
    """Send a piece every hundredth of a second, as long as somebody listens; all that was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, framing, b"Connection: close"))
    answered = bytearray()
    for piece in pieces:
        writer.write(piece)
        try:
            async with asyncio.timeout(0.01):  # the pace is what is under test
                answered += await reader.read(65_536) or b"\0"
                break
        except TimeoutError:
            continue
    with contextlib.suppress(ConnectionError):  # a piece that crossed the close
        answered += await reader.read()
    writer.close()
    return bytes(answered)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_trickles_is_given_up(chunked: bool) -> None:
    """D-02: it never stops for long, but a hundred bytes a second are less than a thousand. 408, one record."""
    async with running(impatient(10.0, body_rate=1_000, body_window_s=0.3)) as gateway:
        piece, framing = (b"1\r\nx\r\n", b"Transfer-Encoding: chunked") if chunked else (b"x", b"Content-Length: 9999")
        (answer,) = answers(await trickle(gateway, itertools.repeat(piece, 1_000), framing))
        assert (answer.status, answer.code, answer["connection"]) == (408, "body_timeout", "close")
        await until(lambda: not gateway.metrics.inflight)
        assert [record.status for record in gateway.journal.records] == [408]
        assert not gateway.upstream.seen


@pytest.mark.parametrize(("rate", "size"), [(1_000, 100), (0, 1)])
async def test_a_body_at_the_least_rate_or_without_one_goes_on(rate: int, size: int) -> None:
    """Ten kilobytes a second where one is asked for, and any pace where none is; over several windows."""
    async with running(impatient(10.0, body_rate=rate, body_window_s=0.4)) as gateway:
        framing = b"Content-Length: %d" % (size * 120)
        (answer,) = answers(await trickle(gateway, itertools.repeat(b"x" * size, 120), framing))
        assert answer.status == 200


async def test_a_body_that_the_upstream_holds_up_is_not_slow() -> None:
    """Time not spent waiting for the client does not count: the upstream takes nothing for three windows."""
    async with running(impatient(10.0, body_rate=1_000_000, body_window_s=0.1)) as gateway:
        held = asyncio.Event()

        async def late(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: bytes) -> bool:
            await held.wait()
            return False

        gateway.upstream.early = late
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        size = 30_000_000
        writer.write(request(gateway.key, POST, b"Content-Length: %d" % size, b"Connection: close") + bytes(size))
        await asyncio.sleep(0.4)  # the pause is what is under test
        held.set()
        assert Answer.parse(await reader.read()).status == 200
        writer.close()


async def test_a_slow_body_holds_up_nobody_else() -> None:
    """D-02: fifty stalled uploads, and a fifty-first request is answered at once."""
    async with running(impatient(PATIENT_S)) as gateway:
        stalled = [
            asyncio.get_running_loop().create_task(
                gateway.raw(request(gateway.key, POST, b"Content-Length: 9", body=b"x"))
            )
            for _ in range(50)
        ]
        await until(lambda: gateway.upstream.connections >= 50)
        assert (await gateway.ask("POST", "/v1/listen", body=b"audio")).status == 200
        assert not all(upload.done() for upload in stalled)
        assert {answers(data)[0].status for data in await asyncio.gather(*stalled)} == {408}
        assert len(gateway.journal.records) == 51


async def large(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: object) -> None:
    """64 MB, as fast as they are taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
    for _turn in range(640):
        writer.write(bytes(100_000))
        await writer.drain()


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    """D-03: it would hold its upstream connection for ever; it is settled as gone, with what it could have taken."""
    async with running(impatient()) as gateway:
        gateway.upstream.respond = large
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, POST, b"Content-Length: 0"))
        await until(lambda: bool(gateway.journal.rows))
        await until(lambda: not gateway.pool._all and not gateway.server.connections)
        writer.close()
        (record,) = gateway.journal.records
        assert record.outcome is Outcome.CLIENT_GONE
        assert 0 < record.bytes_out < 32_000_000
        assert not gateway.server.writing


async def test_a_client_that_takes_little_is_not_cut_off() -> None:
    """D-03: whoever takes some of it now and then is waited for."""
    async with running(impatient(PATIENT_S)) as gateway:
        gateway.upstream.respond = large
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=65_536)
        writer.write(request(gateway.key, POST, b"Content-Length: 0", b"Connection: close"))
        await until(lambda: bool(gateway.server.writing))
        got = 0
        for _ in range(6):
            while got < 64_000_000:
                taken = len(await reader.read(1 << 20))
                got += taken
                if got % 2_000_000 < taken:
                    break
            await asyncio.sleep(PATIENT_S / 5)  # the pause is what is under test
        while piece := await reader.read(1 << 20):
            got += len(piece)
        writer.close()
        assert got > 64_000_000
        assert gateway.journal.records[0].outcome is Outcome.OK


async def test_a_client_that_does_not_read_costs_little() -> None:
    """D-03, D-11: of 64 MB for a client that reads nothing only as much is taken as the buffers hold."""
    large = LargeAnswer(64_000_000)
    async with running() as gateway:
        gateway.upstream.respond = lambda _, writer, __: large.write_to(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, b"GET /v1/models HTTP/1.1", b"Connection: close"))
        await large.stalled.wait()
        assert large.wrote < 32_000_000
        got = 0
        while piece := await reader.read(1 << 20):
            got += len(piece)
        writer.close()
        assert got > large.size
        assert gateway.journal.records[0].bytes_out == large.size

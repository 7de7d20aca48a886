"""Wound: a header a byte at a time (Slowloris, D-01): each connection costs its sender nothing and us a descriptor.

The time for a header runs from the first byte of the request, and a byte now and then does not renew it. The time in
which a kept connection may be unused is another one.
"""

import asyncio

import pytest

from gateway.configuration.patience import Patience
from tests.gateway.harness import Options, running
from tests.storage.waiting import until
from tests.wounds.wire import answers, held_back, in_pieces, request, statuses

HEADER_S = 0.2
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\n"


def hurried(idle_s: float = 60.0) -> Options:
    return Options(patience=Patience(header_s=HEADER_S, idle_s=idle_s))


async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, float]:
    """Send a byte now and then until the other end has had enough: all that it said, and after how many seconds."""
    loop = asyncio.get_running_loop()
    started, said = loop.time(), bytearray()
    while True:
        if not writer.is_closing():
            writer.write(b"x")
        try:
            async with asyncio.timeout(0.02):
                piece = await reader.read(65_536)
        except TimeoutError:
            assert loop.time() - started < 60
            continue
        except ConnectionError:
            break
        if not piece:
            break
        said += piece
    return bytes(said), loop.time() - started


STARTS = [b"G", b"\r\n", b"GET /v1/mod", b"GET /v1/models HTTP/1.1\r\n", HEAD, HEAD + b"X-A: b", HEAD + b"X-A: b\r\n"]


@pytest.mark.parametrize("start", STARTS, ids=lambda start: ascii(start[-12:])[2:-1])
async def test_a_header_that_does_not_end_is_408(start: bytes) -> None:
    """Wherever it stops; the answer says so, the connection ends, and it is counted and logged."""
    async with running(hurried()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(start)
        said, took = await slowly(reader, writer)
        writer.close()
        (answer,) = answers(said)
        assert (answer.code, answer["connection"]) in (("header_timeout", "close"), ("malformed_request", "close"))
        assert (answer.status == 408) == (took >= HEADER_S / 2)  # or the parser refused "Gx" before the time was over
        assert len(gateway.lines) == 1
        await until(lambda: not gateway.server.connections and not gateway.server.heading)
        assert not gateway.upstream.seen


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    """Nobody has asked anything yet: there is nothing to answer, and nothing to log."""
    async with running(hurried()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
        assert not gateway.lines


@pytest.mark.parametrize("behind", [b"", request(None)], ids=["", "another"])
async def test_a_header_that_begins_in_one_piece_with_the_end_of_chunks_is_timed(behind: bytes) -> None:
    """Where the chunks end only the parser knows, and how much of that piece is left it does not tell."""
    async with running(hurried()) as gateway:
        upload = request(gateway.key, b"POST /v1/listen HTTP/1.1", b"Transfer-Encoding: chunked", body=b"1\r\na\r\n")
        got = answers(await in_pieces(gateway, [upload, b"0\r\n\r\n" + behind + b"GET /v1/mod"]))
        assert [answer.status for answer in got] == [200, *[401] * bool(behind), 408]


async def test_the_second_header_of_a_connection_has_its_own_time() -> None:
    """From its first byte, though the connection may be unused for much longer."""
    async with running(hurried()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key))
        assert await reader.readuntil(b"}") != b""
        await asyncio.sleep(2 * HEADER_S)  # the pause is what is under test
        writer.write(HEAD)
        said, took = await slowly(reader, writer)
        writer.close()
        assert statuses(said) == [408]
        assert took >= HEADER_S / 2


async def test_a_kept_connection_is_closed_when_nothing_follows() -> None:
    """D-10: the idle time counts anew from the end of every answer."""
    async with running(hurried(idle_s=0.15)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key))
        async with asyncio.timeout(30):
            (answer,) = answers(await reader.read())
        assert answer.status == 200
        writer.close()


async def test_a_header_in_time_in_many_pieces_is_served_though_the_idle_time_ends_in_its_midst() -> None:
    """A request that has begun is no idle connection."""
    async with running(Options(patience=Patience(header_s=3.0, idle_s=0.15))) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(2):
            writer.write(request(gateway.key)[:-2])
            await asyncio.sleep(0.3)  # the pause is what is under test
            writer.write(b"\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_end_of_a_body_is_no_header(chunked: bool) -> None:
    """A connection that is kept after an upload in pieces has the idle time."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 10"
    pieces = [b"5\r\nhal", b"f,\r\n", b"0\r\n", b"\r\n"] if chunked else [b"half,", b"whole"]
    async with running(hurried()) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key, b"POST /v1/listen HTTP/1.1", framing))
        for piece in pieces:
            await asyncio.sleep(0.02)  # so that each arrives alone
            writer.write(piece)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert not gateway.server.heading
        await asyncio.sleep(2 * HEADER_S)  # the pause is what is under test
        writer.write(request(gateway.key, b"GET /v1/models HTTP/1.1", b"Connection: close"))
        assert statuses(await reader.read()) == [200]
        writer.close()


async def test_a_header_that_waits_behind_a_long_request_has_its_time_afterwards() -> None:
    """It began while the one before it was being served: that one's time is not held against it."""
    async with running(hurried()) as gateway:
        go = held_back(gateway)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key))
        await until(lambda: bool(gateway.upstream.seen))
        writer.write(HEAD)
        await until(lambda: bool(gateway.server.heading))
        await asyncio.sleep(2 * HEADER_S)  # the pause is what is under test
        go.set()
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"Connection: close\r\n\r\n")
        assert statuses(await reader.read()) == [401]
        writer.close()

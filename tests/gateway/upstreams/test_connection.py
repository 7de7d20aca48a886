"""Connections to an upstream, against servers that write raw bytes: what is an answer, what is none, what is kept."""

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from gateway.configuration.origin import Origin
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import Abandoned, Broke, TooSlow, Unreachable
from gateway.upstreams.pool import UpstreamPool
from policies.http.headers import AnswerHead
from tests.certificates import LOOPBACK, make_certificate
from tests.gateway.unread import LargeAnswer
from tests.storage.waiting import until

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Scripted:
    """A server that answers every request of a connection with ``script``; ``pool`` leads to it."""

    def __init__(self) -> None:
        self.script: Script = says(OK)
        self.connections = 0
        self.requests = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.pool: UpstreamPool

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                await self.script(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def says(*pieces: bytes, close: bool = False) -> Script:
    """Write these pieces, each in a segment of its own; then close, if told so."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            for _turn in range(4):  # the client, in this loop, reads this piece alone
                await asyncio.sleep(0)
        if close:
            writer.close()

    return script


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scripted]:
    """A scripted server, with deadlines looked at fifty times a second."""
    monkeypatch.setattr("gateway.upstreams.pool._TICK_S", 0.02)
    made = Scripted()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.pool = UpstreamPool("up", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", 1.0)
    yield made
    made.pool.close()
    listening.close()


async def ask(
    pool: UpstreamPool, *, head: bool = False, first_s: float = 5.0, idle_s: float = 5.0
) -> tuple[UpstreamConnection, AnswerHead, bytes]:
    """One exchange to its end. The connection is not given back yet."""
    connection = pool.idle() or await pool.connect()
    connection.begin(ASK, bodyless_answer=head, idle_s=idle_s)
    connection.expect_answer(first_s)
    await connection.answered()
    assert connection.head is not None
    body = bytearray()
    await read_into(body, connection)
    return connection, connection.head, bytes(body)


async def read_into(body: bytearray, connection: UpstreamConnection) -> None:
    """All that comes of the answer's body, until it ends or fails."""
    while piece := await connection.read():
        body += piece


async def answer_of(connection: UpstreamConnection) -> None:
    """The answer to what was asked already, thrown away."""
    await connection.answered()
    await read_into(bytearray(), connection)


async def is_kept(server: Scripted, connection: UpstreamConnection) -> bool:
    """Give it back, and see whether the next exchange travels on it; that one must be answered as usual."""
    connection.release()
    server.script = says(OK)
    _, _, body = await ask(server.pool)
    assert body == b"ok"
    return server.connections == 1


CLEAN = {
    "length": ([OK], b"ok", True),
    "length in pieces": ([OK[:9], OK[9:30], OK[30:-1], OK[-1:]], b"ok", True),
    "byte by byte": ([OK[i : i + 1] for i in range(len(OK))], b"ok", True),
    "length with zeros": ([b"HTTP/1.1 200 OK\r\nContent-Length: 002\r\n\r\nok"], b"ok", True),
    "nothing": ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], b"", True),
    "chunked": ([CHUNKED + b"2\r\nok\r\n0\r\n\r\n"], b"ok", True),
    "chunked in pieces": ([CHUNKED, b"1\r\no\r", b"\n1;ext=1\r\nk\r\n", b"0\r\n", b"\r\n"], b"ok", True),
    "chunked with trailers": ([CHUNKED + b"2\r\nok\r\n0\r\nX-Tenant-ID: b\r\n\r\n"], b"ok", True),
    "close asked": ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"], b"ok", False),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"], b"ok", False),
    "HTTP/1.0 kept": ([b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"], b"ok", True),
    "interim": ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], b"ok", True),
    "100 interim ones": ([b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 100, OK], b"ok", True),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", True),
    "304 with a length": ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"], b"", True),
    "205": ([b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n"], b"", True),
    "empty lines between": ([b"\r\n\r\n" + OK], b"ok", True),
}


@pytest.mark.parametrize("case", CLEAN)
async def test_an_answer_is_read_to_its_end(server: Scripted, case: str) -> None:
    """Whole, and the connection is kept exactly when it may carry another exchange."""
    pieces, body, kept = CLEAN[case]
    server.script = says(*pieces)
    connection, _, got = await ask(server.pool)
    assert got == body
    assert await is_kept(server, connection) is kept


BROKEN = {
    "length too long": [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"],
    "nothing at all": [],
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-Le"],
    "a head without a body": [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"],
    "ends in a chunk": [CHUNKED + b"5\r\nhel"],
    "ends between chunks": [CHUNKED + b"2\r\nok\r\n"],
    "ends before the last CRLF": [CHUNKED + b"2\r\nok\r\n0\r\n"],
    "only interim": [b"HTTP/1.1 100 Continue\r\n\r\n"],
    "length and chunked": [OK[:-4] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "chunked and length": [CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"],
    "same length twice": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"],
    "length list": [b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"],
    "length plus": [b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"],
    "length empty": [b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok"],
    "length overflow": [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok"],
    "a length that no file has": [b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok"],
    "gzip, chunked": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "chunked, gzip": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "gzip alone": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"],
    "identity": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok"],
    "chunked twice": [CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "chunk size": [CHUNKED + b"-2\r\nok\r\n0\r\n\r\n"],
    "chunk size in words": [CHUNKED + b"zz\r\nok\r\n0\r\n\r\n"],
    "chunk overflow": [CHUNKED + b"ffffffffffffffffff\r\nok\r\n0\r\n\r\n"],
    "chunk bare LF": [CHUNKED + b"2\nok\r\n0\r\n\r\n"],
    "chunk data too long": [CHUNKED + b"2\r\nokk\r\n0\r\n\r\n"],
    "NUL in a value": [b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok"],
    "NUL in a name": [b"HTTP/1.1 200 OK\r\nX\x00: ab\r\nContent-Length: 2\r\n\r\nok"],
    "control in a value": [b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\nok"],
    "bare CR in a value": [b"HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 2\r\n\r\nok"],
    "bare LF": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"],
    "folded": [b"HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok"],
    "space before colon": [b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"],
    "empty name": [b"HTTP/1.1 200 OK\r\n: 2\r\nContent-Length: 2\r\n\r\nok"],
    "unasked 101": [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
    "unasked 101, bare": [b"HTTP/1.1 101 Switching\r\n\r\n", OK],
    "unasked 101 and bytes": [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK],
    "interim with a body": [b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + OK],
    "status 99": [b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok" + OK],
    "status 0": [b"HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok" + OK],
    "status of four digits": [b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"],
    "another protocol": [b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "RTSP": [b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "chunks under HTTP/1.0": [CHUNKED.replace(b"1.1", b"1.0") + b"2\r\nok\r\n0\r\n\r\n"],
    "a whole long head": [b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 66_000 + b"\r\nContent-Length: 2\r\n\r\nok"],
    "SSH": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "a request": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
    "half a long head": [b"HTTP/1.1 200 OK\r\n" + b"X-A: aaaaaaaaaaaaaaaaaaaaaa\r\n" * 3_000],
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_what_is_no_whole_answer_raises_and_ends_the_connection(server: Scripted, case: str) -> None:
    """S-12: never a clean short answer; the next exchange travels on another connection."""
    server.script = says(*BROKEN[case], close=True)
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    connection.expect_answer(5.0)
    with pytest.raises(Broke):
        await answer_of(connection)
    assert not await is_kept(server, connection)


SPOILED = {
    "extra bytes": [OK + b"x"],
    "an extra answer": [OK + OK],
    "extra bytes after chunks": [CHUNKED + b"0\r\n\r\n" + OK],
    "204 with a body": [b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"],
    "204 with a length": [b"HTTP/1.1 204 No Content\r\nContent-Length: 59\r\n\r\n"],
    "204 with chunks": [b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    "304 with a body": [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok"],
}


@pytest.mark.parametrize("case", SPOILED)
async def test_bytes_behind_an_answer_end_the_connection(server: Scripted, case: str) -> None:
    """S-12: they would be the next caller's answer. The answer before them stands."""
    server.script = says(*SPOILED[case])
    connection, _, body = await ask(server.pool)
    assert body in (b"ok", b"")
    assert body == b"" or connection.status == 200
    assert not await is_kept(server, connection)


@pytest.mark.parametrize("late", [b"x", OK, b"\r\n"])
async def test_bytes_on_a_connection_at_rest_end_it(server: Scripted, late: bytes) -> None:
    """S-12: what arrives when nothing was asked is nobody's answer."""
    given_back, sent = asyncio.Event(), asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await given_back.wait()
        writer.write(late)
        await writer.drain()
        sent.set()

    server.script = script
    connection, _, _ = await ask(server.pool)
    connection.release()
    given_back.set()
    await sent.wait()
    await until(lambda: connection not in server.pool._idle)
    assert not connection.is_open
    server.script = says(OK)
    assert (await ask(server.pool))[2] == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
    ],
)
async def test_the_answer_to_head_has_no_body(server: Scripted, answer: bytes) -> None:
    """RFC 9112 section 6.3: whatever its header announces; and the connection is kept."""
    server.script = says(answer)
    connection, _, body = await ask(server.pool, head=True)
    assert body == b""
    assert await is_kept(server, connection)


async def test_a_body_after_head_is_not_the_next_answer(server: Scripted) -> None:
    """An upstream that sends one all the same loses the connection."""
    server.script = says(OK)
    connection, head, body = await ask(server.pool, head=True)
    assert (head.length, body) == (2, b"")
    assert not await is_kept(server, connection)


async def test_an_answer_without_a_length_ends_with_the_connection(server: Scripted) -> None:
    """RFC 9112 section 6.3, last rule; such a connection is not kept."""
    server.script = says(b"HTTP/1.1 200 OK\r\n\r\nfirst ", b"second", close=True)
    connection, head, body = await ask(server.pool)
    assert (head.length, body) == (None, b"first second")
    assert not await is_kept(server, connection)


async def test_an_answer_without_a_length_that_is_reset_is_broken(server: Scripted) -> None:
    """A reset is no end."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await writer.drain()
        for _turn in range(4):
            await asyncio.sleep(0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: close() sends a reset
        writer.transport.abort()

    server.script = script
    with pytest.raises(Broke):
        await ask(server.pool)


async def test_giving_up_in_the_middle_is_not_an_end_either(server: Scripted) -> None:
    """Whatever we ourselves end a close-delimited answer for, the reader hears of it, even if it was not waiting."""
    server.script = says(b"HTTP/1.1 200 OK\r\n\r\nfirst")
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    await connection.answered()
    assert await connection.read() == b"first"
    connection.abandon()
    await until(lambda: connection._transport is None)
    with pytest.raises(Abandoned):
        await connection.read()


async def test_a_late_answer_raises_too_slow(server: Scripted) -> None:
    """``first_byte_s`` bounds the wait for the head, however many interim answers or half heads come before it."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 ", b"200", b" OK\r\nX-A"):
            writer.write(piece)
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    server.script = script
    with pytest.raises(TooSlow):
        await ask(server.pool, first_s=0.1)
    assert not server.pool._all


async def test_a_pause_in_an_answer_raises_too_slow(server: Scripted) -> None:
    """``idle_s`` bounds every pause; a slow but steady answer is none."""
    stop = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _piece in range(5):
            writer.write(b"x")
            await asyncio.sleep(0.25)  # the pause under test: shorter than the bound, five of them longer
        await stop.wait()

    server.script = script
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK, bodyless_answer=False, idle_s=1.0)
    connection.expect_answer(30.0)
    await connection.answered()
    body = bytearray()
    with pytest.raises(TooSlow):
        await read_into(body, connection)
    assert body == b"xxxxx"
    stop.set()


async def test_an_answer_that_never_ends_ends_at_its_total(server: Scripted) -> None:
    """``total_s`` bounds all of an exchange, also one that never pauses; the next one has its own."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    connection, _, _ = await ask(server.pool)
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0, total_s=0.2)
    await answer_of(connection)
    connection.release()
    assert connection.end_by == float("inf")
    server.script = script
    taken = server.pool.idle()
    assert taken is connection
    taken.begin(ASK, bodyless_answer=False, idle_s=5.0, total_s=0.2)
    with pytest.raises(TooSlow):
        await answer_of(taken)


async def test_an_upload_that_the_upstream_does_not_take_raises_too_slow(server: Scripted) -> None:
    """Back-pressure towards the upstream: ``drained`` waits, with bounded memory, and not for ever."""
    release = asyncio.Event()

    async def script(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await release.wait()

    server.script = script
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK[:-2] + b"Content-Length: 1000000000\r\n\r\n", bodyless_answer=False, idle_s=0.2)
    sent = 0

    async def upload() -> None:
        nonlocal sent
        while sent < 1_000_000_000:
            connection.write(bytes(100_000))
            sent += 100_000
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() <= 300_000
            await connection.drained()

    with pytest.raises(TooSlow):
        await upload()
    assert sent < 24_000_000
    with pytest.raises(TooSlow):
        connection.write(b"more")
    release.set()


async def test_an_answer_that_nobody_reads_is_not_gathered(server: Scripted) -> None:
    """Back-pressure towards us: the upstream is told to wait, and goes on when the reader does."""
    large = LargeAnswer(32_000_000)
    server.script = lambda _, writer: large.write_to(writer)
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    await connection.answered()
    await large.stalled.wait()
    assert large.wrote < 24_000_000
    assert connection._buffered < 1_000_000
    got = 0
    while piece := await connection.read():
        got += len(piece)
    assert got == large.size
    assert await is_kept(server, connection)


async def test_a_huge_header_is_refused(server: Scripted) -> None:
    """D-11."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            writer.write(b"X-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" % number)
            await writer.drain()

    server.script = script
    with pytest.raises(Broke, match="header of more than"):
        await ask(server.pool)


async def test_interim_answers_count_with_the_header_that_they_are_before(server: Scripted) -> None:
    """Each alone is small; kept until the answer comes, a flood of them filled the memory and stalled the worker."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1_000):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50)
            await writer.drain()

    server.script = script
    with pytest.raises(Broke, match="header of more than"):
        await ask(server.pool)


async def test_endless_interim_answers_end_at_the_deadline(server: Scripted) -> None:
    """Each of them is an answer's head, none of them the one that is due."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 10)
            await writer.drain()
            await asyncio.sleep(0.005)

    server.script = script
    with pytest.raises(TooSlow):
        await ask(server.pool, first_s=0.1)


async def test_nobody_listening_is_unreachable() -> None:
    """Nothing was sent, and the message names the upstream for the operator."""
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    with pytest.raises(Unreachable, match="up: "):
        await UpstreamPool("up", f"http://127.0.0.1:{port}", 1.0).connect()
    with pytest.raises(Unreachable):
        await UpstreamPool("up", "unix:/nonexistent/socket", 1.0).connect()
    with pytest.raises(Unreachable):
        await UpstreamPool("up", "http://no-such-host.invalid", 1.0).connect()


async def test_a_server_that_accepts_and_hangs_up_is_broken(server: Scripted) -> None:
    """The connection is lost before anything was asked on it: an answer of ours all the same, never a bug."""
    listening = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    pool = UpstreamPool("up", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", 1.0)
    for _ in range(20):
        with pytest.raises((Broke, Unreachable)):
            await ask(pool)
    assert not pool._all
    pool.close()
    listening.close()


AGAIN = {
    "the same": ([OK], False, b"ok", True),
    "another body": ([OK[:-2] + b"no"], False, b"no", True),
    "in two pieces": ([OK[:20], OK[20:]], False, b"ok", True),
    "without its last byte at first": ([OK[:-1], OK[-1:]], False, b"ok", True),
    "a longer header": ([OK[:-4] + b"A: 1\r\n\r\nok"], False, b"ok", True),
    "to HEAD": ([OK[:-2]], True, b"", True),
    "to HEAD, with a body that must not be": ([OK], True, b"", False),
    "a byte behind it": ([OK + b"x"], False, b"ok", False),
    "twice": ([OK + OK], False, b"ok", False),
    "an interim one before it": ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], False, b"ok", True),
}


@pytest.mark.parametrize("case", AGAIN)
async def test_a_header_that_comes_again_changes_nothing(server: Scripted, case: str) -> None:
    """Recognised by its bytes it is not parsed; only a whole answer that came alone is, and it is what it would be."""
    for _ in range(2):
        connection, head, body = await ask(server.pool)
        assert (body, head.length) == (b"ok", 2)
        connection.release()
    assert server.pool.familiar.usual.size == len(OK)
    pieces, bodyless, body, kept = AGAIN[case]
    server.script = says(*pieces)
    connection, head, got = await ask(server.pool, head=bodyless)
    assert (connection.status, got, head.length) == (200, body, 2)
    assert await is_kept(server, connection) is kept


async def test_a_304_that_comes_again_has_no_body(server: Scripted) -> None:
    """Whatever length it tells."""
    server.script = says(CLEAN["304 with a length"][0][0])
    for _ in range(3):
        connection, _, body = await ask(server.pool)
        assert (connection.status, body) == (304, b"")
        connection.release()
    assert server.connections == 1


async def test_a_connection_that_was_never_used_can_be_given_back(server: Scripted) -> None:
    """As happens when something fails between the two."""
    connection = server.pool.idle() or await server.pool.connect()
    connection.release()
    assert (await ask(server.pool))[2] == b"ok"


async def test_connections_are_used_again_the_last_one_first(server: Scripted) -> None:
    """One at a time needs one; three at once need three; none is opened when one is idle."""
    for _ in range(5):
        connection, _, _ = await ask(server.pool)
        connection.release()
    assert server.connections == 1
    three = [(await ask(server.pool))[0] for _ in range(3)]
    assert server.connections == 3
    for connection in three:
        connection.release()
    connection, _, _ = await ask(server.pool)
    assert connection is three[-1]
    assert server.connections == 3


async def test_a_connection_that_the_upstream_closed_at_rest_is_not_used(server: Scripted) -> None:
    """It is noticed before the next exchange, which sees nothing of it."""
    server.script = says(OK)
    connection, _, _ = await ask(server.pool)
    closing = asyncio.Event()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await closing.wait()
        writer.close()

    connection.release()
    server.script = script
    connection, _, _ = await ask(server.pool)
    connection.release()
    closing.set()
    await until(lambda: not connection.is_open)
    server.script = says(OK)
    assert (await ask(server.pool))[2] == b"ok"
    assert server.connections == 2


async def test_a_connection_that_rested_too_long_is_closed(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the upstream's own keep-alive time can run out under a request that is being written."""
    monkeypatch.setattr("gateway.upstreams.pool._IDLE_S", 0.05)
    connection, _, _ = await ask(server.pool)
    connection.release()
    await until(lambda: not server.pool._all)
    assert not connection.is_open


async def test_an_exchange_that_was_abandoned_ends_its_connection(server: Scripted) -> None:
    """The upstream sees that nobody waits any more."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        try:
            await reader.read(1)
        finally:
            gone.set()

    server.script = script
    connection = server.pool.idle() or await server.pool.connect()
    connection.begin(ASK, bodyless_answer=False, idle_s=5.0)
    await asked.wait()
    connection.abandon()
    with pytest.raises(Abandoned):
        await connection.answered()
    await asyncio.wait_for(gone.wait(), 30)
    assert not server.pool._all


async def test_an_upstream_behind_a_socket_file() -> None:
    """``unix:/path``; Host says localhost."""
    made = Scripted()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a b.sock")
        listening = await asyncio.start_unix_server(made.serve, path)
        pool = UpstreamPool("up", "unix:" + path.replace(" ", "%20"), 1.0)
        assert pool.host_line.rstrip() == b"Host: localhost"
        for _ in range(2):
            connection, _, body = await ask(pool)
            assert body == b"ok"
            connection.release()
        assert made.connections == 1
        pool.close()
        listening.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_upstream_behind_tls_is_verified(
    tmp_path: Path, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U-06: the system's authorities decide; an unknown one is unreachable, and nothing was sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = make_certificate(tmp_path, LOOPBACK)
    context.load_cert_chain(certificate, key)
    made = Scripted()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    pool = UpstreamPool("up", f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", 2.0)
    if trusted:
        for _ in range(2):
            connection, _, body = await ask(pool)
            assert body == b"ok"
            connection.release()
        assert made.connections == 1
    else:
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            pool.idle() or await pool.connect()
        assert made.connections == 0
    pool.close()
    listening.close()


class Refusing:
    """A server of one connection, in a thread: answers while an upload is under way, and hangs up on the rest of it."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._connection: socket.socket | None = None

    def accept(self) -> None:
        """Take the connection, and shake hands."""
        self._connection, _ = self._listening.accept()
        if self._context is not None:
            self._connection = self._context.wrap_socket(self._connection, server_side=True)
        self._listening.close()

    def refuse(self, answer: bytes) -> None:
        """The close resets the connection, because there is more to be read."""
        assert self._connection is not None
        self._connection.recv(1)
        self._connection.sendall(answer)
        self._connection.close()

    def end(self, answer: bytes, says_so: bool) -> None:
        """Answer and end, under TLS with a farewell or without."""
        connection = self._connection
        assert connection is not None
        connection.recv(100)
        connection.sendall(answer)
        if says_so and isinstance(connection, ssl.SSLSocket):
            connection.unwrap().close()
        else:
            connection.close()


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("head_came_first", [False, True])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_answer_before_a_reset_is_heard(
    run: Callable[[Coroutine[None, None, None]], None],
    tmp_path: Path,
    version: ssl.TLSVersion | None,
    head_came_first: bool,
) -> None:
    """Wound: a 413 of a service that hung up on the upload was a 502, over TLS always. Each loop has its own TLS."""
    run(_hears_an_answer_before_a_reset(tmp_path, version, head_came_first))


async def _connected(
    tmp_path: Path, version: ssl.TLSVersion | None
) -> tuple[Refusing, UpstreamPool, UpstreamConnection]:
    """A connection to such a server, over TLS of that version or without."""
    certificate, key = make_certificate(tmp_path, LOOPBACK)
    context = None
    if version is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = version
        context.load_cert_chain(certificate, key)
    server = Refusing(context)
    client = ssl.create_default_context(cafile=str(certificate))
    url = f"http{'s' if context is not None else ''}://127.0.0.1:{server.port}"
    pool = UpstreamPool("up", url, 2.0, tls=client)
    connection, _ = await asyncio.gather(pool.connect(), asyncio.to_thread(server.accept))
    return server, pool, connection


async def _hears_an_answer_before_a_reset(
    tmp_path: Path, version: ssl.TLSVersion | None, head_came_first: bool
) -> None:
    """Answer and reset lie in the socket when the next piece of the upload is written: that write is what fails."""
    server, pool, connection = await _connected(tmp_path, version)
    connection.begin(b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n", bodyless_answer=False, idle_s=5.0)
    connection.write(bytes(100_000))
    answer = b"HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\n"
    if head_came_first:
        connection.data_received(answer)
        server.refuse(b"much")  # the loop does not turn meanwhile
    else:
        server.refuse(answer + b"much")
    for _ in range(2):
        connection.write(bytes(100_000))
    await connection.answered()
    assert (connection.status, await connection.read(), connection.body_done) == (413, b"much", True)
    pool.close()


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("says_so", [False, True])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_an_answer_that_its_end_ends_is_whole_only_where_the_end_was_said(
    run: Callable[[Coroutine[None, None, None]], None], tmp_path: Path, version: ssl.TLSVersion | None, says_so: bool
) -> None:
    """Wound: what was cut from an answer without a length, over TLS, was not missed (RFC 9112 section 9.8)."""
    run(_hears_the_end(tmp_path, version, says_so))


async def _hears_the_end(tmp_path: Path, version: ssl.TLSVersion | None, says_so: bool) -> None:
    server, pool, connection = await _connected(tmp_path, version)
    connection.begin(b"GET / HTTP/1.1\r\n\r\n", bodyless_answer=False, idle_s=5.0)
    connection.flush()
    ending = asyncio.get_running_loop().run_in_executor(None, server.end, b"HTTP/1.1 200 OK\r\n\r\nhello", says_so)
    await connection.answered()
    body = b""
    with contextlib.nullcontext() if says_so or version is None else pytest.raises(Broke):
        while piece := await connection.read():
            body += piece
    assert body == b"hello"
    pool.close()
    await ending


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://a", Origin("a", 80, "", tls=False), "a"),
        ("http://a:8000/", Origin("a", 8000, "", tls=False), "a:8000"),
        ("https://a", Origin("a", 443, "", tls=True), "a"),
        ("https://a:80", Origin("a", 80, "", tls=True), "a:80"),
        ("http://[::1]:9", Origin("::1", 9, "", tls=False), "[::1]:9"),
        ("unix:/run/a.sock", Origin("localhost", 80, "/run/a.sock", tls=False), "localhost"),
        ("unix:///run/a%20b.sock", Origin("localhost", 80, "/run/a b.sock", tls=False), "localhost"),
    ],
)
def test_an_origin_is_read_from_a_url(url: str, origin: Origin, authority: str) -> None:
    assert (Origin.parse(url), Origin.parse(url).authority) == (origin, authority)


@pytest.mark.parametrize(
    "url",
    [
        "", "a", "ftp://a", "http://", "http://a/b", "http://a?b", "http://u:p@a", "http://a:99999", "http://a:x",
        "//a", "unix:", "unix:/", "unix:run/a.sock", "http://a b", "http://\xe4", "http://a:0", "http://a#b",
        f"http://{64 * 'a'}.test",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(url: str) -> None:
    """With a sentence; a path or a user in it would be silently lost otherwise."""
    with pytest.raises(ValueError, match=r"."):
        Origin.parse(url)

"""What becomes of an upstream's answer on its way to the client: in every framing whole and at once, or cut off."""

import asyncio
import gzip
import time
from email.utils import parsedate_to_datetime

import pytest

from policies.account.usage import Outcome
from tests.gateway.harness import Answer, Gateway, Respond, Seen

EVENTS = [b"data: %d\n\n" % number for number in range(5)]
LENGTH, CHUNKED, CLOSE = "length", "chunked", "close"


def framed(framing: str, piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if framing == CHUNKED else piece


def header(framing: str, length: int, kind: bytes = b"text/event-stream") -> bytes:
    line = {LENGTH: b"Content-Length: %d\r\n" % length, CHUNKED: b"Transfer-Encoding: chunked\r\n", CLOSE: b""}[framing]
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + line + b"\r\n"


def says(answer: bytes, *, close: bool = False) -> Respond:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(answer)
        if close:
            await writer.drain()
            writer.close()

    return respond


def asking(gateway: Gateway, method: str = "GET", *lines: str, version: str = "1.1") -> bytes:
    fields = ["Host: a", f"X-API-Key: {gateway.key}", *lines]
    return "\r\n".join([f"{method} /v1/models HTTP/{version}", *fields, "", ""]).encode()


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED, CLOSE])
async def test_every_event_reaches_the_client_before_the_next_one_is_made(gateway: Gateway, framing: str) -> None:
    """W-11: the upstream makes an event only when the client has read the one before; in any framing."""
    read = asyncio.Event()

    async def events(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(header(framing, sum(map(len, EVENTS))))
        for event in EVENTS:
            writer.write(framed(framing, event))
            await read.wait()
            read.clear()
        writer.write(b"0\r\n\r\n" if framing == CHUNKED else b"")
        if framing == CLOSE:
            writer.close()

    gateway.upstream.respond = events
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(asking(gateway))
    async with asyncio.timeout(30):
        for event in EVENTS:
            assert (await reader.readuntil(event)).endswith(event)
            read.set()
        if framing != LENGTH:
            assert b"0\r\n\r\n" in await reader.readuntil(b"0\r\n\r\n")
    writer.close()


async def test_answers_with_equal_headers_have_nothing_of_each_other(gateway: Gateway) -> None:
    """What a header amounts to is remembered for the next answer; what was added to it for one client is not."""
    gateway.upstream.respond = says(header(LENGTH, 2, b"application/json") + b"{}")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        for name in ("one", "two", "three"):
            writer.write(asking(gateway, "GET", f"X-Request-ID: {name}"))
            answer = await reader.readuntil(b"{}")
            assert [line for line in answer.split(b"\r\n") if line.lower().startswith(b"x-request-id")] == [
                b"X-Request-ID: " + name.encode()
            ]
            assert answer.count(b"Content-Type: application/json") == 1
    writer.close()


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED, CLOSE])
async def test_the_head_of_an_answer_is_passed_on_before_its_body(gateway: Gateway, framing: str) -> None:
    """First byte at once: who waits for minutes of transcription learns that it has begun."""
    told = asyncio.Event()

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(header(framing, 2))
        await told.wait()
        writer.write(framed(framing, b"ok") + (b"0\r\n\r\n" if framing == CHUNKED else b""))
        if framing == CLOSE:
            writer.close()

    gateway.upstream.respond = slowly
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(asking(gateway))
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        told.set()
        assert b"ok" in await reader.readuntil(b"ok")
    writer.close()


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED, CLOSE])
async def test_a_compressed_answer_is_passed_on_as_it_is(gateway: Gateway, framing: str) -> None:
    """Byte for byte, and its header with it; the client asked the upstream for it."""
    body = gzip.compress(b'{"text":"hello"}' * 100)
    answer = header(framing, len(body), b"application/json\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding")
    answer += framed(framing, body) + (b"0\r\n\r\n" if framing == CHUNKED else b"")
    gateway.upstream.respond = says(answer, close=framing == CLOSE)
    got = await gateway.ask(headers=[("Accept-Encoding", "gzip")])
    assert (got.body, got["content-encoding"], got["vary"]) == (body, "gzip", "Accept-Encoding")
    assert gateway.upstream.seen[0].all("accept-encoding") == ["gzip"]


BODYLESS = {
    "HEAD, length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"200", "500"),
    "HEAD, chunked": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"200", None),
    "HEAD, error": ("HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", b"404", "9"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"204", None),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: a\r\n\r\n", b"304", "500"),
    "205": ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", b"205", "0"),
    "empty": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"200", "0"),
}


@pytest.mark.parametrize("case", BODYLESS)
async def test_an_answer_without_a_body_has_none(gateway: Gateway, case: str) -> None:
    """RFC 9110 section 8.6: what it says of a length is true of what GET would get. The connection is used again."""
    method, answer, status, length = BODYLESS[case]
    gateway.upstream.respond = says(answer)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(30):
        for _ in range(2):
            writer.write(asking(gateway, method))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            found = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            assert found == ([] if length is None else [f"Content-Length: {length}".encode()])
            assert b"ransfer-" not in head or case == "HEAD, chunked"
    writer.close()
    assert gateway.upstream.connections == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", None),
        (b"Date: Thu, 26 Nov 2026 10:00:00 GMT\r\n", "Thu, 26 Nov 2026 10:00:00 GMT"),
        (b"Connection: date\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\n", None),
    ],
)
async def test_an_answer_has_one_date(gateway: Gateway, line: bytes, said: str | None) -> None:
    """The upstream's own, or when it was received (RFC 9110 section 6.6.1); also where the same request comes again."""

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + line + b"Content-Length: 2\r\n\r\nok")

    gateway.upstream.respond = respond
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(4):
        writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\n\r\n".encode())
        async with asyncio.timeout(30):
            (date,) = Answer.parse(await reader.readuntil(b"\r\n\r\nok")).all("date")
        assert date == said or (said is None and abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60)
    writer.close()


async def test_trailers_are_dropped(gateway: Gateway) -> None:
    """They come after the header algebra, and could say who the client is."""
    gateway.upstream.respond = says(
        header(CHUNKED, 0)[:-2] + b"Trailer: X-Tenant-ID\r\n\r\n2\r\nok\r\n0\r\nX-Tenant-ID: b\r\nX-Other: c\r\n\r\n"
    )
    raw = await gateway.raw(asking(gateway, "GET", "Connection: close"))
    assert raw.endswith((b"2\r\nok\r\n0\r\n\r\n", b"\r\n\r\nok"))
    assert b"X-Tenant-ID" not in raw
    assert b"railer" not in raw.replace(b"X-Other", b"")


@pytest.mark.parametrize(
    "before", [b"\r\n", b"\n", b"\r", b"\n\r\n\r\n", b"HTTP/1.1 103 E\r\nContent-Length: 9\r\n\r\n\n\r\n\r\n"]
)
async def test_line_ends_before_an_answer_are_no_part_of_it(gateway: Gateway, before: bytes) -> None:
    """The parser passes over each; taken for lines, they made the status a header, or one answer's header another's."""
    gateway.upstream.respond = says(before + b"HTTP/1.1 200 OK\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok")
    head, body = (await gateway.raw(asking(gateway, "GET", "Connection: close"))).split(b"\r\n\r\n")[-2:]
    assert body == b"ok"
    first, *lines = head.split(b"\r\n")
    assert (first, lines[0]) == (b"HTTP/1.1 200 OK", b"X-Own: 1")
    assert b"Content-Length: 2" in lines


async def test_http_1_0_gets_no_chunks(gateway: Gateway) -> None:
    """RFC 9112 section 6.1: its body ends with the connection."""
    gateway.upstream.respond = says(header(CHUNKED, 0) + b"2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n")
    raw = await gateway.raw(asking(gateway, version="1.0"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"okay!"
    assert b"chunked" not in head
    assert b"Connection: close" in head


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
@pytest.mark.parametrize("at_once", [True, False])
async def test_an_answer_that_breaks_off_is_cut_never_ended(gateway: Gateway, framing: str, at_once: bool) -> None:
    """The client sees a reset or an incomplete body, whether its head had been passed on or not."""
    read = asyncio.Event()

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(header(framing, 10) + framed(framing, b"half"))
        if not at_once:
            await read.wait()
        writer.close()

    gateway.upstream.respond = half
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(asking(gateway))
    got = bytearray()
    try:
        async with asyncio.timeout(30):
            while piece := await reader.read(65_536):
                got += piece
                read.set()
    except ConnectionResetError:
        pass
    writer.close()
    assert not got.endswith(b"0\r\n\r\n")
    (record,) = gateway.journal.records
    assert (record.outcome, record.code) == (Outcome.UPSTREAM_FAILED, "upstream_broke")

"""Wound: two ideas of where a request ends (HAProxy CVE-2021-40346, aiohttp PYSEC-2026-2100, Go CVE-2025-22871).

Behind every request here stands another good one. It must be read as what it is, or not at all; what is hidden inside
a body must never be read as a request.
"""

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator

import aiohttp.http_parser
import pytest

from gateway.shipped import shipped
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Answer, Gateway, Options, running
from tests.storage.waiting import until
from tests.wounds.wire import SMUGGLED, Send, answers, last, request, sent_both_ways, smuggled, statuses, targets

POST = b"POST /v1/listen HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """The shipped routes, with less patience: the pure-Python parser waits for a chunk of any size, were it 2^64."""
    table = tomllib.loads(shipped("routes.toml").read_text())
    table["routes"] = [route | {"idle_s": 0.3} for route in table["routes"]]
    async with running(Options(routes=RouteTable.compile(table))) as made:
        yield made


def test_the_parser_is_the_one_that_was_asked_for() -> None:
    """G-04: the C parser, or the pure-Python one when the environment says so; both must stand these tests."""
    pure = aiohttp.http_parser.HttpRequestParser is aiohttp.http_parser.HttpRequestParserPy
    assert pure == bool(os.environ.get("AIOHTTP_NO_EXTENSIONS"))


REFUSED = {
    # S-01
    "both": ((b"Content-Length: 5", CHUNKED), b"0\r\n\r\n"),
    "both, turned": ((CHUNKED, b"Content-Length: 5"), b"0\r\n\r\n"),
    "both, agreeing": ((b"Content-Length: 15", CHUNKED), b"5\r\nhello\r\n0\r\n\r\n"),
    # S-02
    "length twice": ((b"Content-Length: 5", b"Content-Length: 5"), b"hello"),
    "lengths differ": ((b"Content-Length: 5", b"Content-Length: 0"), b"hello"),
    "length list": ((b"Content-Length: 5, 5",), b"hello"),
    "length plus": ((b"Content-Length: +5",), b"hello"),
    "length hex": ((b"Content-Length: 0x5",), b"hello"),
    "length underscore": ((b"Content-Length: 1_0",), b"hellohello"),
    "length empty": ((b"Content-Length:",), b""),
    "length blank": ((b"Content-Length:  \t ",), b""),
    "length negative": ((b"Content-Length: -5",), b"hello"),
    "length minus zero": ((b"Content-Length: -0",), b""),
    "length Arabic digits": ((b"Content-Length: \xd9\xa5",), b"hello"),
    "length superscript": ((b"Content-Length: \xb2",), b"he"),
    "length fraction": ((b"Content-Length: 5.0",), b"hello"),
    "length with words": ((b"Content-Length: 5 5",), b"hello"),
    "length semicolon": ((b"Content-Length: 5;q=1",), b"hello"),
    "length NUL": ((b"Content-Length: 5\x00",), b"hello"),
    "length vertical tab": ((b"Content-Length: \x0b5",), b"hello"),
    "length 20 digits": ((b"Content-Length: 99999999999999999999",), b"hello"),
    "length 2^64-1": ((b"Content-Length: 18446744073709551615",), b"hello"),
    "length 2^64+5": ((b"Content-Length: 18446744073709551621",), b"hello"),
    # S-03
    "identity": ((b"Transfer-Encoding: identity",), b"0\r\n\r\n"),
    "gzip": ((b"Transfer-Encoding: gzip",), b"0\r\n\r\n"),
    "gzip, chunked": ((b"Transfer-Encoding: gzip, chunked",), b"0\r\n\r\n"),
    "chunked, gzip": ((b"Transfer-Encoding: chunked, gzip",), b"0\r\n\r\n"),
    "comma chunked": ((b"Transfer-Encoding: ,chunked",), b"0\r\n\r\n"),
    "chunked comma": ((b"Transfer-Encoding: chunked,",), b"0\r\n\r\n"),
    "chunked, chunked": ((b"Transfer-Encoding: chunked, chunked",), b"0\r\n\r\n"),
    "chunked twice": ((CHUNKED, CHUNKED), b"0\r\n\r\n"),
    "chunked and identity": ((CHUNKED, b"Transfer-Encoding: identity"), b"0\r\n\r\n"),
    "gzip then chunked": ((b"Transfer-Encoding: gzip", CHUNKED), b"0\r\n\r\n"),
    "xchunked": ((b"Transfer-Encoding: xchunked",), b"0\r\n\r\n"),
    "chunkedx": ((b"Transfer-Encoding: chunkedx",), b"0\r\n\r\n"),
    "chunked parameter": ((b"Transfer-Encoding: chunked;q=1",), b"0\r\n\r\n"),
    "chunked quoted": ((b'Transfer-Encoding: "chunked"',), b"0\r\n\r\n"),
    "chunked vertical tab": ((b"Transfer-Encoding: \x0bchunked",), b"0\r\n\r\n"),
    "chunked NUL": ((b"Transfer-Encoding: chunked\x00",), b"0\r\n\r\n"),
    "chunked no-break space": ((b"Transfer-Encoding: \xa0chunked",), b"0\r\n\r\n"),
    "chunked dotless": (("Transfer-Encoding: chun\u212aed".encode(),), b"0\r\n\r\n"),
    "chunked empty": ((b"Transfer-Encoding:",), b"0\r\n\r\n"),
    # S-05
    "space before colon": ((b"Content-Length : 5",), b"hello"),
    "tab before colon": ((b"Transfer-Encoding\t: chunked",), b"0\r\n\r\n"),
    "folded": ((b"Content-Length: 5\r\n 0",), b"hello"),
    "folded coding": ((b"Transfer-Encoding:\r\n chunked",), b"0\r\n\r\n"),
    "folded other": ((b"X-A: b\r\n\tTransfer-Encoding: chunked",), b"0\r\n\r\n"),
    "bare LF in head": ((b"X-A: b\nTransfer-Encoding: chunked",), b"0\r\n\r\n"),
    "bare CR in head": ((b"X-A: b\rTransfer-Encoding: chunked",), b"0\r\n\r\n"),
    "leading space": ((b" X-A: b",), b""),
    # S-06
    "empty name": ((b": x",), b""),
    "no colon": ((b"X-A",), b""),
    "NUL in name": ((b"X\x00A: b",), b""),
    "NUL in value": ((b"X-A: b\x00c",), b""),
    "8-bit name": ((b"X-\xe9: b",), b""),
    "control in value": ((b"X-A: b\x01c",), b""),
    "DEL in value": ((b"X-A: b\x7fc",), b""),
    "parenthesis in name": ((b"X(A): b",), b""),
    # S-07
    "chunk 0x": ((CHUNKED,), b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk underscore": ((CHUNKED,), b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk leading space": ((CHUNKED,), b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk plus": ((CHUNKED,), b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk negative": ((CHUNKED,), b"-1\r\nhello\r\n0\r\n\r\n"),
    "chunk empty": ((CHUNKED,), b"\r\nhello\r\n0\r\n\r\n"),
    "chunk word": ((CHUNKED,), b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk 17 digits": ((CHUNKED,), b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk 24 digits": ((CHUNKED,), b"fffffffffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
    "chunk bare LF": ((CHUNKED,), b"5\nhello\r\n0\r\n\r\n"),
    "chunk bare CR": ((CHUNKED,), b"5\rhello\r\n0\r\n\r\n"),
    "chunk data too long": ((CHUNKED,), b"5\r\nhelloX\r\n0\r\n\r\n"),
    "chunk data too short": ((CHUNKED,), b"5\r\nhell\r\n0\r\n\r\n"),
    "chunk data bare LF": ((CHUNKED,), b"5\r\nhello\n0\r\n\r\n"),
    "chunk extension LF": ((CHUNKED,), b"5;a\n=b\r\nhello\r\n0\r\n\r\n"),
    "chunk extension NUL": ((CHUNKED,), b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    "chunk last bare LF": ((CHUNKED,), b"5\r\nhello\r\n0\n\n"),
    "trailer no colon": ((CHUNKED,), b"5\r\nhello\r\n0\r\nX-A\r\n\r\n"),
    "trailer space": ((CHUNKED,), b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n"),
    "trailer length": ((CHUNKED,), b"5\r\nhello\r\n0\r\nContent-Length: 500\r\n\r\n"),
    "trailer NUL": ((CHUNKED,), b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n"),
}
TAKEN_BY_SOME = {"chunk extension NUL", "trailer length"}
"""What one of aiohttp's two parsers reads and the other refuses: harmless, because nothing of it is carried on."""


@sent_both_ways
@pytest.mark.parametrize("case", REFUSED)
async def test_odd_framing_is_refused_and_ends_the_connection(gateway: Gateway, send: Send, case: str) -> None:
    """S-01, S-02, S-03, S-05, S-06, S-07: one 4xx at most, then nothing; no request is answered by the upstream."""
    fields, body = REFUSED[case]
    data = request(gateway.key, POST, *fields, body=body + smuggled(gateway.key) + last(gateway.key))
    got = statuses(await send(gateway, data))
    assert SMUGGLED not in targets(gateway) or case in TAKEN_BY_SOME
    if case not in TAKEN_BY_SOME:
        assert len(got) <= 1
        assert all(400 <= status < 500 for status in got)
        assert "/v1/models/next" not in targets(gateway)


TAKEN = {
    "length": ((b"Content-Length: 5",), b"hello", b"hello"),
    "length, leading zeros": ((b"Content-Length: 005",), b"hello", b"hello"),
    "length, spaces around": ((b"Content-Length: \t 5 \t",), b"hello", b"hello"),
    "length, no space": ((b"content-length:5",), b"hello", b"hello"),
    "length, nothing": ((b"Content-Length: 0",), b"", b""),
    "no body": ((), b"", b""),
    "chunked": ((CHUNKED,), b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunked, any case": ((b"tRANSFER-eNCODING: ChUnKeD",), b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunked, many": ((CHUNKED,), b"1\r\nh\r\n" * 300 + b"0\r\n\r\n", b"h" * 300),
    "chunked, nothing": ((CHUNKED,), b"0\r\n\r\n", b""),
    "chunked, leading zeros": ((CHUNKED,), b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "chunked, extensions": ((CHUNKED,), b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', b"hello"),
    "chunked, trailers": ((CHUNKED,), b"5\r\nhello\r\n0\r\nX-A: b\r\nX-Tenant-ID: c\r\n\r\n", b"hello"),
    "chunked, a request inside": ((CHUNKED,), b"12\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
}


@sent_both_ways
@pytest.mark.parametrize("case", TAKEN)
async def test_plain_framing_is_written_anew(gateway: Gateway, send: Send, case: str) -> None:
    """S-10: exactly the body arrives, in framing of ours, without extensions or trailers; the next request is clean."""
    fields, body, arrived = TAKEN[case]
    got = statuses(await send(gateway, request(gateway.key, POST, *fields, body=body + last(gateway.key))))
    assert got == [200, 200]
    first, second = gateway.upstream.seen
    assert (first.target, first.body, second.target) == ("/v1/listen", arrived, "/v1/models/next")
    lengths, codings = first.all("content-length"), first.all("transfer-encoding")
    assert lengths in ([], [str(len(arrived))])
    assert codings in ([], ["chunked"])
    assert bool(arrived) <= (len(lengths) + len(codings) == 1)
    assert not {"x-a", "trailer"} & first.names()


@sent_both_ways
async def test_a_get_with_a_body_leaves_the_pooled_connection_clean(gateway: Gateway, send: Send) -> None:
    """S-10: for either framing the body travels as a body, and the next request on that connection is read as one."""
    hidden = smuggled(gateway.key)
    for method in (b"GET", b"HEAD"):
        for fields, body in (
            ((b"Content-Length: %d" % len(hidden),), hidden),
            ((CHUNKED,), b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)),
        ):
            gateway.upstream.seen.clear()
            data = request(gateway.key, method + b" /v1/models HTTP/1.1", *fields, body=body + last(gateway.key))
            await send(gateway, data)
            assert targets(gateway) == ["/v1/models", "/v1/models/next"]
            assert gateway.upstream.seen[0].body == hidden


@sent_both_ways
@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/models",
        b"GET /v1/models HTTP/0.9",
        b"GET /v1/models HTTP/2.0",
        b"GET /v1/models HTTP/1.32",
        b"GET /v1/models HTTP/1.2",
        b"GET /v1/models HTTP/11.1",
        b"GET /v1/models HTTP/1",
        b"GET /v1/models http/1.1",
        b"GET /v1/models HTTP/1.1 ",
        b"GET /v1/models HTTP/1.1x",
        b"GET /v1/models\tHTTP/1.1",
        b"GET\t/v1/models HTTP/1.1",
        b" GET /v1/models HTTP/1.1",
        b"GET /v1/models HTTP/1.1\x00",
        b"GET /v1/models HTTP/1.1\r\n ",
        b"GET /v1/models XTP/1.1",
        b"GET /v1/models ICE/1.0",
        b"GET /v1/models RTSP/1.0",
        b"GET /v1/models/%b RTSP/1.1" % (b"a" * 5_000),
        b"PRI * HTTP/2.0",
        b"GET",
        b"HTTP/1.1 200 OK",
    ],
    ids=lambda line: ascii(line)[2:40],
)
async def test_another_protocol_is_refused(gateway: Gateway, send: Send, line: bytes) -> None:
    """S-08, S-05: HTTP/1.1 or HTTP/1.0, written as RFC 9112 section 3 has it, and nothing else."""
    got = answers(await send(gateway, request(gateway.key, line, body=last(gateway.key))))
    assert [answer.status for answer in got] in ([400], [501])
    assert not gateway.upstream.seen


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 18, 4, 0, 0, 0, 0, 0]) + bytes([0, 3, 0, 0, 0, 100, 0, 4, 0, 160, 0, 0, 0, 2, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "start", [PREFACE + SETTINGS, b"GET /v1/models HTTP/2.0\r\nHost: a\r\n\r\n", b"GET / HTTP/3\r\n\r\n"]
)
async def test_another_version_of_http_has_a_code_of_its_own(gateway: Gateway, start: bytes) -> None:
    """Whoever has set HTTP/2 with prior knowledge (RFC 9113 section 3.3) finds it in the answer, or in our log."""
    answer = Answer.parse(await gateway.raw(start))
    assert (answer.status, answer.code, answer["connection"]) == (400, "unsupported_http_version", "close")
    assert gateway.lines[-1]["code"] == "unsupported_http_version"


async def test_a_client_that_goes_on_sending_can_read_that_it_was_not_understood(gateway: Gateway) -> None:
    """A close with unread data is a reset, which fails its next write and may eat the answer (RFC 9112 section 9.6)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(PREFACE)
    await until(lambda: bool(gateway.lines))
    for _ in range(3):
        writer.write(SETTINGS)
        await writer.drain()
    assert Answer.parse(await reader.read()).status == 400
    writer.close()
    await until(lambda: not gateway.server.connections)


@sent_both_ways
@pytest.mark.parametrize(
    "line", [b"GET  /v1/models HTTP/1.1", b"GET /v1/models   HTTP/1.1", b"GET /v1/models RTSP/1.0"]
)
async def test_a_line_that_a_parser_may_tolerate_is_written_anew(gateway: Gateway, send: Send, line: bytes) -> None:
    """RFC 9112 section 3 lets a parser take white space for one space: what goes on has one reading all the same."""
    await send(gateway, request(gateway.key, line, b"Connection: close"))
    for seen in gateway.upstream.seen:
        assert seen.head.startswith(b"GET /v1/models HTTP/1.1\r\n")


@sent_both_ways
async def test_http_1_0_is_answered_once_and_closed(gateway: Gateway, send: Send) -> None:
    """Without chunks and without a second request, whatever it asks for."""
    head = request(gateway.key, b"GET /v1/models HTTP/1.0", b"Connection: keep-alive")
    (answer,) = answers(await send(gateway, head + last(gateway.key)))
    assert (answer.status, answer.all("transfer-encoding"), answer["connection"]) == (200, [], "close")
    assert targets(gateway) == ["/v1/models"]


@sent_both_ways
async def test_chunks_in_http_1_0_are_refused(gateway: Gateway, send: Send) -> None:
    """S-03, RFC 9112 section 6.1: such a message has faulty framing."""
    data = request(gateway.key, b"POST /v1/listen HTTP/1.0", CHUNKED, body=b"0\r\n\r\n" + smuggled(gateway.key))
    assert statuses(await send(gateway, data)) == [400]
    assert not gateway.upstream.seen


@sent_both_ways
async def test_empty_lines_before_a_request_are_skipped(gateway: Gateway, send: Send) -> None:
    """RFC 9112 section 2.2: a robust server ignores them; they are no request of their own."""
    assert statuses(await send(gateway, b"\r\n\r\n" + last(gateway.key))) == [200]
    assert targets(gateway) == ["/v1/models/next"]


@sent_both_ways
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"tcp", b"TLS/1.0", b"websocket, h2c"])
@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_an_upgrade_that_is_not_taken_is_one_request_at_most(
    gateway: Gateway, send: Send, protocol: bytes, body: bytes
) -> None:
    """W-06: with a body or without, in either framing: no tunnel, and what follows is a request or it is nothing."""
    for framing, framed in (
        (b"Content-Length: %d" % len(body), body),
        (CHUNKED, (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"),
    ):
        gateway.upstream.seen.clear()
        fields = (b"Connection: Upgrade", b"Upgrade: " + protocol, framing)
        got = statuses(await send(gateway, request(gateway.key, POST, *fields, body=framed + last(gateway.key))))
        assert got in ([200], [200, 200], [501], [501, 200])
        assert targets(gateway) in ([], ["/v1/listen"], ["/v1/models/next"], ["/v1/listen", "/v1/models/next"])
        for seen in gateway.upstream.seen:
            assert not {"upgrade", "connection"} & seen.names()
            assert seen.body in (b"", body)

"""Wound: a header without an end (D-04). Refused at a bound, with 431, and with bounded memory."""

import asyncio

import pytest

from tests.gateway.harness import Gateway
from tests.wounds.wire import Send, answers, in_pieces, request, sent_both_ways

MODELS = b"GET /v1/models HTTP/1.1"


TOO_LARGE = {
    "line": (b"GET /v1/models/" + b"a" * 8_200 + b" HTTP/1.1", ()),
    "query": (b"GET /v1/models?" + b"a" * 8_200 + b" HTTP/1.1", ()),
    "field": (MODELS, (b"X-A: " + b"b" * 8_200,)),
    "name": (MODELS, (b"X" * 8_200 + b": b",)),
    "cookie of 64 kB": (MODELS, (b"Cookie: " + b"c" * 65_536,)),
    "fields": (MODELS, tuple(b"X-%d: b" % n for n in range(130))),
    "5 000 fields": (MODELS, (b"X: y",) * 5_000),
}


@pytest.mark.parametrize("case", TOO_LARGE)
async def test_a_header_that_is_too_large_is_431(gateway: Gateway, case: str) -> None:
    """Contract: 431 in our own shape, the connection closed, nothing repeated, nothing passed on."""
    line, fields = TOO_LARGE[case]
    (answer,) = answers(await gateway.raw(request(gateway.key, line, *fields, b"Connection: close")))
    assert (answer.status, answer.code, answer["connection"]) == (431, "request_headers_too_large", "close")
    assert b"aaaa" not in answer.body
    assert b"bbbb" not in answer.body
    assert not gateway.upstream.seen
    assert len(gateway.lines) == 1


@pytest.mark.parametrize("behind", [b"", b"NONSENSE\r\n\r\n"])
async def test_fields_that_are_too_large_together_are_431_in_one_piece_too(gateway: Gateway, behind: bytes) -> None:
    """Also where the parser found a fault behind them, and what stands before it is read once more."""
    large = request(gateway.key, MODELS, *((b"X: " + b"y" * 8_000,) * 9))
    assert [answer.status for answer in answers(await gateway.raw(large + behind))] == [431]
    assert not gateway.upstream.connections


@pytest.mark.parametrize("case", ["field", "cookie of 64 kB", "fields", "5 000 fields", "64 kB in fields"])
async def test_a_browser_with_too_many_cookies_gets_a_page_that_says_so(gateway: Gateway, case: str) -> None:
    """In one piece and in several; a program gets what it got, and so does who says it is both."""
    line, fields = TOO_LARGE.get(case, (MODELS, (b"X: " + b"y" * 8_000,) * 9))
    accept = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8"
    sent = request(None, line, accept, *fields, b"Connection: close")
    page, pieces, script = (
        answers(await gateway.raw(sent))[0],
        answers(await in_pieces(gateway, [sent[:300], sent[300:4_000], sent[4_000:]]))[0],
        answers(await gateway.raw(request(None, line, accept, b"Sec-Fetch-Mode: cors", *fields)))[0],
    )
    for answer in (page, pieces):
        assert (answer.status, answer["content-type"]) == (431, "text/html; charset=utf-8")
        assert b"too many cookies" in answer.body
        assert b"cccc" not in answer.body
    assert (script.status, script.code) == (431, "request_headers_too_large")


async def test_on_the_platforms_api_what_cannot_be_read_is_told_as_a_problem_too(gateway: Gateway) -> None:
    """Contract: its errors are RFC 9457 problems, also where the gateway reads no further than the first line."""
    line = b"GET /platform/v1/keys?limit=1 HTTP/1.1"
    sent = request(gateway.key, line, b"X-A: " + b"b" * 8_200)
    for got, status in (
        (await gateway.raw(sent), 431),
        (await in_pieces(gateway, [sent[:100], sent[100:4_000], sent[4_000:]]), 431),
        (await gateway.raw(request(gateway.key, line[:-9] + b"&cursor=" + b"a" * 8_200 + line[-9:])), 431),
        (await gateway.raw(request(gateway.key, line, b"Content-Length: 1e3")), 400),
    ):
        (answer,) = answers(got)
        assert (answer.status, answer["content-type"]) == (status, "application/problem+json")


@sent_both_ways
async def test_a_large_header_within_the_bounds_passes(gateway: Gateway, send: Send) -> None:
    """A hundred fields, and a field of 8 kB."""
    fields = [b"X-%d: b" % n for n in range(100)] + [b"X-Long: " + b"b" * 8_000] * (send is not in_pieces)
    await send(gateway, request(gateway.key, MODELS, *fields, b"Connection: close"))
    (seen,) = gateway.upstream.seen
    assert seen.all("x-99") == ["b"]
    assert len(seen.all("x-long")[0]) == 8_000


async def test_a_line_that_never_ends_is_cut_off(gateway: Gateway) -> None:
    """However much a client goes on to send, the gateway stops reading soon."""
    for start in (
        b"GET /",
        b"GET /v1/models HTTP/1.1\r\nX-A: ",
        b"GET /v1/models HTTP/1.1\r\nX",
        b"A",
        b"\r\n" * 10 + b"P",
    ):
        got = await in_pieces(gateway, [start, *[b"a" * 65_536] * 50])
        assert [answer.status for answer in answers(got)] in ([431], [400], [])
    assert not gateway.upstream.seen


async def test_pipelined_requests_are_taken_a_few_at_a_time(gateway: Gateway) -> None:
    """D-06: ten thousand at once are answered one by one, with a bounded queue."""
    count = 3_000
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(None) * count + request(None, MODELS, b"Connection: close"))
    longest = 0
    data = b""
    (client,) = [None]
    while piece := await reader.read(65_536):
        data += piece
        for client in gateway.server.connections:
            longest = max(longest, len(client._messages))
    writer.close()
    assert data.count(b"HTTP/1.1 401 ") == count + 1
    assert longest <= 1_000

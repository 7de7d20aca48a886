"""Wound: an upload that was refused, and its body with it, which is no request (aiohttp house-style traps 1 and 14).

The refusal must reach a client that is still sending; what it goes on to send must never be read as a request; and
nobody is invited to send by ``100 Continue`` before the decision.
"""

import asyncio

import pytest

from policies.routing.route_table import RouteTable
from tests.gateway.harness import Answer, Gateway, Options, Seen, running
from tests.storage.waiting import until
from tests.wounds.wire import SMUGGLED, Send, answers, last, request, sent_both_ways, smuggled, statuses, targets

POST = b"POST /v1/listen HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
LIMIT = 300_000
SMALL_LIMIT = 1_000


def limited(max_body: int, **more: object) -> Options:
    """A gateway whose one upload route takes so many bytes."""
    route = {
        "name": "up",
        "path": "/v1/listen",
        "methods": ["POST"],
        "scope": "transcribe",
        "max_body": max_body,
        **more,
    }
    models = {"name": "models", "path": "/v1/models/{m}", "methods": ["GET"], "scope": "transcribe"}
    return Options(routes=RouteTable.compile({"routes": [route, models]}))


def refusals(gateway: Gateway) -> dict[str, tuple[bytes, str | None, int]]:
    """Every way to refuse an upload before its body: the line, the key, the status."""
    return {
        "no key": (POST, None, 401),
        "bad key": (POST, "thk_live_nonsense", 401),
        "no scope": (POST, gateway.add_key(scopes=frozenset()), 403),
        "no route": (b"POST /load HTTP/1.1", gateway.key, 404),
        "no method": (b"PUT /v1/models HTTP/1.1", gateway.key, 405),
        "no target": (b"POST /v1//listen HTTP/1.1", gateway.key, 400),
    }


@sent_both_ways
@pytest.mark.parametrize("case", ["no key", "bad key", "no scope", "no route", "no method", "no target"])
async def test_the_body_of_a_refused_upload_is_never_a_request(gateway: Gateway, send: Send, case: str) -> None:
    """S-09: pipelined behind the refusal, in either framing: one answer each, or the connection closes."""
    line, key, status = refusals(gateway)[case]
    hidden = smuggled(gateway.key)
    for fields, body in (
        ((b"Content-Length: %d" % len(hidden),), hidden),
        ((CHUNKED,), b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)),
    ):
        got = statuses(await send(gateway, request(key, line, *fields, body=body + last(gateway.key))))
        assert got in ([status], [status, 200])
        assert SMUGGLED not in targets(gateway)


@pytest.mark.parametrize("case", ["no key", "bad key", "no scope", "no route", "no method", "no target"])
@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", CHUNKED])
async def test_what_is_sent_after_the_refusal_is_never_a_request(gateway: Gateway, case: str, framing: bytes) -> None:
    """S-14: head, answer, and only then a body that holds a request: no second answer, and the connection ends."""
    line, key, status = refusals(gateway)[case]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(key, line, framing))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    writer.write(b"%x\r\n" % 1_000_000 if framing == CHUNKED else b"")
    writer.write(smuggled(gateway.key) + last(gateway.key))
    writer.write_eof()
    assert b"HTTP/1.1" not in await reader.read()
    writer.close()
    assert not gateway.upstream.seen


async def test_a_refused_client_that_leaves_is_forgotten_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its body is read and thrown away for a while, but not when there is nobody any more."""
    monkeypatch.setattr("gateway.dataplane.delivery.LINGER_S", 300.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(None, POST, b"Content-Length: 1000000"))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    await until(lambda: not gateway.server.connections)


async def test_a_client_that_sends_all_before_it_reads_still_gets_the_refusal(gateway: Gateway) -> None:
    """The refusal of a 2 MB upload is read whole: a close with unread data would have reset it away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = bytes(2_000_000)
    writer.write(request(None, POST, b"Content-Length: %d" % len(body)))
    for start in range(0, len(body), 50_000):
        writer.write(body[start : start + 50_000])
        await writer.drain()
    answer = Answer.parse(await reader.read())
    writer.close()
    assert (answer.status, answer["connection"]) == (401, "close")
    assert not gateway.upstream.seen


@pytest.mark.parametrize("case", ["no key", "bad key", "no scope", "no route", "no method", "no target"])
async def test_nobody_is_asked_to_go_on_before_the_decision(gateway: Gateway, case: str) -> None:
    """S-11: ``Expect: 100-continue`` with a huge body and no leave: the refusal comes, and no 100 before it."""
    line, key, status = refusals(gateway)[case]
    fields = (b"Expect: 100-continue", b"Content-Length: 1000000000", b"Connection: close")
    data = request(key, line, *fields)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    writer.close()
    assert not gateway.upstream.seen


async def test_an_admitted_client_is_asked_to_go_on(gateway: Gateway) -> None:
    """S-11: then it sends, and the upstream never hears of the expectation."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, b"expect: 100-Continue", b"Content-Length: 5", b"Connection: close"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert Answer.parse(await reader.read()).status == 200
    writer.close()
    (seen,) = gateway.upstream.seen
    assert (seen.body, "expect" in seen.names()) == (b"hello", False)


async def test_http_1_0_is_never_asked_to_go_on(gateway: Gateway) -> None:
    """RFC 9110 section 10.1.1: it would take the interim answer for the answer."""
    line = b"POST /v1/listen HTTP/1.0"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, line, b"Expect: 100-continue", b"Content-Length: 5"))
    await until(lambda: gateway.upstream.connections > 0)
    writer.write(b"hello")
    assert statuses(await reader.read()) == [200]
    writer.close()


@pytest.mark.parametrize(
    "value",
    [b"200-ok", b"100-continue, x", b"x\r\nExpect: 100-continue", b"100-continue\r\nExpect: x", b"100", b"x" * 1_000],
)
async def test_another_expectation_is_417(gateway: Gateway, value: bytes) -> None:
    """S-11."""
    data = request(gateway.key, POST, b"Expect: " + value, b"Content-Length: 5", b"Connection: close", body=b"hello")
    assert [answer.status for answer in answers(await gateway.raw(data))] == [417]
    assert not gateway.upstream.seen


@pytest.mark.parametrize("length", [b"1" + 18 * b"0", b"%d" % (2**64 - 1), b"%d" % 2**64, 4_000 * b"9"])
async def test_a_length_that_no_machine_word_holds_is_too_large_and_no_body(gateway: Gateway, length: bytes) -> None:
    """RFC 9110 section 8.6: a number like others. 2^64 - 1 is no length to aiohttp: what follows is no request."""
    data = request(gateway.key, POST, b"Content-Length: " + length, body=smuggled(gateway.key) + last(gateway.key))
    got = answers(await gateway.raw(data))
    assert [(answer.status, answer.code) for answer in got] == [(413, "body_too_large")]
    assert not gateway.upstream.connections


@pytest.mark.parametrize("limit", [SMALL_LIMIT, LIMIT])
@pytest.mark.parametrize("expect", [(), (b"Expect: 100-continue",)], ids=["", "expect"])
async def test_a_declared_length_over_the_limit_is_refused_unread(limit: int, expect: tuple[bytes, ...]) -> None:
    """D-05: 413 before a byte was read, and no 100 before it; exactly the limit passes."""
    async with running(limited(limit)) as gateway:
        over = request(gateway.key, POST, *expect, b"Content-Length: %d" % (limit + 1), b"Connection: close")
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(over)
        answer = Answer.parse(await reader.readuntil(b"}}"))
        assert (answer.status, answer.code, answer["connection"]) == (413, "body_too_large", "close")
        writer.close()
        assert not gateway.upstream.connections
        exactly = request(gateway.key, POST, b"Content-Length: %d" % limit, b"Connection: close", body=bytes(limit))
        assert statuses(await gateway.raw(exactly)) == [200]
        assert len(gateway.upstream.seen[0].body) == limit


@pytest.mark.parametrize("limit", [SMALL_LIMIT, LIMIT])
@pytest.mark.parametrize("expect", [(), (b"Expect: 100-continue",)], ids=["", "expect"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_chunks_over_the_limit_are_refused_at_the_first_byte_too_many(
    limit: int, expect: tuple[bytes, ...], at_once: bool
) -> None:
    """D-05, S-09: 413 that the client can read; exactly the limit passes; the upstream never sees a whole body."""
    async with running(limited(limit)) as gateway:
        for size, status in ((limit + 1, 413), (limit, 200)):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
            head = request(gateway.key, POST, *expect, CHUNKED, b"Connection: close")
            if at_once:
                writer.write(head + body)
            else:
                writer.write(head)
                await until(lambda: gateway.upstream.connections > 0)
                writer.write(body)
            got = answers(await reader.read())
            writer.close()
            assert got[-1].status == status
            assert [answer.status for answer in got[:-1]] in ([], [100] if expect else [])
        assert [len(seen.body) for seen in gateway.upstream.seen] == [limit]
        assert [record.status for record in gateway.journal.records] == [413, 200]


async def test_after_a_413_the_rest_of_the_body_is_no_request() -> None:
    """S-09: the smuggled request stands just behind the limit."""
    async with running(limited(SMALL_LIMIT)) as gateway:
        hidden = smuggled(gateway.key)
        piece = bytes(SMALL_LIMIT) + hidden
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece)
        got = statuses(await gateway.raw(request(gateway.key, POST, CHUNKED, body=body + last(gateway.key))))
        assert got in ([413], [413, 200])
        declared = request(gateway.key, POST, b"Content-Length: %d" % len(piece), body=piece + last(gateway.key))
        assert statuses(await gateway.raw(declared)) in ([413], [413, 200])
        assert SMUGGLED not in targets(gateway)


async def test_an_answer_before_the_upload_is_through_reaches_a_client_that_is_still_sending(gateway: Gateway) -> None:
    """The upstream refuses early, as a good one does: its answer arrives whole, and the rest is read and dropped."""
    answered = asyncio.Event()

    async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> bool:
        writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 7\r\n\r\nnothing")
        await writer.drain()
        answered.set()
        await asyncio.Event().wait()
        return False

    gateway.upstream.early = early
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, b"Content-Length: 2000000") + bytes(100_000))
    await answered.wait()
    data = await reader.readuntil(b"nothing")
    for _ in range(38):
        writer.write(bytes(50_000))
        await writer.drain()
    assert await reader.read() == b""  # closed, not reset
    writer.close()
    assert (Answer.parse(data).status, Answer.parse(data)["connection"]) == (422, "close")
    (record,) = gateway.journal.records
    assert record.status == 422


async def test_an_answer_before_a_reset_is_heard(gateway: Gateway) -> None:
    """Servers that refuse a body answer and hang up with the rest of it unread: their 413 is no 502."""

    async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> bool:
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
        await writer.drain()
        writer.close()
        return True

    gateway.upstream.early = early
    for _ in range(12):  # a race
        answer = await gateway.ask("POST", "/v1/listen", body=bytes(4_000_000))
        assert (answer.status, answer.body) == (413, b"much")


@pytest.mark.parametrize("answer_first", [True, False])
async def test_an_answer_and_the_bodys_next_piece_in_one_turn(gateway: Gateway, answer_first: bool) -> None:
    """Wound: a pooled connection on which the upstream waits for a body would take the next tenant's request for it.

    The upstream answers early and would keep the connection; the upload stops short. Both things happen in one turn of
    the loop, in either order, by calling the two protocols directly.
    """
    asked, carry_on = asyncio.Event(), asyncio.Event()

    async def early(_: asyncio.StreamReader, __: asyncio.StreamWriter, head: bytes) -> bool:
        if head.startswith(b"POST"):
            asked.set()
            await carry_on.wait()
        return False

    gateway.upstream.early = early
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, b"Content-Length: 1000"))
    await asked.wait()
    (client,) = gateway.server.connections
    (upstream,) = gateway.pool._all
    both = [
        lambda: upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        lambda: client.data_received(b"x" * 10),
    ]
    for act in both if answer_first else reversed(both):
        act()
    assert Answer.parse(await reader.readuntil(b"ok")).status == 200
    writer.close()
    assert not gateway.pool._idle
    carry_on.set()
    assert (await gateway.ask("GET", "/v1/models")).status == 200
    assert [(seen.method, seen.connection) for seen in gateway.upstream.seen] == [("GET", 2)]


async def test_a_body_of_unknown_end_in_an_early_answer_is_not_ended_cleanly(gateway: Gateway) -> None:
    """The client breaks its upload off while a close-delimited answer flows: that answer must not look whole."""
    begun = asyncio.Event()

    async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nfirst")
        await writer.drain()
        begun.set()
        await asyncio.Event().wait()
        return False

    gateway.upstream.early = early
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, CHUNKED))
    await begun.wait()
    got = await reader.readuntil(b"first\r\n")
    writer.write(b"nonsense\r\n")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert Answer.parse(got.partition(b"\r\n\r\n")[0] + b"\r\n\r\n").status == 200 if b"chunked" not in got else True
    (record,) = gateway.journal.records
    assert record.code == "malformed_request"


async def test_an_upstream_that_reads_slowly_is_waited_for(gateway: Gateway) -> None:
    """No more of an upload is taken from the client than a bounded amount ahead of the upstream."""
    stalled, resume = asyncio.Event(), asyncio.Event()

    async def early(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: bytes) -> bool:
        stalled.set()
        await resume.wait()
        return False

    gateway.upstream.early = early
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    size = 64_000_000
    writer.write(request(gateway.key, POST, b"Content-Length: %d" % size, b"Connection: close"))
    await stalled.wait()
    sent = 0
    try:
        while sent < size:
            writer.write(bytes(500_000))
            sent += 500_000
            async with asyncio.timeout(0.3):
                await writer.drain()
    except TimeoutError:
        pass
    assert sent < 24_000_000  # the sockets' own buffers, and little of ours
    resume.set()
    while sent < size:
        writer.write(bytes(500_000))
        sent += 500_000
        await writer.drain()
    assert Answer.parse(await reader.read()).status == 200
    writer.close()
    assert len(gateway.upstream.seen[0].body) == size
    assert isinstance(gateway.upstream.seen[0], Seen)

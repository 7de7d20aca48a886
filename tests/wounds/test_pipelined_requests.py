"""Wound: requests without end wait behind one that takes its time (aiohttp's own queue once had no bound).

The same request, sent again and again while it is being answered, went around the parser and its bound. And the bound
itself lost count: aiohttp's parser counts a message when its body has ended, and forgets it when it is taken, which is
earlier where the body is late. It then stopped one short of the bound, and nothing told it to go on.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.dataplane.intake import Intake
from tests.gateway.dataplane.test_repeats import Gate, after, answer, request, warm
from tests.gateway.harness import Gateway, running, say_ok
from tests.storage.waiting import until
from tests.wounds.wire import answers, in_pieces


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made


@pytest.mark.parametrize("at_once", [1, 2, 7])
async def test_no_more_than_a_few_wait_and_all_are_answered_in_turn(gateway: Gateway, at_once: int) -> None:
    """Sent one by one, each read before the next, and in bunches."""
    gate, behind = Gate(), 210
    async with warm(gateway, data := request(gateway)) as (client, errands):
        reader, writer = client
        gateway.upstream.respond = after(gate.respond, say_ok)
        before = len(gateway.journal.rows)
        writer.write(data)
        await gate.asked.wait()
        (connection,) = (one for one in gateway.server.connections if one.is_busy)
        for _ in range(behind // at_once):
            writer.write(data * at_once)
            for _ in range(3):  # turns of the loop that both ends run in
                await asyncio.sleep(0)
        await until(lambda: connection._buffer_paused)
        assert errands.begun == 1
        assert len(connection._messages) <= connection._max_msg_queue_size < behind
        gate.open.set()
        ids = [(await answer(reader))["x-request-id"] for _ in range(1 + behind)]
    assert [record.request_id for record in gateway.journal.records[before:]] == ids
    assert [seen.all("x-request-id")[0] for seen in gateway.upstream.seen[before:]] == ids


@pytest.mark.parametrize("fault", [b"NONSENSE\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nHost : a\r\n\r\n"])
@pytest.mark.parametrize("cut", [0, 10])
@pytest.mark.parametrize("behind", [b"", b"5\r\nhello\r\n0\r\n\r\n"], ids=["", "chunks"])
async def test_those_before_one_that_is_none_are_answered_first(
    gateway: Gateway, fault: bytes, behind: bytes, cut: int
) -> None:
    """In one piece with it the parser drops them; those after it are never looked at."""
    good = request(gateway)
    upload = good.replace(b"GET /v1/models", b"POST /v1/listen").removesuffix(b"\r\n")
    upload += b"Transfer-Encoding: chunked\r\n\r\n" + behind
    data = good + good + (upload if behind else b"") + fault + good
    got = answers(await in_pieces(gateway, [data[:cut], data[cut:]]))
    before = 2 + bool(behind)
    assert [answer.status for answer in got] == before * [200] + [400]
    assert [len(seen.body) for seen in gateway.upstream.seen] == [0, 0, 5][:before]


@pytest.mark.parametrize("good", [1, 3, 70])
@pytest.mark.parametrize("kind", ["GET", "sized", "chunked"])
@pytest.mark.parametrize("rest", [b"", b"x" * 9_000], ids=["its end", "much of it"])
async def test_those_behind_the_end_of_a_chunked_body_are_answered_before_one_that_is_none(
    gateway: Gateway, rest: bytes, kind: str, good: int
) -> None:
    """Where the body ends only the parser knows; what else came in that piece was lost with the fault."""
    one = request(gateway)
    post = one.replace(b"GET /v1/models", b"POST /v1/listen").removesuffix(b"\r\n")
    upload = post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    behind = {
        "GET": one,
        "sized": post + b"Content-Length: 6\r\n\r\n\r\n\r\nab",
        "chunked": post + b"Transfer-Encoding: chunked\r\n\r\n6\r\n\r\n\r\nab\r\n0\r\n\r\n",
    }[kind]
    end = (b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n\r\n"
    got = await in_pieces(gateway, [upload, end + behind * good + b"NONSENSE\r\n\r\n" + one])
    assert [answer.status for answer in answers(got)] == (1 + good) * [200] + [400]
    bodies = [seen.body for seen in gateway.upstream.seen]
    assert bodies == [b"hello" + rest, *good * [b"" if kind == "GET" else b"\r\n\r\nab"]]


@pytest.mark.parametrize("good", [33, 300])
@pytest.mark.parametrize("cut", [0, 10])
@pytest.mark.parametrize("body", [b"", b"hello", b"\r\n\r\n"], ids=["", "body", "empty lines"])
async def test_more_than_wait_at_one_time_are_answered_before_one_that_is_none(
    gateway: Gateway, good: int, cut: int, body: bytes
) -> None:
    """The parser rests when the queue is full, and later finds the fault in one piece with those that it kept back."""
    one = request(gateway)
    if body:
        one = one.replace(b"GET /v1/models", b"POST /v1/listen").removesuffix(b"\r\n")
        one += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    data = one * good + b"NONSENSE\r\n\r\n" + one
    got = await in_pieces(gateway, [data[:cut], data[cut:]])
    assert [answer.status for answer in answers(got)] == good * [200] + [400]
    assert [seen.body for seen in gateway.upstream.seen] == good * [body]


@pytest.mark.parametrize("fault", [b"NONSENSE", b"NONSENSE\r\n\r\n"])
async def test_a_body_before_one_that_is_none_is_whole(gateway: Gateway, fault: bytes) -> None:
    """Wherever its empty lines stand, and whether or not the fault ends in one."""
    body = b"\r\n\r\nhello"
    head = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    got = answers(await gateway.raw(head.encode() + body + fault))
    assert [answer.status for answer in got] == [200, 400]
    assert [seen.body for seen in gateway.upstream.seen] == [body]


@pytest.mark.parametrize("what", ["chunks", "empty lines"])
async def test_reading_a_piece_takes_few_steps(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A body of nothing but empty lines, which needs no key, once held the loop for a sixth of a second."""
    steps, parse = 0, Intake._parse

    def counted(intake: Intake, data: bytes, *, is_one: bool) -> None:
        nonlocal steps
        steps += 1
        parse(intake, data, is_one=is_one)

    monkeypatch.setattr(Intake, "_parse", counted)
    body = 9_000 * b"\r\n\r\nx"
    upload = b"POST /v1/listen HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    data = upload % (len(body), body) if what == "chunks" else request(gateway) + 15_000 * b"\r\n" + request(gateway)
    got = answers(await gateway.raw(data + b"NONSENSE\r\n\r\n"))
    assert [answer.status for answer in got] == ([401, 400] if what == "chunks" else [200, 200, 400])
    assert 1 < steps < 300


@pytest.mark.parametrize("before", [30, 31, 46, 47])
@pytest.mark.parametrize("cut", [0, 3, 5])
@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_the_body_of_one_that_fills_the_queue_is_its_own(
    gateway: Gateway, before: int, cut: int, framing: str
) -> None:
    """Whether or not it came with it: another parser once took the place of the one that knew of it."""
    one = request(gateway)
    body = b"hello" if "5" in framing else b"5\r\nhello\r\n0\r\n\r\n"
    head = one.replace(b"GET /v1/models", b"POST /v1/listen").removesuffix(b"\r\n") + framing.encode() + b"\r\n\r\n"
    closing = one.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"
    got = await in_pieces(gateway, [one * before + head + body[:cut], body[cut:] + closing])
    assert [answer.status for answer in answers(got)] == (before + 2) * [200]
    assert [seen.body for seen in gateway.upstream.seen] == [*before * [b""], b"hello", b""]


@pytest.mark.parametrize("behind", ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
async def test_behind_a_body_too_those_before_one_that_is_none_are_answered_first(
    gateway: Gateway, behind: str, cut: int
) -> None:
    """And behind one that was cut in the empty line at its end."""
    one = request(gateway)
    upload = one.replace(b"GET /v1/models", b"POST /v1/listen").removesuffix(b"\r\n") + behind.encode()
    got = await in_pieces(gateway, [upload + one[: len(one) - cut], one[len(one) - cut :] + one + b"NONSENSE\r\n\r\n"])
    assert [answer.status for answer in answers(got)] == [200, 200, 200, 400]


async def test_nothing_behind_a_last_request_takes_its_answer(gateway: Gateway) -> None:
    """Who says ``close`` and goes on all the same gets the answer to what came first (RFC 9112 section 9.6)."""
    good = request(gateway)
    closing = good.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"
    assert [answer.status for answer in answers(await gateway.raw(closing + good))] == [200]
    assert len(gateway.upstream.seen) == 1


@pytest.mark.parametrize("uploads", [1, 3, 40])
async def test_all_are_answered_behind_bodies_that_came_late(gateway: Gateway, uploads: int) -> None:
    """Whose header was taken before the body had ended."""
    head = f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nX-API-Key: {gateway.key}\r\nContent-Length: 4\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for _ in range(uploads):
        writer.write(head)
        await until(lambda: any(one.is_busy for one in gateway.server.connections))
        writer.write(b"body")
        assert (await answer(reader)).status == 200
        await until(lambda: not any(one.is_busy for one in gateway.server.connections))
    many = 70
    writer.write(request(gateway) * many)
    assert [(await answer(reader)).status for _ in range(many)] == [200] * many
    writer.close()

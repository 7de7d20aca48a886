"""Wound: an end that breaks off what was asked a moment before (F-08; RFC 9112 section 9.6).

A kept connection is closed by one end while the other one sends its next request: whoever sent it cannot know whether
it was done. So the end is announced on an answer, and unused connections are given time to hear of it.
"""

import asyncio

import pytest

from tests.gateway.harness import Answer, Gateway
from tests.storage.waiting import until
from tests.wounds.wire import held_back, request

POST = b"POST /v1/listen HTTP/1.1"
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def used(gateway: Gateway) -> Line:
    """A connection that is kept after a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key))
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    return reader, writer


def draining(gateway: Gateway, within_s: float = 120.0, idle_s: float = 120.0) -> asyncio.Task[None]:
    """The worker's own order of things."""
    gateway.proxy.draining = True
    return asyncio.get_running_loop().create_task(gateway.server.drain(within_s, idle_s))


async def test_a_request_on_its_way_is_answered_and_says_that_it_was_the_last(gateway: Gateway) -> None:
    """Also when it repeats the one before, which is not parsed again; then the connection closes, the drain ends."""
    lines = [await used(gateway) for _ in range(3)]
    end = draining(gateway)
    await asyncio.sleep(0)
    for number, (reader, writer) in enumerate(lines):
        writer.write(
            request(gateway.key, b"GET /v1/models/%d HTTP/1.1" % number if number else b"GET /v1/models HTTP/1.1")
        )
        answer = Answer.parse(await reader.read())
        assert (answer.status, answer["connection"]) == (200, "close")
        writer.close()
    await asyncio.wait_for(end, 30)
    assert not gateway.server.connections


async def test_a_request_in_flight_is_answered_and_one_more(gateway: Gateway) -> None:
    """Its answer had been begun as one of a kept connection: what follows on the heels of it is still taken."""
    go = held_back(gateway)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key))
    await until(lambda: bool(gateway.upstream.seen))
    end = draining(gateway)
    await asyncio.sleep(0)
    go.set()
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.write(request(gateway.key))
    answer = Answer.parse(await reader.read())
    assert (answer.status, answer["connection"]) == (200, "close")
    writer.close()
    await asyncio.wait_for(end, 30)


async def test_an_upload_in_flight_goes_on_arriving(gateway: Gateway) -> None:
    """F-08."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, b"Content-Length: 10", b"Connection: close", body=b"half,"))
    await until(lambda: gateway.upstream.connections > 0)
    end = draining(gateway)
    await asyncio.sleep(0.05)  # the pause is what is under test
    assert not end.done()
    writer.write(b"whole")
    assert Answer.parse(await reader.read()).status == 200
    writer.close()
    await asyncio.wait_for(end, 30)
    assert gateway.upstream.seen[0].body == b"half,whole"


async def test_a_connection_that_asks_nothing_is_closed_soon(gateway: Gateway) -> None:
    """Whether it was ever used or not; nobody waits for the whole drain time."""
    lines = [await used(gateway), await asyncio.open_connection("127.0.0.1", gateway.port)]
    await until(lambda: gateway.metrics.connections == 2)
    end = draining(gateway, idle_s=0.1)
    for reader, writer in lines:
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    await asyncio.wait_for(end, 30)


@pytest.mark.parametrize(
    "start", [b"GET /v1/mod", b"POST /v1/listen HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"]
)
async def test_what_does_not_finish_in_the_drain_time_is_cut_off(gateway: Gateway, start: bytes) -> None:
    """A header or a body without end: the drain has one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(start)
    await until(lambda: bool(gateway.server.heading) or bool(gateway.lines))
    await asyncio.wait_for(draining(gateway, within_s=0.2), 30)
    assert not gateway.server.connections
    await reader.read()
    writer.close()


async def test_a_request_that_arrived_since_the_last_look_is_answered(gateway: Gateway) -> None:
    """The time of an unused connection is over in the same turn of the loop in which its next request has come."""
    reader, writer = await used(gateway)
    (connection,) = gateway.server.connections
    end = draining(gateway)
    await asyncio.sleep(0)
    writer.write(request(gateway.key))  # it is in the socket now, and the loop has not looked yet
    connection._next_keepalive_close_time = asyncio.get_running_loop().time()
    connection._process_keepalive()
    answer = Answer.parse(await reader.read())
    assert (answer.status, answer["connection"]) == (200, "close")
    writer.close()
    await asyncio.wait_for(end, 30)


async def test_a_loop_that_stood_still_gives_the_time_once_more(gateway: Gateway) -> None:
    """With the whole machine: its clients stood still as well, and would speak into the close."""
    reader, writer = await used(gateway)
    (connection,) = gateway.server.connections
    end = draining(gateway)
    await asyncio.sleep(0)
    connection._next_keepalive_close_time = asyncio.get_running_loop().time() - 5.0
    connection._process_keepalive()
    writer.write(request(gateway.key))
    answer = Answer.parse(await reader.read())
    assert (answer.status, answer["connection"]) == (200, "close")
    writer.close()
    await asyncio.wait_for(end, 30)


async def test_a_loop_that_is_always_late_gives_it_once(gateway: Gateway) -> None:
    """And again after the next request: else a busy gateway would keep every connection that asks nothing more."""
    reader, writer = await used(gateway)
    (connection,) = gateway.server.connections

    def come_late() -> bool:
        connection._next_keepalive_close_time = asyncio.get_running_loop().time() - 5.0
        connection._process_keepalive()
        return connection.transport is None or connection.transport.is_closing()

    assert not come_late()
    writer.write(request(gateway.key))
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    await until(lambda: not connection.is_busy)
    assert [come_late(), come_late()] == [False, True]
    assert await reader.read() == b""
    writer.close()


async def test_who_comes_from_the_queue_while_all_drain_is_told_that_it_is_the_last_one(gateway: Gateway) -> None:
    """A connection that was accepted before the end and made after it: one request, and nothing holds up the drain."""
    _, resting = await used(gateway)
    end = draining(gateway)
    await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key))
    answer = Answer.parse(await reader.read())
    assert (answer.status, answer["connection"]) == (200, "close")
    writer.close()
    resting.close()
    await asyncio.wait_for(end, 30)


async def test_no_stream_is_opened_any_more(gateway: Gateway) -> None:
    """It would only be closed again: 503, and another instance takes it."""
    reader, writer = await used(gateway)
    end = draining(gateway)
    await asyncio.sleep(0)
    fields = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + b"A" * 22 + b"==",
    )
    writer.write(request(gateway.key, b"GET /v1/listen HTTP/1.1", *fields))
    answer = Answer.parse(await reader.read())
    assert answer.status == 503
    assert b"shutting down" in answer.body
    writer.close()
    await asyncio.wait_for(end, 30)

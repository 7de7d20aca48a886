"""Wound: requests without end wait behind one that takes its time (aiohttp's own queue once had no bound).

The same request, sent again and again while it is being answered, went around the parser and its bound. And the bound
itself lost count: aiohttp's parser counts a message when its body has ended, and forgets it when it is taken, which is
earlier where the body is late. It then stopped one short of the bound, and nothing told it to go on.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.gateway.dataplane.test_repeats import Gate, after, answer, request, warm
from tests.gateway.harness import Gateway, running, say_ok
from tests.storage.waiting import until


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

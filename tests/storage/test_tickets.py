"""The promises of storage.ports.Tickets, kept by Redis: a ticket opens one stream, once, in its time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from policies.http.tickets import LIFE_S, TICKET_BYTES, Ticket, mint_ticket
from storage.ports import Unavailable
from storage.redis.client import client
from storage.redis.tickets import RedisTickets
from tests.storage.own_redis import own_redis

SECRET = mint_ticket(bytes(TICKET_BYTES)).encode()
TICKET = Ticket(tenant_id="ten_a", credential=bytes(range(32)), routes=("openai.realtime",), longest_s=90.5)


@pytest.fixture
async def tickets(redis_url: str) -> AsyncIterator[RedisTickets]:
    async with client(redis_url) as redis:
        yield RedisTickets(redis)


async def test_a_ticket_is_taken_exactly_once(tickets: RedisTickets, redis_url: str) -> None:
    """However many ask for it at once, and wherever."""
    await tickets.keep(SECRET, TICKET, LIFE_S)
    async with client(redis_url) as redis:
        other = RedisTickets(redis)
        taken = await asyncio.gather(*(store.take(SECRET) for store in (tickets, other) for _ in range(10)))
    assert [ticket for ticket in taken if ticket is not None] == [TICKET]


async def test_one_that_may_be_used_again_lasts_until_its_time_is_over(tickets: RedisTickets, redis_url: str) -> None:
    """Which use does not prolong. And it is another one than that whose text is the rest of its own."""
    await tickets.keep(b"ek_" + SECRET, TICKET, 90)
    assert [await tickets.take(b"ek_" + SECRET) for _ in range(3)] == [TICKET] * 3
    assert await tickets.take(SECRET) is None
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        assert 0 < await redis.ttl(key) <= 90


async def test_an_unknown_ticket_is_nothing(tickets: RedisTickets) -> None:
    assert await tickets.take(SECRET) is None


@pytest.mark.parametrize(
    "stored",
    [
        b'{"tenant_id": "ten_a", "credential": "00", "route": "openai.realtime", "longest_s": 60}',
        b'{"tenant_id": "ten_a", "credential": "0g", "routes": ["openai.realtime"], "longest_s": 60}',
        b'{"tenant_id": "ten_a", "credential": null, "routes": ["openai.realtime"], "longest_s": 60}',
        b'{"tenant_id": "ten_a", "credential": "00", "routes": "openai.realtime", "longest_s": 60}',
        b'{"tenant_id": "ten_a", "credential": "00", "routes": ["openai.realtime"], "longest_s": null}',
        b"[]", b"{", b"\xff", b"",
    ],
)  # fmt: skip
async def test_a_ticket_of_another_version_opens_nothing(tickets: RedisTickets, redis_url: str, stored: bytes) -> None:
    """While one version takes over from another: refused as any ticket that is not known."""
    await tickets.keep(SECRET, TICKET, LIFE_S)
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        await redis.set(key, stored)
    assert await tickets.take(SECRET) is None


async def test_a_ticket_lives_for_a_minute_and_its_text_is_nowhere(tickets: RedisTickets, redis_url: str) -> None:
    await tickets.keep(SECRET, TICKET, LIFE_S)
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        assert 0 < await redis.ttl(key) <= LIFE_S
        assert SECRET not in key
        assert SECRET not in await redis.get(key)


async def test_a_store_that_cannot_be_asked_says_so(tmp_path: Path) -> None:
    """Nobody knows then whether the ticket is good: that is not "no"."""
    async with own_redis(tmp_path) as server, client(server.url) as redis:
        tickets = RedisTickets(redis)
        await tickets.keep(SECRET, TICKET, LIFE_S)
        server.process.kill()
        server.process.wait()
        with pytest.raises(Unavailable):
            await tickets.take(SECRET)
        with pytest.raises(Unavailable):
            await tickets.keep(SECRET, TICKET, LIFE_S)

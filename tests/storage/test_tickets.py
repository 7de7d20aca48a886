"""The promises of storage.ports.Tickets, kept by Redis: a ticket is good once, or so many times, in its time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from policies.http.tickets import LIFE_S, MOST_USES, TICKET_BYTES, Ticket, mint_ticket
from policies.identity.tokens import AccessToken
from storage.ports import Unavailable
from storage.redis.client import client
from storage.redis.tickets import RedisTickets
from storage.sealed import seal
from tests.storage.own_redis import own_redis

KEY = b"sealing key for tests, 32 bytes!"
SECRET = mint_ticket(bytes(TICKET_BYTES)).encode()
TICKET = Ticket(tenant_id="ten_a", key=bytes(range(32)), routes=("openai.realtime",), longest_s=90.5)
TOKEN = AccessToken(
    id="tok_a", subject="usr_ada", tenant_id="ten_a", client_id="first-party", scopes=frozenset({"a", "b"}),
    roles=("owner",), issued_s=1, expires_s=601, family="fam_a", key_id="kid_a",
)  # fmt: skip
PERSONS = replace(TICKET, key=b"", token=TOKEN, routes=("a", "b"), first='{"type": "session.update"}')


@pytest.fixture
async def tickets(redis_url: str) -> AsyncIterator[RedisTickets]:
    async with client(redis_url) as redis:
        yield RedisTickets(redis, KEY)


async def test_a_ticket_is_taken_exactly_once(tickets: RedisTickets, redis_url: str) -> None:
    """However many ask for it at once, and wherever."""
    await tickets.keep(SECRET, TICKET, LIFE_S)
    async with client(redis_url) as redis:
        other = RedisTickets(redis, KEY)
        taken = await asyncio.gather(*(store.take(SECRET) for store in (tickets, other) for _ in range(10)))
    assert [ticket for ticket in taken if ticket is not None] == [TICKET]


async def test_one_that_may_be_used_again_is_used_up_at_last(tickets: RedisTickets, redis_url: str) -> None:
    """Use does not prolong its time. And it is another one than that whose text is the rest of its own."""
    await tickets.keep(b"ek_" + SECRET, PERSONS, 90)
    assert [await tickets.take(b"ek_" + SECRET) for _ in range(3)] == [PERSONS] * 3
    assert await tickets.take(SECRET) is None
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        assert 0 < await redis.ttl(key) <= 90
    left = await asyncio.gather(*(tickets.take(b"ek_" + SECRET) for _ in range(MOST_USES)))
    assert len([ticket for ticket in left if ticket is not None]) == MOST_USES - 3


async def test_an_unknown_ticket_is_nothing(tickets: RedisTickets) -> None:
    assert await tickets.take(SECRET) is None


@pytest.mark.parametrize(
    "stored",
    [
        b'{"tenant_id": "ten_a", "key": "00", "token": null, "route": "openai.realtime", "longest_s": 60}',
        b'{"tenant_id": "ten_a", "key": "0g", "token": null, "routes": [], "longest_s": 60, "first": ""}',
        b'{"tenant_id": "ten_a", "key": "", "token": {"id": "tok_a"}, "routes": [], "longest_s": 60, "first": ""}',
        b"[]", b"{", b"\xff", b"",
    ],
)  # fmt: skip
async def test_a_ticket_of_another_version_opens_nothing(tickets: RedisTickets, redis_url: str, stored: bytes) -> None:
    """While one version takes over from another: refused as any ticket that is not known."""
    await tickets.keep(SECRET, TICKET, LIFE_S)
    async with Redis.from_url(redis_url, decode_responses=False) as redis:
        (key,) = await redis.keys("*")
        await redis.hset(key, "sealed", seal(KEY, stored, key.decode()))
    assert await tickets.take(SECRET) is None


async def test_who_has_the_store_alone_can_make_no_ticket(tickets: RedisTickets, redis_url: str) -> None:
    """Neither with a key of its own, nor out of a ticket that is there."""
    other = mint_ticket(bytes(TICKET_BYTES - 1) + b"x").encode()
    await tickets.keep(other, TICKET, LIFE_S)
    async with Redis.from_url(redis_url) as redis:
        (theirs,) = await redis.keys("*")
        await RedisTickets(redis, bytes(32)).keep(SECRET, PERSONS, LIFE_S)
        (made,) = set(await redis.keys("*")) - {theirs}
        assert await tickets.take(SECRET) is None
        await redis.copy(theirs, made)
    assert await tickets.take(SECRET) is None
    assert await tickets.take(other) == TICKET


async def test_a_ticket_lives_for_a_minute_and_the_store_learns_nothing_of_it(
    tickets: RedisTickets, redis_url: str
) -> None:
    """Neither its text nor whose it is."""
    await tickets.keep(SECRET, PERSONS, LIFE_S)
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        assert 0 < await redis.ttl(key) <= LIFE_S
        stored = key + b"".join(await redis.hvals(key))
    assert not [word for word in (SECRET, b"ten_a", b"usr_ada", b"tok_a", b"session.update") if word in stored]
    assert len(stored) < 1_000


async def test_a_store_that_cannot_be_asked_says_so(tmp_path: Path) -> None:
    """Nobody knows then whether the ticket is good: that is not "no"."""
    async with own_redis(tmp_path) as server, client(server.url) as redis:
        tickets = RedisTickets(redis, KEY)
        await tickets.keep(SECRET, TICKET, LIFE_S)
        server.process.kill()
        server.process.wait()
        with pytest.raises(Unavailable):
            await tickets.take(SECRET)
        with pytest.raises(Unavailable):
            await tickets.keep(SECRET, TICKET, LIFE_S)

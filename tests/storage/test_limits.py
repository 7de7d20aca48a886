"""The promises of storage.ports.LimitBook, kept by PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from policies.limits import Rate
from storage.ports import NotFound
from storage.postgres.ids import Kind, new_id
from tests.storage.world import World, world

PER_MINUTE = Rate(600, 60_000)
PER_SECOND = Rate(5, 1_000)


@pytest.fixture
async def w(migrated_url: str) -> AsyncIterator[World]:
    async with world(migrated_url) as opened:
        yield opened


async def test_a_tenant_has_no_limit_until_one_is_set(w: World) -> None:
    assert await w.rates((await w.tenant()).id) == []


async def test_the_tenants_own_rate_comes_first_and_then_its_keys_by_age(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    older, newer, foreign = await w.key(acme), await w.key(acme), await w.key(other)
    await w.set_rate(acme.id, key_id=newer.id, requests=PER_SECOND)
    await w.set_rate(acme.id, key_id=older.id, requests=PER_MINUTE)
    await w.set_rate(acme.id, requests=PER_MINUTE)
    await w.set_rate(other.id, key_id=foreign.id, requests=PER_SECOND)
    assert await w.rates(acme.id) == [
        (None, PER_MINUTE),
        *sorted([(older.id, PER_MINUTE), (newer.id, PER_SECOND)]),
    ]


async def test_a_rate_is_replaced_and_removed_without_touching_the_others(w: World) -> None:
    acme = await w.tenant()
    key = await w.key(acme)
    await w.set_rate(acme.id, requests=PER_MINUTE)
    await w.set_rate(acme.id, requests=PER_SECOND)
    await w.set_rate(acme.id, key_id=key.id, requests=PER_MINUTE)
    assert await w.rates(acme.id) == [(None, PER_SECOND), (key.id, PER_MINUTE)]
    await w.set_rate(acme.id, requests=None)
    await w.set_rate(acme.id, requests=None)
    assert await w.rates(acme.id) == [(key.id, PER_MINUTE)]
    await w.set_rate(acme.id, key_id=key.id, requests=None)
    assert await w.rates(acme.id) == []


@pytest.mark.parametrize("requests", [PER_MINUTE, None])
async def test_nobody_and_nobody_elses_key_has_a_limit(w: World, requests: Rate | None) -> None:
    acme, other = await w.tenant(), await w.tenant()
    foreign = await w.key(other)
    await w.set_rate(other.id, key_id=foreign.id, requests=PER_SECOND)
    with pytest.raises(NotFound, match="tenant"):
        await w.set_rate(new_id(Kind.TENANT), requests=requests)
    for key_id in (foreign.id, new_id(Kind.KEY)):
        with pytest.raises(NotFound, match=key_id):
            await w.set_rate(acme.id, key_id=key_id, requests=requests)
    assert await w.rates(acme.id) == []
    assert await w.rates(other.id) == [(foreign.id, PER_SECOND)]


async def test_the_widest_rate_that_can_be_written_is_kept(w: World) -> None:
    acme = await w.tenant()
    widest = Rate.parse("999999999/d")
    await w.set_rate(acme.id, requests=widest)
    assert await w.rates(acme.id) == [(None, widest)]


@pytest.mark.parametrize("rate", [Rate(0, 1_000), Rate(-1, 1_000), Rate(1, 0)])
async def test_a_rate_that_admits_nothing_is_refused_with_a_sentence(w: World, rate: Rate) -> None:
    acme = await w.tenant()
    with pytest.raises(ValueError, match="admits nothing"):
        await w.set_rate(acme.id, requests=rate)


async def test_of_many_who_set_one_limit_the_last_stays_and_none_fails(w: World) -> None:
    acme = await w.tenant()
    rates = [Rate(count, 1_000) for count in range(1, 9)]
    await asyncio.gather(*(w.set_rate(acme.id, requests=rate) for rate in rates))
    ((holder, rate),) = await w.rates(acme.id)
    assert holder is None
    assert rate in rates

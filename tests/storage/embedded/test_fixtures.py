"""What the fixtures of the whole suite promise."""

import pytest
import redis.asyncio as redis

from tests.storage.embedded.watching import ask, do, get, put

SCHEMAS = "select count(*) from pg_namespace where nspname = 'platform'"


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_an_empty_database(database_url, turn):
    await do(database_url, "create table only_here (n int)")
    assert await ask(database_url, SCHEMAS) == 0


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_a_migrated_database_of_its_own(migrated_url, turn):
    await do(migrated_url, "create table only_here (n int)")
    assert await ask(migrated_url, SCHEMAS) == 1


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_an_empty_redis(redis_url, turn):
    assert await get(redis_url, "mark") is None
    await put(redis_url, "mark", "x")
    async with redis.from_url(redis_url) as client:
        digest = await client.script_load(f"return {turn}")
        assert await client.script_exists(digest) == [True]


def test_a_synchronous_test_can_use_them_too(database_url, redis_url):
    assert database_url.startswith("postgres")
    assert redis_url

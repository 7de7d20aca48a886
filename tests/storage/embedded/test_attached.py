"""Commands and the servers they are lent."""

import asyncio

import pytest

from storage.embedded import EmbeddedServers, NotEmbedded, attached, servers
from storage.state import StateDir
from tests.storage.embedded.watching import ask, get, lives, working_in


async def test_a_command_uses_the_servers_of_the_running_gateway_and_leaves_them_running(running):
    async with attached(running.state) as urls:
        assert urls == (running.said.database_url, running.said.redis_url)
        assert await ask(urls[0], "select 1") == 1
        assert await get(urls[1], "x") is None
    assert lives(running.said.postgres)
    assert lives(running.said.valkey)


async def test_a_command_alone_starts_servers_for_its_own_time(state):
    async with attached(state) as (database_url, redis_url):
        assert await ask(database_url, "select 1") == 1
        assert await get(redis_url, "x") is None
    assert working_in(state) == []


async def test_a_command_can_be_the_first_to_use_a_state_directory(place):
    async with attached(place / "state") as (database_url, _):
        assert await ask(database_url, "select current_database()") == "tahoe"


async def test_a_failing_command_ends_its_servers_and_keeps_its_own_error(state):
    with pytest.raises(LookupError, match="mine") as failed:
        async with attached(state):
            raise LookupError("mine")
    assert failed.value.__context__ is None
    assert working_in(state) == []


async def test_a_command_that_lends_its_servers_ends_after_those_who_borrowed_them(state):
    lender, borrower = attached(state), attached(state)
    urls = await lender.__aenter__()
    assert await borrower.__aenter__() == urls
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(lender.__aexit__(None, None, None))
        assert await ask(urls[0], "select 1") == 1
        assert not leaving.done()
        await borrower.__aexit__(None, None, None)
    assert working_in(state) == []


async def test_many_commands_at_once_all_get_servers(state):
    async def command(number: int) -> object:
        async with attached(state) as (database_url, _):
            return await ask(database_url, "select $1::int", number)

    assert await asyncio.gather(*(command(number) for number in range(8))) == list(range(8))
    assert working_in(state) == []


async def test_a_command_waits_for_a_gateway_that_is_just_starting(place):
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(EmbeddedServers.start(place / "state", durable=False))
        await asyncio.sleep(0)
        async with attached(place / "state") as (database_url, _):
            assert await ask(database_url, "select 1") == 1
    assert starting.result().database_url == database_url
    await starting.result().stop()


async def test_a_gateway_waits_for_a_command_to_end(state):
    lender = attached(state)
    await lender.__aenter__()
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(EmbeddedServers.start(state, durable=False))
        await asyncio.sleep(0)
        await lender.__aexit__(None, None, None)
    assert await ask(starting.result().database_url, "select 1") == 1
    await starting.result().stop()


async def test_a_command_takes_over_from_an_owner_that_ends_meanwhile(state):
    owner = StateDir.claim(state)
    async with asyncio.TaskGroup() as group:
        command = group.create_task(_answer(state))
        await asyncio.sleep(0)
        owner.release()
    assert command.result() == 1


async def test_a_command_is_told_when_the_owner_has_no_servers(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "_RECORD_LIMIT", 0.1)
    with StateDir.claim(tmp_path), pytest.raises(NotEmbedded, match="GATEWAY_DATABASE_URL"):
        await _answer(tmp_path)


async def test_what_an_earlier_owner_wrote_about_its_sockets_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "_RECORD_LIMIT", 0.1)
    (tmp_path / "sockets").write_text("1\n/tmp/elsewhere\n")
    with StateDir.claim(tmp_path), pytest.raises(NotEmbedded, match="runs no servers"):
        await _answer(tmp_path)


async def _answer(state) -> object:
    async with attached(state) as (database_url, _):
        return await ask(database_url, "select 1")

"""The pair of servers through starts, stops and every kind of death."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from storage.embedded import EmbeddedServers, StartFailed
from storage.state import StateLocked
from tests.servers import ROOT
from tests.storage.embedded.watching import (
    ask,
    do,
    eventually,
    exists,
    get,
    has,
    lives,
    mode,
    put,
    remove,
    working_in,
    write,
)


async def test_a_first_start_gives_an_empty_database_and_an_empty_redis(place):
    servers = await EmbeddedServers.start(place / "state")
    try:
        assert await ask(servers.database_url, "select current_database()") == "tahoe"
        assert await ask(servers.database_url, "select count(*) from pg_tables where schemaname = 'public'") == 0
        assert await get(servers.redis_url, "x") is None
    finally:
        await servers.stop()
    assert working_in(place) == []


async def test_data_survives_a_stop_and_a_start(state):
    servers = await EmbeddedServers.start(state)
    await do(servers.database_url, "create table t as select 42 as answer")
    await put(servers.redis_url, "answer", "42")
    await servers.stop()
    await servers.stop()  # idempotent

    servers = await EmbeddedServers.start(state)
    try:
        assert await ask(servers.database_url, "select answer from t") == 42
        assert await get(servers.redis_url, "answer") == b"42"
    finally:
        await servers.stop()
    assert sorted(path.name for path in (state / "run").iterdir()) == []


async def test_the_ledger_waits_for_the_disk_and_a_test_run_does_not(state):
    for durable, expected in ((True, "on"), (False, "off")):
        servers = await EmbeddedServers.start(state, durable=durable)
        try:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                assert await ask(servers.database_url, "select current_setting($1)", setting) == expected
        finally:
            await servers.stop()


async def test_nothing_listens_on_a_port_and_the_kernel_says_who_is_asking(running):
    url = running.said.database_url
    assert await ask(url, "show listen_addresses") == ""
    assert await ask(url, "select string_agg(auth_method, ' ') from pg_hba_file_rules") == "peer"
    assert mode(running.state / "run") == 0o700


async def test_the_database_url_means_the_same_to_a_shell_with_its_own_postgresql_settings(running, monkeypatch):
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGUSER", "ann")
    assert await ask(running.said.database_url, "select current_user") == "gateway"


def test_our_secrets_are_not_in_the_environment_of_the_servers(running):
    for pid in (running.said.postgres, running.said.valkey):
        assert b"do-not-tell" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_ctrl_c_does_not_reach_the_servers_before_us(running):
    assert os.getpgid(running.pid) not in {os.getpgid(running.said.postgres), os.getpgid(running.said.valkey)}


async def test_a_second_instance_is_refused_and_told_the_owner(running):
    with pytest.raises(StateLocked, match=rf"process {running.pid}\b.*GATEWAY_STATE_DIR"):
        await EmbeddedServers.start(running.state)
    assert await ask(running.said.database_url, "select 1") == 1


async def test_a_killed_postgresql_comes_back_by_itself_with_its_data(state, caplog):
    caplog.set_level(logging.INFO, "storage.embedded")
    servers = await EmbeddedServers.start(state)
    try:
        await do(servers.database_url, "create table t as select 42 as answer")
        killed = servers.postgres_pid
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: ask(servers.database_url, "select answer from t"))
        await eventually(lambda: _changed(servers, "postgres_pid", killed))
        assert f"PostgreSQL (process {killed}) ended with status -9" in caplog.text
    finally:
        await servers.stop()


async def test_backends_that_outlive_a_killed_postgresql_do_not_keep_it_from_coming_back(state):
    servers = await EmbeddedServers.start(state, durable=False)
    try:
        forever = asyncio.ensure_future(  # noqa: TID251  awaited below
            ask(servers.database_url, "select count(*) from generate_series(1, 100000000000)")
        )
        busy = await eventually(
            lambda: ask(
                servers.database_url,
                "select pid from pg_stat_activity where state = 'active' and query like '%generate_series%' "
                "and pid <> pg_backend_pid()",
            )
        )
        os.kill(servers.postgres_pid, signal.SIGKILL)
        await eventually(lambda: ask(servers.database_url, "select 1"))
        assert not lives(busy)
        with pytest.raises(Exception, match="connection was closed"):
            await forever
    finally:
        await servers.stop()


async def test_a_killed_valkey_comes_back_by_itself_with_its_data(state, caplog):
    servers = await EmbeddedServers.start(state)
    try:
        await put(servers.redis_url, "answer", "42")
        killed = servers.valkey_pid
        os.kill(killed, signal.SIGKILL)
        assert await eventually(lambda: get(servers.redis_url, "answer")) == b"42"
        await eventually(lambda: _changed(servers, "valkey_pid", killed))
        assert f"Valkey (process {killed}) ended with status -9" in caplog.text
    finally:
        await servers.stop()


async def test_stopping_right_after_a_death_leaves_nothing(state):
    servers = await EmbeddedServers.start(state, durable=False)
    os.kill(servers.postgres_pid, signal.SIGKILL)
    os.kill(servers.valkey_pid, signal.SIGKILL)
    await servers.stop()
    assert working_in(state) == []


async def test_one_pair_does_not_touch_the_leftovers_of_another(state, place, own):
    other = own(place / "other")
    servers = await EmbeddedServers.start(state, durable=False)
    try:
        os.kill(servers.postgres_pid, signal.SIGKILL)
        await eventually(lambda: ask(servers.database_url, "select 1"))
        assert lives(other.said.postgres)
        assert lives(other.said.valkey)
        assert await ask(other.said.database_url, "select 1") == 1
    finally:
        await servers.stop()


async def test_a_killed_owner_leaves_no_process_and_the_next_start_is_clean(state, own):
    owner = own(state)
    await do(owner.said.database_url, "create table t as select 42 as answer")
    owner.kill()
    await eventually(lambda: _gone(state))

    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await ask(servers.database_url, "select answer from t") == 42
    finally:
        await servers.stop()


async def test_the_next_start_need_not_wait_for_the_servers_of_a_killed_owner(state, own):
    owner = own(state)
    await do(owner.said.database_url, "create table t as select 42 as answer")
    await put(owner.said.redis_url, "answer", "42")
    owner.kill()

    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await ask(servers.database_url, "select answer from t") == 42
        assert await get(servers.redis_url, "answer") == b"42"
    finally:
        await servers.stop()


async def test_the_end_of_everything_at_once_is_survived(state, own):
    owner = own(state)
    await do(owner.said.database_url, "create table t as select 42 as answer")
    for pid in (owner.pid, owner.said.postgres, owner.said.valkey):
        os.kill(pid, signal.SIGKILL)

    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await ask(servers.database_url, "select answer from t") == 42
    finally:
        await servers.stop()


async def test_a_start_killed_half_way_is_begun_again(place, own):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _START, place / "state", cwd=ROOT)
    await eventually(lambda: _initdb_is_at_work(place / "state"))
    process.kill()
    await process.wait()

    servers = await EmbeddedServers.start(place / "state", durable=False)
    try:
        assert await ask(servers.database_url, "select 1") == 1
    finally:
        await servers.stop()
    assert not has(place / "state", ".pg*")


_START = """
import asyncio, sys
from pathlib import Path
from storage.embedded import EmbeddedServers
asyncio.run(EmbeddedServers.start(Path(sys.argv[1])))
"""


async def test_a_cancelled_start_leaves_nothing(place):
    starting = asyncio.ensure_future(EmbeddedServers.start(place / "state", durable=False))  # noqa: TID251  awaited below
    await eventually(lambda: _initdb_is_at_work(place / "state"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert working_in(place) == []
    servers = await EmbeddedServers.start(place / "state", durable=False)
    await servers.stop()


async def test_a_path_too_long_for_a_socket_is_no_obstacle(place, copy_state):
    deep = copy_state(place / ("d" * 120))
    servers = await EmbeddedServers.start(deep, durable=False)
    run = Path(parse_qs(urlsplit(servers.database_url).query)["host"][0])
    try:
        assert await ask(servers.database_url, "select 1") == 1
        assert await get(servers.redis_url, "x") is None
        assert mode(run) == 0o700
    finally:
        await servers.stop()
    assert not exists(run)


async def test_a_path_with_characters_that_clients_do_not_take_is_no_obstacle(place, copy_state):
    odd = copy_state(place / "a, b'\"ü %41+c")
    servers = await EmbeddedServers.start(odd, durable=False)
    try:
        assert await ask(servers.database_url, "select 1") == 1
        assert await get(servers.redis_url, "x") is None
    finally:
        await servers.stop()


async def test_damaged_redis_data_is_set_aside_and_not_deleted(state, caplog):
    servers = await EmbeddedServers.start(state, durable=False)
    for number in range(50):
        await put(servers.redis_url, f"key{number}", "x" * 100)
    await servers.stop()
    (log,) = (state / "valkey" / "appendonlydir").glob("*.incr.aof")
    with log.open("r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"\0" * 100)

    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await get(servers.redis_url, "key1") is None
        assert has(state, "valkey.damaged-*")
        assert "set aside" in caplog.text
    finally:
        await servers.stop()


async def test_redis_data_cut_short_by_a_crash_is_loaded_up_to_the_cut(state):
    servers = await EmbeddedServers.start(state, durable=False)
    await put(servers.redis_url, "first", "1")
    await put(servers.redis_url, "last", "2")
    await servers.stop()
    (log,) = (state / "valkey" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 3)

    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await get(servers.redis_url, "first") == b"1"
    finally:
        await servers.stop()


async def test_postgresql_that_cannot_start_says_why_and_leaves_nothing(state):
    remove(state / "pg18" / "global" / "pg_control")
    with pytest.raises(StartFailed, match="pg_control"):
        await EmbeddedServers.start(state, durable=False)
    assert working_in(state) == []
    with pytest.raises(StartFailed, match="pg_control"):  # and the lock was let go
        await EmbeddedServers.start(state, durable=False)


async def test_a_directory_that_is_not_a_database_is_left_alone(place):
    foreign = place / "pg18" / "thesis.txt"
    write(foreign, "the only copy")
    with pytest.raises(StartFailed, match="Set it aside"):
        await EmbeddedServers.start(place)
    assert exists(foreign)


async def _changed(servers: EmbeddedServers, which: str, before: int) -> bool:
    return getattr(servers, which) not in {None, before}


async def _gone(state: Path) -> bool:
    return not working_in(state)


async def _initdb_is_at_work(state: Path) -> bool:
    return has(state, ".pg*/base/1")

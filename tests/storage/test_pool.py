"""The pool: one transaction and one scope a loan, and what happens when the server or the line to it fails."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest

from storage.ports import AlreadyExists, StorageError, Unavailable
from storage.postgres import pool as pools
from storage.postgres.address import Address, Connection
from storage.postgres.ids import Kind, new_id
from storage.postgres.pool import Pool
from tests.storage.faulty_line import Line, line

A_TENANT = new_id(Kind.TENANT)
PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def cable(migrated_url: str, tmp_path: Path) -> AsyncIterator[Line]:
    async with line(migrated_url, tmp_path) as made:
        yield made


@pytest.fixture
async def cabled(cable: Line) -> AsyncIterator[Pool]:
    """A pool at the end of a faulty line, where a statement may take a second."""
    made = Pool(cable.url, command_timeout=1.0)
    yield made
    await made.close()


Scope = Callable[[Pool], AbstractAsyncContextManager[Connection]]
SCOPES = pytest.mark.parametrize(
    "scope", [Pool.operator, lambda pool: pool.tenant(A_TENANT)], ids=["operator", "tenant"]
)


async def warm(pool: Pool, count: int) -> set[int]:
    """Let the pool open ``count`` connections; their backends."""
    everybody = asyncio.Barrier(count)

    async def one() -> int:
        async with pool.operator() as connection:
            await everybody.wait()
            return await connection.fetchval(PID)

    return set(await asyncio.gather(*(one() for _ in range(count))))


# Scopes


async def test_what_ends_well_is_committed(pool: Pool) -> None:
    async with pool.operator() as connection:
        await connection.execute("CREATE TABLE platform.t (id int)")
    assert await pool.read("SELECT FROM platform.t") == []


@pytest.mark.parametrize("fault", [AlreadyExists("x"), ValueError("x"), KeyError("x"), asyncio.CancelledError()])
async def test_what_ends_in_any_error_is_undone(pool: Pool, fault: BaseException) -> None:
    async def fail() -> None:
        async with pool.operator() as connection:
            await connection.execute("CREATE TABLE platform.t (id int)")
            raise fault

    with pytest.raises(type(fault)):
        await fail()
    assert await pool.read("SELECT to_regclass('platform.t') IS NULL AS gone") == [(True,)]


async def test_nothing_of_a_scope_outlives_it(migrated_url: str) -> None:
    """The session may be PgBouncer's and the next transaction somebody else's."""
    pool = Pool(migrated_url, max_size=1)
    look = "SELECT current_user = session_user AS own, coalesce(current_setting('platform.tenant', true), '') AS tenant"
    (before,) = await pool.read(PID)
    async with pool.tenant(A_TENANT) as connection:
        inside = await connection.fetchrow("SELECT current_user, current_setting('platform.tenant')")
        assert tuple(inside) == ("platform_app", A_TENANT)
    with pytest.raises(ValueError, match="x"):
        async with pool.tenant(A_TENANT):
            raise ValueError("x")
    (seen,) = await pool.read(look)
    assert tuple(seen) == (True, "")
    async with pool.operator() as connection:
        assert tuple(await connection.fetchrow(look)) == (True, "")
    assert await pool.read(PID) == [before]
    await pool.close()


@pytest.mark.parametrize("tenant_id", ["", "acme", "key_01m8bb223qcrm3brkhs6"])
async def test_what_is_no_tenants_id_is_no_scope(pool: Pool, tenant_id: str) -> None:
    with pytest.raises(ValueError, match="not the id of a tenant"):
        pool.tenant(tenant_id)
    with pytest.raises(ValueError, match="not the id of a tenant"):
        await pool.read("SELECT 1", tenant_id=tenant_id)


async def test_one_answer_never_reaches_another_caller(pool: Pool) -> None:
    """Callers give up at any moment; those that stay get their own answer (the class of CVE-2023-28858)."""
    chance = random.Random(0)
    loop = asyncio.get_running_loop()
    heard = 0

    async def ask(number: int) -> None:
        nonlocal heard
        tenant = f"ten_{number:020}" if number % 2 else None
        (row,) = await pool.read("SELECT $1::int AS own, pg_sleep(0.001)", number, tenant_id=tenant)
        assert row["own"] == number
        heard += 1

    for batch in range(10):
        tasks = [loop.create_task(ask(number)) for number in range(batch * 20, batch * 20 + 20)]
        for task in chance.sample(tasks, 12):
            loop.call_later(chance.uniform(0, 0.02), task.cancel)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends), ends
    assert heard >= 80
    assert len(await warm(pool, 5)) == 5, "no place in the pool was lost"


async def test_a_cancelled_caller_drops_its_connection_at_once(migrated_url: str) -> None:
    pool = Pool(migrated_url, max_size=1)
    (before,) = await pool.read(PID)
    started = asyncio.Event()

    async def ask() -> None:
        async with pool.operator() as connection:
            started.set()
            await connection.fetch("SELECT pg_sleep(60)")

    task = asyncio.get_running_loop().create_task(ask())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.read(PID) != [before]
    await pool.close()


# The server, or the line to it, fails


async def test_a_pool_begins_without_a_server_and_finds_it_when_it_comes(migrated_url: str, tmp_path: Path) -> None:
    cable = Line(migrated_url, tmp_path)
    pool = Pool(cable.url)
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await pool.ping()
    await cable.up()
    await pool.ping()
    await cable.down()
    with pytest.raises(Unavailable):
        await pool.ping()
    await cable.up()
    await pool.ping()
    await pool.close()
    await cable.down()


async def test_connections_that_died_in_a_restart_cost_nobody_an_error(pool: Pool, migrated_url: str) -> None:
    for _ in range(3):
        dead = await warm(pool, 5)
        other = await asyncpg.connect(migrated_url)
        await other.fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", list(dead))
        await other.close()

        async def in_scope(scope: AbstractAsyncContextManager[Connection]) -> int:
            async with scope as connection:
                return await connection.fetchval(PID)

        fresh = await asyncio.gather(
            in_scope(pool.operator()),
            in_scope(pool.tenant(A_TENANT)),
            pool.read(PID),
            pool.read(PID, tenant_id=A_TENANT),
        )
        assert not dead & {pid if isinstance(pid, int) else pid[0][0] for pid in fresh}


async def test_a_read_is_asked_once_more_on_a_fresh_connection(cabled: Pool, cable: Line) -> None:
    await cabled.ping()
    for needle, tenant_id in (("pin", None), ("nail", A_TENANT)):
        made = cable.connections
        cable.lose_answer_to(needle.encode())
        assert await cabled.read(f"SELECT '{needle}' AS it", tenant_id=tenant_id) == [(needle,)]
        assert cable.connections == made + 1


@SCOPES
async def test_a_transaction_that_cannot_begin_begins_on_a_fresh_connection(
    cabled: Pool, cable: Line, scope: Scope
) -> None:
    await cabled.ping()
    cable.lose_answer_to(b"BEGIN")
    async with scope(cabled) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_write_whose_commit_was_not_heard_is_never_repeated(cabled: Pool, cable: Line) -> None:
    async with cabled.operator() as connection:
        await connection.execute("CREATE TABLE platform.t (id int)")
    cable.lose_answer_to(b"COMMIT")
    with pytest.raises(Unavailable, match="broke"):
        async with cabled.operator() as connection:
            await connection.execute("INSERT INTO platform.t VALUES (1)")
    assert await cabled.read("SELECT count(*) FROM platform.t") == [(1,)]


async def test_a_write_that_broke_in_the_middle_is_undone_and_said(cabled: Pool, cable: Line) -> None:
    async with cabled.operator() as connection:
        await connection.execute("CREATE TABLE platform.t (id int)")

    async def write() -> None:
        async with cabled.operator() as connection:
            await connection.execute("INSERT INTO platform.t VALUES (1)")
            cable.lose_answer_to(b"INSERT")
            await connection.execute("INSERT INTO platform.t VALUES (2)")

    with pytest.raises(Unavailable, match="broke"):
        await write()
    assert await cabled.read("SELECT count(*) FROM platform.t") == [(0,)]


async def test_silence_is_unavailable_in_time_and_is_over_when_it_is_over(cabled: Pool, cable: Line) -> None:
    """A host that vanished sends no reset: every idle connection is as silent as the first that is tried."""
    loop = asyncio.get_running_loop()
    await warm(cabled, 3)
    patient, cabled._connect_timeout = cabled._connect_timeout, 0.5
    cable.fall_silent()
    began = loop.time()
    with pytest.raises(Unavailable, match="did not answer in time"):
        await cabled.ping()
    with pytest.raises(Unavailable, match="did not accept a connection in time"):
        await cabled.ping()
    assert loop.time() - began < 10
    cable.speak_again()
    cabled._connect_timeout = patient
    await cabled.ping()


async def test_a_full_pool_is_unavailable_in_time(migrated_url: str) -> None:
    pool = Pool(migrated_url, max_size=1)
    async with pool.operator():
        pool._connect_timeout = 0.05
        with pytest.raises(Unavailable, match="All 1 connections"):
            await pool.ping()
    await pool.ping()
    await pool.close()


async def test_many_callers_share_few_connections(pool: Pool) -> None:
    rows = await asyncio.gather(*(pool.read(PID) for _ in range(50)))
    assert len({row[0][0] for row in rows}) <= 5


async def test_a_connection_that_was_idle_for_long_is_not_trusted(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall in between may have forgotten it, and tells neither end."""
    before = await warm(pool, 3)
    assert await pool.read(PID) != []
    monkeypatch.setattr(pools, "_IDLE_SECONDS", -1.0)
    (row,) = await pool.read(PID)
    assert row[0] not in before


async def test_a_closed_pool_says_so_and_keeps_nothing_that_comes_back(migrated_url: str) -> None:
    pool = Pool(migrated_url)
    async with pool.operator() as connection:
        await pool.close()
        assert await connection.fetchval("SELECT 1") == 1
    assert connection.is_closed()
    with pytest.raises(Unavailable, match="shutting down"):
        await pool.ping()


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("57P01", Unavailable, "broke"),  # admin_shutdown
        ("57P02", Unavailable, "broke"),  # crash_shutdown
        ("57P03", Unavailable, "now"),  # cannot_connect_now
        ("57014", Unavailable, "now"),  # query_canceled
        ("53300", Unavailable, "now"),  # too_many_connections
        ("53100", Unavailable, "now"),  # disk_full
        ("53200", Unavailable, "now"),  # out_of_memory
        ("08006", Unavailable, "broke"),  # connection_failure
        ("08P01", Unavailable, "broke"),  # protocol_violation: also PgBouncer's query_wait_timeout
        ("25006", Unavailable, "now"),  # read_only_sql_transaction: a standby
        ("25P03", Unavailable, "broke"),  # idle_in_transaction_session_timeout
        ("40001", Unavailable, "now"),  # serialization_failure
        ("40P01", Unavailable, "now"),  # deadlock_detected
        ("55P03", Unavailable, "now"),  # lock_not_available
        ("58030", Unavailable, "now"),  # io_error
        ("42P01", Unavailable, "gateway migrate"),  # undefined_table
        ("42703", Unavailable, "gateway migrate"),  # undefined_column
        ("3F000", Unavailable, "gateway migrate"),  # invalid_schema_name
        ("42501", Unavailable, "gateway migrate"),  # insufficient_privilege
        ("42601", StorageError, "refused"),  # syntax_error
        ("22012", StorageError, "refused"),  # division_by_zero
        ("23514", StorageError, "refused"),  # check_violation
        ("XX000", StorageError, "refused"),  # internal_error
        ("P0001", StorageError, "refused"),  # raise_exception
    ],
)
async def test_no_foreign_error_leaves(shared: Pool, code: str, kind: type, says: str) -> None:
    with pytest.raises(StorageError, match=says) as told:
        async with shared.operator() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'why'; END $$")
    assert isinstance(told.value, Unavailable) is (kind is Unavailable)
    assert "why" in str(told.value)
    assert isinstance(told.value.__cause__, asyncpg.PostgresError)
    await shared.ping()


@pytest.fixture
async def shared(postgres_server: str) -> AsyncIterator[Pool]:
    """A pool on the server's own database: nothing is stored there."""
    made = Pool(postgres_server)
    yield made
    await made.close()


async def test_a_database_that_was_never_migrated_is_unavailable(database_url: str) -> None:
    pool = Pool(database_url)
    with pytest.raises(Unavailable, match="gateway migrate"):
        await pool.read("SELECT FROM platform.tenants")
    await pool.close()


async def test_a_database_that_is_not_there_is_unavailable(database_url: str) -> None:
    pool = Pool(database_url.replace("/t_", "/no_such_"))
    with pytest.raises(Unavailable, match="no_such_"):
        await pool.ping()
    await pool.close()


async def test_a_changed_table_is_no_trouble_to_sessions_that_knew_the_old_one(pool: Pool) -> None:
    async with pool.operator() as connection:
        await connection.execute("CREATE TABLE platform.t AS SELECT 1 AS a")
    await pool.read("SELECT * FROM platform.t")
    async with pool.operator() as connection:
        await connection.execute("ALTER TABLE platform.t ADD COLUMN b int")
    assert [dict(row) for row in await pool.read("SELECT * FROM platform.t")] == [{"a": 1, "b": None}]


# The address


@pytest.mark.parametrize(("option", "prepared"), [("", True), ("pgbouncer=false", True), ("pgbouncer=true", False)])
async def test_behind_pgbouncer_no_statement_stays_prepared(migrated_url: str, option: str, *, prepared: bool) -> None:
    mark = "&" if "?" in migrated_url else "?"
    pool = Pool(migrated_url + mark + option if option else migrated_url, max_size=1)
    await pool.read("SELECT $1::int", 1)
    await pool.read("SELECT $1::int", 1, tenant_id=A_TENANT)
    kept = await pool.read("SELECT FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1::int'")
    assert bool(kept) is prepared
    await pool.close()


@pytest.mark.parametrize(
    ("url", "dsn", "pgbouncer"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d", False),
        ("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require", False),
        ("postgresql://u@/d?host=/run/pg&port=6432", "postgresql://u@/d?host=/run/pg&port=6432", False),
        ("postgresql:///d?host=/a%20b&pgbouncer=true", "postgresql:///d?host=/a%20b", True),
        ("postgresql://h/d?pgbouncer=true", "postgresql://h/d", True),
        ("postgresql://h/d?pgbouncer=false&sslmode=verify-full", "postgresql://h/d?sslmode=verify-full", False),
        ("postgresql://u:p%3F%26@h/d?application_name=a%26pgbouncer%3Dtrue",
         "postgresql://u:p%3F%26@h/d?application_name=a%26pgbouncer%3Dtrue", False),
    ],
)  # fmt: skip
def test_only_our_own_word_is_taken_out_of_an_address(url: str, dsn: str, *, pgbouncer: bool) -> None:
    assert Address.parse(url) == Address(dsn, pgbouncer)


@pytest.mark.parametrize(
    "url", ["", "localhost", "mysql://u:secret@h/d", "redis://:secret@h", "postgresql://u:secret@h/d?pgbouncer=yes"]
)
def test_a_bad_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="PostgreSQL address") as told:
        Pool(url)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:1/d",
        "postgresql://u:secret@127.0.0.1:port/d",
        "postgresql://u:secret@[::1/d",
        "postgresql://u:secret@no.such.host.invalid/d",
        "postgresql:///d?password=secret&host=/nonexistent",
        "postgresql://u:secret@127.0.0.1:1/d?sslmode=nonsense",
        "postgresql://u:secret@127.0.0.1:1/d?nonsense",
    ],
)
async def test_an_address_that_leads_nowhere_is_unavailable_and_keeps_its_secret(url: str) -> None:
    with pytest.raises((Unavailable, ValueError)) as told:
        await Pool(url).ping()
    assert "secret" not in str(told.value)

"""Migrations: the files, what the database remembers of them, and the runner between the two."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from storage.ports import StorageError, Unavailable
from storage.postgres import migrate as runner
from storage.postgres.address import Address, Connection
from storage.postgres.history import MIGRATIONS, Applied, MigrationError, State, load, outstanding, parse
from storage.postgres.migrate import migrate, pending, status
from tests.storage.world import world

SHIPPED = [file.stem for file in sorted(MIGRATIONS.glob("*.sql"))]
NO_SUCH_DATABASE = "postgresql:///db?host=/nonexistent"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files into one folder of migrations, and tell it."""

    def write_files(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name.removeprefix('m')}.sql").write_text(text)
        return tmp_path

    return write_files


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def table(name: str) -> str:
    return f"-- migrate:up\nCREATE TABLE platform.{name} (id int);\n"


async def tables(url: str) -> list[str]:
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'platform' ORDER BY 1")
    return [row[0] for row in rows if row[0] != "schema_migrations"]


# The runner


async def test_everything_is_applied_once_in_order(database_url: str) -> None:
    assert await migrate(database_url) == SHIPPED
    assert await migrate(database_url) == []


async def test_status_tells_where_each_migration_stands_and_changes_nothing(database_url: str) -> None:
    assert [(line.name, line.state, line.applied_at) for line in await status(database_url)] == [
        (name, State.PENDING, None) for name in SHIPPED
    ]
    assert await tables(database_url) == []
    await migrate(database_url)
    after = await status(database_url)
    assert [(line.name, line.state) for line in after] == [(name, State.APPLIED) for name in SHIPPED]
    assert all(line.applied_at is not None for line in after)


async def test_of_two_who_migrate_at_once_one_waits_and_finds_nothing_to_do(database_url: str) -> None:
    ends = await asyncio.gather(*(migrate(database_url) for _ in range(3)))
    assert sorted(ends) == [[], [], SHIPPED]


async def test_nothing_outside_the_schema_is_touched(database_url: str) -> None:
    everything = """
        SELECT format('%s %s', classid::regclass, objid) FROM (
            SELECT 'pg_class'::regclass AS classid, oid AS objid, relnamespace AS n FROM pg_class
            UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
            UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
            UNION ALL SELECT 'pg_namespace'::regclass, oid, oid FROM pg_namespace
            UNION ALL SELECT 'pg_extension'::regclass, oid, extnamespace FROM pg_extension
        ) AS objects
        WHERE n NOT IN (
            SELECT oid FROM pg_namespace WHERE nspname = 'platform' OR nspname = 'pg_toast'
        )
    """
    async with connected(database_url) as connection:
        before = await connection.fetch(everything)
        await migrate(database_url)
        assert sorted(before) == sorted(await connection.fetch(everything))


async def test_a_file_cannot_touch_what_it_does_not_name_with_its_schema(database_url: str, write: Write) -> None:
    directory = write(m0001_stray="-- migrate:up\nCREATE TABLE stray (id int);")
    with pytest.raises(MigrationError, match="no schema has been selected"):
        await migrate(database_url, directory=directory)


async def test_a_failing_file_is_undone_and_those_before_it_stay(database_url: str, write: Write) -> None:
    directory = write(
        m0001_good=table("good"),
        m0002_bad="-- why\n-- migrate:up\nCREATE TABLE platform.half (id int);\n\nSELECT nonsense;\n",
        m0003_later=table("later"),
    )
    with pytest.raises(MigrationError, match=r"0002_bad was undone: it failed at line 5: .*nonsense"):
        await migrate(database_url, directory=directory)
    assert await tables(database_url) == ["good"]
    write(m0002_bad=table("whole"))
    assert await migrate(database_url, directory=directory) == ["0002_bad", "0003_later"]
    assert await tables(database_url) == ["good", "later", "whole"]


async def test_what_follows_migrate_down_is_never_run(database_url: str, write: Write) -> None:
    directory = write(m0001_one=table("one") + "-- migrate:down\nDROP TABLE platform.one;\n")
    await migrate(database_url, directory=directory)
    assert await tables(database_url) == ["one"]


async def test_a_statement_that_refuses_a_transaction_runs_while_others_wait(
    database_url: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CREATE INDEX CONCURRENTLY waits for everybody it saw with a snapshot: who wants the lock must not stay so."""
    monkeypatch.setattr(runner, "_LOCK_POLL", 0.001)
    directory = write(
        m0001_one=table("one"),
        m0002_index="-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY one_id ON platform.one (id);\n",
    )
    ends = await asyncio.gather(*(migrate(database_url, directory=directory) for _ in range(4)))
    assert sorted(ends) == [[], [], [], ["0001_one", "0002_index"]]


async def test_a_statement_that_fails_outside_a_transaction_says_what_may_be_left(
    database_url: str, write: Write
) -> None:
    directory = write(
        m0001_one=table("one"),
        m0002_index="-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY one_x ON platform.one (x);\n",
    )
    with pytest.raises(MigrationError, match=r"0002_index stopped: .*may have left something behind"):
        await migrate(database_url, directory=directory)
    assert [line.state for line in await status(database_url, directory=directory)] == [State.APPLIED, State.PENDING]


async def test_a_busy_table_ends_the_wait_with_advice(
    database_url: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_TABLE_LOCK_TIMEOUT", "20ms")
    directory = write(m0001_one=table("one"))
    await migrate(database_url, directory=directory)
    write(m0002_more="-- migrate:up\nALTER TABLE platform.one ADD COLUMN more int;")
    async with connected(database_url) as reader, reader.transaction():
        await reader.fetch("SELECT FROM platform.one")
        with pytest.raises(MigrationError, match=r"0002_more waited .* was undone"):
            await migrate(database_url, directory=directory)
    assert await migrate(database_url, directory=directory) == ["0002_more"]


async def test_a_migrator_that_never_ends_is_not_waited_for_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOCK_PATIENCE", 0.3)
    async with connected(database_url) as holder:
        await holder.execute(runner._TRY_LOCK)
        with pytest.raises(MigrationError, match="Another process has been migrating"):
            await migrate(database_url)
    assert await migrate(database_url) == SHIPPED


async def test_a_cancelled_migration_leaves_nothing_half_done(database_url: str, write: Write) -> None:
    directory = write(m0001_slow="-- migrate:up\nCREATE TABLE platform.slow (id int);\nSELECT pg_sleep(60);")
    async with connected(database_url) as onlooker:
        work = asyncio.get_running_loop().create_task(migrate(database_url, directory=directory))
        while not await onlooker.fetchval(  # noqa: ASYNC110  the event is in the server
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        ):
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await onlooker.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
    write(m0001_slow=table("slow"))
    assert await migrate(database_url, directory=directory) == ["0001_slow"]


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await migrate(NO_SUCH_DATABASE)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await status(NO_SUCH_DATABASE)


async def test_pgbouncer_is_no_obstacle(database_url: str) -> None:
    mark = "&" if "?" in database_url else "?"
    assert await migrate(f"{database_url}{mark}pgbouncer=true") == SHIPPED


# Rights


@pytest.fixture
async def weak(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A role that may do nothing, and that every connection of the runner has from now on."""
    role = f"weak_{secrets.token_hex(6)}"
    honest = Address.connect

    async def connect(address: Address, *, timeout: float, command_timeout: float | None) -> Connection:
        connection = await honest(address, timeout=timeout, command_timeout=command_timeout)
        await connection.execute(f"SET SESSION AUTHORIZATION {role}")
        return connection

    async with connected(database_url) as connection:
        await connection.execute(f"CREATE ROLE {role}")
        with monkeypatch.context() as patch:
            patch.setattr(Address, "connect", connect)
            yield role
        await connection.execute(f"DROP OWNED BY {role} CASCADE")
        await connection.execute(f"DROP ROLE {role}")


@pytest.fixture
async def renamed(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Path, str]]:
    """The first migration with another name for its role, which no other test and no other database has made."""
    role = f"app_{secrets.token_hex(6)}"
    text = (MIGRATIONS / f"{SHIPPED[0]}.sql").read_text().replace("platform_app", role)
    (tmp_path / f"{SHIPPED[0]}.sql").write_text(text)
    yield tmp_path, role
    async with connected(database_url) as connection:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
            await connection.execute(f"DROP OWNED BY {role}")
            await connection.execute(f"DROP ROLE {role}")


async def test_who_may_not_make_the_schema_is_told_the_line_to_ask_for(database_url: str, weak: str) -> None:
    with pytest.raises(MigrationError, match=f"CREATE SCHEMA platform AUTHORIZATION {weak};"):
        await migrate(database_url)


async def test_who_may_not_make_the_role_is_told_both_lines_and_they_suffice(
    database_url: str, renamed: tuple[Path, str], weak: str
) -> None:
    directory, role = renamed
    async with connected(database_url) as administrator:
        await administrator.execute(f"CREATE SCHEMA platform AUTHORIZATION {weak}")
        with pytest.raises(MigrationError) as refused:
            await migrate(database_url, directory=directory)
        lines = [line.strip() for line in str(refused.value).splitlines() if line.startswith("    ")]
        assert lines == [f"CREATE ROLE {role} NOLOGIN;", f"GRANT {role} TO {weak};"]
        for line in lines[:1]:
            await administrator.execute(line)
        with pytest.raises(MigrationError) as refused:
            await migrate(database_url, directory=directory)
        assert str(refused.value).splitlines()[-1].strip() == lines[1]
        await administrator.execute(lines[1])
    assert await migrate(database_url, directory=directory) == SHIPPED[:1]


async def test_the_role_is_made_where_it_is_missing(database_url: str, renamed: tuple[Path, str]) -> None:
    directory, role = renamed
    await migrate(database_url, directory=directory)
    async with connected(database_url) as connection:
        made = await connection.fetchrow(
            "SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = $1", role
        )
    assert tuple(made) == (False, False, False)


# Readiness


async def test_what_is_pending_is_told_before_and_after(database_url: str) -> None:
    async with world(database_url) as w:
        assert await pending(w.pool, SHIPPED) == SHIPPED
        await migrate(database_url)
        assert await pending(w.pool, SHIPPED) == []


async def test_a_database_newer_than_the_release_is_ready(database_url: str, write: Write) -> None:
    """Else a rolling upgrade would take the old processes out of service before the new ones are there."""
    directory = write(m0001_one=table("one"), m0002_two=table("two"))
    await migrate(database_url, directory=directory)
    async with world(database_url) as w:
        assert await pending(w.pool, ["0001_one"]) == []


async def test_a_role_that_row_level_security_blinds_is_not_ready(migrated_url: str, weak: str) -> None:
    """It would find every key unknown, and answer 401 where nobody knows. Nor is one that cannot be `platform_app`."""
    async with connected(migrated_url) as owner:
        await owner.execute(f"GRANT USAGE ON SCHEMA platform TO {weak}")
        await owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA platform TO {weak}")
        try:
            async with world(migrated_url) as w:
                with pytest.raises(StorageError, match=f"{weak} does not own the tables"):
                    await pending(w.pool, SHIPPED)
                await owner.execute(f"ALTER ROLE {weak} BYPASSRLS")
                with pytest.raises(StorageError, match=f"GRANT platform_app TO {weak};"):
                    await pending(w.pool, SHIPPED)
        finally:
            await owner.execute(f"DROP OWNED BY {weak}")


# The files, and what the database remembers


def test_the_shipped_files_are_in_order() -> None:
    assert [migration.name for migration in load(MIGRATIONS)] == SHIPPED
    assert SHIPPED[0].startswith("0001_")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "one line `-- migrate:up`"),
        ("CREATE TABLE platform.x (id int);", "one line `-- migrate:up`"),
        ("-- migrate:down\n", "one line `-- migrate:up`"),
        ("-- migrate:up\n-- migrate:up\n", "one line `-- migrate:up`"),
        ("-- migrate:down\n-- migrate:up\n", "one line `-- migrate:up`"),
        ("-- migrate:up\n-- migrate:down\n-- migrate:down\n", "at most one"),
        ("SELECT 1;\n-- migrate:up\n", "would never be run"),
        ("-- migrate:up transaction:maybe\n", "'transaction:maybe' is not an option"),
        ("-- migrate:up transaction: false\n", "not an option"),
    ],
)
def test_a_file_that_would_not_do_what_it_says_is_refused(text: str, says: str) -> None:
    with pytest.raises(MigrationError, match=says):
        parse("0001_x", text)


def test_a_file_is_the_same_whatever_ends_its_lines() -> None:
    text = "-- note\n\n-- migrate:up transaction:false\nSELECT 1;\nSELECT 2;\n-- migrate:down\nSELECT 3;\n"
    migration = parse("0001_x", text)
    assert migration == parse("0001_x", text.replace("\n", "\r\n"))
    assert not migration.in_transaction
    assert migration.sql.splitlines() == ["", "", "", "SELECT 1;", "SELECT 2;"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["m0001_a", "m0003_c"], "0002 is missing"),
        (["m0002_b"], "0001 is missing"),
        ([], "no migrations"),
        (["m0001_a", "m0001_b"], "Two migrations are numbered 0001"),
        (["m0001_a", "m0002-b"], "not the name of a migration"),
        (["m1_a"], "not the name of a migration"),
    ],
)
def test_a_folder_with_a_gap_or_a_stranger_is_refused(write: Write, names: list[str], says: str) -> None:
    with pytest.raises(MigrationError, match=says):
        load(write(**dict.fromkeys(names, table("x"))))


def known(*names: str) -> list:
    return [parse(name, table("x")) for name in names]


def applied(*names: str, sha256: str = parse("x", table("x")).sha256) -> list[Applied]:
    return [Applied(name, sha256, datetime(2026, 11, 2, 3, 4, tzinfo=UTC)) for name in names]


@pytest.mark.parametrize(
    ("files", "done", "expected"),
    [
        ([], [], []),
        (["0001_a", "0002_b"], [], ["0001_a", "0002_b"]),
        (["0001_a", "0002_b"], ["0001_a"], ["0002_b"]),
        (["0001_a", "0002_b"], ["0001_a", "0002_b"], []),
    ],
)
def test_what_is_outstanding_comes_after_what_was_applied(files: list, done: list, expected: list) -> None:
    assert [migration.name for migration in outstanding(known(*files), applied(*done))] == expected


@pytest.mark.parametrize(
    ("files", "done", "says"),
    [
        (known("0001_a"), applied("0001_a", sha256="?"), "0001_a was changed after it was applied .2026-11-02 03:04"),
        (known("0001_a"), applied("0001_a", "0002_b"), "newer than this release: 0002_b .* ends with 0001_a"),
        ([], applied("0001_a"), "newer than this release"),
        (known("0002_b"), applied("0001_a", "0002_b"), "0001_a was applied .* file is missing"),
        (known("0001_a", "0002_b"), applied("0002_b"), "0001_a was never applied, although the later 0002_b"),
        (known("0001_z"), applied("0001_a"), "0001_a was applied .* file is missing"),
    ],
)
def test_a_disagreement_is_named_with_the_way_out(files: list, done: list, says: str) -> None:
    with pytest.raises(MigrationError, match=says):
        outstanding(files, done)


def test_every_disagreement_is_told_at_once() -> None:
    with pytest.raises(MigrationError) as told:
        outstanding(known("0001_a", "0002_b"), applied("0001_a", sha256="?") + applied("0003_c"))
    assert len(str(told.value).splitlines()) == 3


async def test_the_runner_refuses_an_edited_a_missing_and_a_newer_migration(database_url: str, write: Write) -> None:
    directory = write(m0001_one=table("one"), m0002_two=table("two"))
    await migrate(database_url, directory=directory)
    write(m0001_one=table("one") + "-- a harmless comment\n")
    (directory / "0002_two.sql").unlink()
    with pytest.raises(MigrationError) as told:
        await migrate(database_url, directory=directory)
    assert "0001_one was changed" in str(told.value)
    assert "0002_two" in str(told.value)
    assert [line.state for line in await status(database_url, directory=directory)] == [State.EDITED, State.UNKNOWN]

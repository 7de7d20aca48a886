"""Brings the schema ``platform`` up to date: plain SQL files, in order, each once, one process at a time.

One connection holds the lock, another works. The lock belongs to a transaction, as everything does here (PgBouncer).
CREATE INDEX CONCURRENTLY, run by the worker, waits for the end of every transaction that it saw with a snapshot. So who
wants the lock does not wait for it inside a transaction, but begins a new one for each try; and who holds it has asked
with the simple protocol, which leaves no portal, and so no snapshot, behind.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from storage.ports import StorageError
from storage.postgres.address import Address, Connection
from storage.postgres.faults import JOIN, asking
from storage.postgres.history import (
    MIGRATIONS,
    Applied,
    Migration,
    MigrationError,
    MigrationStatus,
    compare,
    load,
    outstanding,
)
from storage.postgres.pool import Pool

_TRY_LOCK = """
    BEGIN;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SELECT WHERE pg_try_advisory_xact_lock(x'7461686f65'::bigint)
"""  # "tahoe"; advisory locks are per database
_LOCK_PATIENCE = 120.0
_LOCK_POLL = 0.1
_CONNECT_TIMEOUT = 10.0
_TABLE_LOCK_TIMEOUT = "10s"
"""DDL that queues for a table lock makes every later query queue behind it: better to give up and say so."""

_MAKE_TABLE = """
    CREATE TABLE IF NOT EXISTS platform.schema_migrations (
        name        text PRIMARY KEY,
        sha256      text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    )
"""


async def migrate(database_url: str, *, directory: Path = MIGRATIONS) -> list[str]:
    """Apply what is outstanding; the names applied by this call. Raises MigrationError or Unavailable.

    Each file is applied in a transaction of its own, so that a failure undoes that file and keeps those before it.
    """
    files = load(directory)
    address = Address.parse(database_url)
    async with _connected(address) as guard, _connected(address) as session, _sole_migrator(guard):
        await _make_room(session)
        todo = outstanding(files, await _applied(session))
        for migration in todo:
            await _apply(session, migration)
    return [migration.name for migration in todo]


async def status(database_url: str, *, directory: Path = MIGRATIONS) -> list[MigrationStatus]:
    """Every migration and where it stands, disagreements included. Changes nothing. Raises Unavailable."""
    files = load(directory)
    async with _connected(Address.parse(database_url)) as session:
        return compare(files, await _applied(session))


async def pending(pool: Pool, needed: Sequence[str]) -> list[str]:
    """The names that are needed and the database has not: the question of a readiness check.

    A database newer than the release is no obstacle here, so that a rolling upgrade does not take the old processes out
    of service. Raises StorageError when the connecting role is subject to row-level security: to such a role every
    tenant looks empty and every key unknown, and nothing else would say so.
    """
    (seen,) = await pool.read(
        "SELECT to_regclass('platform.schema_migrations') IS NOT NULL AS begun, "
        "coalesce(row_security_active(to_regclass('platform.tenants')), false) AS blind, current_user AS role, "
        "EXISTS (SELECT FROM pg_roles WHERE rolname = 'platform_app' AND pg_has_role(oid, 'MEMBER')) AS joined"
    )
    if seen["blind"]:
        raise StorageError(
            f"The database user {seen['role']} does not own the tables of the schema `platform` and sees none of their "
            "rows. Let the gateway connect as the user that ran `gateway migrate`."
        )
    if not seen["begun"]:
        return [*needed]
    if not seen["joined"]:
        raise StorageError(
            f"The database user {seen['role']} may not take on the role platform_app, as which it reads tenants' rows. "
            + JOIN.format(role=seen["role"])
        )
    done = {row["name"] for row in await pool.read("SELECT name FROM platform.schema_migrations")}
    return [name for name in needed if name not in done]


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[Connection]:
    session = await address.connect(timeout=_CONNECT_TIMEOUT, command_timeout=None)
    try:
        with asking():
            yield session
    finally:
        session.terminate()


@asynccontextmanager
async def _sole_migrator(guard: Connection) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_LOCK_PATIENCE):
            while await guard.execute(_TRY_LOCK) != "SELECT 1":
                await guard.execute("ROLLBACK")
                await asyncio.sleep(_LOCK_POLL)
    except TimeoutError as error:
        raise MigrationError(
            f"Another process has been migrating this database for more than {_LOCK_PATIENCE:g} s. See what it waits "
            "for (pg_stat_activity), then run `gateway migrate` again."
        ) from error
    yield
    await guard.execute("COMMIT")


async def _make_room(session: Connection) -> None:
    # Asked first, because CREATE SCHEMA IF NOT EXISTS wants the privilege even when the schema is there.
    if await session.fetchval("SELECT to_regnamespace('platform') IS NULL"):
        try:
            await session.execute("CREATE SCHEMA platform")
        except asyncpg.InsufficientPrivilegeError as error:
            role = await session.fetchval("SELECT quote_ident(current_user)")
            raise MigrationError(
                f"The database user {role} may not create the schema. Ask a database administrator to run this line, "
                f"once, then migrate again:\n    CREATE SCHEMA platform AUTHORIZATION {role};"
            ) from error
    await session.execute(_MAKE_TABLE)


async def _applied(session: Connection) -> Sequence[Applied]:
    if await session.fetchval("SELECT to_regclass('platform.schema_migrations') IS NULL"):
        return []
    rows = await session.fetch("SELECT name, sha256, applied_at FROM platform.schema_migrations ORDER BY name")
    return [Applied(*row) for row in rows]


async def _apply(session: Connection, migration: Migration) -> None:
    if not migration.in_transaction:
        try:
            await session.execute(migration.sql)
        except asyncpg.PostgresError as error:
            raise MigrationError(
                f"Migration {migration.name} stopped{_where(migration, error)}. It may have left something behind, "
                "an index marked INVALID for example: remove that, then migrate again."
            ) from error
        await _record(session, migration)
        return
    try:
        async with session.transaction():
            # An empty search path: what a file does not name with its schema, it cannot touch.
            await session.execute(
                "SELECT set_config('lock_timeout', $1, true), set_config('search_path', '', true)", _TABLE_LOCK_TIMEOUT
            )
            await _record(session, migration)  # first: whoever slipped past the lock waits here and fails
            await session.execute(migration.sql)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"Migration {migration.name} waited more than {_TABLE_LOCK_TIMEOUT} for a table that another session "
            "holds, and was undone. Run `gateway migrate` again when the database is quieter."
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationError(f"Migration {migration.name} was undone: it failed{_where(migration, error)}") from error


async def _record(session: Connection, migration: Migration) -> None:
    await session.execute(
        "INSERT INTO platform.schema_migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
    )


def _where(migration: Migration, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    line = f" at line {migration.sql.count(chr(10), 0, int(position) - 1) + 1}" if position else ""
    hint = f"\n{error.hint}" if getattr(error, "hint", None) else ""
    return f"{line}: {error.args[0]}{hint}"

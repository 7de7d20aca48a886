"""The PostgreSQL and the Redis of a test run: one pair for all tests, in a process of its own.

A process, because each test has its own event loop while the servers live for the whole run, and because the servers
end with the thread that started them. It ends when its standard input does, so a killed test run leaves nothing.

``TEST_DATABASE_URL`` and ``TEST_REDIS_URL`` name other servers to test against. The role makes databases, and empties
one past its triggers, so it is a superuser; the Redis database that the URL names is emptied again and again.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from storage.embedded import EmbeddedServers

ROOT = Path(__file__).resolve().parent.parent

_ROOM = 2 * 1024**3  # bytes; each data directory has about 50 MB


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the servers of this test run are."""

    database: str
    redis: str


@contextlib.contextmanager
def servers() -> Iterator[Urls]:
    """Run what the environment does not name."""
    database, cache = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    if database and cache:
        yield Urls(database, cache)
        return
    with _embedded() as own:
        yield Urls(database or own.database, cache or own.redis)


@contextlib.contextmanager
def _embedded() -> Iterator[Urls]:
    with scratch() as directory:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers", directory], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the test servers did not start; their reason is above, on standard error")
            yield Urls(**json.loads(line))
        finally:
            process.communicate()  # closes its standard input, and waits


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory with a short path that every user may pass through, as /var/lib is (pytest's are root's alone).

    In memory where there is room and programs may run: data directories are many files, and a first start syncs them.
    """
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="tahoe-", dir=memory if _fits(memory) else None))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _fits(memory: Path) -> bool:
    if not memory.is_dir():
        return False
    found = os.statvfs(memory)
    return found.f_bavail * found.f_frsize > _ROOM and not found.f_flag & os.ST_NOEXEC


def with_database(url: str, name: str) -> str:
    """Name another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def create_database(server: str, name: str, template: str | None = None) -> str:
    """Make a database, empty or cloned from a template that nobody is connected to, and tell its URL."""
    connection = await asyncpg.connect(server)
    try:
        clone = f'template "{template}"' if template else ""
        # With few changes since the last checkpoint copying files beats logging every page; there since PostgreSQL 15.
        strategy = "strategy file_copy" if template and connection.get_server_version().major >= 15 else ""
        await connection.execute(f'create database "{name}" {clone} {strategy}')
    finally:
        await connection.close()
    return with_database(server, name)


async def drop_database(server: str, name: str) -> None:
    """Drop a database, whoever is still connected to it."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'drop database if exists "{name}" with (force)')
    finally:
        await connection.close()


_DELETE_ALL = """
DO $$
DECLARE
    one regclass;
    filled boolean;
BEGIN
    -- What a test before began and left may hold locks, or write only now.
    PERFORM pg_terminate_backend(pid, 60000) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid();
    SET LOCAL session_replication_role = replica;  -- in any order, and also what is only ever added to
    FOR one IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'platform'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
            AND relname <> 'schema_migrations'
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO filled;
        IF filled THEN
            EXECUTE format('DELETE FROM %s', one);
        END IF;
    END LOOP;
END $$
"""


@contextlib.contextmanager
def emptying(url: str) -> Iterator[Callable[[], object]]:
    """Delete all rows of a migrated database, as often as is asked: to connect anew would take longer than that.

    To truncate its tables takes thirty times as long.
    """
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as own:
        connection = own.run(asyncpg.connect(url))
        try:
            yield lambda: own.run(connection.execute(_DELETE_ALL))
        finally:
            own.run(connection.close())


def empty_redis(url: str) -> None:
    """Forget all keys of the database that the URL names, and all scripts."""
    with redis.from_url(url) as client:
        client.flushdb()
        client.script_flush()


async def _serve(directory: Path) -> None:
    pair = await EmbeddedServers.start(directory / "state", durable=False)
    try:
        print(json.dumps({"database": pair.database_url, "redis": pair.redis_url}), flush=True)  # noqa: T201  the answer
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await pair.stop()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))

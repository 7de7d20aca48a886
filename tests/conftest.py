"""Fixtures with real servers; see tests/servers.py for where they come from."""

import asyncio
import gc
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

from storage.postgres.pool import Pool
from storage.redis.bus import RedisBus
from storage.redis.client import client
from storage.redis.counters import RedisCounters
from storage.redis.holds import RedisHolds
from tests import servers

_T = TypeVar("_T")

# Whoever imports aiohttp reads all authorities that the machine trusts, a fifth of its start; no test asks one of them.
# One that is nobody's, not none: with an empty file httpx, and so most SDKs, cannot start.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))

# Where nobody sets up the log, structlog draws each error with all values of all frames: half a second of a core.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# How long an example takes says how busy the machine is, and nothing of the promise. The gate (.ci/run) tries the same
# examples each time, so that red speaks of the change; everybody else looks for new ones.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="GATE" in os.environ
)
settings.load_profile("suite")


LONGEST = "e2e/test_account_survives.py", "wounds/test_pure_python_parser.py"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting makes stays to the end, two million objects: the collector need not walk it again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole processes first, and of them what lasts a minute: it must not be what one runner does alone at the end.

    They mostly wait, so others have the cores meanwhile. ``--no-loadscope-reorder`` keeps this order.
    """
    items.sort(key=lambda item: (not item.path.as_posix().endswith(LONGEST), "e2e" not in item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """What the stores may take at most is for tests that say it; a busy machine must not make them unavailable."""
    with pytest.MonkeyPatch.context() as patch:
        for asking in (Pool.__init__, RedisBus.__init__, RedisCounters.__init__, RedisHolds.__init__, client):
            bounds = asking.__kwdefaults__
            for name in bounds:
                if name.endswith("timeout"):
                    patch.setitem(bounds, name, 30.0)
        yield


@pytest.fixture(scope="session")
def server_urls() -> Iterator[servers.Urls]:
    """PostgreSQL and Redis for this test run."""
    with servers.servers() as urls:
        yield urls


@pytest.fixture(scope="session")
def postgres_server(server_urls: servers.Urls) -> str:
    """URL of a database from which others can be made. Tests take ``database_url`` or ``migrated_url``."""
    return server_urls.database


@pytest.fixture(scope="session")
def redis_server(server_urls: servers.Urls) -> str:
    """URL of the Redis of this test run. Tests take ``redis_url``."""
    return server_urls.redis


@pytest.fixture
async def database_url(postgres_server: str) -> AsyncIterator[str]:
    """An empty database, for this test alone."""
    name = _name("t")
    yield await servers.create_database(postgres_server, name)
    await servers.drop_database(postgres_server, name)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """The name of a database that was migrated once, to be cloned."""
    name = _name("tpl")
    try:
        _run(_migrated(postgres_server, name))
        yield name
    finally:
        _run(servers.drop_database(postgres_server, name))


@pytest.fixture
async def migrated_url(postgres_server: str, migrated_template: str) -> AsyncIterator[str]:
    """A database with all migrations applied, for this test alone."""
    name = _name("t")
    yield await servers.create_database(postgres_server, name, template=migrated_template)
    await servers.drop_database(postgres_server, name)


@pytest.fixture(scope="session")
def shared_database(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """One database for many tests. They take ``emptied_url``."""
    name = _name("shared")
    try:
        yield _run(servers.create_database(postgres_server, name, template=migrated_template))
    finally:
        _run(servers.drop_database(postgres_server, name))


@pytest.fixture(scope="session")
def empty_shared_database(shared_database: str) -> Iterator[Callable[[], object]]:
    """Delete all its rows."""
    with servers.emptying(shared_database) as empty:
        yield empty


@pytest.fixture
def emptied_url(shared_database: str, empty_shared_database: Callable[[], object]) -> str:
    """A migrated database without a row, for tests that leave the schema alone: a new one costs more than they do."""
    empty_shared_database()
    return shared_database


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[Pool]:
    """Connections to a migrated database, for this test alone."""
    opened = Pool(migrated_url)
    yield opened
    await opened.close()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Redis, emptied before this test."""
    servers.empty_redis(redis_server)
    return redis_server


def _name(kind: str) -> str:
    # Runs that share an external server must not meet.
    return f"{kind}_{secrets.token_hex(6)}"


async def _migrated(server: str, name: str) -> None:
    from storage.postgres.migrate import migrate  # noqa: PLC0415  tests without PostgreSQL do not need it

    await migrate(await servers.create_database(server, name))


def _run(work: Coroutine[None, None, _T]) -> _T:
    """Run a coroutine to its end for a session-scoped fixture, outside the event loop of any test."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(asyncio.run, work).result()

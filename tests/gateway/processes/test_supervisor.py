"""The parent, where no process is needed to see what it does."""

import shutil
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.configuration.settings import Settings
from gateway.processes import supervisor
from gateway.processes.ops import Check
from gateway.processes.supervisor import Supervisor
from storage.ports import StorageError
from storage.postgres.history import MIGRATIONS
from storage.postgres.pool import Pool
from storage.redis.counters import RedisCounters
from tests.servers import ROOT


async def test_ready_is_said_when_it_is_true_and_until_then_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was never migrated was "ready" among warnings; what is optional keeps nobody from it."""
    monkeypatch.setattr(supervisor, "_AGAIN_S", 0.0)
    missing = [StorageError("migrations are missing; run: gateway migrate")] * 3

    async def database() -> None:
        if missing:
            raise missing.pop()

    async def away() -> None:
        raise OSError("nobody listens")

    settings = Settings(listen="127.0.0.1:1", workers=2)
    parent = Supervisor(settings, embedded=False, read=lambda: settings)
    parent._checks |= {"postgres": Check(database, required=True), "redis": Check(away, required=False)}
    with capture_logs() as lines:
        await parent._say_ready()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("not ready", "warning"), ("ready", "info"), ("degraded", "warning"),
    ]  # fmt: skip
    assert lines[0]["reason"] == "postgres: migrations are missing; run: gateway migrate"
    assert (lines[1]["listen"], lines[1]["workers"]) == ("127.0.0.1:1", 2)
    assert lines[2]["redis"] == "nobody listens"


async def test_the_next_release_installed_over_it_does_not_take_it_out_of_service(
    tmp_path: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade installs, migrates and restarts, in this order: whether it is ready is about the release that runs."""
    directory = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, directory)
    monkeypatch.setattr(supervisor, "MIGRATIONS", directory)
    settings = Settings(listen="127.0.0.1:1")
    parent = Supervisor(settings, embedded=False, read=lambda: settings)
    async with AsyncExitStack() as stack:
        pool = Pool(migrated_url)
        stack.push_async_callback(pool.close)
        listening = socket.create_server(("127.0.0.1", 0))
        await parent._open_operations(listening, pool, RedisCounters("redis://127.0.0.1:1"), stack)
        (directory / "9999_next.sql").write_text("SELECT 1")
        await parent._checks["postgres"].ask()


def test_the_parent_loads_nothing_that_a_request_goes_through() -> None:
    """It touches no request; workers and portal load that at the same time, each in a process of its own."""
    code = (
        "import sys\nimport gateway.processes.supervisor\n"
        "print([name for name in sys.modules if name.startswith(('gateway.dataplane', 'gateway.portal'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

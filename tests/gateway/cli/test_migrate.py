"""`gateway migrate`: applies what is outstanding, and shows where each migration stands."""

import asyncio
import socket

import asyncpg
import pytest

from storage.postgres.history import MIGRATIONS, names
from tests.gateway.cli.conftest import Operator


@pytest.fixture
def empty(database_url: str, state_dir: object) -> Operator:
    """An operator with a database in which nothing is. No Redis, no secret: neither is needed."""
    return Operator({"GATEWAY_DATABASE_URL": database_url, "GATEWAY_STATE_DIR": str(state_dir)})


def test_it_applies_everything_once(empty: Operator) -> None:
    assert [row[:2] for row in empty.table("migrate", "--status")] == [
        ["NAME", "STATE"],
        *([name, "pending"] for name in names(MIGRATIONS)),
    ]
    first = empty.run("migrate")
    assert first.stdout.splitlines() == names(MIGRATIONS)
    second = empty.run("migrate")
    assert (second.stdout, second.stderr) == ("", "Nothing to do: the schema is up to date.\n")


def test_json_has_what_was_applied_and_the_state_of_each(empty: Operator) -> None:
    assert empty.json("migrate") == {"applied": names(MIGRATIONS)}
    assert empty.json("migrate") == {"applied": []}
    status = empty.json("migrate", "--status")
    assert [(row["name"], row["state"]) for row in status] == [(name, "applied") for name in names(MIGRATIONS)]
    assert all(row["applied_at"].endswith("Z") for row in status)


def test_commands_before_it_say_that_it_is_missing(empty: Operator) -> None:
    assert "gateway migrate" in empty.run("tenant", "list", status=1).stderr


def test_a_history_that_does_not_fit_is_explained(empty: Operator) -> None:
    empty.run("migrate")

    async def spoil() -> None:
        connection = await asyncpg.connect(empty.environment["GATEWAY_DATABASE_URL"])
        try:
            await connection.execute("INSERT INTO platform.schema_migrations (name, sha256) VALUES ('9999_later', '')")
        finally:
            await connection.close()

    asyncio.run(spoil())
    assert "The database is newer than this release" in empty.run("migrate", status=1).stderr
    status = empty.run("migrate", "--status")
    assert "9999_later\tunknown" in status.stdout
    assert "Not everything is in order" in status.stderr


def test_a_database_that_is_down_is_a_failure_with_advice(empty: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    empty.environment["GATEWAY_DATABASE_URL"] = f"postgresql://tahoe:hunter2@127.0.0.1:{port}/x"
    for words in (("migrate",), ("migrate", "--status"), ("tenant", "list"), ("usage", "reconcile")):
        refused = empty.run(*words, status=1)
        assert "cannot be reached" in refused.stderr
        assert "GATEWAY_DATABASE_URL" in refused.stderr
        assert "hunter2" not in refused.output


def test_wrong_usage_ends_with_status_2(stranger: Operator) -> None:
    stranger.run("migrate", "--down", status=2)

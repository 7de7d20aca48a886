"""Which stores a command uses: the configured ones, or the state directory's own, or none and then it says so."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.processes.noted_address import note
from storage.postgres.history import MIGRATIONS, names
from tests.gateway.cli.conftest import Operator
from tests.servers import ROOT, scratch


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, which the servers' user may pass through."""
    with scratch() as path:
        yield path


def test_nothing_configured_is_explained(stranger: Operator, state_dir: Path) -> None:
    refused = stranger.run("tenant", "list", status=1)
    for name in ("GATEWAY_DATABASE_URL", "GATEWAY_STATE_DIR", "--embedded", str(state_dir)):
        assert name in refused.stderr
    assert not state_dir.exists(), "a question leaves nothing behind"


def test_bad_settings_are_all_shown_and_nothing_is_done(operator: Operator) -> None:
    operator.environment |= {"GATEWAY_WORKERS": "many", "GATEWAY_LISTEN": "nowhere"}
    refused = operator.run("tenant", "create", "acme", status=1)
    assert "GATEWAY_WORKERS" in refused.stderr
    assert "GATEWAY_LISTEN" in refused.stderr


def test_an_address_that_cannot_be_read_is_no_traceback(operator: Operator) -> None:
    operator.environment["GATEWAY_DATABASE_URL"] += "?pgbouncer=perhaps"
    assert "pgbouncer" in operator.run("tenant", "list", status=1).stderr


def test_the_command_line_comes_before_the_environment(operator: Operator, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'database_url = "{operator.environment.pop("GATEWAY_DATABASE_URL")}"\n')
    operator.environment["GATEWAY_STATE_DIR"] = "/nowhere/at/all"
    words = ("usage", "report", "--tenant", "acme", "--config", str(config), "--state-dir", str(tmp_path))
    operator.run("tenant", "create", "acme", "--config", str(config))
    assert operator.run(*words).stderr == ""


def test_migrate_says_what_it_does_to_embedded_stores_that_begin(place: Path) -> None:
    """It reported nothing to do, because the schema was made on the way; and a mere look at the status made it."""
    operator = Operator({"GATEWAY_STATE_DIR": str(place / "state")})
    status: Any = operator.json("migrate", "--status", "--embedded")
    assert {row["state"] for row in status} == {"pending"}
    assert operator.json("migrate") == {"applied": names(MIGRATIONS)}


def test_embedded_stores_are_made_found_again_and_keep_what_was_done(place: Path) -> None:
    """From nothing: the first command makes the servers and the schema, the next finds them by the directory alone."""
    operator = Operator({"GATEWAY_STATE_DIR": str(place / "state")})
    operator.run("tenant", "create", "acme", "--embedded")
    made = operator.json("key", "create", "--tenant", "acme", "--name", "ci")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    told = subprocess.run(
        [sys.executable, "-m", "gateway", "key", "list", "--tenant", "acme", "--json", "--state-dir", place / "state"],
        cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert [key["id"] for key in json.loads(told.stdout)] == [made["id"]]
    assert told.stderr == ""
    assert (place / "state" / "secret_key").stat().st_mode & 0o777 == 0o600
    invited = ("user", "invite", "--tenant", "acme", "--email")
    assert operator.json(*invited, "ann@example.com")["link"].startswith("http://localhost:9200/auth/invite/")
    note(place / "state", "http://localhost:9800")  # as a gateway there does that listens elsewhere
    assert operator.json(*invited, "bob@example.com")["link"].startswith("http://localhost:9800/auth/invite/")
    operator.environment["GATEWAY_PUBLIC_URL"] = "https://gateway.example.com"
    assert operator.json(*invited, "cy@example.com")["link"].startswith("https://gateway.example.com/auth/invite/")

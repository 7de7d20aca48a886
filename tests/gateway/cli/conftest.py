"""An operator at a terminal, with a gateway's settings in the environment."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.root import gateway

SECRET = "an example of a secret key with many characters"


class Operator:
    """Runs commands in this process, one after the other, and checks that none ends in a traceback."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, *words: str, stdin: str | bytes | None = None, status: int = 0) -> Result:
        """What the command printed; its exit status is ``status``."""
        inherited = dict.fromkeys((name for name in os.environ if name.startswith("GATEWAY_")), None)
        result = CliRunner(env={**inherited, **self.environment}).invoke(gateway, words, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    def json(self, *words: str, stdin: str | None = None, status: int = 0) -> object:
        """What the command printed with ``--json``: one value, and nothing beside it."""
        return json.loads(self.run(*words, "--json", stdin=stdin, status=status).stdout)

    def table(self, *words: str) -> list[list[str]]:
        """The cells of a table, headings first."""
        return [line.split("\t") for line in self.run(*words).stdout.splitlines()]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def operator(emptied_url: str, redis_url: str, state_dir: Path) -> Operator:
    """One whose gateway has real servers."""
    return Operator(
        {
            "GATEWAY_DATABASE_URL": emptied_url,
            "GATEWAY_REDIS_URL": redis_url,
            "GATEWAY_SECRET_KEY": SECRET,
            "GATEWAY_STATE_DIR": str(state_dir),
        }
    )


@pytest.fixture
def acme(operator: Operator) -> Operator:
    """An operator with a tenant `acme`."""
    operator.run("tenant", "create", "acme")
    return operator


@pytest.fixture
def stranger(state_dir: Path) -> Iterator[Operator]:
    """One who has configured nothing but a state directory, in which nothing is."""
    return Operator({"GATEWAY_STATE_DIR": str(state_dir)})

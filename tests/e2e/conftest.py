"""Whole processes, started as a user starts them."""

from collections.abc import Iterator

import pytest

from gateway.cli import whole_account
from tests.e2e.running import Demo, prepare


@pytest.fixture(scope="session", autouse=True)
def patient_commands() -> Iterator[None]:
    """What a command waits for usage that is on its way says how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_account, "PATIENCE_S", 60.0)
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """``gateway demo`` on free ports, with a state directory of its own."""
    state = tmp_path_factory.mktemp("demo") / "state"
    prepare(state)
    with Demo.started(state, issuers_allow_private="true") as running:
        yield running

"""Whole processes, started as a user starts them."""

from collections.abc import Iterator

import pytest

from tests.e2e.running import Demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """``gateway demo`` on free ports, with a state directory of its own."""
    with Demo.started(tmp_path_factory.mktemp("demo") / "state") as running:
        yield running

"""The same gateway that the door tests use: fresh for every test, in front of an upstream that records every byte."""

import pytest

from tests.gateway.conftest import gateway

__all__ = ["gateway"]


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at fifty times a second, so that a test of one need not wait half a second for the look."""
    monkeypatch.setattr("gateway.server._TICK_S", 0.02)
    monkeypatch.setattr("gateway.upstream._TICK_S", 0.02)

"""The same gateway that the door tests use: fresh for every test, in front of an upstream that records every byte."""

import pytest

from tests.gateway.conftest import gateway

__all__ = ["gateway"]


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at fifty times a second, and refused uploads are read for 0.3 s: tests need not wait."""
    monkeypatch.setattr("gateway.dataplane.intake.TICK_S", 0.02)
    monkeypatch.setattr("gateway.upstreams.pool._TICK_S", 0.02)
    monkeypatch.setattr("gateway.dataplane.server.LINGER_S", 0.3)

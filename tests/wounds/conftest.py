"""The same gateway that the door tests use: fresh for every test, in front of an upstream that records every byte."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.portal.application import application
from gateway.portal.parts import Parts
from tests.gateway.conftest import gateway, pytest_asyncio_loop_factories
from tests.gateway.portal.api import Houses

__all__ = ["gateway", "pytest_asyncio_loop_factories"]


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at fifty times a second, and refused uploads are read for 0.3 s: tests need not wait."""
    monkeypatch.setattr("gateway.dataplane.intake.TICK_S", 0.02)
    monkeypatch.setattr("gateway.upstreams.pool._TICK_S", 0.02)
    monkeypatch.setattr("gateway.dataplane.delivery.LINGER_S", 0.3)


@pytest.fixture
async def houses(emptied_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Houses]:
    """The platform API, with tenants made as they are asked for."""
    settings = load({"state_dir": tmp_path}, None, {})
    blueprint = Blueprint(settings, emptied_url, redis_url, "a secret key of thirty-two letters")
    async with Parts.open(blueprint) as parts, TestClient(TestServer(application(parts))) as client:
        yield Houses(client, parts)

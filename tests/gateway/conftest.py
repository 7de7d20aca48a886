"""A gateway in front of a recording upstream, fresh for every test."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.harness import Gateway, running
from tests.steady_loop import SteadyLoop


def pytest_asyncio_loop_factories() -> dict[str, type[SteadyLoop]]:
    """Client, gateway and upstream share a loop: see there."""
    return {"steady": SteadyLoop}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made

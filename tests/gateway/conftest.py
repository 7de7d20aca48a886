"""A gateway in front of a recording upstream, fresh for every test."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.harness import Gateway, running


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made

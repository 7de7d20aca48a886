"""The registry and the account over a migrated database."""

from collections.abc import AsyncIterator

import pytest

from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from tests.storage.world import World, world


@pytest.fixture
def ledger(pool: Pool) -> PostgresLedger:
    return PostgresLedger(pool)


@pytest.fixture
async def w(emptied_url: str) -> AsyncIterator[World]:
    """The registry in an empty database."""
    async with world(emptied_url) as opened:
        yield opened


@pytest.fixture
async def unasked() -> AsyncIterator[World]:
    """A world whose server does not exist: what is answered here was answered without it."""
    async with world("postgresql:///db?host=/nonexistent") as opened:
        yield opened

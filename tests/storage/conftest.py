"""The account over a migrated database."""

import pytest

from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger


@pytest.fixture
def ledger(pool: Pool) -> PostgresLedger:
    return PostgresLedger(pool)

"""Reads that take long, so that one tenant's, however many and however slowly taken, do not keep the others waiting.

Exports and statements may take minutes: they have connections of their own, few, and of each tenant one. What is looked
up among single records, of usage or of the trail, takes seconds at the most: of each tenant two at a time.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from gateway.portal.turns import Turns
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger

CONNECTIONS = 6
_AT_ONE_TIME = 2
_TOLD = "What your organisation asked for before is still being read."


class LongReads:
    """``asking`` is the tenant of whoever asks. ``pool`` is lent for nothing else."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._whole = Turns(1, _TOLD)
        self._records = Turns(_AT_ONE_TIME, _TOLD)

    @asynccontextmanager
    async def ledger(self, asking: str) -> AsyncIterator[PostgresLedger]:
        """The account, until the block ends. Raises Problem while another of the tenant has it."""
        async with self.whole(asking):
            yield PostgresLedger(self._pool)

    def whole(self, asking: str) -> AbstractAsyncContextManager[None]:
        """The one place among those who read all of something. Raises Problem while another of the tenant has it."""
        return self._whole.of(asking)

    def records(self, asking: str) -> AbstractAsyncContextManager[None]:
        """A place among those who look single records up. Raises Problem while others of the tenant have them."""
        return self._records.of(asking)

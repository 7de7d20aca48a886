"""Reads that take long, so that one tenant's, however many and however slowly taken, do not keep the others waiting.

Exports and statements may take minutes: they have connections of their own, few, and of each tenant one. What is looked
up among single records takes seconds at the most: of each tenant two at a time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from weakref import WeakValueDictionary

from gateway.portal.problem import Problem
from policies.verdict import Refusal
from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger

CONNECTIONS = 6
_AT_ONE_TIME = 2
_PATIENCE_S = 5.0
"""How long one waits for others of the same tenant."""


class LongReads:
    """``asking`` is the tenant of whoever asks. ``pool`` is lent for nothing else."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._whole = _Turns(1)
        self._records = _Turns(_AT_ONE_TIME)

    @asynccontextmanager
    async def ledger(self, asking: str) -> AsyncIterator[PostgresLedger]:
        """The account, until the block ends. Raises Problem while another of the tenant has it."""
        async with self._whole.of(asking):
            yield PostgresLedger(self._pool)

    def records(self, asking: str) -> AbstractAsyncContextManager[None]:
        """A place among those who look single records up. Raises Problem while others of the tenant have them."""
        return self._records.of(asking)


class _Turns:
    """So many at one time under each name."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        turns = self._of.setdefault(name, asyncio.Semaphore(self._places))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await turns.acquire()
        except TimeoutError as error:
            told = "What your organisation asked for before is still being read."
            raise Problem(Refusal.CONCURRENCY_LIMIT_EXCEEDED, told, headers={"Retry-After": "5"}) from error
        try:
            yield
        finally:
            turns.release()

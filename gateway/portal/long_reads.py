"""Reads that may take minutes, for exports and statements: few at a time, and one of each tenant.

However slowly one tenant's people take what they asked for, others are served; and what is short has other connections.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from gateway.portal.problems import Problem
from policies.verdict import Refusal
from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger

CONNECTIONS = 6
_PATIENCE_S = 5.0
"""How long one waits for another of the same tenant."""


class LongReads:
    """The account, for who asks in a tenant. ``pool`` is lent for nothing else."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def ledger(self, asking: str) -> AsyncIterator[PostgresLedger]:
        """For one that asks of this tenant, until the block ends. Raises Problem while another does."""
        turn = self._turns.setdefault(asking, asyncio.Lock())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await turn.acquire()
        except TimeoutError as error:
            told = "An export or a statement of this tenant is still being read."
            raise Problem(Refusal.CONCURRENCY_LIMIT_EXCEEDED, told, headers={"Retry-After": "5"}) from error
        try:
            yield PostgresLedger(self._pool)
        finally:
            turn.release()

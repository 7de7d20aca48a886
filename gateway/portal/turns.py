"""Turns: so many at one time under each name, so that one tenant's, however many, do not keep the others waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal

_PATIENCE_S = 5.0
"""How long one waits for others of the same name."""


class Turns:
    """``told`` is what somebody reads who has waited for nothing."""

    def __init__(self, places: int, told: str) -> None:
        self._places = places
        self._told = told
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """A place until the block ends. Raises Problem while others have them."""
        turns = self._of.setdefault(name, asyncio.Semaphore(self._places))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await turns.acquire()
        except TimeoutError as error:
            raise Problem(Refusal.CONCURRENCY_LIMIT_EXCEEDED, self._told, headers={"Retry-After": "5"}) from error
        try:
            yield
        finally:
            turns.release()

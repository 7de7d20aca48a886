"""A shipper at work beside a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from storage.shipper import Shipper


@asynccontextmanager
async def running(one: Shipper) -> AsyncIterator[Shipper]:
    """Ships until the block ends."""
    task = asyncio.create_task(one.run())  # noqa: TID251  awaited below
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

"""Waiting for what sets no event: files, logs, other processes."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Look again and again until it is so."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  nothing would set an event
            await asyncio.sleep(0.001)

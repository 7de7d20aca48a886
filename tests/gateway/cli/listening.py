"""A gateway's ear: what commands tell over Redis."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from storage.ports import Invalidation
from storage.redis.bus import RedisBus


@contextmanager
def invalidations(redis_url: str) -> Iterator["queue.Queue[Invalidation]"]:
    """Everything that is published while the block runs. Listens in a thread: commands run a loop of their own."""
    heard: queue.Queue[Invalidation] = queue.Queue()
    loop = asyncio.new_event_loop()

    async def listen() -> None:
        async with aclosing(RedisBus(redis_url).listen()) as changes:
            async for change in changes:
                heard.put(change)

    task = loop.create_task(listen())

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert heard.get(timeout=30) == Invalidation(), "the first is the connection's own"
        yield heard
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()

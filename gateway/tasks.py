"""Background tasks that cannot vanish: referenced until done, exceptions logged, cancelled and awaited at the end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("gateway.tasks")

_AGAIN_S = 1.0


class Tasks:
    """An owner of background tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run in the background; an exception is logged under ``name``."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed", task=task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel what still runs, and wait for it.

        Again and again: a library that swallows one cancellation (``asyncio.wait_for`` before Python 3.12 could) must
        not hold up the end for ever.
        """
        while running := tuple(self._running):
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_AGAIN_S)

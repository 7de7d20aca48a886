"""What processes hold in memory and the database may change: read at the start, when told to, and every few seconds."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from storage.ports import StorageError

_log = structlog.get_logger("gateway.tokens")

_POLL_S = 5.0


class KeepingUp:
    """Calls ``load`` again and again. ``what`` is what it reads, in the plural, as the log says it."""

    def __init__(self, load: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        self._load = load
        self._what = what
        self._loading: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._complaint = ""

    @property
    def is_loading(self) -> bool:
        """Whether ``load`` is under way."""
        return self._loading is not None

    async def run(self) -> None:
        """Keep up, for ever."""
        while True:
            self._wake.clear()
            try:
                await self.refresh()
            except StorageError as error:
                self.complain(f"{self._what} could not be read: {error}")
            try:
                async with asyncio.timeout(_POLL_S * random.uniform(0.8, 1.2)):  # noqa: S311  spreads load
                    await self._wake.wait()
            except TimeoutError:
                pass

    def soon(self) -> None:
        """Read again now: something may have been missed."""
        self._wake.set()

    async def refresh(self) -> None:
        """Read; those who ask meanwhile share the question. Raises what ``load`` raises, StorageError."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load())
            self._loading.add_done_callback(self._loaded)
        await asyncio.shield(self._loading)

    def complain(self, text: str) -> None:
        """Log what is wrong: once, not every five seconds. Empty when nothing is."""
        if text and text != self._complaint:
            _log.error(text)
        self._complaint = text

    def _loaded(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may

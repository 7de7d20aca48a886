"""Small writes of one loop iteration, made together at its end.

A write to a socket whose reader sleeps wakes that reader there and then, on loopback within the system call: an eighth
of a worker's time went into waking its neighbours one by one. Writes made back to back wake each of them once.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Sender(Protocol):
    """Who holds data back."""

    def flush(self) -> None:
        """Write what waits, if it still can be written. Raises nothing."""


class Outbox:
    """Flushes senders at the end of the loop iteration in which they asked for it, after a call of ``before``."""

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Sender] = []

    def put(self, sender: Sender) -> None:
        """Flush ``sender`` soon."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self.flush)
        self._waiting.append(sender)

    def flush(self) -> None:
        """Write what waits now."""
        if self._before is not None:
            self._before()
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            sender.flush()

"""Small writes of one loop iteration, made together at its end.

A write to a socket whose reader sleeps wakes that reader there and then, on loopback within the system call: an eighth
of a worker's time went into waking its neighbours one by one. Writes made back to back wake each of them once.
"""

import asyncio
from typing import Protocol


class Sender(Protocol):
    """Who holds data back."""

    def flush(self) -> None:
        """Write what waits, if it still can be written. Raises nothing."""


class Outbox:
    """Flushes senders at the end of the loop iteration in which they asked for it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[Sender] = []

    def put(self, sender: Sender) -> None:
        """Flush ``sender`` soon."""
        if not self._waiting:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)
        self._waiting.append(sender)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            sender.flush()

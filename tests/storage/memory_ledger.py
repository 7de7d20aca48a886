"""A ledger in memory, with the failures that a real one has at the worst moments."""

import asyncio
from collections.abc import Callable, Sequence

from storage.ports import Rejected, StorageError, Unavailable


class MemoryLedger:
    """Keeps the shipping half of ``storage.ports.Ledger``'s promise."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.positions: dict[str, int] = {}
        self.down = False
        self.lose_answers = 0
        """That many calls of ``ship`` commit, and then the connection breaks."""
        self.rejects: Callable[[bytes], bool] = lambda _row: False
        self.trouble: Callable[[bytes], bool] = lambda _row: False
        """Rows that raise a plain StorageError."""
        self.calls = 0
        self.changed = asyncio.Event()

    async def ship(self, journal_id: str, position: int, end: int, rows: Sequence[bytes]) -> bool:
        """See the port."""
        self.calls += 1
        await asyncio.sleep(0)
        self._answer()
        if any(map(self.trouble, rows)):
            raise StorageError("These rows are trouble.")
        if any(map(self.rejects, rows)):
            raise Rejected("A row is poison.")
        if self.positions.get(journal_id, 0) != position:
            return False
        self.positions[journal_id] = end
        self.rows += rows
        self.changed.set()
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable("The connection broke.")
        return True

    async def shipped(self, journal_id: str) -> int:
        """See the port."""
        self._answer()
        return self.positions.get(journal_id, 0)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("Nobody answers.")

    async def until(self, count: int) -> None:
        """Wait until so many rows are there."""
        async with asyncio.timeout(60):
            while len(self.rows) < count:
                self.changed.clear()
                await self.changed.wait()

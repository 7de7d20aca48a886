"""Tables of an MP4 that claim more entries than their box has room for.

FFmpeg reads as many as are claimed, through whatever stands behind the box, and then goes on with the boxes from that
box's end. A table that the file's end cuts off makes it give up. So the rest of such a table is read beside the walk,
and counts when all of it has come.
"""

from collections.abc import Callable

from policies.audio.mp4.tables import Tables
from policies.audio.walker import Chunk

MOST_OVERREADS = 8
"""Of one file at one time: each byte is looked at so often. Honest files have none."""

Take = Callable[[Tables, bytes], None]
"""Adds whole entries to a track's tables."""


class Overread:
    """The rest of one table: its entries are added to ``tables`` together, when the last one has come."""

    __slots__ = ("_held", "_left", "_skip", "_sums", "_tables", "_take", "_width")

    def __init__(self, tables: Tables, take: Take, width: int, entries: int, skip: int) -> None:
        """``entries`` of ``width`` bytes begin behind the next ``skip`` bytes."""
        self._tables = tables
        self._sums = tables.beginning_beside()
        self._take = take
        self._width = width
        self._left = entries
        self._skip = skip
        self._held = b""

    @property
    def is_over(self) -> bool:
        """Whether the last entry has come."""
        return not self._left

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        if not self._left or skipped == len(chunk):
            return
        data = self._held + bytes(memoryview(chunk)[skipped:])
        here = min(self._left, len(data) // self._width)
        self._take(self._sums, data[: here * self._width])
        self._left -= here
        self._held = data[here * self._width :] if self._left else b""
        if not self._left:
            self._tables.add(self._sums)

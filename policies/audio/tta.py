"""TTA (True Audio): frames of one length, of which the last may be shorter. A table says how many bytes each takes.

A decoder plays as many samples as the header says and no more, so that is no mere claim; what is not in the file is not
played. Bytes behind the last frame are none: where they are more than half, the file is weighed.
"""

from policies.audio.walker import LONGEST_MS, Chunk, milliseconds

_HEAD_BYTES, _ENTRY_BYTES = 22, 4
"""Of the header; of an entry of the table, and of the checksum behind it."""
_MOST_TABLE_BYTES = 65_536
"""What is kept of the table: four hours' worth. Frames that stand in no more of it count as they are claimed."""


class TtaWalker:
    """Walks a file in any cuts; keeps its table."""

    __slots__ = (
        "_at",
        "_counted",
        "_frame",
        "_frames",
        "_held",
        "_next",
        "_rate",
        "_samples",
        "_table",
        "channels",
        "passed",
    )

    codec = "tta"

    def __init__(self) -> None:
        self.channels: int | None = None
        self.passed = 0
        self._held = bytearray()
        """The header, then what is kept of the table."""
        self._rate = self._samples = self._frame = self._frames = 0
        """What the header says; samples of a whole frame, and how many frames there are."""
        self._table = 0
        """Bytes of the table with its checksum."""
        self._counted = self._next = 0
        """Frames that have begun to pass, and where the next one begins; 0 before any is known."""

    @property
    def _in_table(self) -> int:
        return min(self._frames, _MOST_TABLE_BYTES // _ENTRY_BYTES)

    @property
    def ms(self) -> int | None:
        """Of the frames that have begun to pass."""
        if not self._rate or not self._counted:
            return None
        frames = self._frames if self._counted == self._in_table else self._counted
        return milliseconds(min(frames * self._frame, self._samples), self._rate) or None

    @property
    def claimed_ms(self) -> int | None:
        """By the header."""
        return min(milliseconds(self._samples, self._rate), LONGEST_MS) if self._rate else None

    @property
    def unsure(self) -> bool:
        """Whether its table was too long."""
        return self._frames > self._in_table

    @property
    def strange(self) -> int:
        """All of a file whose header is none, and what follows the last frame."""
        if not self._rate:
            return self.passed
        if self._counted < self._in_table or self.unsure:
            return 0
        return max(self.passed - self._next, 0)

    def feed(self, chunk: Chunk) -> None:
        """The next bytes."""
        self.passed += len(chunk)
        room = _HEAD_BYTES + _MOST_TABLE_BYTES - len(self._held)
        if room > 0 and not self._counted:
            self._held += chunk[:room]
        if not self._table and len(self._held) >= _HEAD_BYTES:
            self._open(bytes(self._held[:_HEAD_BYTES]))
        while self._rate and self._table and self._counted < self._in_table:
            begins = self._next or _HEAD_BYTES + self._table
            if self.passed <= begins:
                return
            at = _HEAD_BYTES + _ENTRY_BYTES * self._counted
            self._next = begins + int.from_bytes(self._held[at : at + _ENTRY_BYTES], "little")
            self._counted += 1

    def _open(self, head: bytes) -> None:
        rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
        self._rate = rate if 0 < rate < 1 << 20 else 0
        self._samples = samples
        self._frame = max(rate * 256 // 245, 1)
        self._frames = -(-samples // self._frame)
        self._table = (self._frames + 1) * _ENTRY_BYTES
        self.channels = int.from_bytes(head[6:8], "little") or None

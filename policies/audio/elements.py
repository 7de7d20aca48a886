"""What walkers of elements share: boxes and EBML elements say how long they are, so most of a file is passed unread."""

from abc import ABC, abstractmethod

from policies.audio.walker import Chunk, Patience

NOWHERE = 1 << 62
"""Where an element of unknown size ends."""


class ElementWalker(ABC):
    """Cuts a file that arrives in any pieces where its elements begin; keeps what is not whole yet.

    A subclass sets ``_need``, the bytes without which it cannot go on, and gives ``_walk``.
    """

    __slots__ = ("_behind", "_held", "_kept_from", "_need", "_skip", "passed", "patience", "strange")

    def __init__(self, *, need: int) -> None:
        self.passed = 0
        self.strange = 0
        """Bytes that were searched for the next element that is known."""
        self._held = bytearray()
        self._behind = 0  # of what is held, bytes that have been walked
        self._kept_from = NOWHERE  # in the file: what stands behind it stays, though it has been walked
        self._need = need
        self._skip = 0
        self.patience = Patience(32)

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        size = len(chunk)
        self.passed += size
        if self.patience.lost_at:
            self.strange += size
            return
        if self._skip >= size:
            self._skip -= size
            return
        held, skip, behind, self._skip = self._held, self._skip, self._behind, 0
        if held or size - skip < self._need:
            if len(held) - behind + size - skip < self._need:
                held += memoryview(chunk)[skip:]
                return
            data, at = b"".join((held, memoryview(chunk)[skip:])), behind
        else:
            data, at = bytes(chunk), skip
        at = self._walk(data, at)
        keep = min(at, max(self._kept_from - self.passed + len(data), 0))
        self._behind = at - keep
        self._held = bytearray(memoryview(data)[keep:])
        self._skip = max(at - len(data), 0)

    @abstractmethod
    def _walk(self, data: bytes, at: int) -> int:
        """Pass what is whole. Gives where the first thing stands that is not, or where to go on behind the end."""

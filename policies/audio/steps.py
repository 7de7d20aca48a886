"""Reading a file step by step: a generator says how many bytes it wants next, and has them when they have come."""

from collections.abc import Callable, Generator
from typing import TypeAlias

from policies.audio.walker import Chunk

Steps: TypeAlias = Generator[int, bytes, None]
"""How many bytes are wanted next, and those; below 0 that so many are passed on to the sink, or over."""


class Lost(Exception):
    """Something stands here that no recorder writes."""


class Reader:
    """Keeps what is wanted until it is there. The sink is for one step."""

    __slots__ = ("_held", "_steps", "_wanted", "again", "is_lost", "position", "quick", "sink")

    def __init__(self, steps: Steps) -> None:
        self.sink: Callable[[bytes, bool], None] | None = None
        """Takes what is passed on; the last piece says so."""
        self.quick: Callable[[bytes, int], int] | None = None
        """Reads what is whole in some bytes, from a place on, and says up to where; for one step."""
        self.again = b""
        """What a step gives back of the bytes that it had."""
        self.is_lost = False
        """Whether the steps have ended: nothing more is read."""
        self.position = 0
        """Of what the steps have had: up to where they have read, however it was cut."""
        self._held = bytearray()
        self._steps = steps
        self._wanted = next(steps)

    def feed(self, chunk: Chunk) -> int:
        """The next bytes; how many of them nobody wants any more."""
        data, at, unread = bytes(chunk), 0, 0
        while at < len(data) and not self.is_lost:
            if self.quick and not self._held:
                begins, at = at, self.quick(data, at)
                self.position += at - begins
            if self._wanted < 0:
                piece = data[at : at - self._wanted]
                self._wanted += len(piece)
                self.position += len(piece)
                if self.sink:
                    self.sink(piece, not self._wanted)
                if not self._wanted:
                    self._go_on(b"")
            else:
                piece = data[at : at + self._wanted - len(self._held)]
                self._held += piece
                self.position += len(piece)
                if len(self._held) == self._wanted:
                    held, self._held = bytes(self._held), bytearray()
                    self._go_on(held)
            at += len(piece)
            if self.again:
                again, self.again = self.again, b""
                self.position -= len(again)
                unread += self.feed(again)
        return unread + len(data) - at

    def _go_on(self, came: bytes) -> None:
        self.sink = self.quick = None
        try:
            self._wanted = self._steps.send(came)
            while not self._wanted:
                self.sink = None
                self._wanted = self._steps.send(b"")
        except (Lost, StopIteration):
            self.is_lost = True

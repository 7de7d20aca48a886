"""What the parent knows of one that serves, and how it is told to end.

It stands alone, so that the parent need not import what a request goes through: that is half of its start.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.configuration.blueprint import Blueprint
from storage.ports import Invalidation


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """How a worker ends, in seconds from when it is told.

    What is left after ``within_s`` is cut off. A connection stays open for one more request, at most for ``idle_s``: it
    may be on its way already. Streams are ended after ``streams_s``, and none is opened any more.
    """

    within_s: float
    idle_s: float
    streams_s: float = 0.0


class Serving(Protocol):
    """What serves on listening sockets until drained: in the parent's loop, or in a process of its own."""

    async def open(self) -> None:
        """Open what it stands on: nothing is accepted that could not be answered."""

    async def accept(self, numbers: Sequence[int]) -> None:
        """Listen on these of the sockets, and on no other. They stay the parent's: other processes have them too."""

    async def decline(self) -> None:
        """Take the connections that wait, and then no more; those that are there go on."""

    def snapshot(self) -> dict[str, Any]:
        """Its metrics."""

    def forget(self, change: Invalidation) -> None:
        """Drop what a change may have made untrue."""

    def cut_off(self) -> None:
        """End every connection now."""

    def end_streams(self) -> None:
        """End every stream, politely; a new one is refused."""

    async def drain(self, farewell: Farewell) -> None:
        """Stop listening, let requests finish, close."""


Make = Callable[[Blueprint, list[socket.socket]], Serving]

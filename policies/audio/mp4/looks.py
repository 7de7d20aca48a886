"""Samples of an MP4 track that are read where its tables say that they stand: some, which chance chooses.

Of media that comes behind its tables they are chosen when those have passed, and read as they come. Of media that stood
before its tables there are the windows that were kept of it.
"""

import struct
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, islice
from typing import TypeAlias

from policies.audio.aac.packed import Chance
from policies.audio.walker import Chunk

READ_BYTES = 4_096
"""Of a sample."""
_LEAST_PART = 2_048
"""That tells something of a longer one."""
_FIRST_STRETCH, _STRETCH, _GROWS = 4_096, 262_144, 4
"""Bytes of the track of which one is chosen, and the sample that has it looked at: first, last, and how they grow."""
_MOST_AHEAD, _USUALLY_AHEAD = 64, 32
_FEW_BEHIND = 1

Judge: TypeAlias = Callable[[bytes, int, bool], int]
"""Says what a sample comes to, by its first bytes (or some within it, where it says so) and how many it has."""
Kept: TypeAlias = Callable[[int, int], Iterable[tuple[int, int, memoryview]]]
"""What was kept of a part of the file: its rank, where it begins, bytes."""


class SampleLooks:
    """Looks at samples of one track; ``most`` is the most that one of them came to."""

    __slots__ = (
        "_ahead", "_behind", "_chance", "_judge", "_kept", "_left", "_reach", "_read", "_read_bytes", "_seen",
        "_stretch", "_table", "looks", "most",
    )  # fmt: skip

    def __init__(self, judge: Judge, kept: Kept, read_bytes: int = READ_BYTES) -> None:
        """``read_bytes`` of a sample are read at most."""
        self._judge, self._kept, self._read_bytes = judge, kept, read_bytes
        self._chance = Chance()
        self._stretch, self._reach = _STRETCH, _FIRST_STRETCH
        self._left = self._chance.below(_FIRST_STRETCH)  # bytes up to the next one that is chosen
        self._ahead: list[tuple[int, int, bytearray]] = []  # by place: what was chosen, its size, what has come of it
        self._read: set[int] = set()  # places of those that have been
        self._behind: dict[int, tuple[memoryview, int, bool]] = {}  # by the rank of the window
        self._seen: set[int] = set()  # such ranks
        self._table = 0  # where the one stands that is passing: what is in front of it has been
        self.looks = self.most = 0

    def begin(self, position: int, size: int = 0) -> None:
        """A table or run of so many bytes begins there in the file."""
        self._table = position
        self._stretch = max(_STRETCH, size // _USUALLY_AHEAD)
        if self._ahead:
            self._ahead = [one for one in self._ahead if one[0] + min(one[1], self._read_bytes) > position]
            self._read.intersection_update(place for place, _, _ in self._ahead)

    def found(self, position: int, sizes: Sequence[int]) -> None:
        """These samples stand there, one behind the other."""
        if position >= self._table:
            self._choose(position, sizes)
            return
        starts = list(accumulate(sizes, initial=0))
        for rank, begins, window in self._kept(position, position + starts[-1]):
            if rank not in self._seen:
                self._find(rank, begins - position, window, sizes, starts)

    def _choose(self, position: int, sizes: Sequence[int]) -> None:
        pick, total = self._left, sum(sizes)
        if pick < total:
            starts = list(accumulate(sizes, initial=0))
            while pick < total and len(self._ahead) < _MOST_AHEAD:
                index = bisect_right(starts, pick) - 1
                self._plan(position + starts[index], sizes[index])
                self._reach = min(_GROWS * self._reach, self._stretch)
                pick = max(pick + 1 + self._chance.below(2 * self._reach), starts[index + 1])
        self._left = max(pick - total, 0)

    def _plan(self, place: int, size: int) -> None:
        self._chance.mix(struct.pack("<QI", place & (1 << 64) - 1, size))
        at = bisect_left(self._ahead, (place,))
        ends = place + min(size, self._read_bytes)
        if at and self._ahead[at - 1][0] + min(self._ahead[at - 1][1], self._read_bytes) > place:
            return
        if at < len(self._ahead) and self._ahead[at][0] < ends:
            return
        insort(self._ahead, (place, size, bytearray()))

    def _find(self, rank: int, shift: int, window: memoryview, sizes: Sequence[int], starts: Sequence[int]) -> None:
        """Note the first sample of which the window, ``shift`` behind the first of them, has enough."""
        first = bisect_left(starts, max(shift, 0))
        ends = shift + len(window)
        if first and first < len(starts) and starts[first] >= ends and shift >= 0:
            self._behind[rank] = window, sizes[first - 1], False
            self._seen.add(rank)
            return
        for start, size in islice(zip(starts, sizes, strict=False), first, None):
            room = ends - start
            if room <= 0:
                return
            if 0 < size <= room or room >= _LEAST_PART:
                self._behind[rank] = window[start - shift : start - shift + size], size, True
                self._seen.add(rank)
                return

    def settle(self, size: int) -> None:
        """A table or run has passed, of so many bytes: look at what was found behind it."""
        if not self._behind:
            return
        for rank in sorted(self._behind)[: _FEW_BEHIND + size // _STRETCH]:
            part, whole, is_begin = self._behind[rank]
            self._look(bytes(part), whole, is_begin=is_begin)
        self._behind = {}

    def take(self, data: Chunk, begins: int) -> None:
        """These bytes stand there in the file: read what was chosen of them. They may come twice."""
        ends = begins + len(data)
        for place, size, held in self._ahead:
            if place >= ends:
                return
            wanted, at = min(size, self._read_bytes), place + len(held)
            if begins <= at and place not in self._read:
                held.extend(memoryview(data)[at - begins : place + wanted - begins])
                if len(held) == wanted:
                    self._look(bytes(held), size, is_begin=True)
                    self._read.add(place)
                    held.clear()

    def _look(self, part: bytes, size: int, *, is_begin: bool) -> None:
        self.looks += 1
        self.most = max(self.most, self._judge(part, size, is_begin))

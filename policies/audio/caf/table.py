"""The packets of a CAF: how many, by the table that mostly stands behind them, and the first bytes of some."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from policies.audio.mp4.packed import SizePairs, Windows

_MOST_PACKETS = 65_536
"""Whose sizes are kept: 22 minutes of 20 ms."""
_FRONT_BYTES = 4096
_HEAD_BYTES = 6


class Table:
    """Sizes of packets as they come, and windows of the data, which nobody can foresee."""

    __slots__ = (
        "_front", "_left", "_named", "_size", "_sizes", "_starts", "data", "fixed", "is_odd", "pairs", "windows",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fixed = 0
        """Of each packet, where the description says that."""
        self.data = 0
        """Bytes of data."""
        self.pairs, self.windows = SizePairs(), Windows()
        self.is_odd = False
        """Whether nobody knows where packets stand."""
        self._named = 0
        self._sizes, self._starts = array("I"), array("Q")
        self._front = bytearray()
        self._left = self._size = 0  # packets that the table has yet to name; of the one whose size is being read

    @property
    def count(self) -> int:
        """Packets."""
        return self.data // self.fixed if self.fixed else self._named

    def begin(self, packets: int) -> None:
        """A table has begun. A second one makes it uncertain where packets stand."""
        self.is_odd |= self._named > 0
        self._left, self._size = max(packets, 0), 0

    def read(self, entries: bytes, _is_last: bool) -> None:  # noqa: FBT001
        """More of it: seven bits a byte, whose first bit says that more follow."""
        sizes, size = array("I"), self._size
        for byte in entries:
            size = (size << 7 | byte & 0x7F) & 0xFFF_FFFF
            if byte < 0x80:
                sizes.append(size)
                size = 0
        self._size = size
        del sizes[self._left :]
        self._left -= len(sizes)
        self._named += len(sizes)
        self.pairs.add(sizes)
        self._sizes.extend(sizes[: _MOST_PACKETS - len(self._sizes)])

    def begin_data(self) -> None:
        """The data have begun. A second time it is uncertain which are meant."""
        self.is_odd |= self.data > 0

    def take(self, data: bytes) -> None:
        """More of them."""
        self._front += data[: _FRONT_BYTES - len(self._front)]
        self.windows.feed(data, self.data)
        self.data += len(data)

    def kept(self) -> Iterator[tuple[bytes, int]]:
        """The first bytes and the size of each packet that begins in what was kept."""
        if self.is_odd or not self.count:
            return
        starts = self._places()
        parts = [(0, memoryview(self._front))]
        parts += [(begins, part) for _, begins, part in self.windows.kept_of(0, self.data)]
        for begins, part in parts:
            ends = begins + len(part)
            first = bisect_left(starts, begins)
            for start, end in pairwise(starts[first : bisect_left(starts, ends, first) + 1]):
                if end > start and ends - start >= min(_HEAD_BYTES, end - start):
                    yield bytes(part[start - begins : min(end - begins, start - begins + _HEAD_BYTES)]), end - start

    def _places(self) -> Sequence[int]:
        """Where each packet begins in the data, and the last one ends."""
        if self.fixed:
            return range(0, self.count * self.fixed + 1, self.fixed)
        if len(self._starts) <= len(self._sizes):
            self._starts = array("Q", accumulate(self._sizes, initial=0))
        return self._starts

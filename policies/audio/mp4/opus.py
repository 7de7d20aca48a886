"""Opus packets in the media of an MP4: each says itself how long it plays, whatever durations the tables state.

Where they stand is told by the sizes of samples and the offsets of chunks, or by the runs of a fragment. Tables of some
thousand packets are kept, and the packets are read as they pass; of media that stands before its tables only the
first bytes are there. A packet that was not read is for others to judge.
"""

import struct
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise

from policies.audio.opus import SAMPLES, packet_samples
from policies.audio.walker import Chunk

MOST_FRONT_BYTES = 65_536
"""Of media that stands before its tables."""
_MOST_PACKETS = 16_384
_MOST_CHUNKS = 2_048
_KINDS = {b"stsz": "sizes", b"stsc": "spreads", b"stco": "offsets", b"co64": "offsets"}
_NEEDED = frozenset(_KINDS.values())
_MOST_BYTES = 65_535
"""Of one packet, with room: RFC 6716 section 3.4 allows 61 440 of 48 frames."""


class OpusHeads:
    """The packets of one track that could be read. Tables that are odd in any way are not followed."""

    __slots__ = (
        "_index", "_is_odd", "_offsets", "_run_begins", "_run_ends", "_runs", "_sizes", "_spreads", "_tables", "_tail",
        "count", "samples", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        """Packets that have been read."""
        self.samples = 0
        """What they play at 48 kHz."""
        self.waiting = 0
        """Packets that have not come yet."""
        self._tables: set[str] = set()
        self._sizes = array("H")
        self._offsets = array("Q")
        self._spreads: list[tuple[int, int]] = []
        self._is_odd = False
        # what is to come: where a run of packets begins, and where each of them does, from there; at last its end
        self._runs: deque[tuple[int, Sequence[int]]] = deque()
        self._index = 0  # of the next packet in the first run
        self._run_begins = self._run_ends = 0
        self._tail = b""

    # --- tables ------------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Tables that do not say where each packet is."""
        self._is_odd = True
        self._forget()

    def pass_sizes(self, sizes: Sequence[int]) -> None:
        """Of the next packets, in a table or a run."""
        if self._is_odd:
            return
        if len(self._sizes) + self.waiting + len(sizes) > _MOST_PACKETS:
            sizes = sizes[: max(_MOST_PACKETS - self.waiting - len(self._sizes), 0)]
        if sizes and not 0 < min(sizes) <= max(sizes) <= _MOST_BYTES:
            self.refuse()
            return
        self._sizes.frombytes(struct.pack(f"{len(sizes)}H", *sizes))  # a quarter of what extending costs

    def pass_alike(self, count: int, size: int) -> None:
        """The same of so many packets of one size."""
        self.pass_sizes((size,) * min(count, _MOST_PACKETS))

    def pass_offsets(self, entries: bytes, width: int) -> None:
        """``stco`` and ``co64``: where each chunk begins."""
        if not self._is_odd and len(self._offsets) < _MOST_CHUNKS:
            self._offsets.extend(struct.unpack(f">{len(entries) // width}{'Q' if width == 8 else 'I'}", entries))

    def pass_spreads(self, entries: bytes) -> None:
        """``stsc``: from which chunk on a chunk has how many packets."""
        if not self._is_odd and len(self._spreads) < _MOST_CHUNKS:
            self._spreads.extend((first, spread) for first, spread, _ in struct.iter_unpack(">III", entries))

    def end_table(self, name: bytes, *, is_whole: bool) -> None:
        """A table has ended. A second one of its kind is odd, and so is one that has no room for what it claims."""
        if name == b"stts":
            return
        kind = _KINDS.get(name, "")
        if not is_whole or kind in self._tables:
            self.refuse()
        elif name == b"trun":
            self._queue(self._run_begins, self._sizes)
            self._forget()
        elif kind:
            self._tables.add(kind)
            if len(self._tables) == len(_NEEDED) and not self._is_odd:
                self._follow_tables()
                self._forget()

    def _follow_tables(self) -> None:
        sizes, taken = self._sizes, 0
        spreads, index = self._spreads, -1
        if not spreads or spreads[0][0] != 1 or any(one[0] >= other[0] for one, other in pairwise(spreads)):
            return
        for chunk, offset in enumerate(self._offsets, start=1):
            if index + 1 < len(spreads) and spreads[index + 1][0] == chunk:
                index += 1
            here = sizes[taken : taken + spreads[index][1]]
            taken += len(here)
            if not here or not self._queue(offset, here):
                return

    def begin_run(self, position: int) -> None:
        """``trun``: its packets stand from there on, one behind the other."""
        self._forget()
        self._run_begins = position

    def _forget(self) -> None:
        self._sizes, self._offsets, self._spreads = array("H"), array("Q"), []

    def _queue(self, position: int, sizes: Sequence[int]) -> bool:
        if not sizes or position < self._run_ends:
            return False
        self._runs.append((position, array("Q", accumulate(sizes, initial=0))))
        self._run_ends = position + self._runs[-1][1][-1]
        self.waiting += len(sizes)
        return True

    # --- packets -----------------------------------------------------------------------------------------------------

    def feed(self, chunk: Chunk, begins: int) -> None:
        """The next bytes of the file, which stand there in it."""
        if self._runs:
            begins -= len(self._tail)
            self.take(self._tail + bytes(chunk), begins, begins)

    def take(self, data: bytes, begins: int, least: int) -> None:
        """Read the packets that begin in these bytes. One that stands before ``least`` is passed over."""
        ends = begins + len(data)
        while self._runs:
            at, starts = self._runs[0]
            packets, first = len(starts) - 1, self._index
            if at + starts[first] < least:
                first = bisect_right(starts, least - at - 1, first, packets)
            last = bisect_right(starts, ends - at - 2, first, packets) if ends - at >= 2 else first
            if first < last:
                self._read(data, at - begins, starts[first : last + 1])
            self.waiting -= last - self._index
            self._index = last
            if last < packets:
                break
            self._runs.popleft()
            self._index = 0
        self._tail = data[-1:]

    def _read(self, data: bytes, shift: int, starts: Sequence[int]) -> None:
        heads = bytes([data[start + shift] for start in starts[:-1]])
        self.count += len(heads)
        head = heads[0]
        if SAMPLES[head] and heads.count(head) == len(heads):
            self.samples += SAMPLES[head] * len(heads)
            return
        for start, stop in pairwise(starts):
            self.samples += packet_samples(data, start + shift, stop + shift)

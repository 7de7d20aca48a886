"""The sample tables of one MP4 track (ISO/IEC 14496-12 section 8.6 to 8.8), and its runs: what they add up to.

They are walked as they pass and not kept. Whoever has to know single sizes and places is told of them.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from policies.audio.mp4.looks import SampleLooks
from policies.audio.mp4.opus import OpusHeads
from policies.audio.mp4.packed import SizePairs
from policies.audio.mp4.places import Places

_MOST_ALIKE = 64
"""Samples of a run without entries whose places are told."""
_UNSIGNED = {1: "B", 2: "H", 4: "I"}


class Run(NamedTuple):
    """What each entry of a ``trun`` says: ``words`` of 32 bits, and what is the fragment's default instead."""

    words: int
    has_duration: int
    has_size: int
    duration: int
    size: int


class Tables:
    """The sums of a track's tables; each table may come in any order, and may lie."""

    __slots__ = (
        "_last_chunk", "_last_spread", "_spread", "bytes", "chunks", "constant", "count", "heads", "last_delta",
        "longest_delta", "looks", "pairs", "places", "run_bytes", "run_count", "run_ticks", "ticks", "timed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.heads: OpusHeads | None = None
        """Of a track of Opus."""
        self.pairs: SizePairs | None = None
        """Where the sizes of its samples are noted, if it is of AAC or FLAC."""
        self.places: Places | None = None
        self.looks: SampleLooks | None = None
        """Of a track of AAC, FLAC or Opus: where its samples stand, and some that are read there."""
        self.count = 0
        self.bytes = 0
        """Of all samples together, by the table of sizes."""
        self.constant = 0
        """The size that all samples share; 0 where each has its own."""
        self.timed = 0
        """Samples that have a duration, of so many ticks together."""
        self.ticks = 0
        self.last_delta = self.longest_delta = 0
        self.chunks = 0
        self._spread = 0  # samples of all chunks before the last one that the table names
        self._last_chunk = self._last_spread = 0
        self.run_count = self.run_bytes = self.run_ticks = 0

    # --- what they come to -------------------------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """Of tables and runs."""
        return self.count + self.run_count

    @property
    def size(self) -> int:
        """Of the same, in bytes."""
        return self.bytes + self.run_bytes

    @property
    def stated_ticks(self) -> int:
        """By their durations: samples that have none are like the last one that has."""
        return self.ticks + max(self.count - self.timed, 0) * self.last_delta + self.run_ticks

    def spread_over(self, chunks: int) -> int:
        """Samples of so many chunks, by how many each has."""
        return self._spread + max(chunks - self._last_chunk + 1, 0) * self._last_spread

    # --- tables ------------------------------------------------------------------------------------------------------

    def begin(self, position: int) -> None:
        """One stands there in the file."""
        if self.looks:
            self.looks.begin(position, self.bytes)

    def expect(self, count: int) -> None:
        """``stsz`` and ``stz2``: so many sizes are to come."""
        if self.places:
            self.places.expect(count)

    def pass_times(self, entries: bytes) -> None:
        """``stts``: pairs of a count and what each of so many samples lasts."""
        for count, delta in struct.iter_unpack(">II", entries):
            self.timed += count
            self.ticks += count * delta
            self.last_delta = delta
            self.longest_delta = max(self.longest_delta, delta)

    def pass_sizes(self, entries: bytes, width: int = 4) -> None:
        """``stsz`` and ``stz2``: one size a sample."""
        count = len(entries) // width
        self.count += count
        sizes = struct.unpack(f">{count}{_UNSIGNED[width]}", entries)
        self.bytes += sum(sizes)
        self._tell_sizes(sizes)

    def _tell_sizes(self, sizes: Sequence[int]) -> None:
        if self.pairs:
            self.pairs.add(sizes)
        if self.places:
            self.places.pass_sizes(sizes)
        if self.heads:
            self.heads.pass_sizes(sizes)

    def add_sizes(self, count: int, size: int) -> None:
        """``stsz`` where all samples have one size; and ``stz2`` of four bits."""
        self.count += count
        self.constant = size
        if self.pairs:
            self.pairs.add((size, size))
        if self.places:
            self.places.pass_alike(count, size)
        if self.heads:
            self.heads.refuse()
        self.bytes += count * size

    def pass_chunks(self, entries: bytes) -> None:
        """``stsc``: from which chunk on a chunk has how many samples."""
        for first, spread, _ in struct.iter_unpack(">III", entries):
            self._spread += max(first - self._last_chunk, 0) * self._last_spread
            self._last_chunk, self._last_spread = first, spread
        if self.places:
            self.places.pass_spreads(entries)
        if self.heads:
            self.heads.pass_spreads(entries)

    def pass_offsets(self, entries: bytes, width: int) -> None:
        """``stco`` and ``co64``, which only tracks of AAC, FLAC and Opus need."""
        if self.places:
            self.places.pass_offsets(entries, width)
        if self.heads:
            self.heads.pass_offsets(entries, width)

    # --- runs --------------------------------------------------------------------------------------------------------

    def begin_run(self, position: int) -> None:
        """``trun``: its samples stand from there on, one behind the other."""
        if self.places:
            self.places.begin_run(position)
        if self.heads:
            self.heads.begin_run(position)
            self.places = None  # all packets of fragments are read

    def add_run(self, count: int, size: int, last: int, ticks: int) -> None:
        """``trun``: samples of a fragment, their bytes, what the last one lasts, and all."""
        self.run_count += count
        self.run_bytes += size
        self.run_ticks += ticks
        if count:
            self.last_delta = last
            self.longest_delta = max(self.longest_delta, min(last, ticks))

    def pass_run(self, entries: bytes, run: Run) -> None:
        """``trun`` whose samples have entries."""
        words = run.words
        count = len(entries) // (4 * words)
        if not count:
            return
        values = struct.unpack(f">{count * words}I", entries)
        sizes = values[run.has_duration :: words] if run.has_size else (run.size,) * count
        self._tell_sizes(sizes)
        ticks = sum(values[::words]) if run.has_duration else count * run.duration
        self.add_run(count, sum(sizes), values[-words] if run.has_duration else run.duration, ticks)

    def pass_alike(self, count: int, size: int) -> None:
        """``trun`` whose samples have no entries."""
        if self.pairs:
            self.pairs.add((size,) * min(count, 2))
        if self.places:
            self.places.pass_alike(min(count, _MOST_ALIKE), size)
        if self.heads:
            self.heads.pass_alike(count, size)

    # --- entries behind the end of a box -----------------------------------------------------------------------------

    def beginning_beside(self) -> "Tables":
        """Tables for entries that are read beside these."""
        beside = Tables()
        beside._last_chunk, beside._last_spread = self._last_chunk, self._last_spread
        return beside

    def add(self, beside: "Tables") -> None:
        """What was read beside them."""
        self.count += beside.count
        self.bytes += beside.bytes
        self.timed += beside.timed
        self.ticks += beside.ticks
        self.run_count += beside.run_count
        self.run_bytes += beside.run_bytes
        self.run_ticks += beside.run_ticks
        self._spread += beside.spread_over(self.chunks)
        self.longest_delta = max(self.longest_delta, beside.longest_delta)

"""Where in the file the samples of one MP4 track stand, as its tables say.

Sizes, how many samples a chunk has, and where chunks begin are three tables, one behind the other, and no sample has
its place before the last one. They are bounded here: of very many samples some stretches of sizes are kept, which
chance chooses; the chunks' places are matched with them as they pass, where they come last, as everybody writes them.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from policies.audio.aac.packed import Chance

_STRETCH = 4_096
_MOST_KEPT = 65_536
"""Sizes of one track, a stretch of them together or none."""
_MOST_RUNS, _MOST_OFFSETS = 16_384, 8_192
"""Runs of chunks alike, behind which nothing is followed, and chunks that come before the other tables."""
_MOST_BYTES = 65_535
"""Of one sample."""
_MOST_ALIKE = 1 << 20
_KINDS = {b"stsz": "sizes", b"stz2": "sizes", b"stsc": "spreads", b"stco": "offsets", b"co64": "offsets"}


class _Stretch(NamedTuple):
    """Samples whose sizes are kept, from ``begins`` on: the first one's number, and the bytes before it."""

    first: int
    before: int
    begins: int


class _Piece(NamedTuple):
    """Samples of one chunk, and how far behind its beginning they stand."""

    chunk: int
    behind: int
    begins: int
    ends: int


class Places:
    """Joins the tables of one track; tables that are odd in any way are not followed."""

    __slots__ = (
        "_before", "_chance", "_count", "_ended", "_expected", "_firsts", "_found", "_is_kept", "_next_chunk",
        "_offsets", "_piece", "_pieces", "_run_at", "_sizes", "_spreads", "_stretches", "is_odd",
    )  # fmt: skip

    def __init__(self, found: Callable[[int, Sequence[int]], None]) -> None:
        """``found`` is told the place of some samples that stand one behind the other, and their sizes."""
        self._found = found
        self._chance = Chance()
        self._ended: set[str] = set()
        self.is_odd = False
        """Whether something about the tables is none that is followed."""
        self._run_at: int | None = None
        # sizes: how many have passed and are expected, their bytes, and those that are kept
        self._count = self._expected = self._before = 0
        self._sizes = array("H")
        self._stretches: list[_Stretch] = []
        self._is_kept = False
        # runs of chunks with as many samples each: the first chunk, and how many
        self._firsts, self._spreads = array("I"), array("I")
        # chunks: those that came too early; then which one comes next, and the samples that wait for theirs
        self._offsets = array("Q")
        self._next_chunk = 1
        self._pieces: Iterator[_Piece] = iter(())
        self._piece: _Piece | None = None

    def refuse(self) -> None:
        """Follow no tables."""
        self.is_odd = True
        self._forget()

    def _forget(self) -> None:
        self._sizes, self._stretches = array("H"), []
        self._firsts, self._spreads = array("I"), array("I")
        self._offsets, self._pieces, self._piece = array("Q"), iter(()), None

    # --- tables ------------------------------------------------------------------------------------------------------

    def begin_run(self, position: int) -> None:
        """``trun``: its samples stand there."""
        self._run_at = position

    def expect(self, count: int) -> None:
        """So many sizes are to come."""
        self._expected = count

    def pass_sizes(self, sizes: Sequence[int]) -> None:
        """Of the next samples, in a table or a run."""
        if self.is_odd:
            return
        if self._run_at is not None:
            self._found(self._run_at, sizes)
            self._run_at += sum(sizes)
            return
        if sizes and max(sizes) > _MOST_BYTES:
            self.refuse()
            return
        while sizes:
            inside = self._count % _STRETCH
            here, sizes = sizes[: _STRETCH - inside], sizes[_STRETCH - inside :]
            if not inside:
                self._begin_stretch()
            if self._is_kept:
                self._sizes.frombytes(struct.pack(f"{len(here)}H", *here))  # a quarter of what extending costs
            self._count += len(here)
            self._before += sum(here)

    def _begin_stretch(self) -> None:
        """Keep the next one, or not. Those that follow each other are one."""
        was_kept, expected = self._is_kept, self._expected // _STRETCH + 1
        self._chance.mix(struct.pack("<QQ", self._count, self._before))
        self._is_kept = len(self._sizes) < _MOST_KEPT and self._chance.below(expected) * _STRETCH < _MOST_KEPT
        if self._is_kept and not was_kept:
            self._stretches.append(_Stretch(self._count, self._before, len(self._sizes)))

    def pass_alike(self, count: int, size: int) -> None:
        """So many of one size."""
        if count > _MOST_ALIKE:
            self.refuse()
        for at in range(0, count, _STRETCH):
            if self.is_odd:
                break
            self.pass_sizes((size,) * min(_STRETCH, count - at))

    def pass_spreads(self, entries: bytes) -> None:
        """``stsc``: from which chunk on a chunk has how many samples."""
        if self.is_odd:
            return
        firsts, spreads = self._firsts, self._spreads
        for first, spread, _ in struct.iter_unpack(">III", entries):
            if len(firsts) > _MOST_RUNS:
                return
            if not spread or (first <= firsts[-1] if firsts else first != 1):
                self.refuse()
                return
            firsts.append(first)
            spreads.append(spread)

    def pass_offsets(self, entries: bytes, width: int) -> None:
        """``stco`` and ``co64``: where the next chunks begin."""
        if self.is_odd:
            return
        offsets = struct.unpack(f">{len(entries) // width}{'Q' if width == 8 else 'I'}", entries)
        if {"sizes", "spreads"} <= self._ended:
            self._place(offsets)
        elif len(self._offsets) + len(offsets) <= _MOST_OFFSETS:
            self._offsets.extend(offsets)
        else:
            self.refuse()

    def end(self) -> None:
        """Another track begins."""
        if len(self._ended) % len(set(_KINDS.values())):
            self.refuse()

    def end_table(self, name: bytes, *, is_whole: bool) -> None:
        """A table or run has ended. A second one of a table is odd, and so is what has no room for what it claims."""
        self._run_at = None
        kind = _KINDS.get(name, "")
        if self.is_odd:
            return
        if not is_whole or kind in self._ended:
            self.refuse()
            return
        if not kind:
            return
        self._ended.add(kind)
        if kind != "offsets" and {"sizes", "spreads"} <= self._ended:
            self._pieces = self._joined()
            self._piece = next(self._pieces, None)
            offsets, self._offsets = self._offsets, array("Q")
            self._place(offsets)
        if len(self._ended) == len(set(_KINDS.values())):
            self._forget()

    # --- their meeting -----------------------------------------------------------------------------------------------

    def _joined(self) -> Iterator[_Piece]:
        """The samples whose sizes are kept, by their chunks. Those in front of a chunk's beginning have no place."""
        firsts, spreads = self._firsts, self._spreads
        sums = ((last - first) * spread for (first, last), spread in zip(pairwise(firsts), spreads, strict=False))
        numbers = array("Q", accumulate(sums, initial=0))  # of the first sample in each run
        is_cut = len(firsts) > _MOST_RUNS
        for stretch, behind in zip(self._stretches, [*self._stretches[1:], None], strict=False):
            at, shift = stretch.first, stretch.begins - stretch.first
            ends = (behind.begins if behind else len(self._sizes)) - shift
            while at < ends and firsts:
                run = bisect_right(numbers, at) - 1
                if is_cut and run == _MOST_RUNS:
                    return
                spread = spreads[run]
                chunk, inside = divmod(at - numbers[run], spread)
                stop = min(at - inside + spread, ends)
                if not inside:
                    yield _Piece(firsts[run] + chunk, 0, at + shift, stop + shift)
                elif at == inside:  # the first chunk of all
                    yield _Piece(1, stretch.before, at + shift, stop + shift)
                at = stop

    def _place(self, offsets: Sequence[int]) -> None:
        begins, self._next_chunk = self._next_chunk, self._next_chunk + len(offsets)
        while self._piece and self._piece.chunk < self._next_chunk:
            chunk, behind, first, last = self._piece
            self._found(offsets[chunk - begins] + behind, self._sizes[first:last])
            self._piece = next(self._pieces, None)

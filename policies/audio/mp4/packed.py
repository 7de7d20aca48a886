"""AAC and FLAC of which an MP4's tables make one sample of several frames: found out without knowing where those are.

Tables come behind their media as often as in front of it, and neither is kept. But of two blocks that follow each other
in the media, each a sample, the tables have the two sizes one behind the other. So of the media some windows are kept,
which nobody can foresee; the blocks in them are read to their ends; and of the tables it is noted which sizes follow
each other. Sizes that do not are of blocks within samples.
"""

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, TypeAlias

from typing_extensions import override

from policies.audio.aac.blocks import Blocks
from policies.audio.aac.packed import Chance, blocks_in
from policies.audio.flac import frame_sizes, frames_in
from policies.audio.walker import Chunk

_WINDOW_BYTES = 4_096
_MOST_WINDOWS = 8
_MIXED_BYTES = 256
_MOST_SPANS = 8
"""Of a window that a chunk or run may reach over: they stand together, unless media comes in boxes of some bytes."""
_WINDOW_EVERY = 262_144
"""Bytes of media for one more window that is read."""
_MOST_READ = 5
"""Blocks of a window."""
_FEW_STRANGE = 2
"""Pairs of sizes that are in no table, of which one damaged place makes no more."""
_USUAL = re.compile(rb"[\x00\x01\x20\x21]")
"""What a block begins with that begins with its sound."""
_ANY = re.compile(rb"[\x00-\xdf]")
_MOST_TRIES, _MOST_FAILURES = 1_024, 3
"""Places at which a window is read, and windows in which nothing was found: there may be a picture's bytes in them."""
_MOST_SET_UPS, _LEAST_BYTES = 4, 64
"""By which blocks are read; of others so large ones are assumed."""
_MOST_FLAC_WINDOWS, _FEW_FLAC_WINDOWS = 64, 4
_PAIR_BITS = 19
_PAIR_MASK, _FACTOR = (1 << _PAIR_BITS) - 1, 40_503


class SizePairs:
    """Which sizes follow each other in tables; of so many of them that it is full it says so of more."""

    __slots__ = ("_last", "_seen")

    def __init__(self) -> None:
        self._last = 0
        self._seen = bytearray()  # once there are sizes

    def add(self, sizes: Sequence[int]) -> None:
        """The next sizes."""
        self._seen = seen = self._seen or bytearray(1 << _PAIR_BITS - 3)
        last = self._last
        for size in sizes:
            spot = (last * _FACTOR ^ size) & _PAIR_MASK
            seen[spot >> 3] |= 1 << (spot & 7)
            last = size
        self._last = last

    def has(self, first: int, second: int) -> bool:
        """Whether they may follow each other."""
        spot = (first * _FACTOR ^ second) & _PAIR_MASK
        return len(self._seen) > 0 and self._seen[spot >> 3] >> (spot & 7) & 1 > 0


Spans: TypeAlias = list[tuple[int, int]]
"""Where in the file the parts of a window begin, and where in itself."""


class _Windows(ABC):
    """Looks at a window of each stretch of the media, which chance chooses."""

    __slots__ = ("_begins", "_chance", "_ends", "_passed", "_plans", "_rank", "_spans", "_window")

    _SIZE: ClassVar[int]
    _STRETCHES: ClassVar[Sequence[int]]
    """The last one is of all that come behind it, too."""

    def __init__(self) -> None:
        self._chance = Chance()
        self._passed = self._plans = self._ends = 0
        self._plan()

    def _plan(self) -> None:
        """Choose the window of the next stretch. Of a longer one it ranks before that of a shorter one more often."""
        begins, size = self._ends, self._STRETCHES[min(self._plans, len(self._STRETCHES) - 1)]
        self._plans += 1
        self._ends = begins + size
        self._begins = begins + self._chance.below(size - self._SIZE + 1)
        self._rank = self._chance.below(1 << 61) * self._STRETCHES[-1] // size
        self._window = bytearray()
        self._spans: Spans = []

    def feed(self, chunk: Chunk, position: int = 0) -> None:
        """The next bytes of the media, which stand there in the file."""
        before, self._passed = self._passed, self._passed + len(chunk)
        while self._passed > self._begins:
            held = len(self._window)
            at = self._begins + held - before
            place = position + at - held
            if not self._spans or self._spans[-1][0] - self._spans[-1][1] != place:
                self._spans.append((position + at, held))
            self._window += memoryview(chunk)[at : at + self._SIZE - held]
            if len(self._window) < self._SIZE:
                return
            self._take(bytes(self._window))
            self._chance.mix(bytes(self._window[:_MIXED_BYTES]))
            self._plan()

    @abstractmethod
    def _take(self, window: bytes) -> None:
        """One is complete."""

    @property
    @abstractmethod
    def _windows(self) -> Sequence[tuple[int, bytes, Spans]]:
        """Those that were kept, by their rank; or else the one that is not complete."""

    def kept_of(self, begins: int, ends: int) -> Iterator[tuple[int, int, memoryview]]:
        """What was kept of that part of the file: a window's rank, where in the file it begins, and its bytes."""
        for rank, window, spans in self._windows:
            first = max(bisect_right(spans, (begins, len(window))) - 1, 0)
            for index, (place, at) in enumerate(spans[first : first + _MOST_SPANS], start=first + 1):
                if place >= ends:
                    break
                behind = spans[index][1] if index < len(spans) else len(window)
                if place + behind - at > begins:
                    yield rank, place, memoryview(window)[at:behind]


class Windows(_Windows):
    """Some bytes of the media, and the sizes of the blocks of AAC in them."""

    __slots__ = ("_kept", "_read")

    _SIZE = _WINDOW_BYTES
    _STRETCHES = (4_096, 12_288, 49_152, 65_536, 262_144)

    def __init__(self) -> None:
        self._kept: list[tuple[int, bytes, Spans]] = []  # by rank, which chance gives
        self._read: dict[
            Blocks, dict[tuple[int, int], list[int]]
        ] = {}  # sizes of blocks, by a window's rank and length
        super().__init__()

    @override
    def _take(self, window: bytes) -> None:
        if len(self._kept) < _MOST_WINDOWS or self._rank < self._kept[-1][0]:
            self._kept = sorted([*self._kept, (self._rank, window, self._spans)])[:_MOST_WINDOWS]

    @property
    @override
    def _windows(self) -> Sequence[tuple[int, bytes, Spans]]:
        return self._kept or [(self._rank, bytes(self._window), self._spans)]

    def most_blocks(self, blocks: Blocks, pairs: SizePairs, size: int) -> int:
        """How many blocks so many bytes may have; 0 where all those that were read are samples.

        By the window that has the most of them, and twice: who packs half of a file is not found out each time.
        """
        if not self._may_read(blocks):
            return size // _LEAST_BYTES
        strange = most = 0
        for sizes in self._sizes_of(blocks, 1 + self._passed // _WINDOW_EVERY):
            strange += sum(not pairs.has(first, second) for first, second in pairwise(sizes))
            most = max(most, 2 * size * len(sizes) // sum(sizes))
        return most if strange >= _FEW_STRANGE else 0

    def most_of_several(self, blocks: Blocks, samples: int, size: int) -> int:
        """How many blocks so many bytes of several tracks, with so many samples in all, may have; 0 where no more.

        Whose block follows whose nobody knows there, only how many there are by their mean size.
        """
        if not self._may_read(blocks):
            return size // _LEAST_BYTES
        read = [one for sizes in self._sizes_of(blocks, _MOST_WINDOWS) for one in sizes]
        count = size * len(read) // sum(read) if read else 0
        return 2 * count if count > samples + samples // 2 else 0

    def _may_read(self, blocks: Blocks) -> bool:
        return blocks in self._read or len(self._read) < _MOST_SET_UPS

    def _sizes_of(self, blocks: Blocks, wanted: int) -> Iterator[list[int]]:
        """The sizes of the blocks in so many windows, a list for each."""
        read, failures = self._read.setdefault(blocks, {}), _MOST_FAILURES
        for rank, window, _ in self._windows:
            if not wanted or not failures:
                return
            key = rank, len(window)
            sizes = read.get(key)
            if sizes is None:
                if len(read) > 2 * _MOST_WINDOWS:
                    read.clear()  # of windows that others have taken the place of
                sizes = read[key] = _sizes(window, blocks)
            if sizes:
                wanted -= 1
                yield sizes
            else:
                failures -= 1


class FlacWindows(_Windows):
    """The sizes of the frames of FLAC that stand in some of the media."""

    __slots__ = ("_kept", "_read")

    _SIZE = 65_536
    _STRETCHES = (65_536, 1 << 20)

    def __init__(self) -> None:
        self._read: list[list[int]] = []
        self._kept: tuple[int, bytes, Spans] | None = None  # the first one by rank
        super().__init__()

    @override
    def _take(self, window: bytes) -> None:
        if len(self._read) < _MOST_FLAC_WINDOWS:
            self._read.append(frame_sizes(window))
        if self._kept is None or self._rank < self._kept[0]:
            self._kept = self._rank, window, self._spans

    @property
    @override
    def _windows(self) -> Sequence[tuple[int, bytes, Spans]]:
        return [self._kept or (self._rank, bytes(self._window), self._spans)]

    def most_frames(self, pairs: SizePairs, size: int) -> int:
        """How many frames so many bytes may have, like :meth:`Windows.most_blocks`."""
        strange = most = 0
        for sizes in self._read or [frame_sizes(bytes(self._window))]:
            strange += sum(not pairs.has(first, second) for first, second in pairwise(sizes)) >= _FEW_STRANGE
            if sizes:
                most = max(most, 2 * size * len(sizes) // sum(sizes))
        # Once in some GB chance makes a header within a frame.
        return most if strange > (len(self._read) >= _FEW_FLAC_WINDOWS) else 0


def blocks_of(part: bytes, size: int, is_begin: bool, blocks: Blocks) -> int:  # noqa: FBT001
    """How many blocks a sample of this size has; by what it begins with, or by some part within it, twice as many."""
    if not is_begin:
        sizes = _sizes(part, blocks)
        return 2 * size * len(sizes) // sum(sizes) if sizes else 1
    if len(part) == size:
        return blocks_in(part, blocks)
    at = count = 0
    while count < _MOST_READ:
        after, has_sound = blocks.pass_block(part, at)
        if after == at:
            break
        at, count = after, count + has_sound
    return 2 * size * count // at if count > 1 else 1


def frames_of(part: bytes, size: int, is_begin: bool) -> int:  # noqa: ARG001, FBT001
    """The same of frames of FLAC."""
    count = frames_in(part, 0, len(part))
    return count if len(part) == size or count < _FEW_STRANGE else 2 * count * size // len(part)


def _sizes(window: bytes, blocks: Blocks) -> list[int]:
    """Of blocks that follow each other. What is read from a wrong place on ends where a true one does: not that one."""
    for begins in _beginnings(window):
        at, has_sound = blocks.pass_block(window, begins)
        ends: list[int] = []
        while has_sound and len(ends) < _MOST_READ:
            ends.append(at)
            at, has_sound = blocks.pass_block(window, at)
        ends += [at] * has_sound
        if len(ends) > _FEW_STRANGE:
            return [after - before for before, after in pairwise(ends)]
    return []


def _beginnings(window: bytes) -> Iterator[int]:
    """Where a block may begin, the likely places first."""
    yield from (found.start() for found in _USUAL.finditer(window, 0, len(window) // 2))
    yield from (found.start() for found in _ANY.finditer(window, 0, min(_MOST_TRIES, len(window))))

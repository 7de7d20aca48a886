"""Matroska and WebM (RFC 9559, EBML: RFC 8794): the frames of every block, by what their codec says that each plays.

Which element is what, and which one is a fault, is in ``levels``. Behind a fault what is hidden in the last
good element is played: an element's bytes are kept until the next good one begins, or, of a large one, read a second
way beside it. Duration and timestamps are claims, read only where the codec is unknown.
"""

import copy
import re
import struct
from itertools import islice

from policies.audio.elements import NOWHERE, ElementWalker
from policies.audio.matroska.contents import FIGURES, MOST_READ_BYTES, READ, Contents
from policies.audio.matroska.levels import (
    BLOCK,
    CLUSTER,
    HEADS,
    MASTERS,
    NAME_TAIL,
    SIMPLE_BLOCK,
    TOP_NAME,
    TRACK_ENTRY,
    Levels,
)
from policies.audio.walker import Chunk

_NS_PER_MS = 1_000_000

_BLOCKS = frozenset((SIMPLE_BLOCK, BLOCK))
_FIGURE_BYTES = 8
_LARGE_BYTES = 32_768
"""Of what passes in front of the next good element: so much is kept, and of more only a tail."""
_CLUSTER_NAME = CLUSTER.to_bytes(4, "big")
_MOST_GHOSTS = 2
_MOST_ENDS = 5
"""Of ghosts that go on behind the end of another one: each reads only what is kept."""
_MOST_TRIES = 16
_GHOST_TURNS = 2048
"""Of patience, for each: honest files have none."""
_LANDMARK = re.compile(
    TOP_NAME.pattern + rb"|[\xa1\xa3](?:[\x85-\xff]|[\x40-\x7f].|[\x20-\x3f]..)[\x81-\xff]..[\x00\x80]",
    re.DOTALL,
)
"""A child of the segment; or what looks like a block, since readers often find their way back to the next one."""
_LANDMARK_BYTES = 8
_LACED = 0x06
_SHORT_BLOCK = struct.Struct(">HBxxH")
"""A block's name and one byte of size, track, time (not read), flags and the frame's first byte."""
_HOPS = tuple(2 + (word & 0x7F) if word in range(SIMPLE_BLOCK << 8 | 0x85, (SIMPLE_BLOCK << 8) + 256) else 0
              for word in range(1 << 16))  # fmt: skip
"""By such a block's first two bytes: how long it is; 0 for what is none that holds a frame."""
_MOST_SHORT_BYTES = 2 + 0x7F


class MatroskaWalker(ElementWalker):
    """Walks elements in any cuts; keeps up to 64 KiB: the last good element, and the next one as far as it is here."""

    __slots__ = ("_ghost", "_is_lost", "_is_over", "_leaf_ends", "contents", "depth", "is_begun", "levels")

    def __init__(self) -> None:
        super().__init__(need=1)
        self.contents = Contents()
        self.is_begun = False
        """A cluster has come; until then a fault sends readers back to the segment's begin."""
        self.levels = Levels()
        self.depth = 0
        """Of how many walkers it is the ghost."""
        self._ghost: MatroskaWalker | None = None  # who reads what is hidden since the last good element
        self._leaf_ends = 0  # of a large leaf that is passing
        self._is_lost = False
        self._is_over = False  # a fault has come: the ghost alone goes on

    @property
    def speaker(self) -> "MatroskaWalker":
        """Who has the figure: a ghost behind a fault. A cut inside an element is one, and an end without a cluster."""
        is_cut = self._leaf_ends > 0 or not self.is_begun or self.levels.is_cut(self.passed)
        ghost = self._ghost if self._is_over or is_cut else None
        if ghost is None and _CLUSTER_NAME in self._held and (is_cut or len(self._held) > self._behind):
            ghost = self._ghost_inside(bytes(self._held))
        if ghost is None:
            return self
        other = ghost.speaker
        return other if other.own_ms > self.own_ms else self

    @property
    def codec(self) -> str:
        """Of the first audio track; empty for one that nobody knows."""
        first = self.speaker.contents.first
        return first.codec if first else ""

    @property
    def channels(self) -> int | None:
        """Of the first audio track."""
        first = self.speaker.contents.first
        return first.channels or None if first else None

    @property
    def unsure(self) -> bool:
        """Whether the figure rests on timestamps, on a guess, or on what the beginning was like."""
        speaker = self.speaker
        return speaker.patience.lost_at > 0 or speaker.contents.is_unsure

    @property
    def claimed_ms(self) -> int | None:
        """Info's Duration; live recorders leave it out."""
        return self.contents.claimed_ms

    @property
    def ms(self) -> int | None:
        """Of the longest audio track's blocks; None without one."""
        figure = self.speaker.own_ms
        return figure if figure >= 0 else None

    @property
    def own_ms(self) -> int:
        """Of what it has read itself; -1 without an audio track."""
        ns = self.contents.ns
        if ns < 0 and not self.patience.lost_at:
            return -1
        return (self.patience.weighed(max(ns, 0), self.passed) + _NS_PER_MS // 2) // _NS_PER_MS

    def feed(self, chunk: Chunk) -> None:
        """The next bytes of the file."""
        if self._ghost is not None:
            self._ghost.feed(chunk)
        if not self._is_over:
            super().feed(chunk)
        elif self._ghost is not None:
            self.strange = self._ghost.strange

    def _walk(self, data: bytes, at: int) -> int:
        end = len(data)
        self._need = 1
        while at < end:
            if self._leaf_ends:
                at = self._pass_by(data, at, end)
                if self._leaf_ends:
                    return at
            if self._is_lost:
                after = self._search(data, at, end)
            else:
                at = self._pass_blocks(data, at, end)
                if at >= end:
                    break
                after = self._pass_element(data, at, end)
                if after >= 0 and data[at] not in _BLOCKS and self.patience.is_lost(self.passed - end + after):
                    self.strange += max(end - after, 0)
                    return end
            if after < 0:
                return ~after
            at = after
        return at

    # --- behind a fault ----------------------------------------------------------------------------------------------

    def _go_back(self, data: bytes, at: int) -> int:
        """A fault stands at ``at``: where to go on."""
        self.levels.restart()
        if self._ghost is not None:
            self._is_over = True
            self.strange = self._ghost.strange
            return len(data)
        good = self._kept_from - self.passed + len(data)
        if good >= at:
            self._is_lost = True
            return at
        found = TOP_NAME.search(data, good + 1, at)
        if found:
            # From its segment's begin on a reader tries each child in turn, until one leads to a cluster.
            self._kept_from += found.start() - good
            return found.start()
        self._kept_from = NOWHERE
        self._is_lost = True
        return max(good + 1, at - NAME_TAIL)

    def _search(self, data: bytes, at: int, end: int) -> int:
        """Look for a landmark; where it stands, or the complement of where to look on when more has arrived."""
        to, unread = at, max(at, end - _LANDMARK_BYTES + 1)
        while to < unread:
            found = _LANDMARK.search(data, to)
            to = min(found.start(), unread) if found else unread
            if found and to < unread:
                if data[to] not in _BLOCKS:
                    self._is_lost = False
                    self._find_good(self.passed - end + to)
                    break
                if data[found.end() - 4] & 0x7F in self.contents.tracks:
                    self.strange += to - at
                    return self._pass_lost_block(data, to, end)
                to += 1
        self.strange += to - at
        if self._is_lost:
            self._need = _LANDMARK_BYTES
            return ~to
        return to

    def _pass_lost_block(self, data: bytes, at: int, end: int) -> int:
        """Count what looks like a block; a child of the segment that stands inside it ends the search all the same."""
        size_bytes = 9 - data[at + 1].bit_length()
        body = at + 1 + size_bytes
        size = int.from_bytes(data[at + 1 : body], "big") & (1 << 7 * size_bytes) - 1
        want = self.contents.wanted(data, body, size)
        if end < body + want:
            self._need = body - at + want
            return ~at
        if self.patience.is_lost(self.passed - end + at):
            self.strange += end - at
            return end
        self._count_block(data, body, body + size, is_whole=False)
        self._leaf_ends = self.passed - end + body + size
        return at + 1

    def _pass_by(self, data: bytes, at: int, end: int) -> int:
        """Let a large leaf go by; where to go on."""
        stop = self._leaf_ends - (self.passed - end)
        found = self._look_inside(data, at, min(stop, end - NAME_TAIL))
        if found >= 0:
            self._leaf_ends = 0
            return found
        if stop + NAME_TAIL <= end:
            self._leaf_ends = 0
            return stop
        to = max(at, min(stop, end - NAME_TAIL))
        self._need = min(stop - to, 1) + NAME_TAIL
        return to

    def _look_inside(self, data: bytes, at: int, stop: int) -> int:
        """Look for what is hidden in a large leaf; where to go on at once, or -1: a ghost has it, or there is none."""
        found = TOP_NAME.search(data, at, max(stop + NAME_TAIL, 0)) if self._ghost is None else None
        if found is None:
            return -1
        if self._is_lost or self.depth >= _MOST_GHOSTS:
            self._is_lost = False
            self.levels.restart()
            return found.start()
        self.patience.spend(_GHOST_TURNS)
        self._ghost = self._haunt(data, found.start())
        return -1

    def _haunt(self, data: bytes, at: int) -> "MatroskaWalker":
        """Somebody who goes on at ``at``, as after a fault."""
        ghost = MatroskaWalker()
        ghost.contents = copy.deepcopy(self.contents)
        ghost.patience = copy.copy(self.patience)
        ghost.levels.restart()
        ghost.depth, ghost.is_begun, ghost.strange = self.depth + 1, self.is_begun, self.strange
        ghost.passed = self.passed - len(data) + at
        ghost.feed(data[at:])
        return ghost

    def _ghost_inside(self, held: bytes) -> "MatroskaWalker | None":
        """Who reads what is hidden in an element that has not ended, or in a file that had no cluster."""
        if self._is_lost or self.depth >= (_MOST_ENDS if self.is_begun else _MOST_GHOSTS):
            return None
        good = max(self._kept_from - self.passed + len(held), -1) + 1
        for found in islice(TOP_NAME.finditer(held, good), 1 if self.is_begun else _MOST_TRIES):
            ghost = self._haunt(held, found.start())
            if ghost.is_begun:
                return ghost
        return None

    def _count_block(self, data: bytes, at: int, end: int, *, is_whole: bool) -> bool:
        """Whether a block is one of a known track, with frames where it says."""
        is_sound = self.contents.pass_block(data, at, end, is_whole=is_whole)
        if is_sound is None:
            self.strange += end - at
        return bool(is_sound)

    # --- elements ----------------------------------------------------------------------------------------------------

    def _pass_blocks(self, data: bytes, at: int, end: int) -> int:
        """The fast way through simple blocks of one frame, which is nearly all of a file."""
        begins = self.passed - end
        bound = min(self.levels.cluster_ends(begins + at) - begins, end)
        last = bound - _LANDMARK_BYTES
        good, at = self._pass_short_blocks(data, at, bound - _MOST_SHORT_BYTES)
        tracks = self.contents.tracks
        while at <= last and data[at] == SIMPLE_BLOCK:
            first = data[at + 1]
            if first & 0x80:
                body, size = at + 2, first & 0x7F
            elif first & 0x40:
                body, size = at + 3, (first & 0x3F) << 8 | data[at + 2]
            elif first & 0x20:
                body, size = at + 4, (first & 0x1F) << 16 | data[at + 2] << 8 | data[at + 3]
            else:
                break
            track, after = tracks.get(data[body] ^ 0x80), body + size
            if track is None or track.packets is None or data[body + 3] & _LACED or after > bound or size < 5:
                break
            if size > _LARGE_BYTES:
                break
            good, at = at, after
            track.add(track.packets.samples(data, body + 4, at))
        if good >= 0:
            self._find_good(begins + good)
        return at

    def _pass_short_blocks(self, data: bytes, at: int, last: int) -> tuple[int, int]:
        """The fastest: blocks of one size byte and one track, whose frames tell by their first byte what they play.

        Four hundred small packets make a second of Opus, so a look at one must cost no more than a table's. Where the
        last one stands, or -1; and where to go on.
        """
        track = self.contents.tracks.get(data[at + 2] ^ 0x80) if at <= last else None
        if track is None or not track.by_head:
            return -1, at
        read, hops, by_head, number = _SHORT_BLOCK.unpack_from, _HOPS, track.by_head, data[at + 2]
        total = samples = 0
        good = -1
        while at <= last:
            name_and_size, of_track, head = read(data, at)
            hop, played = hops[name_and_size], by_head[head]
            if of_track != number or not hop or not played:
                break
            samples = played
            total += played
            good = at
            at += hop
        if total:
            track.add_run(total, samples)
        return good, at

    def _find_good(self, begins: int) -> None:
        """Here is a good element: what is hidden in front of it is never played."""
        self._kept_from, self._ghost = begins, None

    def _pass_element(self, data: bytes, at: int, end: int) -> int:
        """Pass one element, or descend into it; where to go on.

        The complement of ``at``, with ``_need`` set, while too little is here.
        """
        name_bytes = 9 - data[at].bit_length()
        if name_bytes > 4:  # no element's name begins so
            return self._go_back(data, at)
        if end - at <= name_bytes:
            self._need = name_bytes + 1
            return ~at
        size_bytes = 9 - data[at + name_bytes].bit_length()
        if size_bytes > 8:
            return self._go_back(data, at)
        body = at + name_bytes + size_bytes
        if end < body:
            self._need = body - at
            return ~at
        name = int.from_bytes(data[at : at + name_bytes], "big")
        size = int.from_bytes(data[at + name_bytes : body], "big") & (1 << 7 * size_bytes) - 1
        begins, is_endless = self.passed - end + at, size == (1 << 7 * size_bytes) - 1
        is_known = self.levels.knows(name, begins)
        is_master = is_known and name in MASTERS
        ends = NOWHERE if is_endless else self.passed - end + body + size
        if not self.levels.fits(ends) or (is_endless and not is_master):
            return self._go_back(data, at)
        self.is_begun = self.is_begun or (is_known and name == CLUSTER)
        if is_known and (self.is_begun or name in HEADS):
            self._find_good(begins)
        if is_master:
            self.levels.descend(name, ends)
            if name == TRACK_ENTRY:
                self.contents.begin_track()
            return body
        return self._pass_leaf(name, data, at, body, size)

    def _pass_leaf(self, name: int, data: bytes, at: int, body: int, size: int) -> int:
        begins = self.passed - len(data) + at
        if name in FIGURES and size > _FIGURE_BYTES:
            return self._go_back(data, at)
        is_large = body + size - at > _LARGE_BYTES
        want = size
        if name in _BLOCKS:
            want = self.contents.wanted(data, body, size) if is_large else size
        elif is_large:
            want = size if name in READ and size <= MOST_READ_BYTES else 0
        if len(data) < body + want:
            self._need = body - at + want
            return ~at
        if name in _BLOCKS:
            is_sound = self._count_block(data, body, body + size, is_whole=not is_large)
            if not is_sound and begins == self._kept_from:
                # Of a block that stands where it may, readers look for what is hidden in it; we go on there, too.
                self._is_lost = True
                self._kept_from = NOWHERE
                self._leaf_ends = self.passed - len(data) + body + size
                return body
        elif name in READ and size <= MOST_READ_BYTES:
            self.contents.read(name, data[body : body + size])
        return self._leave(data, at, body, size)

    def _leave(self, data: bytes, at: int, body: int, size: int) -> int:
        """Go on behind a leaf. Of what passes since the last good element is kept a little, or searched as it goes."""
        after = body + size
        kept = at - (self._kept_from - self.passed + len(data))
        if self._kept_from != NOWHERE and kept + after - at <= _LARGE_BYTES:
            return after
        from_ = at - kept + 1 if self._kept_from != NOWHERE else at
        self._kept_from = NOWHERE
        self._leaf_ends = self.passed - len(data) + after
        seen = min(body, max(from_, len(data) - NAME_TAIL))
        found = self._look_inside(data, from_, seen)
        return seen if found < 0 else found

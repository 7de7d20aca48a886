"""Which element of Matroska stands where, as FFmpeg reads it (``ebml_parse`` of its ``matroskadec.c``).

An element that may stand in the innermost master that is open, and fits into it, is *good*. One that may not is passed
over by its size all the same, or ends masters of unknown size up to one in which it may stand. One that does not fit
is a fault: FFmpeg goes back to the last good element, and looks for a name of the segment's children from inside it on.
So what is hidden in an element is played only behind a fault, and what is hidden in any but the last good one never.
"""

import re
from collections.abc import Mapping

from policies.audio.elements import NOWHERE

EBML, SEGMENT, CLUSTER, BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
INFO, TRACKS, TRACK_ENTRY, AUDIO = 0x1549A966, 0x1654AE6B, 0xAE, 0xE1
ENCODINGS, ENCODING, COMPRESSION = 0x6D80, 0x6240, 0x5034
SCALE, DURATION, CLUSTER_TIME = 0x2AD7B1, 0x4489, 0xE7
SIMPLE_BLOCK, BLOCK, BLOCK_DURATION, DISCARD = 0xA3, 0xA1, 0x9B, 0x75A2
_ROOT = 0
_ATTACHMENTS, _CHAPTERS, _CUES, _TAGS, _SEEK_HEAD = 0x1941A469, 0x1043A770, 0x1C53BB6B, 0x1254C367, 0x114D9B74

_TOP = frozenset((INFO, TRACKS, CLUSTER, _ATTACHMENTS, _CHAPTERS, _CUES, _TAGS, _SEEK_HEAD))
HEADS = frozenset((EBML, SEGMENT))
"""What FFmpeg goes back to while it has seen no cluster."""
_ANYWHERE = frozenset((0xEC, 0xBF))  # padding and checksums
_CHILDREN: Mapping[int, frozenset[int]] = {
    _ROOT: frozenset((EBML, SEGMENT)),
    SEGMENT: _TOP,
    CLUSTER: frozenset((SIMPLE_BLOCK, BLOCK_GROUP, CLUSTER_TIME, 0xA7, 0xAB)),
    BLOCK_GROUP: frozenset((BLOCK, BLOCK_DURATION, DISCARD, 0xFB, 0x75A1, 0xA4)),
    INFO: frozenset((SCALE, DURATION, 0x7BA9, 0x4D80, 0x5741, 0x4461, 0x73A4)),
    TRACKS: frozenset((TRACK_ENTRY,)),
    TRACK_ENTRY: frozenset((
        0xD7, 0x83, 0x23E383, 0x56AA, 0x86, 0x63A2, AUDIO, ENCODINGS, 0x73C5, 0xB9, 0x88, 0x55AA, 0x9C, 0x6DE7, 0x6DF8,
        0x23314F, 0x537F, 0x55EE, 0x536E, 0x22B59C, 0x22B59D, 0x258688, 0x3A9697, 0x26B240, 0x3B4040, 0xAA, 0x7446,
        0x56BB, 0xE0, 0xE2, 0x41E4,
    )),
    AUDIO: frozenset((0xB5, 0x78B5, 0x9F, 0x6264)),
    ENCODINGS: frozenset((ENCODING,)),
    ENCODING: frozenset((0x5031, 0x5032, 0x5033, COMPRESSION, 0x5035)),
    COMPRESSION: frozenset((0x4254, 0x4255)),
    _SEEK_HEAD: frozenset((0x4DBB,)),
    0x4DBB: frozenset((0x53AB, 0x53AC)),
    _CUES: frozenset((0xBB,)),
    0xBB: frozenset((0xB3, 0xB7)),
    0xB7: frozenset((0xF7, 0xF1, 0xF0, 0xB2, 0x5378)),
    _TAGS: frozenset((0x7373,)),
    0x7373: frozenset((0x63C0, 0x67C8)),
    0x63C0: frozenset((0x63C5, 0x63C4, 0x63C6, 0x63C9, 0x63CA, 0x68CA)),
    0x67C8: frozenset((0x45A3, 0x4487, 0x447A, 0x447B, 0x4484, 0x44B4, 0x67C8)),
    _ATTACHMENTS: frozenset((0x61A7,)),
    0x61A7: frozenset((0x467E, 0x466E, 0x4660, 0x465C, 0x46AE)),
    _CHAPTERS: frozenset((0x45B9,)),
    0x45B9: frozenset((0xB6, 0x45BC, 0x45BD, 0x45DB, 0x45DD)),
    0xB6: frozenset((0x73C4, 0x91, 0x92, 0x98, 0x4598, 0x80)),
    0x80: frozenset((0x85, 0x437C, 0x437E)),
}  # fmt: skip
MASTERS = frozenset(_CHILDREN)

TOP_NAME = re.compile(b"|".join(re.escape(name.to_bytes(4, "big")) for name in sorted(_TOP)))
"""What FFmpeg looks for behind a fault."""
NAME_TAIL = 3
"""Bytes of such a name that may wait for its last one."""


class Levels:
    """The masters that are open, the innermost last: each by its name and where it ends in the file."""

    __slots__ = ("_is_begun", "_open")

    def __init__(self) -> None:
        self._open: list[tuple[int, int]] = []
        self._is_begun = False  # behind the end of its first segment all is a fault

    def knows(self, name: int, begins: int) -> bool:
        """Whether an element may stand here; closes the masters that have ended, or that it ends."""
        levels = self._open
        while levels and begins >= levels[-1][1]:
            levels.pop()
        if not levels and self._is_begun:
            return False
        if name in _ANYWHERE:
            return True
        for depth in range(len(levels), -1, -1):
            level, ends = levels[depth - 1] if depth else (_ROOT, NOWHERE)
            if name in _CHILDREN[level]:
                del levels[depth:]
                return True
            if ends != NOWHERE:
                return False
        return False

    def fits(self, ends: int) -> bool:
        """Whether the innermost master has room: FFmpeg asks no other."""
        return ends <= self._open[-1][1] if self._open else not self._is_begun

    def is_cut(self, at: int) -> bool:
        """Whether an end of the file here is a fault: inside a master that says how long it is."""
        ends = next((ends for _, ends in reversed(self._open) if ends > at), NOWHERE)
        return ends != NOWHERE

    def descend(self, name: int, ends: int) -> None:
        """A master begins."""
        self._open.append((name, ends))
        self._is_begun = True

    def restart(self) -> None:
        """Behind a fault FFmpeg takes the segment for one of unknown size."""
        self._open = [(SEGMENT, NOWHERE)]
        self._is_begun = True

    def cluster_ends(self, begins: int) -> int:
        """Where the cluster ends whose children stand here; 0 where they are something else's."""
        name, ends = self._open[-1] if self._open else (_ROOT, 0)
        return ends if name == CLUSTER and begins < ends else 0

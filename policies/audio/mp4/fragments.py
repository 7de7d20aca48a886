"""Fragments of an MP4 (ISO/IEC 14496-12 section 8.8): where their runs stand, and what their samples are by default."""

import struct
from functools import partial
from typing import NamedTuple

from policies.audio.mp4.headings import Heading
from policies.audio.mp4.tables import Run, Tables
from policies.audio.mp4.tracks import Track

_FROM_MOOF = 0x2_0000
_MOST_PLACE = (1 << 64) - 1
_MOST_UNSIZED = 1 << 20
"""Samples that one run may claim without a byte of its own for each."""
_BEGINS, _BOX = struct.Struct(">I4s8xI4sI4s"), struct.Struct(">I4s")
_NUMBER_BYTES, _LEAST_HEADER_BYTES, _LEAST_RUN_BYTES = 16, 16, 20
MOST_BOXES = 6
"""Of a fragment whose parts are found at once."""


class Parts(NamedTuple):
    """Where they stand of a fragment with one run, as nearly all encoders write it."""

    header: int
    """The body of ``tfhd``."""
    header_ends: int
    run: int
    """The body of ``trun``."""
    boxes: int
    """In the fragment."""


def parts(data: bytes, at: int, after: int) -> Parts | None:
    """Those of a fragment whose boxes stand from one place up to another; None of any that is written otherwise."""
    if after - at < _BEGINS.size:
        return None
    number, mfhd, whole, traf, size, tfhd = _BEGINS.unpack_from(data, at)
    if (mfhd, traf, tfhd, number) != (b"mfhd", b"traf", b"tfhd", _NUMBER_BYTES) or whole != after - at - number:
        return None
    header_ends = run = at + number + 8 + size
    if size < _LEAST_HEADER_BYTES or after - run < _LEAST_RUN_BYTES:
        return None
    boxes = MOST_BOXES - 2
    size, name = _BOX.unpack_from(data, run)
    if name == b"tfdt" and 8 <= size <= after - run - _LEAST_RUN_BYTES:
        boxes, run = boxes + 1, run + size
        size, name = _BOX.unpack_from(data, run)
    return Parts(at + _BEGINS.size, header_ends, run + 8, boxes) if name == b"trun" and size == after - run else None


class Fragments:
    """The one that is passing."""

    __slots__ = (
        "_base", "_begins", "_duration", "_is_first_track", "_run_begins", "_run_ends", "_size", "_size_before",
    )  # fmt: skip

    def __init__(self) -> None:
        self._begins = 0
        self._is_first_track = False
        self._base = 0  # what the runs' offsets are from
        self._run_begins = self._run_ends = 0
        self._size_before = 0  # bytes of all runs before this one
        self._duration = self._size = 0

    def begin(self, position: int) -> None:
        """``moof``: one begins there in the file."""
        self._begins, self._is_first_track = position, True

    def begin_track(self, body: bytes, track: Track) -> None:
        """``tfhd``: what follows is of this track."""
        flags = int.from_bytes(body[:4], "big")
        if flags & 1:
            self._base = int.from_bytes(body[8:16], "big")
        elif flags & _FROM_MOOF or self._is_first_track:
            self._base = self._begins
        else:
            self._base = self._run_ends
        self._is_first_track = False
        at = 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
        self._duration = int.from_bytes(body[at : at + 4], "big") if flags & 8 else track.default
        at += 4 * (flags >> 3 & 1)
        self._size = int.from_bytes(body[at : at + 4], "big") if flags & 16 else track.default_bytes

    def begin_run(self, body: bytes, tables: Tables) -> Heading:
        """``trun``, by its first twelve bytes."""
        flags, count = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        offset = int.from_bytes(body[8:12], "big", signed=True) if flags & 1 else 0
        self._run_begins, self._size_before = self._base + offset & _MOST_PLACE, tables.run_bytes
        tables.begin_run(self._run_begins)
        width = 4 * (flags >> 8 & 15).bit_count()
        if not width:
            count = min(count, _MOST_UNSIZED)
            tables.add_run(count, count * self._size, self._duration, count * self._duration)
            tables.pass_alike(count, self._size)
            count = 0
        run = Run(width // 4, flags >> 8 & 1, flags >> 9 & 1, self._duration, self._size)
        return Heading(8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1), partial(Tables.pass_run, run=run), width or 4, count)

    def end_run(self, tables: Tables) -> None:
        """The next one may follow it."""
        self._run_ends = self._run_begins + tables.run_bytes - self._size_before

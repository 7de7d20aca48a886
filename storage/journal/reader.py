"""The next rows of a journal after a position, past whatever is damaged. Blocks on the disk: call it in a thread.

How the end of a journal is told from damage:

* Segments that the writer has left, or whose writer is dead, are complete. There an intact record further on proves
  that the bytes before it are damaged; when none follows, what is not zero is a record that was never finished.
* In the segment that is being written, bytes that make no record may be one that is being copied in. Only an intact
  record behind them proves damage, and only at a second look: a processor may show us the later store first.

A damaged header loses nothing: the file's name says which journal and which segment it is.

Files are read with ``pread``, never mapped: a file that somebody cuts short, or a failing disk, is then an error that
can be told to a person, and not a SIGBUS.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from storage.journal import format as layout
from storage.journal.directory import JournalFiles, SegmentFile
from storage.ports import StorageError

_SECOND_LOOK_S: Final = 0.01
"""Longer than any store takes to be seen by another processor. Slept in the reader's thread, not in a loop."""
_WHOLE_RECORD: Final = layout.RECORD_BYTES + layout.LONGEST_ROW


class Unreadable(StorageError):
    """A journal that cannot be read now. It is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one segment that follow a position; at least one."""

    rows: list[bytes]
    origin: int
    """The position that ``ends`` count from."""
    ends: list[int]
    first_sequence: int
    """Of the first row; those of the others follow."""
    lost_bytes: int
    """Damaged bytes that were passed over to reach the first row."""

    @property
    def sequences(self) -> range:
        """Of its rows, in order."""
        return range(self.first_sequence, self.first_sequence + len(self.rows))

    def after(self, index: int) -> int:
        """Where the ledger stands when it has the rows up to and including ``index``."""
        return self.origin + self.ends[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """Nothing to read now."""

    complete: bool
    """Nor will there ever be: the files can go."""
    lost_bytes: int = 0
    """Damaged bytes, or a record that a dead writer never finished, with no intact record behind them.

    Of a segment that was emptied nobody knows how much it held: its header counts.
    """
    records: int = 0
    """Where the writer got further than can be read, the records that it had appended by then; else 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What lies behind a position, by the writer's own word."""

    bytes: int
    records: int
    """Records appended in the journal's whole life."""


def read_batch(files: JournalFiles, position: int, *, max_rows: int, max_bytes: int) -> Batch | Exhausted:
    """The next rows of a journal. Raises Unreadable."""
    lost = promised = 0
    strange: SegmentFile | None = None
    active = _active_number(files)
    for segment, start in _segments_from(files, position):
        if active is not None and segment.number > active:
            break
        with _opened(files, segment) as (descriptor, header):
            size = os.fstat(descriptor).st_size
            window = _Window(descriptor, layout.seed(files.journal_id), start, max_rows, max(max_bytes, _WHOLE_RECORD))
            if segment.number == active:
                found = window.read_unfinished(min(header.end, size))
            else:
                found = window.read_complete(size)
                if header.intact and header.end > start and not found.run.rows:  # cut off, or never flushed
                    promised = max(promised, header.records)
                if not (header.intact or found.run.rows or header.blank) and start == layout.HEADER_BYTES:
                    strange = segment
                if header.blank and not found.run.rows and _is_file(descriptor):
                    lost += layout.HEADER_BYTES  # emptied, or overwritten with zeros: no segment is made without one
        lost += found.skipped
        if found.run.rows:
            return Batch(
                rows=found.run.rows,
                origin=layout.position(segment.number, found.origin),
                ends=found.run.ends,
                first_sequence=found.run.first_sequence,
                lost_bytes=lost,
            )
    if strange:
        raise Unreadable(
            f"Nothing in {strange.path} is intact: it is no usage journal, or damaged all over. It is left alone."
            " Move it elsewhere."
        )
    return Exhausted(complete=not files.live, lost_bytes=lost, records=promised)


def backlog(files: JournalFiles, position: int) -> Backlog:
    """How much of a journal lies behind a position. Raises Unreadable."""
    pending = records = 0
    for segment, start in _segments_from(files, position):
        with _opened(files, segment) as (_, header):
            pending += max(0, min(header.end, segment.size) - start)
            records = max(records, header.records)
    return Backlog(bytes=pending, records=records)


def read_shipped(files: JournalFiles, segment: SegmentFile, position: int) -> list[bytes]:
    """The intact rows of a segment that lie before a position. Raises Unreadable."""
    number, offset = layout.place(position)
    if segment.number > number:
        return []
    with _opened(files, segment) as (descriptor, _):
        end = offset if segment.number == number else os.fstat(descriptor).st_size
        return layout.intact_rows(os.pread(descriptor, end, 0), files.journal_id)


@dataclass(frozen=True, slots=True)
class _Found:
    run: layout.Run
    origin: int
    """The offset in the file that the run's offsets count from."""
    skipped: int
    """Damaged bytes before the run, or up to the end when there is no run."""


_NOTHING: Final = layout.Run([], [], 0, 0)


@dataclass(frozen=True, slots=True)
class _Window:
    """A look at one open segment from one offset on."""

    descriptor: int
    seed: int
    start: int
    max_rows: int
    max_bytes: int

    def read_complete(self, end: int) -> _Found:
        """The next rows of a segment that will not change any more."""
        found = self._run_at(self.start, end)
        if found.run.rows:
            return found
        rest = os.pread(self.descriptor, max(0, end - self.start), self.start)
        return self._run_behind_damage(rest, end) or _Found(_NOTHING, self.start, len(rest.rstrip(b"\0")))

    def read_unfinished(self, end: int) -> _Found:
        """The next rows of the segment that is being written; ``end`` is where its writer said that it is."""
        found = self._run_at(self.start, end)
        if found.run.rows or self.start >= end:
            return found
        time.sleep(_SECOND_LOOK_S)
        found = self._run_at(self.start, end)
        if found.run.rows:
            return found
        rest = os.pread(self.descriptor, end - self.start, self.start)
        return self._run_behind_damage(rest, end) or found

    def _run_at(self, start: int, end: int) -> _Found:
        data = os.pread(self.descriptor, max(0, min(self.max_bytes, end - start)), start)
        return _Found(layout.read_run(data, 0, self.seed, self.max_rows), start, 0)

    def _run_behind_damage(self, rest: bytes, end: int) -> _Found | None:
        at = layout.find_record(rest, 0, self.seed)
        if at is None:
            return None
        found = self._run_at(self.start + at, end)
        return _Found(found.run, found.origin, at)


def _segments_from(files: JournalFiles, position: int) -> Iterator[tuple[SegmentFile, int]]:
    """The segments at and behind a position, each with the offset where reading starts."""
    number, offset = layout.place(position)
    for segment in files.segments:
        if segment.number >= number:
            yield segment, offset if segment.number == number else layout.HEADER_BYTES


def _active_number(files: JournalFiles) -> int | None:
    """The segment that is being written: the last one in use, since one more may lie there ready. None: no writer."""
    if not files.live:
        return None
    for segment in reversed(files.segments):
        with _opened(files, segment) as (_, header):
            if header.end:
                return segment.number
    return files.segments[0].number


@contextmanager
def _opened(files: JournalFiles, segment: SegmentFile) -> Iterator[tuple[int, layout.Header]]:
    """An open segment and its header. One that another shipper has removed reads as empty."""
    try:
        descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(
            f"Cannot read the usage journal {segment.path}: {error.strerror}. Give the gateway's user the right to read"
            " and write it, and it will be shipped."
        ) from error
    try:
        header = layout.unpack_header(os.pread(descriptor, layout.HEADER_BYTES, 0))
        _check(header, files, segment)
        yield descriptor, header
    except OSError as error:
        raise Unreadable(f"Cannot read the usage journal {segment.path}: {error.strerror}.") from error
    finally:
        os.close(descriptor)


def _is_file(descriptor: int) -> bool:
    """Whether it is still there, and not the stand-in for one that another shipper has removed."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _check(header: layout.Header, files: JournalFiles, segment: SegmentFile) -> None:
    if not header.intact:
        return
    if header.version != layout.VERSION:
        raise Unreadable(
            f"The usage journal {segment.path} has format {header.version}; this gateway reads {layout.VERSION}."
            " It was written by a newer gateway: start that one again to ship it."
        )
    if (header.journal_id, header.number) != (files.journal_id.hex, segment.number):
        raise Unreadable(
            f"The usage journal {segment.path} says that it is segment {header.number} of {header.journal_id}: somebody"
            " renamed it. Give it the name that it says, or move it away."
        )

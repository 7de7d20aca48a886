"""One process's own journal: append now, flush soon, never wait for a disk on the event loop.

Invariant: an append makes no system call, except that the first touch of a page is a page fault. So the next segment is
always made ahead, in a thread: allocated, so that a full disk shows here and not as SIGBUS on a store; written with
zeros, so that later faults need no allocation (measured on ext4 with a flush every 50 ms: the slowest of 110,000
appends took 0.1 ms instead of 4.5); locked, and only then given its name.
"""

import asyncio
import fcntl
import logging
import mmap
import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from storage.journal import format as layout
from storage.journal.directory import MAKING, segment_name, size_of
from storage.ports import StorageError

logger: Final = logging.getLogger("storage.journal")

SEGMENT_BYTES: Final = 4 << 20
LIMIT_BYTES: Final = 1 << 30
FLUSH_S: Final = 0.05
RETRY_S: Final = 1.0
"""How often a full journal looks whether there is room again."""

_ZEROS: Final = bytes(1 << 18)
_END: Final = layout.HINT_AT // 8
_RECORDS: Final = _END + 1
"""Where the two figures of the hint stand in the header, in words of eight bytes."""


class JournalFull(StorageError):
    """There is no room for this record: the disk is full, or the bound of unshipped bytes is reached."""


class _Segment:
    """A preallocated, locked and mapped file."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, size)
        self.hint = memoryview(self.map)[: layout.HEADER_BYTES].cast("Q")

    @property
    def removed(self) -> bool:
        """Whether somebody removed the file: what is written to it now reaches nobody."""
        return os.fstat(self.descriptor).st_nlink == 0

    def sync(self) -> None:
        """Wait until the disk has it. Not ``mmap.flush``: that one keeps the interpreter's lock while it waits.

        Its pages leave the process first, all at once, and stay in the kernel's cache; an append gets its own back.
        Left to fdatasync they go one by one, each with an interrupt to the core that runs the event loop.

        A failure is said, not repeated: the kernel has marked the pages clean and would report success next time.
        """
        with suppress(OSError):  # memory that is locked (mlockall) stays as it is
            self.map.madvise(mmap.MADV_DONTNEED)
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            logger.error(  # noqa: TRY400  the error is the disk's; a traceback of ours says nothing
                "The disk under %s failed: %s. Usage records of the last moments may not survive a power cut."
                " Replace the disk.",
                self.path,
                error.strerror,
            )

    def close(self, end: int | None = None) -> None:
        """Unmap, cut to ``end`` where it is given, and unlock."""
        self.hint.release()
        self.map.close()
        if end is not None:
            os.ftruncate(self.descriptor, end)
        os.close(self.descriptor)


class Journal:
    """Usage rows on the local disk, until the shipper has them in the ledger.

    ``append`` belongs to one thread (the event loop's); :meth:`keep` runs beside it for as long as the process lives.
    ``limit_bytes`` bounds all files of the directory together, those of other processes and of dead ones included;
    every writer needs two segments within it. Raises StorageError when the directory cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int = LIMIT_BYTES,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._directory = directory
        self._size = segment_bytes
        self._limit = limit_bytes
        self._flush_s = flush_s
        self._id = uuid4()
        self._seed = layout.seed(self._id)
        self._number = -1
        self._segment: _Segment | None = None
        self._spare: _Segment | None = None
        self._sealed: deque[_Segment] = deque()
        self._offset = segment_bytes
        self._sequence = 0
        self._dirty = False
        self._wake = asyncio.Event()
        self._making = threading.Lock()
        self._refusal: JournalFull | None = None
        self._closed = False
        _make_directory(directory)
        with suppress(JournalFull):  # the gateway starts all the same, and refuses what it cannot account for
            self._turn()

    @property
    def journal_id(self) -> str:
        """32 hexadecimal digits, in the names of this journal's files and in ``platform.journals``."""
        return self._id.hex

    @property
    def records(self) -> int:
        """Records appended so far."""
        return self._sequence

    @property
    def full(self) -> bool:
        """Whether little room is left, and none will come.

        New work is refused then, so that the work at hand can still be accounted for.
        """
        return self._refusal is not None and self._size - self._offset < self._size // 8

    def append(self, row: bytes) -> None:
        """Keep one row. When this returns the row survives ``kill -9``; within the flush interval also a power cut.

        Raises JournalFull when there is no room, ValueError for a row longer than ``LONGEST_ROW``.
        """
        record = layout.pack_record(row, self._sequence, self._seed)
        if self._offset + len(record) > self._size or len(row) > layout.LONGEST_ROW:
            self._make_room(len(row))
        self._put(record, self._sequence + 1)

    def append_all(self, rows: Sequence[bytes]) -> int:
        """Keep rows in one go, from the first on, as many as the current segment has room for; how many."""
        records = layout.pack_records(rows, self._sequence, self._seed, self._size - self._offset)
        if records:
            self._put(b"".join(records), self._sequence + len(records))
        return len(records)

    def _put(self, data: bytes, sequence: int) -> None:
        """Store records behind the last one; the next will have this sequence."""
        segment = self._segment
        assert segment is not None  # there is room, so there is a segment
        start = self._offset
        self._offset = end = start + len(data)
        self._sequence = sequence
        segment.map[start:end] = data
        # The hint goes last: a reader that believes it finds the records there.
        segment.hint[_END] = end
        segment.hint[_RECORDS] = sequence
        if not self._dirty:
            self._dirty = True
            self._wake.set()

    async def keep(self) -> None:
        """Flush in groups, make segments ahead, and watch that the files stay where they are, until cancelled."""
        while True:
            await asyncio.to_thread(self.flush)
            self._leave_removed_segment()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._spare else RETRY_S):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._flush_s)

    def flush(self) -> None:
        """Wait until the disk has everything appended so far, then see to the next segment. Not for the event loop."""
        with self._making:
            self._dirty = False
            current = self._segment
            while self._sealed:
                segment = self._sealed.popleft()
                segment.sync()
                segment.close()
            if current and not current.map.closed:
                current.sync()
            self._make_spare()

    def close(self) -> None:
        """Flush, give back what was allocated and not used, and unlock: what is left is the shipper's."""
        with self._making:
            if self._spare:
                self._spare.path.unlink(missing_ok=True)
                self._spare.close()
            while self._sealed:
                segment = self._sealed.popleft()
                segment.sync()
                segment.close()
            if self._segment:
                if self._offset == layout.HEADER_BYTES:
                    self._segment.path.unlink(missing_ok=True)
                self._segment.sync()
                self._segment.close(end=self._offset)
            self._segment = self._spare = None
            self._offset = self._size
            self._closed = True
            self._refusal = JournalFull("The usage journal is closed.")

    def _make_room(self, row_bytes: int) -> None:
        """See that a record fits that the current segment has no room for."""
        if row_bytes > layout.LONGEST_ROW:
            raise ValueError(f"A usage row has {row_bytes} bytes; {layout.LONGEST_ROW} is the most a journal takes.")
        self._turn()

    def _turn(self) -> None:
        """Go over to the next segment. Raises JournalFull."""
        if self._spare and self._spare.removed:
            self._spare.close()
            self._spare = None
        if self._spare is None and self._refusal is None:
            # A burst outran the thread: wait for it, or do its work here, rather than refuse.
            with self._making:
                self._make_spare()
        if self._spare is None:
            raise self._refusal or JournalFull("The usage journal has no room.")
        if self._segment:
            self._sealed.append(self._segment)
        self._segment, self._spare = self._spare, None
        self._number += 1
        self._offset = layout.HEADER_BYTES

    def _leave_removed_segment(self) -> None:
        if self._segment and self._offset < self._size and self._segment.removed:
            logger.error(
                "Somebody removed the usage journal %s while it was in use: what was not shipped yet is lost."
                " The journal goes on in a new file.",
                self._segment.path,
            )
            self._offset = self._size

    def _make_spare(self) -> None:
        """Have the next segment ready, or the reason why there is none."""
        if self._spare or self._closed:
            return
        try:
            self._spare = self._allocate(self._number + 1)
        except StorageError as error:
            if self._refusal is None:
                logger.warning("%s", error)
            self._refusal = JournalFull(str(error))
        else:
            self._refusal = None

    def _allocate(self, number: int) -> _Segment:
        _make_directory(self._directory)
        try:
            taken = size_of(self._directory)
        except OSError as error:
            raise StorageError(f"Cannot list the usage journals in {self._directory}: {error.strerror}.") from error
        if taken + self._size > self._limit:
            raise JournalFull(
                f"The usage journals in {self._directory} take {taken} bytes, and their bound is {self._limit}."
                " They shrink when the ledger takes their records: see that PostgreSQL can be reached."
            )
        path = self._directory / segment_name(self._id, number)
        making = path.with_suffix(MAKING)
        with ExitStack() as undo:
            try:
                descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                undo.callback(os.close, descriptor)
                undo.callback(making.unlink, missing_ok=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _fill(descriptor, layout.pack_header(self._id, number), self._size)
                making.rename(path)
                undo.callback(path.unlink, missing_ok=True)
                _sync_directory(self._directory)
                segment = _Segment(path, descriptor, self._size)
            except (OSError, ValueError) as error:  # ValueError: somebody cut the file off before it was mapped
                raise JournalFull(
                    f"Cannot allocate {self._size} bytes for the usage journal {path}:"
                    f" {getattr(error, 'strerror', None) or error}."
                    " Make room there, or give the directory to the gateway's user."
                ) from error
            undo.pop_all()
            return segment


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot make the usage journal's directory {directory}: {error.strerror}.") from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StorageError(
            f"The usage journal's directory {directory} cannot be written: give it to the gateway's user."
        )


def _fill(descriptor: int, header: bytes, size: int) -> None:
    """Allocate a segment, write its zeros and its header, and wait until the disk has them."""
    os.posix_fallocate(descriptor, 0, size)
    for offset in range(0, size, len(_ZEROS)):
        os.pwrite(descriptor, _ZEROS[: size - offset], offset)
    os.pwrite(descriptor, header, 0)
    os.fdatasync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

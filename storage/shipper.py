"""Brings every journal's rows to the ledger, once each, and archives the files that the ledger has in full.

The ledger's positions are the only truth: what is remembered here is a hint, and a ledger that says "not from there" is
asked where it stands. So it does not matter which side is killed when, whether an answer is lost after a commit, how
many shippers look at one directory, or whether somebody copies an old journal back.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import uniform
from typing import Final
from uuid import UUID

from storage.journal import format as layout
from storage.journal.archive import Archive
from storage.journal.directory import JournalFiles, SegmentFile, survey
from storage.journal.reader import Batch, Exhausted, Unreadable, backlog, read_batch
from storage.ports import Ledger, Rejected, StorageError, Unavailable

logger: Final = logging.getLogger("storage.shipper")

POLL_S: Final = 0.2
GATHER_S: Final = 1.0
CALM_S: Final = 2.0
"""After so long without a record it looks :data:`_RARER` times more rarely: a look at nothing costs 0.6 ms."""
_RARER: Final = 5
BATCH_ROWS: Final = 8_000
BATCH_BYTES: Final = 4 << 20
LONGEST_PAUSE_S: Final = 5.0
REJECTED: Final = "rejected"


class Shipper:
    """One for each journal directory, in the gateway's parent process; more do no harm.

    It looks at the directory every ``poll_s`` seconds, and more rarely where nothing has come for a while. A lone
    record is shipped at the next look; a stream of them when a batch of ``batch_rows`` is full or the last one
    ``gather_s`` seconds old, because a transaction for a hundred rows costs little more than one for one.
    ``taken`` is told of the rows that this shipper brought there.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        archive: Archive,
        *,
        taken: Callable[[Sequence[bytes]], None] | None = None,
        poll_s: float = POLL_S,
        gather_s: float = GATHER_S,
        batch_rows: int = BATCH_ROWS,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._archive = archive
        self._taken = taken
        self._poll_s = poll_s
        self._gather_s = gather_s
        self._batch_rows = batch_rows
        self._batch_bytes = batch_bytes
        self._courses: dict[UUID, _Course] = {}
        self._said: set[str] = set()
        self._unseen = 0
        self._at_work = asyncio.Lock()
        self.shipped = 0
        """Records that this shipper brought to the ledger."""
        self.rejected = 0
        """Records that the ledger will never take; they lie in ``rejected/``, a file each."""
        self.lost_records = 0
        """Records that were damaged on the disk, as far as gaps in their numbers tell."""
        self.lost_bytes = 0
        """Bytes on the disk that are no intact record."""

    @property
    def pending_bytes(self) -> int:
        """Bytes in the journals that the ledger does not have, at the last look."""
        return sum(course.pending_bytes for course in self._courses.values())

    @property
    def pending_records(self) -> int:
        """Records in the journals that the ledger does not have, at the last look; rather too many than too few."""
        return sum(course.pending_records for course in self._courses.values())

    @property
    def stuck(self) -> int:
        """Journals that wait for somebody, and in no figure above as far as they cannot be read; the log says why."""
        return self._unseen + sum(course.is_stuck for course in self._courses.values())

    async def run(self) -> None:
        """Ship until cancelled; come back by itself when the ledger does."""
        pause, down = self._poll_s, False
        while True:
            try:
                busy = await self._round(everything=False)
            except Unavailable as error:
                if not down:
                    logger.warning("The ledger cannot be reached; usage stays in the journals meanwhile. %s", error)
                down, busy = True, False
                # Not in step with the other gateways that lost the same server.
                pause = min(pause * 2, LONGEST_PAUSE_S) * uniform(0.8, 1.0)  # noqa: S311  no secret
            else:
                if down and self._courses:  # without a journal nothing was asked
                    logger.warning("The ledger is there again.")
                    down = False
                pause = self._poll_s * (_RARER if self._is_calm else 1)
            if not busy:
                await asyncio.sleep(pause)

    async def drain(self) -> None:
        """Ship everything that is there now. Raises Unavailable when the ledger is not: usage stays where it is."""
        while await self._round(everything=True):
            pass

    @property
    def _is_calm(self) -> bool:
        """Whether nothing is pending, nor was a short time ago."""
        since = asyncio.get_running_loop().time() - CALM_S
        return not self.pending_bytes and all(course.shipped_at < since for course in self._courses.values())

    async def _round(self, *, everything: bool) -> bool:
        """Advance each journal by at most a batch. Whether it is worth while to come back at once."""
        async with self._at_work:
            journals = await asyncio.to_thread(self._look)
            busy = False
            for files in journals:
                course = self._courses[files.journal_id]
                try:
                    busy |= await self._advance(files, course, everything=everything)
                except Unavailable:
                    raise
                except StorageError as error:  # this journal's own trouble: the others go on
                    self._say_once(str(error))
                    course.trouble_until = asyncio.get_running_loop().time() + LONGEST_PAUSE_S
                    course.is_stuck = True
                else:
                    course.is_stuck &= asyncio.get_running_loop().time() < course.trouble_until
            return busy

    def _look(self) -> Sequence[JournalFiles]:
        """See what is there and how much of it is pending, whether the ledger can be reached or not."""
        try:
            found = survey(self._directory)
        except OSError as error:
            self._say_once(f"Cannot list the usage journals in {self._directory}: {error.strerror}.")
            return ()
        for name in found.foreign:
            self._say_once(f"{name} in {self._directory} is no usage journal and is left alone. Move it elsewhere.")
        for complaint in found.unreadable:
            self._say_once(complaint)
        self._unseen = len(found.unreadable)
        self._courses = {files.journal_id: self._courses.get(files.journal_id) or _Course() for files in found.journals}
        readable = []
        for files in found.journals:
            try:
                self._courses[files.journal_id].measure(files)
            except Unreadable as error:
                self._say_once(str(error))
                self._courses[files.journal_id].is_stuck = True
            else:
                readable.append(files)
        return readable

    async def _advance(self, files: JournalFiles, course: "_Course", *, everything: bool) -> bool:
        now = asyncio.get_running_loop().time()
        if now < course.trouble_until:
            return False
        if course.finished:
            await self._put_away(files.segments)
            return False
        if course.position is None:
            course.position = await self._ledger.shipped(files.journal_id.hex)
            await asyncio.to_thread(course.measure, files)
        gathered = course.pending_records >= self._batch_rows or now - course.shipped_at >= self._gather_s
        if files.live and not (course.pending_bytes and (everything or gathered)):
            return False
        found = await asyncio.to_thread(
            read_batch, files, course.position, max_rows=self._batch_rows, max_bytes=self._batch_bytes
        )
        if isinstance(found, Exhausted):
            await self._finish(files, course, found)
            return False
        await self._ship(files, course, found)
        course.shipped_at = now
        await self._put_away([segment for segment in files.segments if segment.number < course.segment])
        return everything or not files.live or course.pending_records >= self._batch_rows

    async def _ship(self, files: JournalFiles, course: "_Course", batch: Batch) -> None:
        """Bring a batch to the ledger and take note of where it stands then."""
        name = files.journal_id.hex
        assert course.position is not None  # known before anything is read
        fresh = course.without_copies(batch)
        position = await self._ship_rows(name, course.position, fresh, 0, len(fresh.rows))
        if position is None:
            course.position, course.sequence = await self._ledger.shipped(name), None
            course.brought.clear()
            return
        self._count_lost(files, fresh.lost_bytes, course.missing(batch.first_sequence))
        course.advance(position, batch.sequences, batch.ends[-1] + batch.lost_bytes)

    async def _ship_rows(self, journal: str, position: int, batch: Batch, first: int, last: int) -> int | None:
        """Ship ``batch.rows[first:last]``, by halves around what is rejected. The new position, or None: ask for it."""
        end = batch.after(last - 1)  # of no rows at all: all were copies
        rows = batch.rows[first:last]
        try:
            accepted = await self._ledger.ship(journal, position, end, rows)
        except Rejected as error:
            if not rows:
                raise  # there is nothing to set aside: this journal waits, and the log says why
            if len(rows) == 1:
                await asyncio.to_thread(self._set_aside, f"{journal}-{end}.row", rows[0], error)
                accepted = await self._ledger.ship(journal, position, end, ())
                self.rejected += accepted
                return end if accepted else None
            middle = (first + last) // 2
            reached = await self._ship_rows(journal, position, batch, first, middle)
            return None if reached is None else await self._ship_rows(journal, reached, batch, middle, last)
        if not accepted:
            return None
        self.shipped += len(rows)
        if self._taken is not None:
            self._taken(rows)
        return end

    def _set_aside(self, name: str, row: bytes, reason: Rejected) -> None:
        """Keep a row that the ledger does not take. The name is the row's own: after a crash it is the same file."""
        path = self._directory / REJECTED / name
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with path.open("wb") as file:
                path.chmod(0o600)
                file.write(row)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"Cannot set aside a rejected usage record as {path}: {error.strerror}. Its journal waits for that."
            ) from error
        logger.error("The ledger rejected a usage record; it is kept in %s. %s", path, reason)

    async def _finish(self, files: JournalFiles, course: "_Course", found: Exhausted) -> None:
        if not found.complete:
            return
        course.finished = True
        course.pending_bytes = course.pending_records = 0
        self._count_lost(files, found.lost_bytes, course.missing(found.records))
        await self._put_away(files.segments)

    def _count_lost(self, files: JournalFiles, lost_bytes: int, lost_records: int) -> None:
        self.lost_bytes += lost_bytes
        self.lost_records += lost_records
        if lost_bytes or lost_records:
            logger.error(
                "%d bytes of the usage journal %s are no intact record, and %d records are not there: damaged or cut"
                " off on the disk, or a last record that was never finished. They were passed over.",
                lost_bytes,
                files.journal_id.hex,
                lost_records,
            )

    async def _put_away(self, segments: Sequence[SegmentFile]) -> None:
        """Archive files that the ledger has in full."""
        for segment in segments:
            try:
                await asyncio.to_thread(self._archive.take, segment)
            except OSError as error:
                self._say_once(
                    f"Cannot remove the usage journal {segment.path}: {error.strerror}. Its records are in the ledger;"
                    " they will not be shipped again."
                )

    def _say_once(self, complaint: str) -> None:
        if complaint not in self._said:
            self._said.add(complaint)
            logger.error("%s", complaint)


@dataclass(slots=True)
class _Course:
    """How far one journal has come, as far as this process knows."""

    position: int | None = None
    sequence: int | None = None
    """The sequence of the record at ``position``; None when another process led the journal there."""
    brought: list[range] = field(default_factory=list)
    """The sequences of what this process has brought there since it last asked: one range, or more around damage."""
    shipped_at: float = float("-inf")
    """On the event loop's clock."""
    trouble_until: float = float("-inf")
    """When to try again what no other journal suffers from; on the same clock."""
    is_stuck: bool = False
    """Whether it was so at the last try."""
    finished: bool = False
    """Its writer is dead and the ledger has all of it."""
    pending_bytes: int = 0
    pending_records: int = 0

    @property
    def segment(self) -> int:
        """The number of the segment where the position is."""
        return layout.place(self.position or 0)[0]

    def measure(self, files: JournalFiles) -> None:
        """See how much is pending; all, as long as nobody has said how much is not. Blocks; raises Unreadable."""
        if self.finished:
            return
        behind = backlog(files, self.position or 0)
        self.pending_bytes = behind.bytes
        self.pending_records = max(0, behind.records - self.known_sequence) if behind.bytes else 0

    def without_copies(self, batch: Batch) -> Batch:
        """Without rows that were brought already: copies, where a disk wrote records to a wrong place."""
        sequences = batch.sequences
        if all(sequences.start >= known.stop or sequences.stop <= known.start for known in self.brought):
            return batch
        fresh, copied = [], 0
        for at, sequence in enumerate(sequences):
            if any(sequence in known for known in self.brought):
                copied += layout.RECORD_BYTES + len(batch.rows[at])
            else:
                fresh.append(at)
        return replace(
            batch,
            rows=[batch.rows[at] for at in fresh],
            ends=[*(batch.ends[at] for at in fresh[:-1]), batch.ends[-1]],
            lost_bytes=batch.lost_bytes + copied,
        )

    def advance(self, position: int, sequences: range, size: int) -> None:
        """The ledger has everything before ``position``, ``size`` bytes more: the records with these sequences."""
        self.pending_bytes = max(0, self.pending_bytes - size)
        self.pending_records = max(0, self.pending_records - (sequences.stop - self.known_sequence))
        self.position, self.sequence = position, max(sequences.stop, self.known_sequence)
        if self.brought and self.brought[-1].stop == sequences.start:
            sequences = range(self.brought.pop().start, sequences.stop)
        self.brought.append(sequences)

    def missing(self, sequence: int) -> int:
        """Records between the position and the one with this number, as far as that can be known."""
        if self.sequence is None and self.position:
            return 0
        return max(0, sequence - self.known_sequence)

    @property
    def known_sequence(self) -> int:
        """The sequence at the position; before the first batch was read, too low rather than too high."""
        return self.sequence or 0

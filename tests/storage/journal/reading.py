"""Reading a whole journal directory, as the shipper does, without a ledger."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from storage.journal import format as layout
from storage.journal.archive import Archive
from storage.journal.directory import JournalFiles, segment_name, survey
from storage.journal.reader import Exhausted, read_batch

JOURNAL = UUID(int=7)


@dataclass(slots=True)
class Read:
    """What lay in one journal."""

    rows: list[bytes] = field(default_factory=list)
    lost_bytes: int = 0
    complete: bool = False


def only_journal(directory: Path) -> JournalFiles:
    (files,) = survey(directory).journals
    return files


def read_all(files: JournalFiles, position: int = 0, *, max_rows: int = 5) -> Read:
    """Everything after a position."""
    read = Read()
    while True:
        found = read_batch(files, position, max_rows=max_rows, max_bytes=1)
        read.lost_bytes += found.lost_bytes
        if isinstance(found, Exhausted):
            read.complete = found.complete
            return read
        read.rows += found.rows
        position = found.after(-1)


def write_dead(directory: Path, segments: list[list[bytes]], *, size: int = 8192, journal: UUID = JOURNAL) -> None:
    """A journal whose writer is gone, with these rows in its segments."""
    sequence = 0
    for number, rows in enumerate(segments):
        data = bytearray(layout.pack_header(journal, number))
        for row in rows:
            data += layout.pack_record(row, sequence, layout.seed(journal))
            sequence += 1
        data[layout.HINT_AT : layout.HEADER_BYTES] = struct.pack("<QQ", len(data), sequence)
        path(directory, number, journal).write_bytes(data.ljust(size, b"\0"))


def path(directory: Path, number: int = 0, journal: UUID = JOURNAL) -> Path:
    return directory / segment_name(journal, number)


def archive_of(journals: Path, keep_days: int = 1) -> Archive:
    """An archive of the test's own, below the journals, where none looks for any."""
    return Archive(journals / "archive", keep_days=lambda: keep_days, limit_bytes=1 << 30)

"""Which journals lie in a directory, which of them are still being written, and what does not belong there."""

import fcntl
import os
import re
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

SUFFIX: Final = ".journal"
MAKING: Final = ".making"
"""A segment that is being allocated; it is renamed when it is whole and locked."""

_SEGMENT: Final = re.compile(r"(?P<id>[0-9a-f]{32})\.(?P<number>[0-9]{8})\.journal")
_MAKING: Final = re.compile(r"[0-9a-f]{32}\.[0-9]{8}\.making")
_ABANDONED_S: Final = 60.0
"""Allocating a segment takes well under a second; what is older and not locked was left by a process that died."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One segment on the disk."""

    number: int
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class JournalFiles:
    """One journal's segments in order. ``live``: its writer holds a lock, so its end may still move."""

    journal_id: UUID
    segments: tuple[SegmentFile, ...]
    live: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that lies in a journal directory."""

    journals: tuple[JournalFiles, ...]
    foreign: tuple[str, ...]
    """Names of files that are no journal's."""
    unreadable: tuple[str, ...]
    """Complaints about journals that cannot be looked at, each a sentence; those journals are left out."""


def segment_name(journal_id: UUID, number: int) -> str:
    """The file name of a segment."""
    return f"{journal_id.hex}.{number:08d}{SUFFIX}"


def survey(directory: Path) -> Survey:
    """Look at a journal directory; one that does not exist is empty. Raises OSError when it cannot be listed."""
    segments: defaultdict[str, list[SegmentFile]] = defaultdict(list)
    foreign: list[str] = []
    for entry in _entries(directory):
        if match := _SEGMENT.fullmatch(entry.name):
            with suppress(FileNotFoundError):  # another shipper removed it
                segments[match["id"]].append(SegmentFile(int(match["number"]), Path(entry.path), entry.stat().st_size))
        elif _MAKING.fullmatch(entry.name):
            _sweep(entry)
        elif entry.is_file(follow_symlinks=False):
            foreign.append(entry.name)
    journals: list[JournalFiles] = []
    unreadable: list[str] = []
    for journal_id, found in segments.items():
        found.sort(key=lambda segment: segment.number)
        try:
            live = any(_is_locked(segment.path) for segment in reversed(found))
        except OSError as error:
            unreadable.append(
                f"Cannot read the usage journal {error.filename}: {error.strerror}. Give the gateway's user the right"
                " to read and write it, and it will be shipped."
            )
        else:
            journals.append(JournalFiles(UUID(hex=journal_id), tuple(found), live))
    return Survey(tuple(journals), tuple(foreign), tuple(unreadable))


def size_of(directory: Path) -> int:
    """Bytes that all journals in a directory take."""
    total = 0
    for entry in _entries(directory):
        if entry.name.endswith((SUFFIX, MAKING)):
            with suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _is_locked(path: Path) -> bool:
    """Whether a writer holds the segment. Shared, so that two shippers looking at once do not see each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sweep(entry: os.DirEntry[str]) -> None:
    """Remove a segment whose writer died while it was being allocated."""
    with suppress(FileNotFoundError, PermissionError):
        if time.time() - entry.stat().st_mtime > _ABANDONED_S and not _is_locked(Path(entry.path)):
            Path(entry.path).unlink()

"""What the ledger has in full, kept for some days, so that the account can be compared with what the workers wrote.

``<state>/archive/<journal id>.<number>.journal``, and ``.gz`` behind it a minute later. A segment comes here by a
rename: it is at one place at any instant, and shipping waits for nothing. Put back into the journal directory,
uncompressed, it is shipped again from where the ledger stands, which is what a database restored from a backup needs.
"""

import asyncio
import gzip
import logging
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from storage.journal import format as layout
from storage.journal.directory import MAKING, SUFFIX, SegmentFile
from storage.journal.reader import Unreadable

logger: Final = logging.getLogger("storage.journal")

COMPRESSED: Final = ".gz"
TIDY_S: Final = 60.0
FREE_BYTES: Final = 1 << 28
"""Below so much room on the disk the archive gives way: a journal that has none stops the gateway."""

_LEVEL: Final = 1
_MOST_BYTES: Final = 1 << 26
"""The largest segment that is read, uncompressed: sixteen times what a journal writes. More would fill the memory."""
_DAY_S: Final = 86_400.0
_NAME: Final = re.compile(rf"(?P<id>[0-9a-f]{{32}})\.(?P<number>[0-9]{{8}})\{SUFFIX}(\{COMPRESSED})?")


@dataclass(frozen=True, slots=True)
class Archived:
    """One segment's file, compressed or not."""

    path: Path
    journal_id: UUID
    size: int
    shipped_at: float
    """Seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archived segment holds."""

    rows: list[bytes]
    """Every intact one."""
    damaged_bytes: int = 0
    """What is no intact record, of what its writer said that it had written."""


class Archive:
    """``keep_days`` after it was shipped a segment goes, 0: at once; the oldest go when all take ``limit_bytes``."""

    def __init__(self, directory: Path, *, keep_days: Callable[[], int], limit_bytes: int) -> None:
        self._directory = directory
        self._keep_days = keep_days
        self._limit = limit_bytes
        self._said: set[str] = set()

    def take(self, segment: SegmentFile) -> None:
        """Take in a segment, or remove it where it cannot be kept: a journal must not fill up. Raises OSError."""
        if self._keep_days():
            try:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                os.utime(segment.path)
                segment.path.rename(self._directory / segment.path.name)
            except FileNotFoundError:  # another shipper was faster
                return
            except OSError as error:
                self._say_once(
                    f"Usage journals cannot be archived in {self._directory}: {error.strerror}. They are removed when"
                    " they have been shipped, and cannot be compared with the account."
                )
            else:
                return
        segment.path.unlink(missing_ok=True)

    def segments(self) -> Sequence[Archived]:
        """What is there, the oldest first. Raises Unreadable."""
        found = []
        try:
            for path in self._directory.iterdir():
                if match := _NAME.fullmatch(path.name):
                    with suppress(FileNotFoundError):  # it is just being compressed, or removed
                        about = path.lstat()
                        if stat.S_ISREG(about.st_mode):  # a link or a pipe was put there by somebody else
                            found.append(Archived(path, UUID(hex=match["id"]), about.st_size, about.st_mtime))
        except FileNotFoundError:  # nothing was ever archived
            return ()
        except OSError as error:
            raise Unreadable(f"Cannot list the archived usage journals in {self._directory}: {error}.") from error
        return sorted(found, key=lambda segment: (segment.shipped_at, segment.path.name))

    async def keep(self) -> None:
        """Tidy up every minute, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.tidy)
            except (OSError, Unreadable) as error:
                self._say_once(f"The archive of usage journals cannot be kept in order. {error}")
            await asyncio.sleep(TIDY_S)

    def tidy(self) -> None:
        """Remove what is too old or too much, compress the rest. Blocks; raises OSError and Unreadable."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for unfinished in self._directory.glob(f"*{MAKING}"):
            unfinished.unlink()
        kept = list(self.segments())
        too_old = time.time() - self._keep_days() * _DAY_S
        total = sum(segment.size for segment in kept)
        while kept and (kept[0].shipped_at < too_old or total > self._limit or self._is_disk_full()):
            total -= kept[0].size
            kept.pop(0).path.unlink(missing_ok=True)
        for segment in kept:
            if segment.path.suffix != COMPRESSED:
                _compress(segment)

    def _is_disk_full(self) -> bool:
        return shutil.disk_usage(self._directory).free < FREE_BYTES

    def _say_once(self, complaint: str) -> None:
        if complaint not in self._said:
            self._said.add(complaint)
            logger.error("%s", complaint)


def read_archived(segment: Archived) -> Contents:
    """All of it; nothing when it has gone meanwhile. Raises Unreadable."""
    try:
        opened = gzip.open if segment.path.suffix == COMPRESSED else open
        with opened(segment.path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return Contents([])
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"The archived usage journal {segment.path} cannot be read: {error}.") from error
    if len(data) > _MOST_BYTES:
        raise Unreadable(f"The archived usage journal {segment.path} cannot be read: it is larger than any.")
    if len(data) < layout.HEADER_BYTES:
        raise Unreadable(f"The archived usage journal {segment.path} cannot be read: it was cut short.")
    header, rows = layout.unpack_header(data), layout.intact_rows(data, segment.journal_id)
    said = header.end - layout.HEADER_BYTES if header.intact else len(data.rstrip(b"\0"))
    return Contents(rows, max(said - sum(layout.RECORD_BYTES + len(row) for row in rows), 0))


def _compress(segment: Archived) -> None:
    """Make it smaller; the old file goes when the disk has the new one, which keeps its time."""
    packed = segment.path.with_name(segment.path.name + COMPRESSED)
    making = packed.with_suffix(MAKING)
    with making.open("wb") as file:
        making.chmod(0o600)
        file.write(gzip.compress(segment.path.read_bytes(), _LEVEL))
        file.flush()
        os.fsync(file.fileno())
    os.utime(making, (segment.shipped_at, segment.shipped_at))
    making.rename(packed)
    segment.path.unlink(missing_ok=True)

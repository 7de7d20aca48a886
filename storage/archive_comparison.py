"""Whether the account has what the journals have that it was made of: each record with its row, in both directions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from storage.journal.archive import Archive, read_archived
from storage.journal.directory import survey
from storage.journal.reader import Unreadable, read_shipped
from storage.ports import Difference, Ledger, Rejected, UsageTotals


async def archive_differences(archive: Archive, journals: Path, ledger: Ledger) -> AsyncIterator[Difference]:
    """Every difference, a segment at a time: archived ones, and what was shipped of those among the journals.

    Raises Unavailable, and Unreadable when nothing can be looked at.
    """
    # First: a segment that is full meanwhile goes to the archive, and is found there.
    async for difference in _open_differences(journals, ledger):
        yield difference
    for segment in await asyncio.to_thread(archive.segments):
        try:
            held = await asyncio.to_thread(read_archived, segment)
        except Unreadable as error:
            yield _untold(str(error))
            continue
        journal, rows = segment.journal_id.hex, held.rows
        if held.damaged_bytes:
            yield _untold(
                f"{held.damaged_bytes} bytes of the archived usage journal {segment.path} are no intact record: what"
                " they were is not compared"
            )
        if rows and not await ledger.shipped(journal):
            # One line: the ledger was restored from an older backup, or is that of another gateway.
            yield _missing(f"the account has never met the journal of {segment.path}", len(rows))
            continue
        for difference in await _compare(ledger, journal, rows):
            yield difference


async def _open_differences(journals: Path, ledger: Ledger) -> AsyncIterator[Difference]:
    """The differences of segments in use, or whose journal is not shipped to its end: up to where the ledger stands."""
    try:
        found = await asyncio.to_thread(survey, journals)
    except OSError as error:
        raise Unreadable(f"Cannot list the usage journals in {journals}: {error.strerror}.") from error
    for files in found.journals:
        position = await ledger.shipped(files.journal_id.hex)
        for segment in files.segments if position else ():
            try:
                rows = await asyncio.to_thread(read_shipped, files, segment, position)
            except Unreadable as error:
                yield _untold(str(error))
                continue
            for difference in await _compare(ledger, files.journal_id.hex, rows):
                yield difference


async def _compare(ledger: Ledger, journal: str, rows: Sequence[bytes]) -> Sequence[Difference]:
    """By halves around rows that the ledger cannot even read, as the shipper does."""
    try:
        return await ledger.compare(journal, rows) if rows else ()
    except Rejected as error:
        if len(rows) == 1:
            return [
                _missing(f"a record of journal {journal} was rejected, see rejected/ among the journals: {error}", 1)
            ]
        middle = len(rows) // 2
        return [
            *await _compare(ledger, journal, rows[:middle]),
            *await _compare(ledger, journal, rows[middle:]),
        ]


def _missing(where: str, records: int) -> Difference:
    return Difference(where=where, expected=UsageTotals(requests=records), found=UsageTotals())


def _untold(where: str) -> Difference:
    """Where nobody can say how much differs."""
    return Difference(where=where, expected=UsageTotals(), found=UsageTotals())

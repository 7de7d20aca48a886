"""Whether the account has what the archived journals have: each record with its row, in both directions."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from storage.journal.archive import Archive, read_archived
from storage.journal.reader import Unreadable
from storage.ports import Difference, Ledger, Rejected, UsageTotals


async def archive_differences(archive: Archive, ledger: Ledger) -> AsyncIterator[Difference]:
    """Every difference, a segment at a time. Raises Unavailable, and Unreadable when nothing can be looked at."""
    for segment in await asyncio.to_thread(archive.segments):
        try:
            rows = await asyncio.to_thread(read_archived, segment)
        except Unreadable as error:
            yield Difference(where=str(error), expected=UsageTotals(), found=UsageTotals())
            continue
        journal = segment.journal_id.hex
        if rows and not await ledger.shipped(journal):
            # One line: the ledger was restored from an older backup, or is that of another gateway.
            yield _missing(f"the account has never met the journal of {segment.path}", len(rows))
            continue
        for difference in await _compare(ledger, journal, rows):
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

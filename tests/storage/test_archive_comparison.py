"""Every record that the archived journals have is in the account as they have it, and no other between them."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from policies.account.usage import UsageRecord
from storage.archive_comparison import archive_differences
from storage.journal.archive import Archive
from storage.journal.writer import Journal
from storage.ports import Difference, UsageTotals
from storage.postgres.pool import Pool
from storage.postgres.usage.care import UsageCare
from storage.postgres.usage.ledger import PostgresLedger
from storage.shipper import Shipper
from storage.usage_rows import ENCODINGS, encode
from tests.storage.accounts import EVER, totals
from tests.storage.journal.reading import archive_of
from tests.storage.usage_samples import ACME, DAY_MS, HOUR_MS, NOON, NOON_MS, in_encoding, record

ONE, NOTHING = totals([record()]), UsageTotals()


class Book:
    """One journal's records, numbered as the gateway numbers them, through the shipper into account and archive."""

    def __init__(self, place: Path, ledger: PostgresLedger, archive: Archive) -> None:
        self._place = place
        self._ledger = ledger
        self._archive = archive
        self.journal = Journal(place, segment_bytes=1 << 16)
        self._numbers = 0

    def write(self, **facts: object) -> UsageRecord:
        self._numbers += 1
        facts = {"ended_ms": NOON_MS + self._numbers * HOUR_MS // 600} | facts
        made = record(event_id=f"{self.journal.journal_id}-{self._numbers}", **facts)
        self.journal.append(encode(made))
        return made

    def skip(self) -> str:
        """A number that is in no record."""
        self._numbers += 1
        return f"{self.journal.journal_id}-{self._numbers}"

    async def ship(self, *, close: bool = True) -> None:
        if close:
            self.journal.close()
        await Shipper(self._place, self._ledger, self._archive).drain()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return archive_of(tmp_path / "journal")


@pytest.fixture
def book(tmp_path: Path, ledger: PostgresLedger, archive: Archive) -> Book:
    return Book(tmp_path / "journal", ledger, archive)


async def compared(archive: Archive, ledger: PostgresLedger) -> list[Difference]:
    journals = archive._directory.parent
    return [difference async for difference in archive_differences(archive, journals, ledger)]


async def change(pool: Pool, sql: str, *values: object) -> None:
    async with pool.operator() as connection:
        await connection.execute(sql, *values)


async def test_an_account_that_has_all_of_several_segments_and_encodings(
    tmp_path: Path, book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    """Compressed or not, and whatever else is in the account at the same time."""
    for _ in range(700):
        book.write()
    for number in ENCODINGS:
        book.journal.append(in_encoding(number, record(event_id=book.skip())))
    await book.ship()
    other = Book(tmp_path / "journal", ledger, archive)
    other.write()
    await other.ship()
    assert len(archive.segments()) > 3
    assert await compared(archive, ledger) == []
    archive.tidy()
    assert await compared(archive, ledger) == []


async def test_what_is_missing_is_otherwise_or_too_much_is_named(
    pool: Pool, book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    book.write()
    missing, added, changed = book.write().event_id, book.skip(), book.write().event_id
    book.write()
    await book.ship()
    await change(pool, "UPDATE platform.usage_events SET event_id = $2 WHERE event_id = $1", missing, added)
    await change(pool, "UPDATE platform.usage_events SET audio_ms = 5, model = 'x' WHERE event_id = $1", changed)
    assert await compared(archive, ledger) == [
        Difference(where=f"record event_id='{missing}' of its journal is missing", expected=ONE, found=NOTHING),
        Difference(where=f"record event_id='{added}' was never in its journal", expected=NOTHING, found=ONE),
        Difference(
            where=f"record event_id='{changed}' is not what its journal has: model 'x' instead of 'whisper-1',"
            " audio_ms 5 instead of 2500",
            expected=ONE,
            found=replace(ONE, audio_ms=5),
        ),
    ]


async def test_a_segment_that_is_still_written_is_compared_as_far_as_it_was_shipped(
    pool: Pool, book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    """And so are full ones of its journal that have not gone to the archive yet."""
    kept = [book.write().event_id for _ in range(400)]
    await book.ship(close=False)
    book.write()
    assert await compared(archive, ledger) == []
    await change(pool, "DELETE FROM platform.usage_events WHERE event_id = any($1)", [kept[0], kept[-1]])
    assert [one.where for one in await compared(archive, ledger)] == [
        f"record event_id='{name}' of its journal is missing" for name in (kept[-1], kept[0])
    ]
    assert [segment.journal_id.hex for segment in archive.segments()] == [book.journal.journal_id]


async def test_a_record_that_the_ledger_rejects_is_a_difference_and_hides_no_other(
    book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    for _ in range(5):
        book.write()
    book.journal.append(encode(record(event_id=book.skip())).replace(b"\t200\t", b"\t99999999999\t"))
    book.write()
    await book.ship()
    (difference,) = await compared(archive, ledger)
    assert "rejected" in difference.where
    assert (difference.expected.requests, difference.found) == (1, NOTHING)


async def test_days_whose_records_were_removed_are_left_out(
    pool: Pool, book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    """From a journal that lay on a disk for months."""
    book.write(ended_ms=NOON_MS - 90 * DAY_MS)
    kept = book.write()
    await book.ship()
    assert await UsageCare(pool).remove_raw(NOON) > 0
    assert await compared(archive, ledger) == []
    await change(pool, "DELETE FROM platform.usage_events WHERE event_id = $1", kept.event_id)
    assert [kept.event_id in difference.where for difference in await compared(archive, ledger)] == [True]


async def test_a_file_that_cannot_be_read_whole_is_a_difference(
    book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    """Packed or not."""
    book.write()
    await book.ship()
    (segment,) = archive.segments()
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole[:-5])
    (difference,) = await compared(archive, ledger)
    assert "are no intact record" in difference.where
    segment.path.write_bytes(whole)
    archive.tidy()
    (segment,) = archive.segments()
    segment.path.write_bytes(segment.path.read_bytes()[:-5])
    (difference,) = await compared(archive, ledger)
    assert "cannot be read" in difference.where


async def test_a_ledger_that_was_restored_from_a_backup_gets_the_rest_from_the_archive(
    tmp_path: Path, pool: Pool, book: Book, ledger: PostgresLedger, archive: Archive
) -> None:
    """What is missing is told in a line for each file; put back among the journals, they are shipped, once."""
    for _ in range(700):
        book.write()
    await book.ship()
    archive.tidy()
    await change(pool, "TRUNCATE platform.usage_events, platform.usage_hourly, platform.usage_daily, platform.journals")
    assert sum(one.expected.requests for one in await compared(archive, ledger)) == 700
    assert len(await compared(archive, ledger)) == len(archive.segments())
    for segment in archive.segments():
        place = tmp_path / "journal" / segment.path.name.removesuffix(".gz")
        place.write_bytes(gzip.decompress(segment.path.read_bytes()))
    for _ in range(2):
        await Shipper(tmp_path / "journal", PostgresLedger(pool), archive).drain()
    assert (await ledger.totals(ACME, *EVER)).requests == 700
    assert await ledger.reconcile() == []
    assert await compared(archive, ledger) == []

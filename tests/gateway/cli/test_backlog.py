"""What is still in the journals reaches the account before it is read, or is said to be missing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.backlog import fetch
from storage.journal.writer import Journal
from storage.shipper import Shipper
from storage.usage_rows import encode
from tests.storage.journal.reading import archive_of
from tests.storage.memory_ledger import MemoryLedger
from tests.storage.usage_samples import record


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, segment_bytes=1 << 16)
    yield made
    made.close()


async def test_no_journals_no_wait(tmp_path: Path) -> None:
    assert await fetch(tmp_path / "nothing here", MemoryLedger(), archive_of(tmp_path), own=False, patience=60) == ""


async def test_what_is_certainly_ours_is_shipped_at_once(tmp_path: Path, journal: Journal) -> None:
    ledger = MemoryLedger()
    journal.append(encode(record()))
    assert await fetch(tmp_path, ledger, archive_of(tmp_path), own=True, patience=60) == ""
    assert len(ledger.rows) == 1


async def test_a_journal_that_this_ledger_has_met_is_its_own(tmp_path: Path, journal: Journal) -> None:
    ledger = MemoryLedger()
    journal.append(encode(record()))
    await Shipper(tmp_path, ledger, archive_of(tmp_path)).drain()
    journal.append(encode(record()))
    assert await fetch(tmp_path, ledger, archive_of(tmp_path), own=False, patience=60) == ""
    assert len(ledger.rows) == 2


async def test_another_is_left_to_its_gateway_and_waited_for(tmp_path: Path, journal: Journal) -> None:
    class Asked(MemoryLedger):
        seen = asyncio.Event()

        async def shipped(self, journal_id: str) -> int:
            self.seen.set()
            return await super().shipped(journal_id)

    ledger = Asked()
    journal.append(encode(record()))
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(fetch(tmp_path, ledger, archive_of(tmp_path), own=False, patience=60))
        await ledger.seen.wait()
        assert ledger.rows == []
        group.create_task(Shipper(tmp_path, ledger, archive_of(tmp_path)).drain())
    assert asking.result() == ""
    assert len(ledger.rows) == 1


async def test_what_does_not_come_in_time_is_said(tmp_path: Path, journal: Journal) -> None:
    ledger = MemoryLedger()
    journal.append(encode(record()))
    assert "Not in these figures" in await fetch(tmp_path, ledger, archive_of(tmp_path), own=False, patience=0.0)
    assert ledger.rows == []


async def test_a_ledger_that_takes_too_long_is_not_waited_for(tmp_path: Path, journal: Journal) -> None:
    class Slow(MemoryLedger):
        async def ship(self, *_: object) -> bool:
            await asyncio.Event().wait()

    journal.append(encode(record()))
    assert "Not in these figures" in await fetch(tmp_path, Slow(), archive_of(tmp_path), own=True, patience=0.05)


async def test_a_journal_that_cannot_be_read_is_said_and_holds_no_other_back(tmp_path: Path, journal: Journal) -> None:
    broken = Journal(tmp_path, segment_bytes=1 << 16)
    broken.append(encode(record()))
    broken.close()
    (tmp_path / f"{broken.journal_id}.00000000.journal").rename(tmp_path / f"{'0' * 32}.00000000.journal")
    ledger = MemoryLedger()
    journal.append(encode(record()))
    missing = await fetch(tmp_path, ledger, archive_of(tmp_path), own=True, patience=60)
    assert "somebody renamed it" in missing.replace("\n", " ")
    assert "bytes of usage" not in missing
    assert len(ledger.rows) == 1

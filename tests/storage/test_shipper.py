"""Every row of every journal reaches the ledger once, and nothing that goes wrong with one stops the others."""

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest

from storage import shipper as module
from storage.journal import format as layout
from storage.journal.directory import survey
from storage.journal.reader import Batch
from storage.journal.writer import Journal
from storage.ports import Rejected, Unavailable
from storage.shipper import Shipper
from tests.storage.background import running
from tests.storage.journal.reading import archive_of, path, write_dead
from tests.storage.memory_ledger import MemoryLedger
from tests.storage.waiting import until

SMALL = 64 * 1024
ROWS = [b"row %d\n" % number for number in range(12)]
RECORD = layout.RECORD_BYTES + len(ROWS[0])
ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


def shipper(directory: Path, ledger: MemoryLedger, **more: Any) -> Shipper:
    return Shipper(
        directory, ledger, archive_of(directory, 0), **{"poll_s": 0.002, "gather_s": 0.0, "batch_rows": 5} | more
    )


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


async def test_a_living_journal_is_shipped_as_it_grows(tmp_path: Path, ledger: MemoryLedger) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    async with running(shipper(tmp_path, ledger)) as one:
        for number, row in enumerate(ROWS, start=1):
            journal.append(row)
            await ledger.until(number)
        assert one.shipped == len(ROWS)
    assert ledger.rows == ROWS
    journal.close()


async def test_who_asked_is_told_of_every_row_that_the_ledger_has_taken_once(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    told: list[bytes] = []

    def taken(rows: Sequence[bytes]) -> None:
        assert ledger.rows[len(told) :] == list(rows)
        told.extend(rows)

    write_dead(tmp_path, [ROWS], journal=ONE)
    await shipper(tmp_path, ledger, taken=taken).drain()
    await shipper(tmp_path, ledger, taken=taken).drain()
    assert told == ROWS


async def test_segments_go_when_the_ledger_has_them_and_the_one_in_use_stays(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    for _ in range(300):
        journal.append(b"x" * 1000)
    assert len(names(tmp_path)) == 5
    one = shipper(tmp_path, ledger)
    await one.drain()
    assert len(ledger.rows) == 300
    assert len(names(tmp_path)) == 1
    assert (one.pending_bytes, one.pending_records) == (0, 0)
    journal.append(b"more")
    journal.close()
    await one.drain()
    assert ledger.rows[300:] == [b"more"]
    assert names(tmp_path) == set()


async def test_orphans_are_adopted_shipped_and_removed(tmp_path: Path, ledger: MemoryLedger) -> None:
    write_dead(tmp_path, [ROWS[:4], ROWS[4:7]], journal=ONE)
    write_dead(tmp_path, [ROWS[7:]], journal=TWO)
    await shipper(tmp_path, ledger).drain()
    assert sorted(ledger.rows) == sorted(ROWS)
    assert names(tmp_path) == set()


async def test_an_answer_that_is_lost_after_the_commit_does_not_double_anything(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    """Test M-04."""
    write_dead(tmp_path, [ROWS])
    ledger.lose_answers = 2
    async with running(shipper(tmp_path, ledger)):
        await ledger.until(len(ROWS))
    await shipper(tmp_path, ledger).drain()
    assert ledger.rows == ROWS


async def test_shipping_comes_back_by_itself_when_the_ledger_does(
    tmp_path: Path, ledger: MemoryLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """Test M-03: the spool drains in order, nothing double."""
    write_dead(tmp_path, [ROWS])
    ledger.down = True
    async with running(shipper(tmp_path, ledger)) as one:
        await until(lambda: "cannot be reached" in caplog.text)
        assert one.pending_records == len(ROWS)
        ledger.down = False
        await ledger.until(len(ROWS))
        await until(lambda: "there again" in caplog.text)
    assert ledger.rows == ROWS
    assert caplog.text.count("cannot be reached") == 1


async def test_draining_says_when_the_ledger_is_away_and_keeps_the_files(tmp_path: Path, ledger: MemoryLedger) -> None:
    write_dead(tmp_path, [ROWS])
    ledger.down = True
    with pytest.raises(Unavailable):
        await shipper(tmp_path, ledger).drain()
    assert names(tmp_path) == {path(tmp_path).name}


async def test_a_journal_that_is_copied_back_is_not_shipped_again(tmp_path: Path, ledger: MemoryLedger) -> None:
    journals, backup = tmp_path / "journal", tmp_path / "backup"
    journals.mkdir()
    write_dead(journals, [ROWS[:5], ROWS[5:]])
    shutil.copytree(journals, backup)
    await shipper(journals, ledger).drain()
    shutil.copytree(backup, journals, dirs_exist_ok=True)
    one = shipper(journals, ledger)
    await one.drain()
    assert ledger.rows == ROWS
    assert (one.shipped, one.lost_bytes, names(journals)) == (0, 0, set())


async def test_a_ledger_that_was_restored_from_an_old_backup_gets_what_the_journal_still_has(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    one = shipper(tmp_path, ledger)
    for row in ROWS[:3]:
        journal.append(row)
    await one.drain()
    old_rows, old_positions = list(ledger.rows), dict(ledger.positions)
    for row in ROWS[3:]:
        journal.append(row)
    await one.drain()
    ledger.rows, ledger.positions = old_rows, old_positions
    journal.append(b"new")
    await one.drain()
    assert ledger.rows == [*ROWS, b"new"]
    journal.close()


async def test_two_shippers_of_one_directory_do_no_harm(tmp_path: Path, ledger: MemoryLedger) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    rows = [b"%d" % number for number in range(1000)]
    async with running(shipper(tmp_path, ledger)) as one, running(shipper(tmp_path, ledger)) as two:
        for row in rows:
            journal.append(row)
            await asyncio.sleep(0)
        await ledger.until(len(rows))
    assert ledger.rows == rows
    assert one.shipped + two.shipped == len(rows)
    journal.close()


@pytest.mark.parametrize("poison", [{0}, {11}, {3, 4}, {1, 5, 9}, set(range(12))], ids=str)
async def test_a_row_that_is_rejected_is_set_aside_and_the_others_go_on(
    tmp_path: Path, ledger: MemoryLedger, poison: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    write_dead(tmp_path, [ROWS[:7], ROWS[7:]])
    bad = {ROWS[number] for number in poison}
    ledger.rejects = bad.__contains__
    one = shipper(tmp_path, ledger)
    await one.drain()
    assert ledger.rows == [row for row in ROWS if row not in bad]
    assert {file.read_bytes() for file in (tmp_path / "rejected").iterdir()} == bad
    assert (one.shipped, one.rejected) == (len(ROWS) - len(bad), len(bad))
    assert names(tmp_path) == {"rejected"}
    assert "rejected a usage record" in caplog.text


async def test_a_ledger_that_takes_not_even_nothing_is_asked_once(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a batch that was all copies no row is left, and half of nothing is nothing again."""
    ship = AsyncMock(side_effect=Rejected("Nothing is poison, too."))
    monkeypatch.setattr(ledger, "ship", ship)
    copies = Batch(rows=[], origin=0, ends=[100], first_sequence=7, lost_bytes=0)
    with pytest.raises(Rejected):
        await shipper(tmp_path, ledger)._ship_rows(ONE.hex, 0, copies, 0, 0)
    assert ship.await_count == 1


async def test_a_row_that_cannot_be_set_aside_holds_its_journal_and_no_other(
    tmp_path: Path, ledger: MemoryLedger, caplog: pytest.LogCaptureFixture
) -> None:
    write_dead(tmp_path, [ROWS[:6]], journal=ONE)
    write_dead(tmp_path, [ROWS[6:]], journal=TWO)
    ledger.rejects = ROWS[2].__eq__
    (tmp_path / "rejected").write_text("no directory")
    await shipper(tmp_path, ledger).drain()
    assert sorted(ledger.rows) == sorted(ROWS[:2] + ROWS[6:])
    assert path(tmp_path, 0, ONE).exists()
    assert "Its journal waits" in caplog.text
    (tmp_path / "rejected").unlink()
    await shipper(tmp_path, ledger).drain()
    assert sorted(ledger.rows) == sorted(ROWS[:2] + ROWS[3:])


async def test_one_journals_trouble_is_its_own_and_is_said_once(
    tmp_path: Path, ledger: MemoryLedger, caplog: pytest.LogCaptureFixture
) -> None:
    write_dead(tmp_path, [ROWS[:6]], journal=ONE)
    write_dead(tmp_path, [ROWS[6:]], journal=TWO)
    path(tmp_path, 0, TWO).rename(path(tmp_path, 0, UUID(int=3)))
    (tmp_path / "notes").write_text("mine")
    write_dead(tmp_path, [[b"trouble"]], journal=TWO)
    ledger.trouble = b"trouble".__eq__
    one = shipper(tmp_path, ledger)
    for _ in range(3):
        await one.drain()
    assert ledger.rows == ROWS[:6]
    assert caplog.text.count("renamed it") == 1
    assert caplog.text.count("no usage journal") == 1
    assert caplog.text.count("are trouble") == 1
    assert names(tmp_path) == {path(tmp_path, 0, UUID(int=3)).name, path(tmp_path, 0, TWO).name, "notes"}
    assert one.stuck == 2
    path(tmp_path, 0, UUID(int=3)).unlink()
    one._courses[TWO].trouble_until, ledger.trouble = 0.0, lambda _: False
    await one.drain()
    assert (one.stuck, ledger.rows[6:]) == (0, [b"trouble"])


async def test_damage_is_passed_over_counted_and_said(
    tmp_path: Path, ledger: MemoryLedger, caplog: pytest.LogCaptureFixture
) -> None:
    write_dead(tmp_path, [ROWS])
    data = bytearray(path(tmp_path).read_bytes())
    data[layout.HEADER_BYTES + 5 * RECORD + 22] ^= 1
    path(tmp_path).write_bytes(data)
    one = shipper(tmp_path, ledger)
    await one.drain()
    assert ledger.rows == ROWS[:5] + ROWS[6:]
    assert (one.lost_records, one.lost_bytes) == (1, RECORD)
    assert f"{RECORD} bytes" in caplog.text
    assert names(tmp_path) == set()


@pytest.mark.parametrize(("source", "target"), [(2, 8), (8, 2)])
async def test_a_record_that_a_disk_wrote_to_a_second_place_is_shipped_once(
    tmp_path: Path, ledger: MemoryLedger, source: int, target: int
) -> None:
    """It is intact at both, and costs what it was written over: earlier or later in the journal."""
    write_dead(tmp_path, [ROWS[:10]])  # of one length
    data = bytearray(path(tmp_path).read_bytes())
    first, second = (slice(start := layout.HEADER_BYTES + at * RECORD, start + RECORD) for at in (source, target))
    data[second] = data[first]
    path(tmp_path).write_bytes(data)
    one = shipper(tmp_path, ledger)
    await one.drain()
    assert sorted(ledger.rows) == [row for row in ROWS[:10] if row != ROWS[target]]
    assert one.lost_bytes == RECORD
    assert one.lost_records >= 1


@pytest.mark.parametrize("cut", [layout.HEADER_BYTES + size for size in (0, 3 * RECORD, 4 * RECORD - 5)])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("rest", ["zeros", "nothing"])
async def test_what_was_cut_off_is_told_to_the_record(
    tmp_path: Path, ledger: MemoryLedger, cut: int, number: int, rest: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the cut leaves nothing half, and also at the very end: the writer noted how far it was."""
    write_dead(tmp_path, [ROWS[:6], ROWS[6:]])
    file = path(tmp_path, number)
    file.write_bytes(file.read_bytes()[:cut] + (bytes(500) if rest == "zeros" else b""))
    one = shipper(tmp_path, ledger)
    await one.drain()
    intact = (cut - layout.HEADER_BYTES) // RECORD
    assert ledger.rows == [*ROWS[:intact], *ROWS[6:]] if number == 0 else ledger.rows == ROWS[: 6 + intact]
    assert one.lost_records == 6 - intact
    assert f"{6 - intact} records are not there" in caplog.text


async def test_a_last_record_that_was_never_finished_is_counted_once(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_dead(tmp_path, [ROWS], size=layout.HEADER_BYTES + len(ROWS) * RECORD - 1)
    torn = path(tmp_path)
    torn.write_bytes(torn.read_bytes()[:-4])
    monkeypatch.setattr(Path, "unlink", refuse)
    one = shipper(tmp_path, ledger)
    for _ in range(3):
        await one.drain()
    monkeypatch.undo()
    assert ledger.rows == ROWS[:-1]
    assert one.lost_bytes > 0
    assert caplog.text.count("no intact record") == 1
    assert caplog.text.count("will not be shipped again") == 1
    await one.drain()
    assert names(tmp_path) == set()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


async def test_a_directory_that_cannot_be_listed_is_said_and_ends_nothing(
    tmp_path: Path, ledger: MemoryLedger, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "journal").write_text("a file")
    await shipper(tmp_path / "journal", ledger).drain()
    assert "Cannot list" in caplog.text


async def test_a_stream_of_records_is_gathered_and_a_lone_one_is_not(tmp_path: Path, ledger: MemoryLedger) -> None:
    """A transaction costs the same for one row as for a hundred."""
    journal = Journal(tmp_path, segment_bytes=SMALL)
    async with running(shipper(tmp_path, ledger, gather_s=3600.0, batch_rows=50)):
        journal.append(ROWS[0])
        await ledger.until(1)
        for _ in range(49):
            journal.append(ROWS[1])
        await asyncio.sleep(0.05)
        assert ledger.calls == 1
        journal.append(ROWS[1])
        await ledger.until(51)
        assert ledger.calls == 2
    journal.close()


async def test_looking_at_idle_journals_is_all_that_is_done(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.append(ROWS[0])
    looks = []
    monkeypatch.setattr(module, "survey", lambda directory: looks.append(1) or survey(directory))
    async with running(shipper(tmp_path, ledger, poll_s=0.05)):
        await ledger.until(1)
        looks.clear()
        began = time.monotonic()
        await asyncio.sleep(0.3)
    assert len(looks) <= (time.monotonic() - began) / 0.05 + 1
    assert ledger.calls == 1
    journal.close()


async def test_in_quiet_times_it_looks_more_rarely_until_a_record_comes(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway at rest on a small machine should cost next to nothing; a record is shipped within a second still."""
    monkeypatch.setattr(module, "CALM_S", 1.0)
    journal = Journal(tmp_path, segment_bytes=SMALL)
    loop = asyncio.get_running_loop()
    looks: list[float] = []
    looked = asyncio.Event()

    def note(directory: Path) -> object:
        looks.append(loop.time())
        loop.call_soon_threadsafe(looked.set)
        return survey(directory)

    async def gap() -> float:
        for _ in range(2):
            looked.clear()
            await looked.wait()
        return looks[-1] - looks[-2]

    monkeypatch.setattr(module, "survey", note)
    async with running(shipper(tmp_path, ledger, poll_s=0.04)):
        assert await gap() >= 5 * 0.04
        journal.append(ROWS[0])
        await ledger.until(1)
        async with asyncio.timeout(30):
            while await gap() >= 5 * 0.04:  # one of them is short; a busy machine may hold up the first
                pass
        async with asyncio.timeout(30):
            while await gap() < 5 * 0.04:
                pass
    journal.close()


async def test_pending_figures_tell_what_the_ledger_does_not_have(tmp_path: Path, ledger: MemoryLedger) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    one = shipper(tmp_path, ledger)
    for row in ROWS[:5]:
        journal.append(row)
    await one.drain()
    assert (one.pending_records, one.pending_bytes) == (0, 0)
    ledger.down = True
    for row in ROWS[5:]:
        journal.append(row)
    with pytest.raises(Unavailable):
        await one.drain()
    assert one.pending_records == 7
    assert one.pending_bytes == sum(layout.RECORD_BYTES + len(row) for row in ROWS[5:])
    ledger.down = False
    await one.drain()
    assert (one.pending_records, one.pending_bytes) == (0, 0)
    journal.close()


async def test_what_is_pending_grows_while_the_ledger_has_never_been_there(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    ledger.down = True
    journals = [Journal(tmp_path, segment_bytes=SMALL) for _ in range(3)]
    one = shipper(tmp_path, ledger)
    for expected in (3, 6):
        for journal in journals:
            journal.append(b"row")
        with pytest.raises(Unavailable):
            await one.drain()
        assert one.pending_records == expected
    for journal in journals:
        journal.close()


async def test_a_cancelled_shipper_can_be_followed_by_a_drain(tmp_path: Path, ledger: MemoryLedger) -> None:
    """The order of a shut-down."""
    journal = Journal(tmp_path, segment_bytes=SMALL)
    rows = [b"%d" % number for number in range(500)]
    async with running(shipper(tmp_path, ledger)) as one:
        for row in rows:
            journal.append(row)
        await ledger.until(1)
    journal.close()
    await one.drain()
    assert ledger.rows == rows
    assert names(tmp_path) == set()

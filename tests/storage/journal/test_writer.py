"""What was appended is in the file, whatever happens to the process; what has no room is refused, and says so."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from storage.journal import format as layout
from storage.journal import writer
from storage.journal.directory import survey
from storage.journal.writer import Journal, JournalFull
from storage.ports import StorageError
from storage.usage_rows import decode
from tests.storage.journal import appender
from tests.storage.journal.reading import only_journal, read_all
from tests.storage.waiting import until

SMALL = 64 * 1024
ROW = b"x" * 1000
PER_SEGMENT = (SMALL - layout.HEADER_BYTES) // (len(ROW) + layout.RECORD_BYTES)


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 256 KiB; where this user may mount none, an allocation that fails as if there were."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0

    def allocate(descriptor: int, offset: int, size: int) -> None:
        if size + sum(path.stat().st_size for path in place.rglob("*")) > 256 * 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(descriptor, size)

    if not mounted:
        monkeypatch.setattr(os, "posix_fallocate", allocate)
    yield place
    if mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(journal: Journal) -> int:
    """Append until there is no room. How many went in."""
    count = 0
    with suppress(JournalFull):
        while True:
            journal.append(ROW)
            count += 1
    return count


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_row_is_in_the_file_as_soon_as_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.append(b"row")
    assert read_all(only_journal(tmp_path)).rows == [b"row"]
    assert journal.records == 1
    journal.close()


def test_rows_go_on_in_the_next_segment(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    rows = [b"%d" % number * 50 for number in range(2000)]
    for row in rows:
        journal.append(row)
    assert len(only_journal(tmp_path).segments) > 3
    assert read_all(only_journal(tmp_path), max_rows=500).rows == rows
    journal.close()
    assert read_all(only_journal(tmp_path), max_rows=500).rows == rows


def test_rows_in_one_go_are_those_one_by_one_up_to_the_end_of_the_segment(tmp_path: Path) -> None:
    """What has no room there goes on by itself, in the next one."""
    journal = Journal(tmp_path, segment_bytes=SMALL)
    rows = [ROW + b"%d" % number for number in range(100)]
    assert journal.append_all([]) == 0
    journal.append(rows[0])
    kept = 1 + journal.append_all(rows[1:3])
    assert kept == 3
    kept += journal.append_all(rows[kept:])
    assert 3 < kept <= PER_SEGMENT
    assert journal.append_all(rows[kept:]) == 0
    journal.append(rows[kept])
    assert journal.append_all([rows[kept + 1], b"x" * (layout.LONGEST_ROW + 1), rows[kept + 2]]) == 1
    assert read_all(only_journal(tmp_path)).rows == rows[: kept + 2]
    assert journal.records == kept + 2
    journal.close()


def test_only_the_gateways_user_can_read_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "journal", segment_bytes=SMALL)
    (segment,) = only_journal(tmp_path / "state" / "journal").segments
    assert (mode(tmp_path / "state" / "journal"), mode(segment.path)) == (0o700, 0o600)
    journal.close()


def test_closing_gives_back_what_was_not_used(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.flush()
    journal.append(b"row")
    journal.close()
    (segment,) = only_journal(tmp_path).segments
    assert segment.size == layout.HEADER_BYTES + layout.RECORD_BYTES + len(b"row")
    journal.close()


def test_a_journal_in_which_nothing_was_written_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.flush()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_journal_takes_nothing_and_makes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.close()
    journal.flush()
    with pytest.raises(JournalFull, match="closed"):
        journal.append(b"row")
    assert list(tmp_path.iterdir()) == []


def test_a_row_too_long_for_a_reader_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match="131073 bytes"):
        journal.append(b"x" * (layout.LONGEST_ROW + 1))
    journal.append(b"x" * layout.LONGEST_ROW)
    assert read_all(only_journal(tmp_path)).rows == [b"x" * layout.LONGEST_ROW]
    journal.close()


def test_the_bound_holds_for_all_journals_together_and_ends_when_files_go(tmp_path: Path) -> None:
    other = Journal(tmp_path, segment_bytes=SMALL)
    journal = Journal(tmp_path, segment_bytes=SMALL, limit_bytes=3 * SMALL)
    assert fill(journal) == 2 * PER_SEGMENT
    assert journal.full
    with pytest.raises(JournalFull, match="PostgreSQL can be reached"):
        journal.append(ROW)
    assert read_all(next(files for files in survey(tmp_path).journals if len(files.segments) == 2)).rows == [ROW] * (
        2 * PER_SEGMENT
    )
    other.close()
    journal.flush()  # as keep() does every second
    assert not journal.full
    assert fill(journal) == PER_SEGMENT
    journal.close()


def test_a_full_journal_says_so_while_the_work_at_hand_still_has_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL, limit_bytes=SMALL)
    journal.flush()
    before = 0
    while not journal.full:
        journal.append(ROW)
        before += 1
    assert PER_SEGMENT - before > PER_SEGMENT // 10
    assert fill(journal) == PER_SEGMENT - before
    journal.close()


def test_a_small_disk_is_an_error_and_no_signal_and_ends_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100 * 1024))
    journal = Journal(small_disk / "journal", segment_bytes=SMALL)
    assert fill(journal) == 2 * PER_SEGMENT
    with pytest.raises(JournalFull, match="No space left on device"):
        journal.append(ROW)
    assert read_all(only_journal(small_disk / "journal"), max_rows=500).rows == [ROW] * (2 * PER_SEGMENT)
    ballast.unlink()
    journal.flush()
    journal.append(ROW)
    journal.close()


def test_a_gateway_starts_on_a_small_disk_and_refuses(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(250 * 1024))
    journal = Journal(small_disk / "journal", segment_bytes=SMALL)
    assert journal.full
    with pytest.raises(JournalFull):
        journal.append(ROW)
    assert list((small_disk / "journal").iterdir()) == []
    (small_disk / "ballast").unlink()
    journal.flush()
    journal.append(ROW)
    journal.close()


def test_a_limit_on_file_sizes_is_an_error_and_no_signal(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 2, hard))
    try:
        journal = Journal(tmp_path, segment_bytes=SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(JournalFull, match="File too large"):
        journal.append(ROW)


def test_a_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(StorageError, match="Cannot make"):
        Journal(tmp_path / "journal")


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path)


async def test_keeping_makes_segments_ahead_and_flushes_what_was_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(Journal(tmp_path, segment_bytes=SMALL, flush_s=0.001)) as journal:
        await until(lambda: len(only_journal(tmp_path).segments) == 2)
        synced = asyncio.Event()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(os, "fdatasync", lambda _: loop.call_soon_threadsafe(synced.set))
        journal.append(ROW)
        async with asyncio.timeout(30):
            await synced.wait()
        monkeypatch.undo()
        for _ in range(5 * PER_SEGMENT):
            journal.append(ROW)
            await asyncio.sleep(0)
    assert len(read_all(only_journal(tmp_path), max_rows=500).rows) == 5 * PER_SEGMENT + 1


async def test_an_idle_journal_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(Journal(tmp_path, segment_bytes=SMALL, flush_s=0.001)) as journal:
        journal.append(ROW)
        await until(lambda: len(only_journal(tmp_path).segments) == 2)
        await asyncio.sleep(0.1)  # time enough for a hundred flushes
        flushed: list[int] = []
        monkeypatch.setattr(os, "fdatasync", flushed.append)
        await asyncio.sleep(0.1)
        monkeypatch.undo()
    assert flushed == []


async def test_a_failing_disk_is_said_and_does_not_end_the_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.flush()
    journal.append(ROW)

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    journal.flush()
    monkeypatch.undo()
    assert "Input/output error" in caplog.text
    journal.close()


async def test_a_segment_that_is_cut_off_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was made for goes on; nothing is mapped that is not there."""
    journal = Journal(tmp_path, segment_bytes=SMALL)
    with monkeypatch.context() as cutting:
        cutting.setattr(writer, "_fill", lambda descriptor, *_: os.ftruncate(descriptor, 8192))
        journal.flush()
    assert not journal.full
    journal.flush()
    for _ in range(PER_SEGMENT + 1):
        journal.append(ROW)
    journal.close()
    assert len(read_all(only_journal(tmp_path), max_rows=500).rows) == PER_SEGMENT + 1


async def test_a_journal_whose_files_were_removed_goes_on_in_new_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "journal", segment_bytes=SMALL, flush_s=0.001)
    journal.flush()
    for segment in only_journal(tmp_path / "journal").segments:
        segment.path.unlink()
    (tmp_path / "journal").rmdir()
    async with kept(journal):
        journal.append(b"lost")
        await until(lambda: "removed the usage journal" in caplog.text)
        journal.append(b"kept")
        assert read_all(only_journal(tmp_path / "journal")).rows == [b"kept"]


@pytest.mark.parametrize("enough", [1, 700, 3000])
def test_kill_9_loses_no_row_whose_append_returned(tmp_path: Path, enough: int) -> None:
    """Test M-01. Rows behind the last one that was said may be there: those appends were on their way."""
    with subprocess.Popen(
        [sys.executable, appender.__file__, tmp_path, "evt"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = -1
        for line in writer.stdout:
            said = int(line)
            if said >= enough:
                writer.kill()
                break
        said = max([said, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
    read = read_all(only_journal(tmp_path), max_rows=5000)
    assert [decode(row).event_id for row in read.rows] == [f"evt_{number}" for number in range(len(read.rows))]
    assert len(read.rows) > said
    assert read.complete


class kept:  # noqa: N801  reads as a verb
    """A journal with its keeper beside it, closed afterwards."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def __aenter__(self) -> Journal:
        self._task = asyncio.create_task(self._journal.keep())  # noqa: TID251  awaited below
        return self._journal

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._journal.close()

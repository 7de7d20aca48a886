"""Shipped segments are kept, whole, for as long as was said and no longer, and never stand in the way."""

import gzip
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from storage.journal import archive as module
from storage.journal import format as layout
from storage.journal.archive import Archive, Contents, read_archived
from storage.journal.directory import survey
from storage.journal.reader import Unreadable
from tests.storage.journal.reading import path, write_dead

ROWS = [b"row %d\n" % number for number in range(12)]
DAY_S = 86_400
MAKE = Callable[..., Archive]


@pytest.fixture
def make(tmp_path: Path) -> MAKE:
    def made(keep_days: int = 2, limit_bytes: int = 1 << 30) -> Archive:
        return Archive(tmp_path / "archive", keep_days=lambda: keep_days, limit_bytes=limit_bytes)

    (tmp_path / "journal").mkdir()
    return made


def ship(archive: Archive, tmp_path: Path, number: int = 0) -> None:
    """As the shipper does with a segment that the ledger has in full."""
    write_dead(tmp_path / "journal", [ROWS], journal=UUID(int=number))
    for files in survey(tmp_path / "journal").journals:
        for segment in files.segments:
            archive.take(segment)


def age(archive: Archive, days: float) -> None:
    for segment in archive.segments():
        os.utime(segment.path, (time.time(), time.time() - days * DAY_S))


def test_a_segment_comes_whole_is_compressed_and_read_back(tmp_path: Path, make: MAKE) -> None:
    archive = make()
    ship(archive, tmp_path)
    (plain,) = archive.segments()
    assert read_archived(plain) == Contents(ROWS)
    archive.tidy()
    (packed,) = archive.segments()
    assert (packed.path.name, packed.shipped_at) == (plain.path.name + ".gz", plain.shipped_at)
    assert packed.size < plain.size / 10
    assert read_archived(packed) == Contents(ROWS)
    assert read_archived(plain) == Contents([])  # as a reader finds it that looked before
    assert [entry.stat().st_mode & 0o777 for entry in (tmp_path / "archive", packed.path)] == [0o700, 0o600]
    assert list((tmp_path / "journal").iterdir()) == []


@pytest.mark.parametrize(("days", "left"), [(1.9, 1), (2.1, 0)])
def test_a_segment_goes_when_its_days_are_over(tmp_path: Path, make: MAKE, days: float, left: int) -> None:
    archive = make()
    ship(archive, tmp_path)
    archive.tidy()
    age(archive, days)
    archive.tidy()
    assert len(archive.segments()) == left


def test_the_oldest_go_when_all_take_too_much(tmp_path: Path, make: MAKE) -> None:
    archive = make(limit_bytes=3 * 8192)
    for number in range(1, 6):
        ship(archive, tmp_path, number)
        age(archive, 0.01)
    assert [segment.journal_id.int for segment in archive.segments()] == [1, 2, 3, 4, 5]
    archive.tidy()
    assert [segment.journal_id.int for segment in archive.segments()] == [3, 4, 5]


def test_a_disk_with_no_room_gets_it_from_the_archive(
    tmp_path: Path, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that has none would stop the gateway."""
    archive = make()
    ship(archive, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=module.FREE_BYTES - 1))
    archive.tidy()
    assert not archive.segments()


def test_without_days_nothing_is_kept_and_what_was_kept_goes(tmp_path: Path, make: MAKE) -> None:
    ship(make(), tmp_path)
    archive = make(keep_days=0)
    ship(archive, tmp_path, 2)
    assert len(archive.segments()) == 1
    archive.tidy()
    assert not archive.segments()
    assert list((tmp_path / "journal").iterdir()) == []


def test_an_archive_that_cannot_be_written_is_said_once_and_fills_no_journal(
    tmp_path: Path, make: MAKE, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "archive").write_text("a file")
    archive = make()
    for number in (1, 2):
        ship(archive, tmp_path, number)
    assert list((tmp_path / "journal").iterdir()) == []
    assert caplog.text.count("cannot be archived") == 1


def test_what_was_left_unfinished_is_made_anew(tmp_path: Path, make: MAKE) -> None:
    """Killed while it was compressed: the old file is there until the new one is whole."""
    archive = make()
    ship(archive, tmp_path)
    (plain,) = archive.segments()
    plain.path.with_suffix(".journal.making").write_bytes(b"\x1f\x8b half")
    archive.tidy()
    (packed,) = archive.segments()
    assert read_archived(packed) == Contents(ROWS)
    assert len(list((tmp_path / "archive").iterdir())) == 1


@pytest.mark.parametrize("cut", [0, 5, 40, -1, -9])
def test_a_file_that_is_not_whole_says_so(tmp_path: Path, make: MAKE, cut: int) -> None:
    archive = make()
    ship(archive, tmp_path)
    archive.tidy()
    (packed,) = archive.segments()
    packed.path.write_bytes(packed.path.read_bytes()[:cut])
    with pytest.raises(Unreadable, match="cannot be read"):
        read_archived(packed)


def test_what_unpacks_to_more_than_any_journal_is_not_read_into_memory(
    tmp_path: Path, make: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1 << 20)
    archive = make()
    ship(archive, tmp_path)
    archive.tidy()
    (packed,) = archive.segments()
    packed.path.write_bytes(gzip.compress(bytes(1 << 24)))
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="larger than any"):
            read_archived(packed)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_links_pipes_and_directories_are_no_segments_and_stop_no_tidying(tmp_path: Path, make: MAKE) -> None:
    """One that can be neither packed nor removed kept all others from it, and a pipe kept its reader for ever."""
    archive, directory = make(limit_bytes=1), tmp_path / "archive"
    ship(archive, tmp_path)
    places = [directory / f"{number:032x}.00000009.journal" for number in range(3)]
    places[0].mkdir()
    os.mkfifo(places[1])
    places[2].symlink_to("/dev/zero")
    assert len(archive.segments()) == 1
    archive.tidy()
    assert not archive.segments()


def test_damage_within_costs_what_it_is_in_and_is_told(tmp_path: Path, make: MAKE) -> None:
    """Also at the end, where no later record tells that one is missing, and of the header itself."""
    archive = make()
    ship(archive, tmp_path)
    (plain,) = archive.segments()
    data, record = plain.path.read_bytes().rstrip(b"\0"), layout.RECORD_BYTES + len(ROWS[5])
    for damaged, rows, lost in (
        (data.replace(ROWS[5], b"ROW 5\n"), ROWS[:5] + ROWS[6:], record),
        (data[:-5], ROWS[:-1], layout.RECORD_BYTES + len(ROWS[-1])),
        (bytes(1) + data[1:], ROWS, layout.HEADER_BYTES),
    ):
        plain.path.write_bytes(damaged)
        assert read_archived(plain) == Contents(rows, lost)


def test_a_segment_that_another_shipper_took_is_no_trouble(tmp_path: Path, make: MAKE) -> None:
    write_dead(tmp_path / "journal", [ROWS])
    (files,) = survey(tmp_path / "journal").journals
    path(tmp_path / "journal").unlink()
    make().take(files.segments[0])

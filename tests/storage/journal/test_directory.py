"""A look at a journal directory tells living journals from dead ones, and both from what does not belong."""

import os
from pathlib import Path

import pytest

from storage.journal import directory as journals
from storage.journal.directory import survey
from storage.journal.writer import Journal
from tests.storage.journal.reading import only_journal, write_dead

SMALL = 64 * 1024


def test_a_directory_that_is_not_there_holds_no_journals(tmp_path: Path) -> None:
    assert survey(tmp_path / "none") == journals.Survey((), (), ())
    assert journals.size_of(tmp_path / "none") == 0


def test_a_journal_is_live_as_long_as_its_writer_holds_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.append(b"row")
    assert only_journal(tmp_path).live
    journal.close()
    files = only_journal(tmp_path)
    assert not files.live
    assert files.journal_id.hex == journal.journal_id


def test_looking_does_not_disturb_a_writer_nor_another_look(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    assert [survey(tmp_path) for _ in range(3)] == [survey(tmp_path)] * 3
    journal.close()


def test_segments_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_dead(tmp_path, [[b"a"]] * 12, size=100)
    assert [segment.number for segment in only_journal(tmp_path).segments] == list(range(12))


def test_what_is_no_journal_is_named_and_left_alone(tmp_path: Path) -> None:
    write_dead(tmp_path, [[b"a"]])
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "0000.journal").write_text("mine")
    (tmp_path / "rejected").mkdir()
    found = survey(tmp_path)
    assert sorted(found.foreign) == ["0000.journal", "notes.txt"]
    assert len(found.journals) == 1


@pytest.mark.parametrize(("age_s", "left"), [(10, True), (100, False)])
def test_a_segment_that_was_never_finished_is_removed_when_it_is_old(tmp_path: Path, age_s: int, left: bool) -> None:
    making = tmp_path / ("0" * 32 + ".00000000.making")
    making.write_bytes(b"\0" * 100)
    then = making.stat().st_mtime - age_s
    os.utime(making, (then, then))
    assert journals.size_of(tmp_path) == 100
    survey(tmp_path)
    assert making.exists() == left


def test_a_journal_that_cannot_be_opened_is_a_complaint_and_the_others_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dead(tmp_path, [[b"a"]])
    journal = Journal(tmp_path, segment_bytes=SMALL)
    journal.append(b"row")
    real_open = os.open

    def forbidding(path: str | Path, *args: int, **more: int) -> int:
        if Path(path).name.startswith("0000"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *args, **more)

    monkeypatch.setattr(os, "open", forbidding)
    found = survey(tmp_path)
    monkeypatch.undo()
    assert [files.journal_id.hex for files in found.journals] == [journal.journal_id]
    assert "Permission denied" in found.unreadable[0]
    journal.close()

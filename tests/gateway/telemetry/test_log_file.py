"""A log that is rotated: by a copy and a truncation, or by a move and a reload."""

import os
from pathlib import Path

import pytest

from gateway.telemetry.log_file import LogFile

Descriptors = tuple[int, int]


@pytest.fixture
def descriptors(tmp_path: Path) -> Descriptors:
    """Standard output and error as a shell's ``> log 2>&1`` makes them: at one place in one file."""
    (tmp_path / "logs").mkdir()
    one = os.open(tmp_path / "logs" / "log", os.O_WRONLY | os.O_CREAT, 0o640)
    return one, os.dup(one)


def test_behind_a_truncation_lines_begin_at_the_beginning(descriptors: Descriptors, tmp_path: Path) -> None:
    """Logrotate's ``copytruncate``; without O_APPEND the file was as long as before, and full of NULs."""
    log = tmp_path / "logs" / "log"
    LogFile(descriptors[0])
    os.write(descriptors[0], b"before\n")
    os.truncate(log, 0)
    os.write(descriptors[1], b"after\n")
    assert log.read_bytes() == b"after\n"


def test_a_file_that_was_moved_away_is_left_at_a_reload(descriptors: Descriptors, tmp_path: Path) -> None:
    """With both descriptors; the new one may be read by whom the old one might. An unmoved one stays."""
    log, old = tmp_path / "logs" / "log", tmp_path / "logs" / "log.1"
    file = LogFile(descriptors[0])
    os.write(descriptors[0], b"one\n")
    file.reopen(descriptors[1])
    os.write(descriptors[0], b"two\n")
    log.rename(old)
    os.write(descriptors[0], b"three\n")
    for descriptor in descriptors:
        file.reopen(descriptors[1])
        os.write(descriptor, b"four\n")
    assert (old.read_bytes(), log.read_bytes()) == (b"one\ntwo\nthree\n", b"four\nfour\n")
    assert log.stat().st_mode == old.stat().st_mode


def test_without_its_directory_it_goes_on_as_it_was(descriptors: Descriptors, tmp_path: Path) -> None:
    """Lines are lost then, and no request."""
    file = LogFile(descriptors[0])
    (tmp_path / "logs" / "log").unlink()
    (tmp_path / "logs").rmdir()
    file.reopen(descriptors[1])
    assert os.write(descriptors[0], b"lost\n") == 5


def test_what_is_no_file_is_left_alone() -> None:
    """A pipe, or nothing at all."""
    reading, writing = os.pipe()
    LogFile(writing).reopen(reading)
    os.write(writing, b"x")
    assert os.read(reading, 2) == b"x"
    os.close(writing)
    LogFile(writing).reopen()
    os.close(reading)

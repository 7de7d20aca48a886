"""Where the sockets are, and who may believe the note about it."""

import os
import shutil
from pathlib import Path

import pytest

from storage.embedded import StartFailed, account, rundir
from storage.embedded.account import Account
from storage.embedded.rundir import RunDir, close_run_dir, open_run_dir, run_dir_of

US = Account(uid=os.geteuid(), gid=os.getegid(), name="us", borrowed=False)
STRANGER = Account(uid=os.geteuid() + 1, gid=os.getegid() + 1, name="stranger", borrowed=True)


@pytest.fixture
def bases(place, monkeypatch) -> Path:
    """The directory in which short run directories are made, in place of the system's."""
    base = place / "t"
    base.mkdir()
    monkeypatch.setattr(rundir, "_bases", lambda: [base])
    return base


@pytest.fixture
def long(tmp_path) -> Path:
    path = tmp_path / ("d" * 100)
    path.mkdir()
    return path


def test_sockets_are_in_the_state_directory_and_closed_to_others(place):
    run = open_run_dir(place, US)
    assert run.path == place / "run"
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_the_note_is_for_the_process_that_owns_the_state_directory(place):
    run = open_run_dir(place, US)
    assert run_dir_of(place, os.getpid()) == run
    assert run_dir_of(place, os.getpid() + 1) is None
    close_run_dir(place, run)
    assert run_dir_of(place, os.getpid()) is None
    assert run.path.is_dir()


@pytest.mark.parametrize("note", ["", "12", "\n\n", "x\n/run\n", "1\n2\n3\n"])
def test_a_damaged_note_is_no_note(place, note):
    (place / "sockets").write_text(note)
    assert run_dir_of(place, 1) is None


def test_a_long_path_gets_a_short_private_directory_that_goes_with_the_servers(long, bases):
    run = open_run_dir(long, US)
    assert run.path.parent == bases
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert run_dir_of(long, os.getpid()) == run
    close_run_dir(long, run)
    assert list(bases.iterdir()) == []


def test_the_short_directory_of_a_killed_owner_is_used_again(long, bases):
    assert open_run_dir(long, US) == open_run_dir(long, US)


def test_a_copy_of_a_state_directory_does_not_take_the_sockets_of_its_original(long, bases):
    """Its servers may serve: the copy's took their names from them, and then their clients."""
    first = open_run_dir(long, US)
    copy = long.with_name("c" * 100)
    shutil.copytree(long, copy)
    assert run_dir_of(copy, os.getpid()) is None
    assert open_run_dir(copy, US) != first
    assert run_dir_of(long, os.getpid()) == first


def test_the_note_of_an_older_release_leads_to_its_sockets(place):
    (place / "sockets").write_text(f"1\n{place / 'run'}\n")
    assert run_dir_of(place, 1) == RunDir(place / "run")


def test_a_noted_directory_that_others_can_enter_is_not_used_again(long, bases):
    first = open_run_dir(long, US)
    first.path.chmod(0o755)
    assert open_run_dir(long, US) != first


def test_a_noted_directory_that_became_a_symlink_is_not_used_again(long, bases, tmp_path):
    first = open_run_dir(long, US)
    first.path.rmdir()
    first.path.symlink_to(tmp_path)
    assert open_run_dir(long, US) != first


@pytest.mark.parametrize("noted", ["/", "/etc", "/tmp"])
def test_a_noted_directory_that_is_not_ours_is_not_used_again(long, bases, noted):
    (long / "sockets").write_text(f"1\n{noted}\n")
    assert open_run_dir(long, US).path.parent == bases


def test_a_base_that_is_not_there_is_passed_over(long, bases, monkeypatch):
    monkeypatch.setattr(rundir, "_bases", lambda: [Path("/no/such/directory"), bases])
    assert open_run_dir(long, US).path.parent == bases


def test_without_any_place_for_sockets_the_reason_and_the_remedy_are_told(long, monkeypatch):
    monkeypatch.setattr(rundir, "_bases", list)
    with pytest.raises(StartFailed, match=r"too long.*GATEWAY_STATE_DIR"):
        open_run_dir(long, US)


def test_a_state_directory_closed_to_the_servers_gets_sockets_elsewhere(tmp_path, monkeypatch, place):
    monkeypatch.setattr(rundir, "_bases", lambda: [tmp_path, place])
    monkeypatch.setattr(account.Account, "give", lambda *_: None)  # root alone could
    tmp_path.chmod(0o700)
    assert open_run_dir(tmp_path, STRANGER).path.parent == place


@pytest.mark.parametrize(
    ("path", "database_url", "redis_url"),
    [
        ("/run/x", "postgresql://gateway@/tahoe?host=/run/x&port=5432", "unix:///run/x/valkey.sock"),
        ("/a+b/~c", "postgresql://gateway@/tahoe?host=/a%2Bb/~c&port=5432", "unix:///a%2Bb/~c/valkey.sock"),
    ],
)
def test_the_urls_name_the_sockets(path, database_url, redis_url):
    assert RunDir(Path(path)).database_url == database_url
    assert RunDir(Path(path)).redis_url == redis_url

"""The state directory and its lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.state import PASSABLE, StateDir, StateLocked, StateUnusable, default_state_dir, make_directory, owner_of
from tests.servers import ROOT
from tests.storage.embedded.watching import mode


def test_a_claim_makes_the_directory_and_its_parents_and_closes_it_to_others(tmp_path):
    with StateDir.claim(tmp_path / "a" / "b"):
        assert mode(tmp_path / "a" / "b") == (0o700 if os.geteuid() else 0o711)


def test_the_mode_of_a_new_directory_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        make_directory(tmp_path / "s", PASSABLE)
    finally:
        os.umask(before)
    assert mode(tmp_path / "s") == 0o711


def test_a_directory_that_was_there_keeps_its_mode(tmp_path):
    (tmp_path / "s").mkdir(mode=0o750)
    StateDir.claim(tmp_path / "s").release()
    assert mode(tmp_path / "s") == 0o750


def test_a_second_claim_is_refused_and_names_the_owner_and_what_to_do(tmp_path):
    with StateDir.claim(tmp_path / "s"), pytest.raises(StateLocked) as refused:
        StateDir.claim(tmp_path / "s")
    assert refused.value.owner.pid == os.getpid()
    assert f"process {os.getpid()}" in str(refused.value)
    assert "GATEWAY_STATE_DIR" in str(refused.value)


def test_a_released_directory_can_be_claimed_again(tmp_path):
    first = StateDir.claim(tmp_path / "s")
    first.release()
    first.release()
    with StateDir.claim(tmp_path / "s"):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"12", b"x y z w", b"\xff\xfe\0", b"-1 host", "²".encode(), b"9" * 500]
)
def test_what_an_old_lock_file_holds_prevents_nothing(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    with StateDir.claim(tmp_path):
        assert owner_of(tmp_path).pid == os.getpid()


@pytest.mark.parametrize("content", [b"", b"x y z w", b"\xff\xfe\0", b"-1 host"])
def test_an_owner_whose_lock_file_says_nothing_is_refused_all_the_same(tmp_path, content):
    with StateDir.claim(tmp_path):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(StateLocked, match="another process"):
            StateDir.claim(tmp_path)


def test_an_owner_on_another_host_is_named_with_it(tmp_path):
    with StateDir.claim(tmp_path):
        (tmp_path / "lock").write_text("7 3f2a91\n")
        with pytest.raises(StateLocked, match="process 7 on 3f2a91"):
            StateDir.claim(tmp_path)


def test_nobody_owns_a_released_directory(tmp_path):
    StateDir.claim(tmp_path).release()
    assert owner_of(tmp_path) is None


_FORKING = """
import os, sys
from pathlib import Path
from storage.state import StateDir, StateLocked

path = Path(sys.argv[1])
state = StateDir.claim(path)
child_is_there, child_may_go = os.pipe(), os.pipe()
if not os.fork():
    os.write(child_is_there[1], b".")
    os.read(child_may_go[0], 1)
    os._exit(0)
os.read(child_is_there[0], 1)
try:
    StateDir.claim(path)
except StateLocked:
    state.release()
    StateDir.claim(path).release()
    print("held by the parent alone")
os.write(child_may_go[1], b".")
os.wait()
"""


def test_a_forked_child_neither_holds_the_lock_nor_loses_it_for_the_parent(tmp_path):
    done = subprocess.run([sys.executable, "-c", _FORKING, tmp_path], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"held by the parent alone\n"


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "s").write_text("")
    with pytest.raises(StateUnusable, match=r"s cannot be used: .*exists.*GATEWAY_STATE_DIR"):
        StateDir.claim(tmp_path / "s")


def test_a_file_above_is_a_clear_error(tmp_path):
    (tmp_path / "s").write_text("")
    with pytest.raises(StateUnusable, match=r"Not a directory"):
        StateDir.claim(tmp_path / "s" / "deep" / "er")


def test_a_directory_that_cannot_be_written_is_a_clear_error(tmp_path):
    closed = Path("/proc/sys/kernel") if os.geteuid() == 0 else tmp_path / "s"  # nothing else stops root
    if os.geteuid():
        closed.mkdir(mode=0o500)
    with pytest.raises(StateUnusable, match=rf"user id {os.geteuid()} may write.*GATEWAY_STATE_DIR"):
        StateDir.claim(closed)


def test_a_symlink_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable):
        StateDir.claim(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("uid", "given", "expected"),
    [
        (0, "", "/var/lib/tahoe-gateway"),
        (0, "relative", "/var/lib/tahoe-gateway"),
        (0, "/x", "/x/tahoe-gateway"),
        (1000, "/x", "/x/tahoe-gateway"),
        (1000, "", "/home/ann/.local/state/tahoe-gateway"),
        (1000, "relative", "/home/ann/.local/state/tahoe-gateway"),
    ],
)
def test_state_goes_where_the_user_keeps_state(monkeypatch, uid, given, expected):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("XDG_STATE_HOME", given)
    assert default_state_dir() == Path(expected)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(Path, "home", _no_home)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with pytest.raises(StateUnusable, match="GATEWAY_STATE_DIR"):
        default_state_dir()


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")

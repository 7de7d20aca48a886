"""Starting a process that dies with us, stopping it, and reading its log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.embedded.account import Account
from storage.embedded.process import LAUNCHER, Log, spawn, stop
from tests.storage.embedded.watching import eventually, exists

US = Account(uid=os.geteuid(), gid=os.getegid(), name="us", borrowed=False)

_LOOK = """
import ctypes, os
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal))  # PR_GET_PDEATHSIG
print(signal.value, oct(os.umask(0)), os.getsid(0) == os.getpid(), sorted(set(os.environ) - {"LC_CTYPE"}), os.getcwd())
"""


@pytest.fixture
def log(tmp_path) -> Log:
    return Log(tmp_path / "server.log")


async def test_a_child_has_a_death_signal_a_session_and_nothing_of_our_environment(tmp_path, log, monkeypatch):
    monkeypatch.setenv("GATEWAY_SECRET_KEY", "do-not-tell")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    child = await spawn([sys.executable, "-c", _LOOK], account=US, cwd=tmp_path, death_signal=signal.SIGINT, log=log)
    assert await child.wait() == 0
    assert log.said_since(0) == f"2 0o77 True ['LC_ALL', 'PATH', 'TZ'] {tmp_path}"


def test_a_child_whose_parent_is_gone_does_not_start():
    other = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCHER, "0", "2", str(US.uid), str(US.gid), "/bin/echo", "started"],
        capture_output=True,
        check=False,
    )
    assert other.returncode == 1
    assert other.stdout == b""
    assert b"is gone" in other.stderr


async def test_a_process_that_does_not_listen_is_ended_all_the_same(tmp_path, log):
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    child = await spawn([sys.executable, "-c", deaf], account=US, cwd=tmp_path, death_signal=signal.SIGKILL, log=log)
    await eventually(lambda: _said_something(log))
    await stop(child, ((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    assert child.returncode == -signal.SIGKILL
    await stop(child, ((signal.SIGTERM, 0.1),))  # that it is gone is no error


def test_only_what_this_start_said_is_shown(log):
    log.path.write_text("old\n")
    offset = log.size()
    with log.path.open("a") as out:
        out.writelines(f"line {number}\n" for number in range(20))
    assert log.said_since(offset).splitlines() == [f"line {number}" for number in range(12, 20)]


@pytest.mark.parametrize("content", [None, ""])
def test_a_server_that_said_nothing_is_described_so(log, content):
    if content is not None:
        log.path.write_text(content)
    assert log.size() == 0
    assert log.said_since(0) == "(it said nothing)"


def test_a_log_that_is_not_text_is_shown_all_the_same(log):
    log.path.write_bytes(b"\xff\xfe reason\n")
    assert "reason" in log.said_since(0)


async def test_a_symlink_in_place_of_the_log_is_not_followed(tmp_path, log):
    log.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        await spawn([Path("/bin/true")], account=US, cwd=tmp_path, death_signal=signal.SIGINT, log=log)
    assert not exists(tmp_path / "elsewhere")


async def _said_something(log: Log) -> bool:
    return log.size() > 0

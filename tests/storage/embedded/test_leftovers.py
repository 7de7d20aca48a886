"""What a crash leaves, told apart from other people's processes."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.embedded import EmbeddedServers, account
from storage.embedded.leftovers import Kind, disarm, end, ours
from tests.storage.embedded.watching import ask, lives

PROGRAM = "tahoe-server"


@pytest.fixture
def program(place) -> Path:
    """A program that waits, with a name of its own."""
    shutil.copy("/bin/sleep", place / PROGRAM)
    (place / PROGRAM).chmod(0o755)
    return place / PROGRAM


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process that is ended after the test."""
    with contextlib.ExitStack() as ends:

        def start(*command: object, **popen: object) -> subprocess.Popen[bytes]:
            process = ends.enter_context(subprocess.Popen(command, **popen))
            ends.callback(process.kill)
            return process

        yield start


def make_zombie(pid: int) -> None:
    """End a child without taking notice of its end."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def kind(directory: Path, *, uid: int | None = None, name: str = PROGRAM) -> Kind:
    return Kind(os.geteuid() if uid is None else uid, frozenset({name}), directory, "no such marker")


def test_a_server_in_its_directory_is_ours(program, place, run):
    process = run(program, "60", cwd=place)
    assert ours(kind(place)) == {process.pid}


def test_a_shell_that_somebody_left_in_the_directory_is_not_ours(place, run):
    run("/bin/sleep", "60", cwd=place)
    assert ours(kind(place)) == set()


def test_the_same_program_elsewhere_is_not_ours(program, place, run):
    (place / "other").mkdir()
    run(program, "60", cwd=place / "other")
    assert ours(kind(place)) == set()


def test_a_server_of_another_user_is_not_ours(program, place, run):
    run(program, "60", cwd=place)
    assert ours(kind(place, uid=os.geteuid() + 1)) == set()


def test_a_zombie_is_not_ours(program, place, run):
    process = run(program, "60", cwd=place)
    make_zombie(process.pid)
    assert ours(kind(place)) == set()


async def test_a_leftover_that_ignores_the_polite_signal_gets_the_next(place, run):
    stubborn = run("/bin/bash", "-c", "trap '' INT; echo; while :; do read -t 9; done", cwd=place,
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    stubborn.stdout.readline()
    await end(kind(place, name="bash"), ((signal.SIGINT, 0.05), (signal.SIGKILL, 5.0)))
    assert stubborn.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"4711\n/data\n1\n5432\n/run\n\n  54 2\nready\n", b"{us}\n/data\n1\n5432\n/run\n\n  54 2\nready\n"),
        (b"4711\n", b"{us}\n"),
        (b"4711", None),
        (b"", None),
        (b"\n\n", None),
        (b"\0\0\0\0\n", None),
        (b"-12\n", None),
        (b"garbage\n/data\n", None),
    ],
)
def test_a_stale_lock_file_gets_a_number_that_postgresql_ignores_or_goes(tmp_path, before, after):
    (tmp_path / "postmaster.pid").write_bytes(before)
    disarm(tmp_path / "postmaster.pid")
    if after is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert (tmp_path / "postmaster.pid").read_bytes() == after.replace(b"{us}", str(os.getpid()).encode())


def test_no_lock_file_needs_no_change(tmp_path):
    disarm(tmp_path / "postmaster.pid")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def as_servers(idle) -> dict[str, int]:
    """Keywords that start a process as the servers' user."""
    who = account.choose(idle)
    return {"user": who.uid, "group": who.gid} if who.borrowed else {}


async def test_postgresql_starts_over_a_lock_file_that_names_somebody_elses_process(idle, run, as_servers):
    # In a container the numbers start again at each boot: the one in the file is somebody's.
    foreign = run("/bin/sleep", "60", cwd=idle / "pg18", **as_servers)
    await _starts_over(idle, f"{foreign.pid}\n{idle / 'pg18'}\n1\n5432\n\n\n\n")
    assert lives(foreign.pid)


async def test_postgresql_starts_over_a_lock_file_that_names_a_zombie(idle, run, as_servers):
    zombie = run("/bin/sleep", "60", **as_servers)
    make_zombie(zombie.pid)
    await _starts_over(idle, f"{zombie.pid}\n{idle / 'pg18'}\n1\n5432\n\n\n\n")


@pytest.mark.parametrize("content", ["", "12", "not a number\n"], ids=["empty", "cut", "garbage"])
async def test_postgresql_starts_over_a_lock_file_cut_short(idle, content):
    await _starts_over(idle, content)


async def test_stale_sockets_are_replaced(idle, as_servers):
    await asyncio.to_thread(_leave_sockets, idle / "run")
    await _starts_over(idle, "1\n")


def _leave_sockets(run: Path) -> None:
    run.mkdir(exist_ok=True)
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock", "valkey.sock"):
        (run / name).write_text("1\n")


async def _starts_over(state: Path, content: str) -> None:
    pid_file = state / "pg18" / "postmaster.pid"
    await asyncio.to_thread(pid_file.write_text, content)
    servers = await EmbeddedServers.start(state, durable=False)
    try:
        assert await ask(servers.database_url, "select 1") == 1
    finally:
        await servers.stop()

"""Starting a server, stopping it, and what its log says when it does not start."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.embedded.account import Account

LAUNCHER = Path(__file__).with_name("launch.py")

POLL = 0.02  # seconds between two looks at a server that is starting
START_LIMIT = 60.0  # seconds without a sign of life

_LOG_LIMIT = 4 * 1024 * 1024  # bytes; one older file is kept beside it
_TAIL = 8  # lines

Ladder = Sequence[tuple[signal.Signals, float]]
"""Signals in the order of their rudeness, each with the seconds it is given."""


@dataclass(frozen=True, slots=True)
class Log:
    """The log file of one server, in the state directory."""

    path: Path

    def size(self) -> int:
        """In bytes; what comes after it is the next start's."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def said_since(self, offset: int) -> str:
        """The last lines written after ``offset``, one per line, or a word that there are none."""
        try:
            with self.path.open("rb") as log:
                log.seek(offset)
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(lines[-_TAIL:]) or "(it said nothing)"

    def keep_small(self) -> None:
        """Set a grown log aside. The server appends to the same open file, so it is emptied, not renamed.

        Never fails: where there is no room for a copy there is none, and the watch over the server goes on.
        """
        if self.size() > _LOG_LIMIT:
            older = self.path.with_suffix(".log.1")
            with contextlib.suppress(OSError):
                older.unlink(missing_ok=True)
                with older.open("xb") as copy:
                    copy.write(self.path.read_bytes())
            with contextlib.suppress(OSError):
                os.truncate(self.path, 0)


async def spawn(
    command: Sequence[str | Path],
    *,
    account: Account,
    cwd: Path,
    death_signal: signal.Signals,
    log: Log,
    keep: tuple[int, ...] = (),
) -> asyncio.subprocess.Process:
    """Start a direct child that gets ``death_signal`` when this process ends, however it ends.

    To be called in the main thread: the kernel sends the death signal when the *thread* that forked is gone. The child
    has a session of its own (Ctrl-C is ours to handle first), an environment without our secrets, and of our open
    files only the descriptors in ``keep``.
    """
    fd = os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(fd, account.uid, account.gid)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", LAUNCHER,
            str(os.getpid()), str(int(death_signal)), str(account.uid), str(account.gid),
            *command,
            cwd=cwd, env=_environment(), stdin=asyncio.subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True,
            pass_fds=keep,
        )  # fmt: skip
    finally:
        os.close(fd)


async def stop(process: asyncio.subprocess.Process, ladder: Ladder) -> None:
    """Ask the process to end, ever less politely, and see it gone."""
    for sign, patience in ladder:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(sign)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)


def _environment() -> dict[str, str]:
    # Built from nothing: PGPORT or PGOPTIONS of the user's shell would reach PostgreSQL, and our secrets would stand in
    # the servers' /proc/PID/environ.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **kept}

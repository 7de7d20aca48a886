"""What a crash leaves behind: servers that are still ending, orphaned backends, and lock files with stale names.

Holding the lock of the state directory we know that nobody *else* runs these servers. What is not known is whether a
process found is one of them: its number may have been given to somebody else's program since. So a process is ours
only when it runs as the servers' user, has the right program name, is no zombie, and works in the data directory.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.embedded.files import replace
from storage.embedded.process import Ladder

_POLL = 0.01  # seconds

ABANDONED: Ladder = ((signal.SIGQUIT, 1.0), (signal.SIGKILL, 5.0))
"""For backends without a postmaster: nothing they do can be committed any more. SIGQUIT makes them exit at once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How to recognise the processes of one server."""

    uid: int
    names: frozenset[str]  # as in /proc/PID/comm
    directory: Path  # where they work
    marker: str  # in their command line or title, for when the kernel hides where they work


def ours(kind: Kind) -> set[int]:
    """The living processes of this kind."""
    return {pid for pid in _pids(kind.uid) if _is_ours(pid, kind)}


async def end(kind: Kind, ladder: Ladder, among: Callable[[], Collection[int]] | None = None) -> None:
    """Send the signals of the ladder until no such process lives.

    ``among`` narrows whom to signal (a postmaster ends its own backends); what it leaves out is not waited for.
    """
    for sign, patience in ladder:
        until = time.monotonic() + patience
        found = ours(kind).intersection(among()) if among else ours(kind)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        while found and time.monotonic() < until:
            await asyncio.sleep(_POLL)
            found = {pid for pid in found if _is_ours(pid, kind)}
        if not found:
            return


def disarm(pid_file: Path) -> None:
    """Keep PostgreSQL from refusing to start over a lock file whose process is not a server of ours.

    PostgreSQL takes any living process of its user for its predecessor, a zombie as well as a shell that got the
    number after a reboot; and a file cut short by a crash it takes for a server that is just starting. The number is
    replaced by our own, which PostgreSQL ignores because it is its parent's. The rest of the file stays: it names the
    shared memory block by which PostgreSQL itself makes sure that no backend lives (CreateLockFile in miscinit.c).
    """
    try:
        first, newline, rest = pid_file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return
    if not newline or not first.strip().isdigit():
        pid_file.unlink()
        return
    replace(pid_file, str(os.getpid()).encode() + newline + rest)


def _pids(uid: int) -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_uid == uid:
                        yield int(entry.name)


def _is_ours(pid: int, kind: Kind) -> bool:
    proc = Path("/proc") / str(pid)
    try:
        if proc.stat().st_uid != kind.uid or _program(proc) not in kind.names:
            return False
        try:
            return os.path.samestat((proc / "cwd").stat(), kind.directory.stat())
        except PermissionError:
            # Root without CAP_SYS_PTRACE, as in an ordinary container, may not look at another user's process.
            return kind.marker.encode() in (proc / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _program(proc: Path) -> str | None:
    """The name of a living process; None for a zombie. Raises what reading /proc raises."""
    # "PID (NAME) STATE ...", where NAME may hold parentheses itself (proc(5))
    head, _, tail = (proc / "stat").read_bytes().rpartition(b")")
    return None if tail.split()[0] in {b"Z", b"X"} else head.partition(b"(")[2].decode(errors="replace")

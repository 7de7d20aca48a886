"""The state directory: one gateway owns it at a time, and the lock says who.

It holds the journal and the generated secrets of every gateway, and the data of the embedded servers where there are
any. The lock is an ``flock`` that lives as long as its process, so ``kill -9`` leaves nothing to clear away.
"""

import errno
import fcntl
import os
import socket
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.ports import StorageError

PRIVATE = 0o700
PASSABLE = 0o711  # root's directory that the servers' user walks through, without listing it

# Another process that asks "is it free?" holds the lock for some microseconds. That is not an owner.
_GLANCES = 5
_BETWEEN_GLANCES = 0.01  # seconds

_LENDS = "lends"


class StateUnusable(StorageError):
    """The state directory cannot be made, entered or written."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who wrote itself into the lock. ``pid`` is 0 when the file does not say."""

    pid: int
    host: str
    lends: bool = False  # a command that started servers for its own time, and will be gone in a moment

    def __str__(self) -> str:
        """For a message: the process, and the host when it is not this one (a shared volume)."""
        if not self.pid:
            return "another process"
        return f"process {self.pid}" if self.host == socket.gethostname() else f"process {self.pid} on {self.host}"


class StateLocked(StorageError):
    """Another process owns the state directory; ``owner`` says which."""

    def __init__(self, path: Path, owner: Owner) -> None:
        """Take what the lock file said."""
        stop = f"stop it first (kill -TERM {owner.pid})" if owner.pid else "stop it first"
        super().__init__(
            f"The state directory {path} is in use by {owner}. One gateway owns a state directory at a time: {stop}, "
            "or give this gateway a directory of its own with GATEWAY_STATE_DIR."
        )
        self.path = path
        self.owner = owner


def default_state_dir() -> Path:
    """Where state goes when nobody says: the XDG state directory of the user; of root ``/var/lib``, unless it has one.

    Raises StateUnusable for a user without a home.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    if given.startswith("/"):
        return Path(given) / "tahoe-gateway"
    if os.geteuid() == 0:
        return Path("/var/lib/tahoe-gateway")
    try:
        return Path.home() / ".local" / "state" / "tahoe-gateway"
    except RuntimeError as error:
        raise StateUnusable(
            f"User id {os.geteuid()} has no home directory: choose a state directory with GATEWAY_STATE_DIR."
        ) from error


class StateDir:
    """A state directory that this process owns until ``release``. Also a context manager."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        _held.add(self)

    @classmethod
    def claim(cls, path: Path, *, lends: bool = False) -> Self:
        """Make the directory where it is missing, take its lock, and write this process into it.

        A directory made here is 0700, or 0711 under root, whose servers are another user; one that was there keeps its
        mode. ``lends`` marks a command. Raises StateLocked and StateUnusable.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve() would follow symlinks that people chose
        try:
            make_directory(path, PRIVATE if os.geteuid() else PASSABLE)
            lock = _seize(path, Owner(os.getpid(), socket.gethostname(), lends))
        except OSError as error:
            raise StateUnusable(_unusable(path, error)) from error
        return cls(path, lock)

    def release(self) -> None:
        """Let the next one in. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def owner_of(path: Path) -> Owner | None:
    """Who owns the state directory now; None when nobody does. Raises OSError."""
    lock = open_lock(path, "lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(lock)
    else:
        return None
    finally:
        os.close(lock)


def open_lock(directory: Path, name: str) -> int:
    """Open a lock file for ``flock``; the descriptor is not inherited by programs. Raises OSError.

    Root may be running a command on the directory of somebody else, who must be able to open the file tomorrow.
    """
    lock = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        home = directory.stat()
        os.fchown(lock, home.st_uid, home.st_gid)
    return lock


def make_directory(path: Path, mode: int) -> None:
    """Make the directory with this mode, and its parents; one that is there stays as it is. Raises OSError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)  # mkdir's mode passes through the umask


_held: weakref.WeakSet[StateDir] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # A forked worker would go on holding the flock after its parent's death, in the name of a process that is gone.
    # Closing its copy of the descriptor leaves the parent's lock alone (flock(2)).
    for state in list(_held):
        state.release()


os.register_at_fork(after_in_child=_let_go_in_child)


def _seize(path: Path, us: Owner) -> int:
    """Lock the directory in our name. Raises StateLocked and OSError."""
    lock = open_lock(path, "lock")
    try:
        if _taken(lock):
            _write_owner(lock, us)
            return lock
        owner = _read_owner(lock)
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    raise StateLocked(path, owner)


def _taken(lock: int) -> bool:
    for glance in range(_GLANCES):
        if glance:
            time.sleep(_BETWEEN_GLANCES)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _read_owner(lock: int) -> Owner:
    pid, host, *lends = [*os.pread(lock, 300, 0).decode(errors="replace").split(), "", ""][:3]
    return Owner(pid=int(pid) if pid.isascii() and pid.isdigit() else 0, host=host, lends=lends == [_LENDS])


def _write_owner(lock: int, owner: Owner) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{owner.pid} {owner.host} {_LENDS if owner.lends else ''}\n".encode(), 0)


def _unusable(path: Path, error: OSError) -> str:
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    advice = {
        errno.ENOSPC: "The disk is full: make room, or choose another directory with GATEWAY_STATE_DIR.",
        errno.ENOLCK: "This file system cannot lock files: choose a local disk with GATEWAY_STATE_DIR.",
        errno.EOPNOTSUPP: "This file system cannot lock files: choose a local disk with GATEWAY_STATE_DIR.",
    }.get(
        error.errno or 0,
        f"It must be a directory that user id {os.geteuid()} may write: correct its owner, or choose another one "
        "with GATEWAY_STATE_DIR.",
    )
    return f"The state directory {path} cannot be used: {error.strerror or error}{where}. {advice}"

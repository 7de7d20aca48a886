"""Where the sockets are: ``run/`` in the state directory, or a short private directory when that cannot be.

The choice is written into the state directory together with the owner's process id, so that a command given the same
state directory finds the sockets of the gateway that is running there; and with which directory that is, because a copy
of it holds the same words, while the sockets are those of the other one, which may be serving.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from storage.embedded.account import Account
from storage.embedded.errors import StartFailed
from storage.embedded.files import replace

DATABASE = "tahoe"
ROLE = "gateway"
PORT = 5432  # names the socket file; nothing listens on a port

_RECORD = "sockets"
_UNTOLD = ""
"""A note of an older release does not say which directory it is of."""
_PREFIX = "tahoe-gateway-"

# sockaddr_un.sun_path is 108 bytes with its final NUL; some of that is kept in hand.
_LONGEST = 100

# PostgreSQL splits a list of socket directories at commas, and so do its clients; neither takes every other character.
_PLAIN = re.compile(r"[A-Za-z0-9_./@:~+-]+")


@dataclass(frozen=True, slots=True)
class RunDir:
    """The directory with both sockets, 0700 and the servers' own."""

    path: Path

    @property
    def database_url(self) -> str:
        """For asyncpg and libpq. Names the port, because a client would take it from PGPORT otherwise."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.path))}&port={PORT}"

    @property
    def redis_url(self) -> str:
        """For ``redis.asyncio.from_url``."""
        return f"unix://{quote(str(self.valkey_socket))}"

    @property
    def postgres_socket(self) -> Path:
        """PostgreSQL makes the name."""
        return self.path / f".s.PGSQL.{PORT}"

    @property
    def valkey_socket(self) -> Path:
        """Ours to name."""
        return self.path / "valkey.sock"


def open_run_dir(state: Path, account: Account) -> RunDir:
    """Make the directory and record it. The caller owns the state directory. Raises StartFailed."""
    own = state / "run"
    if _fits(own) and account.can_enter(state):
        run = RunDir(account.make_private(own))
    else:
        run = RunDir(_recorded_elsewhere(state, account) or _make_elsewhere(account))
    replace(state / _RECORD, f"{os.getpid()}\n{run.path}\n{_identity(state)}\n".encode())
    return run


def close_run_dir(state: Path, run: RunDir) -> None:
    """Forget it, once the servers have ended."""
    (state / _RECORD).unlink(missing_ok=True)
    if run.path != state / "run":
        shutil.rmtree(run.path, ignore_errors=True)


def run_dir_of(state: Path, owner: int) -> RunDir | None:
    """Where the process that owns the state directory has its sockets; None when it has no servers (yet)."""
    pid, path, whose = _read(state)
    return RunDir(path) if path and pid == owner and whose in {_identity(state), _UNTOLD} else None


def _fits(directory: Path) -> bool:
    longest = RunDir(directory).postgres_socket
    return len(os.fsencode(longest)) <= _LONGEST and _PLAIN.fullmatch(str(directory)) is not None


def _recorded_elsewhere(state: Path, account: Account) -> Path | None:
    """Take the directory that an owner who was killed left: its servers may still hold their sockets in it."""
    _, path, whose = _read(state)
    if (
        path
        and whose == _identity(state)
        and path.name.startswith(_PREFIX)
        and _fits(path)
        and account.is_private(path)
    ):
        return path
    return None


def _make_elsewhere(account: Account) -> Path:
    for base in _bases():
        with contextlib.suppress(OSError):  # the next one may do
            if _fits(base / f"{_PREFIX}12345678") and account.can_enter(base):
                made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
                account.give(made)
                return made
    raise StartFailed(
        "There is no directory for the servers' sockets: the state directory's own path is too long for a socket "
        f"(more than {_LONGEST} bytes), has unusual characters, or is closed to the user {account.name}; and neither "
        "XDG_RUNTIME_DIR nor the temporary directory will do. Choose a short path with GATEWAY_STATE_DIR."
    )


def _bases() -> Iterator[Path]:
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(given)
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108  mkdtemp makes a private directory in it; TMPDIR may be long itself


def _identity(state: Path) -> str:
    """What no copy of a directory has."""
    found = state.stat()
    return f"{found.st_dev}:{found.st_ino}"


def _read(state: Path) -> tuple[int, Path | None, str]:
    """The owner, where its sockets are, and which directory noted this."""
    try:
        pid, path, *whose = (state / _RECORD).read_text().splitlines()
        return int(pid), Path(path), "".join(whose) or _UNTOLD
    except (FileNotFoundError, ValueError):
        return 0, None, _UNTOLD

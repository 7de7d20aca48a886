"""PostgreSQL: its data directory, its flags, and when it is ready."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from storage.embedded import leftovers
from storage.embedded.account import Account, own_name
from storage.embedded.binaries import Postgres
from storage.embedded.errors import StartFailed
from storage.embedded.files import replace
from storage.embedded.process import POLL, START_LIMIT, Ladder, Log, spawn, stop
from storage.embedded.rundir import DATABASE, PORT, ROLE, RunDir

# SIGINT is PostgreSQL's "fast" shutdown: sessions are ended, a checkpoint is written. SIGQUIT leaves that to recovery.
STOP: Ladder = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

_BUILTIN_LOCALES_SINCE = 17
_LEFTOVERS_LIMIT = 15.0  # seconds in which what a crash left must have let go

# What PostgreSQL says when a crash left something that is still letting go (miscinit.c, sysv_shmem.c).
_STILL_HELD = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')

_FOR_TESTS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class WayIn:
    """A path, and the descriptors that a process must have inherited to use it."""

    path: str
    keep: tuple[int, ...]


class PostgresServer:
    """One PostgreSQL over ``<state>/pgNN``, which ``start`` makes when it is missing."""

    name = "PostgreSQL"

    def __init__(self, *, installed: Postgres, account: Account, state: Path, run: RunDir, durable: bool) -> None:
        self._installed = installed
        self._account = account
        self._state = state
        self._run = run
        self._durable = durable
        self._data = state / f"pg{installed.major}"
        self.log = Log(state / "postgres.log")
        # Shown in the title of every backend, which is how orphans are told from other clusters of the same user.
        self._cluster = f"tahoe-{hashlib.sha256(os.fsencode(self._data)).hexdigest()[:12]}"
        self._kind = leftovers.Kind(account.uid, frozenset({"postgres"}), self._data, self._cluster)

    async def start(self) -> Process:
        """Start it and see it answer, with the database made. Raises StartFailed; nothing is left running then."""
        self._check_data()
        if not (self._data / "PG_VERSION").exists():
            await self._make_data()
        self._write_authentication()
        deadline = asyncio.get_running_loop().time() + _LEFTOVERS_LIMIT
        while True:
            await self._clear_leftovers()
            said_from = self.log.size()
            process = await self._spawn()
            try:
                await self._ready(process, said_from)
            except StartFailed:
                await stop(process, STOP)
                held = any(words in self.log.said_since(said_from) for words in _STILL_HELD)
                if not held or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(POLL)
            except BaseException:
                await stop(process, STOP)
                raise
            else:
                return process

    async def stop(self, process: Process) -> None:
        """End it in good order, and whatever a rough end left."""
        await stop(process, STOP)
        await leftovers.end(self._kind, leftovers.ABANDONED)

    def _check_data(self) -> None:
        if self._data.is_dir() and not (self._data / "PG_VERSION").exists() and any(self._data.iterdir()):
            raise StartFailed(
                f"{self._data} is not empty and is not the data of a PostgreSQL server. Set it aside and start again."
            )

    async def _make_data(self) -> None:
        """Run initdb under another name: what has the name is complete, whenever we are killed."""
        for unfinished in self._state.glob(f".{self._data.name}.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f".{self._data.name}.", dir=self._state))
        self._account.give(made)
        locale = ["--locale=C.UTF-8"]
        if self._installed.major >= _BUILTIN_LOCALES_SINCE:
            # The operating system's collations change with its updates, and break indexes in silence.
            locale.append("--locale-provider=builtin")
        said_from = self.log.size()
        with self._reachable(made) as way:
            initdb = await spawn(
                [
                    self._installed.bin / "initdb", f"--pgdata={way.path}", f"--username={ROLE}",
                    "--auth=peer", "--encoding=UTF8", *locale, *([] if self._durable else ["--no-sync"]),
                ],
                account=self._account, cwd=Path("/"), death_signal=signal.SIGTERM, log=self.log, keep=way.keep,
            )  # fmt: skip
        try:
            code = await initdb.wait()
        finally:
            await stop(initdb, ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        if code:
            said = self.log.said_since(said_from)
            shutil.rmtree(made, ignore_errors=True)
            raise StartFailed(f"PostgreSQL's initdb failed. The end of {self.log.path}:\n{said}")
        _name_durably(made, self._data)

    def _write_authentication(self) -> None:
        """No password and no trust: the kernel tells who is at the other end of the socket.

        Let in are the servers' user, this process's user, and root, who could become either anyway.
        """
        names = dict.fromkeys((self._account.name, own_name(), "root"))
        ident = "".join(f'gateway "{name}" {ROLE}\n' for name in names)
        replace(self._data / "pg_ident.conf", ident.encode())
        replace(self._data / "pg_hba.conf", f"local all {ROLE} peer map=gateway\n".encode())

    async def _clear_leftovers(self) -> None:
        pid_file = self._data / "postmaster.pid"
        await leftovers.end(self._kind, STOP, among=lambda: _named(pid_file))
        await leftovers.end(self._kind, leftovers.ABANDONED)
        leftovers.disarm(pid_file)
        for name in (self._run.postgres_socket.name, f"{self._run.postgres_socket.name}.lock"):
            (self._run.path / name).unlink(missing_ok=True)

    async def _spawn(self) -> Process:
        settings = [
            "listen_addresses=", f"port={PORT}",
            f"unix_socket_directories={self._run.path}", "unix_socket_permissions=0700",
            f"cluster_name={self._cluster}",
            "shared_buffers=64MB", "max_connections=100",
            "dynamic_shared_memory_type=mmap",  # a container's /dev/shm has 64 MB
            "synchronous_commit=on",  # the ledger
            "jit=off",  # our queries are short
            "timezone=UTC", "log_timezone=UTC",
            "logging_collector=off", "log_destination=stderr", "log_checkpoints=off",
            "log_min_error_statement=fatal",  # a refused statement would put its values into the log
            *(() if self._durable else _FOR_TESTS),
        ]  # fmt: skip
        flags = [part for setting in settings for part in ("-c", setting)]
        with self._reachable(self._data) as way:
            return await spawn(
                [self._installed.bin / "postgres", "-D", way.path, *flags],
                account=self._account, cwd=Path("/"), death_signal=signal.SIGINT, log=self.log, keep=way.keep,
            )  # fmt: skip

    async def _ready(self, process: Process, said_from: int) -> None:
        """Wait until it serves the database. Recovery after a crash may take as long as it needs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_LIMIT
        while process.returncode is None and loop.time() < deadline:
            try:
                await self._make_database()
            except asyncpg.OperatorInterventionError:  # "the database system is starting up"
                deadline = loop.time() + START_LIMIT
            except asyncpg.TooManyConnectionsError:
                return  # started again, and the gateway's own pools were quicker than we
            except (OSError, asyncpg.InterfaceError, asyncpg.ConnectionDoesNotExistError):
                pass
            except asyncpg.PostgresError as error:
                raise StartFailed(f"PostgreSQL started, and refused us: {error}") from error
            else:
                return
            await asyncio.sleep(POLL)
        ended = "did not answer" if process.returncode is None else f"ended with status {process.returncode}"
        raise StartFailed(f"PostgreSQL {ended}. The end of {self.log.path}:\n{self.log.said_since(said_from)}")

    async def _make_database(self) -> None:
        connection = await asyncpg.connect(
            host=str(self._run.path), port=PORT, user=ROLE, database="postgres", timeout=5.0
        )
        try:
            if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
                await connection.execute(f'create database "{DATABASE}"')
        finally:
            await connection.close(timeout=5.0)

    @contextlib.contextmanager
    def _reachable(self, directory: Path) -> Iterator[WayIn]:
        """Name a directory so that the account can use it, also when it cannot walk there from the root.

        PostgreSQL changes into its data directory by absolute path. Through a descriptor that it inherits it gets past
        a parent such as a 0700 ``/root``, which we never open for others. (``/proc/self/cwd`` would do since version
        16; before, PostgreSQL leaves its working directory at start, and cannot come back.)
        """
        if self._account.can_enter(self._state):
            yield WayIn(str(directory), ())
            return
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield WayIn(f"/proc/self/fd/{fd}", (fd,))
        finally:
            os.close(fd)


def _named(pid_file: Path) -> set[int]:
    """The process that postmaster.pid names."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return {int(pid_file.read_bytes().partition(b"\n")[0])}
    return set()


def _name_durably(made: Path, name: Path) -> None:
    """Rename within a directory, so that the name survives a power cut."""
    made.rename(name)
    fd = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

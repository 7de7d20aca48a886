"""The pair of servers: a gateway's own for life, or lent to a command."""

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import asyncpg
from redis.exceptions import RedisError

from storage.embedded import account, binaries
from storage.embedded.errors import StartFailed
from storage.embedded.keeper import Keeper
from storage.embedded.postgres import PostgresServer
from storage.embedded.process import POLL, START_LIMIT
from storage.embedded.rundir import RunDir, close_run_dir, open_run_dir, run_dir_of
from storage.embedded.valkey import ValkeyServer, ping
from storage.ports import StorageError
from storage.state import StateDir, StateLocked, open_lock, owner_of

log = logging.getLogger("storage.embedded")

_COMMANDS_LIMIT = 10.0  # seconds that a gateway waits for commands to end
_RECORD_LIMIT = 5.0  # seconds between an owner's claim and its note of where the sockets are


class NotEmbedded(StorageError):
    """The gateway that owns the state directory runs no servers of its own."""


class EmbeddedServers:
    """PostgreSQL and Valkey over one state directory. Both are started again when they die, until ``stop``.

    They are children of this process and end with it, even by ``kill -9``: so start them in the main thread, whose
    end would end them as well.
    """

    def __init__(self, state: StateDir, run: RunDir, postgres: Keeper, valkey: Keeper) -> None:
        self.state = state
        self.database_url = run.database_url
        self.redis_url = run.redis_url
        self._run = run
        self._postgres = postgres
        self._valkey = valkey

    @classmethod
    async def start(cls, state_dir: Path, *, durable: bool = True) -> Self:
        """Claim the state directory and start both, with the database made.

        ``durable=False`` is for tests: nothing waits for the disk. Raises StateLocked, StateUnusable and StartFailed;
        nothing is left running then.
        """
        state = await _claim_after_commands(state_dir)
        try:
            self = await cls.start_in(state, durable=durable)
        except BaseException:
            state.release()
            raise
        log.warning("embedded PostgreSQL and Valkey in %s: single node, not for production", state.path)
        return self

    @classmethod
    async def start_in(cls, state: StateDir, *, durable: bool = True) -> Self:
        """The same over a state directory that is claimed already; ``stop`` releases it. Raises StartFailed."""
        try:
            return await cls._start(state, durable=durable)
        except OSError as error:
            raise StartFailed(f"The servers cannot be started in {state.path}: {error}.") from error

    @classmethod
    async def _start(cls, state: StateDir, *, durable: bool) -> Self:
        who = account.choose(state.path)
        found = binaries.find_postgres(state.path), binaries.find_valkey()
        # Copying 42 MB, once, where the account cannot reach the installation.
        postgres_programs = await asyncio.to_thread(binaries.reachable_postgres, found[0], who, state.path)
        valkey_program = await asyncio.to_thread(binaries.reachable_valkey, found[1], who, state.path)
        run = open_run_dir(state.path, who)
        self = cls(
            state,
            run,
            Keeper(
                PostgresServer(installed=postgres_programs, account=who, state=state.path, run=run, durable=durable)
            ),
            Keeper(ValkeyServer(installed=valkey_program, account=who, state=state.path, run=run, durable=durable)),
        )
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    @property
    def postgres_pid(self) -> int | None:
        """The postmaster; None between a death and the next start."""
        return self._postgres.pid

    @property
    def valkey_pid(self) -> int | None:
        """The Valkey process; None between a death and the next start."""
        return self._valkey.pid

    async def stop(self) -> None:
        """End both in good order and let the state directory go. Idempotent."""
        await self._close()
        self.state.release()

    async def _open(self) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._postgres.open())
                both.create_task(self._valkey.open())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _close(self) -> None:
        await asyncio.gather(self._postgres.close(), self._valkey.close())
        close_run_dir(self.state.path, self._run)


@contextlib.asynccontextmanager
async def attached(state_dir: Path) -> AsyncIterator[tuple[str, str]]:
    """Lend a command the servers of a state directory: the running gateway's, else ones started for the time.

    Yields the URLs of PostgreSQL and Redis. Several commands may run at once: the one that started the servers ends
    them when the others have finished. Raises StateUnusable, StartFailed and NotEmbedded.
    """
    while True:
        claimed = _claim_or_owner(state_dir)
        if isinstance(claimed, StateDir):
            async with _lent(claimed) as servers:
                yield servers.database_url, servers.redis_url
            return
        with _using(claimed.path) as users:
            run = await _sockets_of(claimed, users)
            if run:
                yield run.database_url, run.redis_url
                return


def _claim_or_owner(state_dir: Path) -> StateDir | StateLocked:
    try:
        return StateDir.claim(state_dir, lends=True)
    except StateLocked as locked:
        return locked


async def _claim_after_commands(state_dir: Path) -> StateDir:
    """Claim for a gateway, which does not fail to start because somebody asked for a report just then."""
    clock = asyncio.get_running_loop().time
    until = clock() + _COMMANDS_LIMIT
    while True:
        try:
            return StateDir.claim(state_dir)
        except StateLocked as locked:
            if not locked.owner.lends or clock() > until:
                raise
        await asyncio.sleep(POLL)


@contextlib.asynccontextmanager
async def _lent(state: StateDir) -> AsyncIterator[EmbeddedServers]:
    """Start servers for the time of a command, and of the commands that came to use them meanwhile."""
    with state:
        servers = await EmbeddedServers.start_in(state)
        try:
            yield servers
        finally:
            with _using(state.path) as users:
                try:
                    await _last_user(users)
                finally:
                    # Still holding it: who comes now waits, finds the state directory free, and starts its own.
                    await servers.stop()


async def _last_user(users: int) -> None:
    while not _lock(users, fcntl.LOCK_EX):  # noqa: ASYNC110  other processes set no event
        await asyncio.sleep(POLL)


@contextlib.contextmanager
def _using(state: Path) -> Iterator[int]:
    """Open the file whose lock commands share while they use another command's servers."""
    users = open_lock(state, "users")
    try:
        yield users
    finally:
        os.close(users)


async def _sockets_of(locked: StateLocked, users: int) -> RunDir | None:
    """Wait until the owner's servers answer; None when the owner has ended instead. Raises NotEmbedded."""
    while owner_of(locked.path) == locked.owner:
        if _lock(users, fcntl.LOCK_SH):  # else a command is about to end the servers it started
            return await _answering(locked)
        await asyncio.sleep(POLL)
    return None


async def _answering(locked: StateLocked) -> RunDir | None:
    clock = asyncio.get_running_loop().time
    began = clock()
    while owner_of(locked.path) == locked.owner:
        run = run_dir_of(locked.path, locked.owner.pid)
        if run and await _answers(run):
            return run
        if clock() - began > (START_LIMIT if run else _RECORD_LIMIT):
            trouble = (
                f"whose PostgreSQL and Valkey do not answer: see its log and {locked.path / 'postgres.log'}."
                if run
                else "which runs no servers itself: give this command its GATEWAY_DATABASE_URL and GATEWAY_REDIS_URL."
            )
            raise NotEmbedded(f"The state directory {locked.path} is in use by {locked.owner}, {trouble}")
        await asyncio.sleep(POLL)
    return None


async def _answers(run: RunDir) -> bool:
    try:
        connection = await asyncpg.connect(run.database_url, timeout=5.0)
        await connection.close(timeout=5.0)
        await ping(run)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise NotEmbedded(
            f"The PostgreSQL behind {run.path} refuses this user: {error}. Be its owner, or root."
        ) from error
    except (OSError, RedisError, asyncpg.InterfaceError, asyncpg.PostgresError):
        return False  # starting, or being started again
    return True


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

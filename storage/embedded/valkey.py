"""Valkey: its flags, and when it is ready."""

import asyncio
import logging
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from storage.embedded import leftovers
from storage.embedded.account import Account
from storage.embedded.binaries import Valkey
from storage.embedded.errors import StartFailed
from storage.embedded.process import POLL, START_LIMIT, Ladder, Log, spawn, stop
from storage.embedded.rundir import RunDir

log = logging.getLogger("storage.embedded")

STOP: Ladder = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

# What Valkey and Redis say about an append-only file that they cannot use (aof.c).
_DAMAGED = (
    "Bad file format reading the append only file",
    "Unexpected end of file reading the append only file",
    "Unrecoverable error reading the append only file",
    "AOF manifest",
)


class ValkeyServer:
    """One Valkey over ``<state>/valkey``."""

    name = "Valkey"

    def __init__(self, *, installed: Valkey, account: Account, state: Path, run: RunDir, durable: bool) -> None:
        self._installed = installed
        self._account = account
        self._state = state
        self._run = run
        self._durable = durable
        self._data = state / "valkey"
        self.log = Log(state / "valkey.log")
        names = frozenset({"valkey-server", "redis-server"})
        self._kind = leftovers.Kind(account.uid, names, self._data, f"unixsocket:{run.valkey_socket}")

    async def start(self) -> Process:
        """Start it and see it answer. Raises StartFailed; nothing is left running then."""
        self._account.make_private(self._data)
        said_from = self.log.size()
        try:
            return await self._start()
        except StartFailed:
            if not any(words in self.log.said_since(said_from) for words in _DAMAGED):
                raise
        self._set_damage_aside()
        return await self._start()

    async def stop(self, process: Process) -> None:
        """End it in good order."""
        await stop(process, STOP)

    async def _start(self) -> Process:
        await leftovers.end(self._kind, STOP)
        self._run.valkey_socket.unlink(missing_ok=True)
        said_from = self.log.size()
        process = await self._spawn()
        try:
            await self._ready(process, said_from)
        except BaseException:
            await stop(process, STOP)
            raise
        return process

    async def _spawn(self) -> Process:
        options = {
            "port": "0",
            "unixsocket": str(self._run.valkey_socket),
            "unixsocketperm": "700",
            "dir": ".",  # where it is started; its user may not be able to walk there from the root
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec" if self._durable else "no",
            "daemonize": "no",
            "hz": "2",  # how often it tidies up; at its usual 10 it is a tenth of what a gateway at rest costs
            "maxmemory": "128mb",
            "maxmemory-policy": "noeviction",  # sessions and limits: refuse to write rather than forget
        }
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return await spawn(
            [self._installed.program, *flags],
            account=self._account, cwd=self._data, death_signal=signal.SIGTERM, log=self.log,
        )  # fmt: skip

    async def _ready(self, process: Process, said_from: int) -> None:
        """Wait until it serves. Loading its file may take as long as it needs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_LIMIT
        while process.returncode is None and loop.time() < deadline:
            try:
                await ping(self._run)
            except BusyLoadingError:
                deadline = loop.time() + START_LIMIT
            except (OSError, RedisError):
                pass
            else:
                return
            await asyncio.sleep(POLL)
        ended = "did not answer" if process.returncode is None else f"ended with status {process.returncode}"
        raise StartFailed(f"Valkey {ended}. The end of {self.log.path}:\n{self.log.said_since(said_from)}")

    def _set_damage_aside(self) -> None:
        """Begin afresh beside a file that a power cut damaged.

        What is in it can be made again: people sign in once more, and limits count from zero. The ledger is not here.
        """
        aside = self._state / f"valkey.damaged-{int(time.time())}"
        self._data.rename(aside)
        self._account.make_private(self._data)
        log.error("Valkey cannot read its data; it is set aside as %s and begins empty: sessions are lost", aside)


async def ping(run: RunDir) -> None:
    """Ask for a sign of life, once. Raises OSError and RedisError."""
    once = Retry(NoBackoff(), 0)
    async with redis.Redis(unix_socket_path=str(run.valkey_socket), socket_timeout=5.0, retry=once) as client:
        await client.ping()

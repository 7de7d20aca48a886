"""The parent: binds the sockets, brings up what is embedded, keeps the workers alive, ships usage, answers operations.

It serves no client itself, so nothing a client does can take it down; and it touches no request, so what dies in it
costs no request. Order of the end: listeners stop, requests drain, journals are shipped, stores close.
"""

import asyncio
import contextlib
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from aiohttp import web

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.secrets import generated_secret
from gateway.configuration.settings import Settings
from gateway.configuration.upstreams import UpstreamSettings
from gateway.processes import ops
from gateway.processes.control import Gone
from gateway.processes.crew import Crew
from gateway.processes.members import StartFailed
from gateway.processes.noted_address import note
from gateway.processes.reload import Reloader
from gateway.processes.sockets import (
    close_privately,
    listen,
    listen_at_files,
    listen_for_each,
    listen_privately,
    turn_deaf,
)
from gateway.processes.systemd import Systemd
from gateway.tasks import Tasks
from gateway.telemetry.exposition import State
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tenants import TenantFigures
from gateway.upstreams.status import upstream_status
from gateway.usage.nightly import Nightly
from gateway.usage.sinks import UsageSinks, usage_sinks
from storage.archive_comparison import archive_differences
from storage.embedded import EmbeddedServers
from storage.journal.archive import Archive
from storage.ports import StorageError
from storage.postgres.history import MIGRATIONS, names
from storage.postgres.migrate import migrate, pending
from storage.postgres.pool import Pool
from storage.postgres.usage.care import UsageCare
from storage.postgres.usage.ledger import PostgresLedger
from storage.redis.bus import RedisBus
from storage.redis.counters import RedisCounters
from storage.shipper import Shipper
from storage.state import StateDir

_log = structlog.get_logger("gateway.supervisor")

_FEW_FILES = 8_192
_AGAIN_S = 1.0
"""How soon it is asked again whether it is ready, at the start."""
_HANDSHAKE_S = 0.2
"""At the end: how long a handshake that was begun may take. Its client takes itself for connected half-way."""
_OPINION_S = 0.4
"""How long workers may take to say what they think of an upstream, within the time of the whole check."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores are, and the secret: what settings leave open until something embedded has started."""

    database_url: str
    redis_url: str
    secret_key: str


class Supervisor:
    """Runs a gateway from start to drained.

    ``settings`` were judged with all that they name. ``read`` gives them anew at a reload, or raises SettingsInvalid.
    ``on_ready`` is awaited once, when the workers serve. ``ports`` has the option that sets ``listen`` or
    ``ops_listen``, where it is not a setting's own. ``ends_with_terminal``: SIGHUP ends it instead of a reload, unless
    that is ignored from the start (``nohup``).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        embedded: bool,
        read: Callable[[], Settings],
        prepare: Callable[[Stores], Awaitable[None]] | None = None,
        on_ready: Callable[[], Awaitable[None]] | None = None,
        ports: Mapping[str, str] = MappingProxyType({}),
        ends_with_terminal: bool = False,
    ) -> None:
        self._settings = settings
        self._ends_with_terminal = ends_with_terminal
        self._embedded = embedded
        self._read = read
        self._prepare = prepare
        self._on_ready = on_ready
        self._ports = {"listen": "GATEWAY_LISTEN", "ops_listen": "GATEWAY_OPS_LISTEN", **ports}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._systemd = Systemd()
        self._tasks = Tasks()
        self.draining = False
        self._public: list[socket.socket] = []
        self._checks: dict[str, ops.Check] = {}
        self._crew: Crew | None = None
        self._reloader: Reloader | None = None
        self._shipper: Shipper | None = None
        self._tenants = TenantFigures(lambda: self._in_force.metrics_tenants)
        self._nightly: Nightly | None = None
        self._sinks: UsageSinks | None = None

    async def run(self) -> None:
        """Run until a signal says stop.

        Raises StorageError, PortTaken and StartFailed for what prevents a start.
        """
        settings = self._settings
        _raise_file_limit()
        async with contextlib.AsyncExitStack() as stack:
            self._listen_to_signals(stack)
            state = StateDir.claim(settings.state_dir)
            stack.callback(state.release)
            self._public = listen_for_each(settings.listen, self._ports["listen"], settings.workers)
            if settings.listen_socket is not None:
                self._public += listen_at_files(settings.listen_socket, "GATEWAY_LISTEN_SOCKET", settings.workers)
            for public in self._public:
                stack.callback(public.close)
            operations = listen(settings.ops_listen, self._ports["ops_listen"])
            stack.callback(operations.close)
            portal = listen_privately(state.path, "portal.sock")
            stack.callback(close_privately, portal, Path(portal.getsockname()))
            stores = await self._open_stores(state, stack)
            if self._prepare is not None:
                await self._prepare(stores)
            pool = Pool(stores.database_url)
            stack.push_async_callback(pool.close)
            counters = RedisCounters(stores.redis_url)
            stack.push_async_callback(counters.close)
            stack.push_async_callback(self._tasks.close)
            await self._keep_account(pool, stores.redis_url, stack)
            await self._open_operations(operations, pool, counters, stack)
            blueprint = Blueprint(
                settings, stores.database_url, stores.redis_url, stores.secret_key, portal.getsockname()
            )
            self._crew = Crew(blueprint, self._public, self._tasks, portal)
            try:
                await self._crew.start()
            except StartFailed:
                if self._hurry.is_set():  # we have ended them ourselves
                    return
                raise
            self._reloader = Reloader(
                blueprint, self._crew, self._systemd, read=self._read, applied=self._look_at_upstreams
            )
            self._tasks.start(self._reloader.run(), "reloads")
            self._tasks.start(self._pass_changes_on(RedisBus(stores.redis_url), self._crew), "changes")
            self._systemd.ready("serving")
            self._tasks.start(self._say_ready(), "readiness")
            self._tasks.start(self._systemd.keep_watchdog(), "watchdog")
            if self._on_ready is not None:
                await self._on_ready()
            await self._stop.wait()
            await self._drain()

    async def _say_ready(self) -> None:
        """Once it is true; until then what is in the way. The listeners are open meanwhile, and answer 503."""
        settings, told = self._settings, ""
        while not self.draining:
            reason = await ops.obstacle(self._checks)
            if not reason:
                facts = {"listen": settings.listen, "ops": settings.ops_listen, "workers": settings.workers}
                _log.info("ready", **facts, **await self.room())
                if lacking := await ops.lacking(self._checks):
                    _log.warning("degraded", **lacking)
                return
            if reason != told:
                _log.warning("not ready", reason=reason, listen=settings.listen, ops=settings.ops_listen)
                told = reason
            await asyncio.sleep(_AGAIN_S)

    async def _keep_account(self, pool: Pool, redis_url: str, stack: contextlib.AsyncExitStack) -> None:
        """Begin to ship the journals, to compare and tidy up nightly, and to send records on."""
        ledger, archive = PostgresLedger(pool), self._open_archive()
        self._shipper = Shipper(self._settings.state_dir / "journal", ledger, archive, taken=self._tenants.count)
        self._tasks.start(self._shipper.run(), "shipper")
        self._nightly = Nightly(
            UsageCare(pool),
            partial(archive_differences, archive, self._settings.state_dir / "journal", ledger),
            keep_days=lambda: self._in_force.usage_retention_days,
        )
        self._tasks.start(self._nightly.run(), "care of the account")
        self._sinks = await stack.enter_async_context(usage_sinks(self._settings, pool, redis_url))
        self._tasks.start(self._sinks.run(), "usage sinks")

    def _open_archive(self) -> Archive:
        archive = Archive(
            self._settings.state_dir / "archive",
            keep_days=lambda: self._in_force.journal_archive_days,
            limit_bytes=self._settings.journal_max_bytes,
        )
        self._tasks.start(archive.keep(), "archive of journals")
        return archive

    def _listen_to_signals(self, stack: contextlib.AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)  # others open their logs anew by it; unheard it kills
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
            stack.callback(loop.remove_signal_handler, number)
        if not self._ends_with_terminal or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._hang_up if self._ends_with_terminal else self.reload)
            stack.callback(loop.remove_signal_handler, signal.SIGHUP)

    def _hang_up(self) -> None:
        """The kernel says it, and the shell once more: no reason to hurry."""
        if not self.draining:
            self.stop()

    def stop(self) -> None:
        """Begin to drain; called again, stop waiting for requests."""
        if self.draining:
            _log.warning("stopping at once: requests in flight are cut off")
            self._hurry.set()
            if self._crew is not None:
                self._crew.kill()
        else:
            settings = self._in_force
            _log.info("draining", after_s=settings.drain_delay, at_most_s=settings.drain_timeout)
            self._systemd.stopping()
        self.draining = True
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration again. While starting or draining there is nothing to be done."""
        if self._reloader is not None and not self.draining:
            self._reloader.ask()

    @property
    def _in_force(self) -> Settings:
        return self._settings if self._reloader is None else self._reloader.settings

    async def _open_stores(self, state: StateDir, stack: contextlib.AsyncExitStack) -> Stores:
        settings = self._settings
        database, redis, secret = settings.database_url, settings.redis_url, settings.secret_key
        if self._embedded and (database is None or redis is None):
            servers = await EmbeddedServers.start_in(state)
            stack.push_async_callback(servers.stop)
            database_url = servers.database_url if database is None else database.get_secret_value()
            redis_url = servers.redis_url if redis is None else redis.get_secret_value()
            await migrate(database_url)
            note(state.path, settings.base_url)
        else:
            assert database is not None
            assert redis is not None
            database_url, redis_url = database.get_secret_value(), redis.get_secret_value()
        key = generated_secret(state.path) if secret is None else secret.get_secret_value()
        return Stores(database_url, redis_url, key)

    async def _open_operations(
        self, listening: socket.socket, pool: Pool, counters: RedisCounters, stack: contextlib.AsyncExitStack
    ) -> None:
        needed = names(MIGRATIONS)  # those of the release that runs, even where the next is installed over it

        async def database() -> None:
            missing = await pending(pool, needed)
            if missing:
                which = missing[0] if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
                raise StorageError(f"migrations are missing ({len(missing)}: {which}); run: gateway migrate")

        self._checks |= {
            "postgres": ops.Check(database, required=True),
            "redis": ops.Check(counters.ping, required=False),
            "portal": ops.Check(self._reach_portal, required=False),
            "journal": ops.Check(self._look_at_journals, required=True),
        }
        self._look_at_upstreams(self._settings)
        runner = web.AppRunner(ops.application(self, self._checks), access_log=None, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, listening).start()

    def _look_at_upstreams(self, settings: Settings) -> None:
        for name in [name for name in self._checks if name.startswith("upstream")]:
            del self._checks[name]
        for name, upstream in settings.every_upstream().items():
            ask = partial(self._look_at_upstream, name, upstream)
            self._checks["upstream" if name == "default" else f"upstream {name}"] = ops.Check(ask, required=False)

    async def _look_at_upstream(self, name: str, upstream: UpstreamSettings) -> dict[str, Any]:
        figures = await self._figures_soon()  # a worker that hangs is no fault of the upstream
        workers = {address: counts for (of, address), counts in figures.upstream_addresses.items() if of == name}
        return await upstream_status(upstream, workers)

    async def _reach_portal(self) -> None:
        if self._crew is None:
            raise OSError("it has not been started yet")
        try:
            await self._crew.ping_portal()
        except Gone as error:
            raise OSError(str(error)) from error

    async def _look_at_journals(self) -> None:
        figures = await self._figures_soon()
        if figures.full_journals:
            raise StorageError(
                f"{figures.full_journals} of the workers have no room for usage records and refuse requests: make room"
                f" on the disk of {self._settings.state_dir}, or see that PostgreSQL takes what is there"
            )

    def workers(self) -> Mapping[str, bool]:
        """Each worker, and whether it serves."""
        return self._crew.up() if self._crew is not None else {}

    async def room(self) -> Mapping[str, int]:
        """Connections that are open, and at most: of its files a worker knows alone."""
        figures = await self._figures_soon()
        if not figures.connections_most:
            return {}
        return {"connections": figures.connections, "connections_most": figures.connections_most}

    async def _figures_soon(self) -> Metrics:
        """The workers' figures; none where one of them takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPINION_S):
                if self._crew is not None:
                    return await self._crew.metrics()
        return Metrics()

    async def metrics(self) -> tuple[Metrics, State]:
        """Everybody's figures, merged."""
        assert self._shipper is not None
        figures = await self._crew.metrics() if self._crew is not None else Metrics()
        state = State(
            journal_pending=self._shipper.pending_records,
            shipped=self._shipper.shipped,
            lost_bytes=self._shipper.lost_bytes,
            lost_records=self._shipper.lost_records,
            journals_stuck=self._shipper.stuck,
            comparisons=self._nightly.comparisons if self._nightly is not None else {},
            workers=self.workers(),
            sink_lags=self._sinks.lags() if self._sinks is not None else {},
            sinks_sent=self._sinks.sent if self._sinks is not None else {},
            tenants=self._tenants,
            reload_failures=self._reloader.failures if self._reloader is not None else 0,
            last_reload_successful=self._reloader is None or self._reloader.last_successful,
        )
        return figures, state

    async def _pass_changes_on(self, bus: RedisBus, crew: Crew) -> None:
        """One subscription for all workers: what was revoked here or elsewhere is forgotten within a second."""
        async for change in bus.listen():
            crew.forget(change)

    async def _drain(self) -> None:
        """Not ready is said already: whoever balances load has ``drain_delay`` to hear of it, then listeners close."""
        assert self._crew is not None
        assert self._shipper is not None
        await self._pause(self._in_force.drain_delay)
        started = time.monotonic()
        for public in self._public:
            turn_deaf(public)
        await self._pause(_HANDSHAKE_S)
        await self._crew.decline()
        for public in self._public:
            with contextlib.suppress(OSError):
                public.shutdown(socket.SHUT_RDWR)  # in every process that has it: who comes now is refused at once
        await self._crew.drain()
        await self._shipper.drain()
        _log.info("drained", took_s=round(time.monotonic() - started, 3))

    async def _pause(self, seconds: float) -> None:
        """Wait, unless somebody is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()


def _raise_file_limit() -> None:
    """As many open files as the system lets us have: each connection is one or two. Workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        _log.warning("few open files are allowed: connections beyond them are refused", limit=hard)

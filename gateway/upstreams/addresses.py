"""An upstream by its name: several addresses, of which each request gets one.

``policies.routing.upstreams`` chooses and judges; here names are looked up, connections made, checks asked, and what
changed is told to the log and the metrics. Every worker judges for itself: a dead address costs each of them a few
requests, and no worker is wrong because another one is.
"""

import asyncio
import math
import socket
from collections.abc import Sequence
from functools import partial

import structlog

from gateway.configuration.origin import Origin
from gateway.configuration.upstreams import UpstreamSettings
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.connection import Keeper, UpstreamConnection
from gateway.upstreams.failures import NoneLeft, OutOfFiles, Unreachable, UpstreamError
from gateway.upstreams.pool import UpstreamPool
from policies.routing import upstreams as policy
from policies.routing.upstreams import Health

_log = structlog.get_logger("gateway.upstreams")

_RESOLVE_S = 10.0
"""How often a name is looked up again: what Envoy and nginx users are used to, give or take."""
_RESOLVE_SOON_S = 1.0
"""How often as long as nothing has been found."""
_MOST_TRIED = 3
"""How many connections one request may try."""


class Upstream:
    """One named upstream. ``start`` looks its names up and begins the checks; without names it works at once.

    ``settings`` with at least one address; raises ValueError for TLS files that cannot be used.
    """

    def __init__(self, name: str, settings: UpstreamSettings, metrics: Metrics, connect_s: float = 5.0) -> None:
        self.name = name
        self._settings = settings
        self._metrics = metrics
        self._connect_s = settings.connect_timeout or connect_s
        self._rules = settings.rules
        self._tls = settings.tls()
        self._pools: list[UpstreamPool] = []
        self._in_use: list[UpstreamPool] = []
        self._only: UpstreamPool | None = None
        """The address, where there is but one and it is in use: the usual case."""
        self._due_at = math.inf
        self._due: asyncio.TimerHandle | None = None
        """When the next of those that are set aside may be tried."""
        self._tasks: Tasks | None = None
        self._leaving: list[UpstreamPool] = []
        self._turn = 0
        self._looked_up = asyncio.Event()
        named = any(_is_name(origin) for origin in settings.origins)
        self._use([(origin, "") for origin in settings.origins if not _is_name(origin)])
        if not named:
            self._looked_up.set()

    def start(self, tasks: Tasks) -> None:
        """Look names up again and again, check, and try what is set aside, where there is something of that kind."""
        self._tasks = tasks
        if any(map(_is_name, self._settings.origins)):
            tasks.start(self._look_up(), f"names of upstream {self.name}")
        if self._settings.health_path:
            tasks.start(self._check(), f"checks of upstream {self.name}")

    def close(self) -> None:
        """Close every connection, and try nothing any more."""
        self._tasks = None
        if self._due is not None:
            self._due.cancel()
        for pool in (*self._pools, *self._leaving):
            pool.close()

    def close_idle(self) -> int:
        """Give up the connections that nobody uses, because their files are needed. How many there were."""
        return sum(pool.close_idle() for pool in (*self._pools, *self._leaving))

    @property
    def addresses(self) -> Sequence[UpstreamPool]:
        """Where it listens, as far as is known now."""
        return self._pools

    # --- a connection for a request ----------------------------------------------------------------------------------

    def idle(self) -> UpstreamConnection | None:
        """A connection to the address that has least to do, without waiting and without a look at those set aside.

        None when there is none, or when one of those set aside is to be tried: :meth:`take` does both.
        """
        if self._only is not None:
            return self._only.idle()
        in_use = self._in_use
        if not in_use or self._due_at <= self._now():
            return None
        index = policy.least_busy([pool.busy for pool in in_use], self._turn)
        connection = in_use[index].idle()
        if connection is not None:
            self._turn = index + 1
        return connection

    async def take(self, *, new: bool = False) -> UpstreamConnection:
        """A connection to the address that has least to do. What cannot be connected to is passed over.

        ``new``: never one that was used before; those may all have been closed at once. Raises Unreachable, NoneLeft,
        or OutOfFiles.
        """
        if not self._pools and not self._looked_up.is_set():
            await self._wait_for_names()
        tried: list[UpstreamPool] = []
        failure: UpstreamError = (
            NoneLeft(f"{self.name}: every address is set aside")
            if self._pools
            else Unreachable(f"{self.name}: its name cannot be looked up")
        )
        while len(tried) < _MOST_TRIED and (pool := self._choose(tried)) is not None:
            if tried:
                self._metrics.upstream_retries[(self.name, "connect")] += 1
            connection = None if new else pool.idle()
            if connection is not None:
                return connection
            try:
                connection = await pool.connect()
            except Unreachable as error:
                failure = error
                tried.append(pool)
                self.failed(pool, error)
            else:
                self._learn(pool, policy.connected(pool.health, self._now()), "a connection stands again")
                return connection
        raise failure

    def _choose(self, tried: Sequence[UpstreamPool]) -> UpstreamPool | None:
        pools, now = self._pools, self._now()
        index = policy.choose(
            [pool.health for pool in pools],
            [pool.busy for pool in pools],
            now,
            turn=self._turn,
            tried={i for i, pool in enumerate(pools) if pool in tried},
        )
        if index is None:
            return None
        self._turn = index + 1
        pool = pools[index]
        self._begin(pool)
        return pool

    # --- what is learnt ----------------------------------------------------------------------------------------------

    def went_well(self, pool: Keeper) -> None:
        """An answer's head has come. Worth telling only of a pool that ``is_suspect``."""
        self._learn(pool, policy.went_well(pool.health, self._now()), "it answered")

    def failed(self, pool: Keeper, error: UpstreamError) -> None:
        """A request failed there before its answer's head."""
        connecting, others = isinstance(error, Unreachable), self._has_others(pool)
        health = policy.failed(pool.health, self._rules, self._now(), connecting=connecting, others=others)
        self._learn(pool, health, str(error))

    def _begin(self, pool: Keeper) -> None:
        """A request or a connection goes there."""
        health = policy.begun(pool.health, self._rules, self._now(), others=self._has_others(pool))
        self._learn(pool, health, "")

    def _has_others(self, pool: Keeper) -> bool:
        return any(other.health.in_use for other in self._pools if other is not pool)

    def _learn(self, pool: Keeper, health: Health, reason: str) -> None:
        before, pool.health = pool.health, health
        if health is before:
            return
        pool.is_suspect = health.is_suspect
        if before.in_use and health.in_use:
            return
        if not before.in_use and not health.in_use:
            if health.rounds > before.rounds:
                self._metrics.upstream_ejections[(self.name, pool.address)] += 1
        elif health.in_use:
            _log.info("upstream address is in use again", upstream=self.name, address=pool.address, reason=reason)
        else:
            self._metrics.upstream_ejections[(self.name, pool.address)] += 1
            _log.warning("upstream address is set aside", upstream=self.name, address=pool.address, reason=reason)
        self._refresh()

    def _refresh(self) -> None:
        """Work out what follows from the addresses and their health."""
        pools = self._pools
        self._in_use = [pool for pool in pools if pool.health.in_use]
        self._only = pools[0] if len(pools) == 1 and self._in_use else None
        states = self._metrics.upstream_addresses
        for key in [key for key in states if key[0] == self.name]:
            del states[key]
        states |= {(self.name, pool.address): [int(pool.health.in_use), self._is_tried(pool), 1] for pool in pools}
        self._due_at = policy.due_at([pool.health for pool in pools])
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._now() < self._due_at < math.inf:
            self._due = asyncio.get_running_loop().call_at(self._due_at, self._try_again)

    def _is_tried(self, pool: UpstreamPool) -> bool:
        return not pool.health.in_use and policy.is_half_open(pool.health, self._now())

    def _try_again(self) -> None:
        """The time of some address has come. Where none could be connected to, a connection says all there is to know.

        Without this an address would stay aside until somebody's request tried it, at night for hours.
        """
        for pool in self._pools:
            if self._tasks is not None and pool.health.connecting and policy.is_due(pool.health, self._now()):
                self._begin(pool)
                self._tasks.start(self._knock(pool), f"trial of {pool.address}")
        self._refresh()

    async def _knock(self, pool: UpstreamPool) -> None:
        try:
            connection = await pool.connect()
        except Unreachable as error:
            self.failed(pool, error)
        except OutOfFiles:
            return  # its time comes again
        else:
            connection.close()
            self._learn(pool, policy.connected(pool.health, self._now()), "a connection stands again")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # --- names -------------------------------------------------------------------------------------------------------

    def _use(self, wanted: Sequence[tuple[Origin, str]]) -> None:
        """Have a pool for each of ``wanted``; those that exist are kept, and one that is wanted no more runs dry."""
        kept = {(pool.origin, pool.ip): pool for pool in self._pools}
        pools = {key: kept.get(key) or self._pool(*key) for key in wanted}
        self._leaving = [pool for pool in self._leaving if pool.busy]
        self._leaving += [pool for key, pool in kept.items() if key not in pools]
        self._pools = list(pools.values())
        self._refresh()

    def _pool(self, origin: Origin, ip: str) -> UpstreamPool:
        settings = self._settings
        return UpstreamPool(
            self.name,
            origin,
            self._connect_s,
            ip=ip,
            tls=self._tls,
            server_name=settings.server_name,
            credential_line=settings.credential_line,
            siblings=settings.origins,
        )

    async def _wait_for_names(self) -> None:
        """Wait for the first look-up, which may be under way. Raises Unreachable when it takes too long."""
        try:
            async with asyncio.timeout(self._connect_s):
                await self._looked_up.wait()
        except TimeoutError:
            raise Unreachable(f"{self.name}: its name was not looked up within {self._connect_s:g} s") from None

    async def _look_up(self) -> None:
        """Keep the addresses of every name up to date; while a name cannot be looked up its last ones stay."""
        found: dict[Origin, list[str]] = {o: [] if _is_name(o) else [""] for o in self._settings.origins}
        while True:
            for origin in filter(_is_name, found):
                try:
                    found[origin] = await _addresses(origin) or found[origin]
                except (OSError, UnicodeError) as error:
                    reason = getattr(error, "strerror", None) or str(error)
                    _log.warning(
                        "upstream name cannot be looked up", upstream=self.name, host=origin.host, reason=reason
                    )
            wanted = [(origin, ip) for origin, ips in found.items() for ip in ips]
            if wanted != [(pool.origin, pool.ip) for pool in self._pools]:
                self._use(wanted)
                _log.info("upstream addresses", upstream=self.name, addresses=[pool.address for pool in self._pools])
            self._looked_up.set()
            await asyncio.sleep(_RESOLVE_S if self._pools else _RESOLVE_SOON_S)

    # --- checks ------------------------------------------------------------------------------------------------------

    async def _check(self) -> None:
        """Ask every address how it is, at once and then again and again."""
        while True:
            await asyncio.gather(*(self._check_one(pool) for pool in self._pools))
            await asyncio.sleep(self._settings.health_interval)

    async def _check_one(self, pool: UpstreamPool) -> None:
        try:
            async with asyncio.timeout(self._settings.health_timeout):
                status = await _ask(pool, self._settings.health_path)
            passed, reason = 200 <= status < 300, f"its check was answered with {status}"
        except OutOfFiles:
            return  # which says nothing of it
        except UpstreamError as error:
            passed, reason = False, f"its check failed: {error}"
        except TimeoutError:
            passed, reason = False, f"its check was not answered within {self._settings.health_timeout:g} s"
        self._learn(pool, policy.checked(pool.health, self._rules, self._now(), passed=passed), reason)


def _is_name(origin: Origin) -> bool:
    """Whether its host has to be looked up."""
    if origin.path:
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, origin.host)
        except OSError:
            continue
        return False
    return True


async def _addresses(origin: Origin) -> list[str]:
    """Every address of a name, both families, in an order that does not change by itself."""
    look_up = partial(asyncio.get_running_loop().getaddrinfo, origin.host, origin.port, type=socket.SOCK_STREAM)
    try:
        found = await look_up(flags=socket.AI_ADDRCONFIG)  # not the family that this machine does not speak
    except OSError:
        found = await look_up()  # a machine that has a loopback only speaks neither, by that measure
    return sorted({str(address[0]) for *_, address in found})


async def _ask(pool: UpstreamPool, path: str) -> int:
    """One GET on a connection of its own: its status."""
    connection = await pool.connect()
    try:
        head = b"GET %b HTTP/1.1\r\n%bUser-Agent: tahoe-gateway\r\nConnection: close\r\n\r\n"
        connection.begin(head % (path.encode("ascii"), pool.host_line), bodyless_answer=False, idle_s=60.0)
        await connection.answered()
        return connection.status
    finally:
        connection.close()

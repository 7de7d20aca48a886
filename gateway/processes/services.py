"""The composition root: which parts a worker is made of, opened in order and closed in reverse."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Self
from urllib.parse import quote, urlsplit

from redis.asyncio import Redis

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.route_file import load_routes
from gateway.configuration.secrets import derived
from gateway.configuration.settings import Settings
from gateway.configuration.upstreams import UpstreamSettings
from gateway.dataplane.clients import Census
from gateway.dataplane.forward_auth import ForwardAuth, Manners
from gateway.dataplane.gatekeeper import Gatekeeper
from gateway.dataplane.holder import Holder
from gateway.dataplane.inquiries import TrustedProxies
from gateway.dataplane.job_results import JobResults
from gateway.dataplane.jobs import Jobs
from gateway.dataplane.key_uses import KeyUses
from gateway.dataplane.limit_events import LimitEvents
from gateway.dataplane.listener import PublicServer
from gateway.dataplane.proxy import Proxy
from gateway.dataplane.relay import Relay
from gateway.dataplane.settlement import Settlement
from gateway.dataplane.streams import Streams
from gateway.identity.assertions import Assertions
from gateway.identity.bearers import Bearers
from gateway.identity.browser_sessions import PURPOSE as SESSIONS
from gateway.identity.browser_sessions import BrowserSessions
from gateway.identity.snapshot import Snapshot
from gateway.identity.strangers import Strangers
from gateway.identity.token_state import TokenState
from gateway.tasks import Tasks
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from policies.audit import SYSTEM
from policies.http.cookies import session_cookie
from policies.http.cors import Cors
from policies.http.headers import folded
from policies.routing.routes import PORTAL
from storage.journal.writer import Journal
from storage.local_counters import LocalCounters
from storage.local_holds import LocalHolds
from storage.ports import Invalidation, StorageError
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail
from storage.postgres.events.limit_events import PostgresLimitEvents
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.keys.uses import PostgresKeyUses
from storage.postgres.people.sessions import PostgresSessions
from storage.postgres.pool import Pool
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tokens.issuers import PostgresIssuers
from storage.postgres.usage.jobs import PostgresJobs
from storage.postgres.usage.ledger import PostgresLedger
from storage.redis.client import client
from storage.redis.counters import RedisCounters
from storage.redis.holds import RedisHolds
from storage.redis.sessions import RedisSessions
from storage.redis.tickets import PURPOSE as TICKETS
from storage.redis.tickets import RedisTickets
from storage.sessions import Sessions

_KEYS_S = 2.0
"""How long a start waits for the signing keys: a database that cannot tell them keeps no worker from serving."""


@dataclass(frozen=True, slots=True)
class Services:
    """One worker's parts that others ask for."""

    server: PublicServer
    proxy: Proxy
    metrics: Metrics
    journal: Journal
    snapshot: Snapshot
    streams: Streams
    tokens: TokenState
    strangers: Strangers

    def forget(self, change: Invalidation) -> None:
        """Drop what a change may have made untrue."""
        self.tokens.hear(change)
        self.strangers.hear(change)
        if not change.revoked:
            self.snapshot.forget(change)
        self.streams.forget(change)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, blueprint: Blueprint) -> AsyncIterator[Self]:
        """Everything open. PostgreSQL and Redis may be down when a worker starts: neither is waited for long."""
        settings = blueprint.settings
        async with contextlib.AsyncExitStack() as stack:
            base = _Base.open(blueprint, stack)
            tokens = TokenState.over(base.pool, blueprint.secret_key)
            base.tasks.start(tokens.run(), "tokens")
            strangers = Strangers.over(settings, PostgresIssuers(base.pool, base.trail), base.tasks)
            base.tasks.start(strangers.run(), "other issuers")
            snapshot = _snapshot(base, tokens, strangers)
            assertions = Assertions(tokens, settings.base_url)
            tokens.listeners += [snapshot.forget_tokens, assertions.forget]
            gatekeeper = _gatekeeper(base, snapshot, assertions)
            settlement = Settlement(base.metrics, base.log, base.journal, f"{base.journal.journal_id}-")
            stack.callback(settlement.tell)
            stack.callback(settlement.write_down)
            upstreams = _upstreams(base)
            streams = Streams(gatekeeper, settlement, base.metrics, base.tasks)
            stack.callback(streams.close)
            strangers.listeners += [partial(snapshot.forget_tokens, ""), partial(streams.forget, Invalidation())]
            book = PostgresJobs(base.pool)
            jobs = Jobs(book, base.metrics, base.holds)
            results = JobResults(jobs, book, gatekeeper.routes, upstreams, base.metrics, assertions.of)
            base.tasks.start(results.run(), "results of jobs")
            trusted = TrustedProxies(settings.trusted_proxies, files=settings.listen_socket is not None)
            proxy = Proxy(
                gatekeeper=gatekeeper,
                jobs=jobs,
                forward_auth=ForwardAuth(gatekeeper, jobs, settlement, trusted, _manners(settings)),
                relay=Relay(upstreams, streams, jobs, settlement, base.metrics, base.tasks),
                settlement=settlement,
                metrics=base.metrics,
                trusted=trusted,
                session_cookie=session_cookie(secure=settings.base_url.startswith("https:")),
                withheld=_credential_headers(settings),
                cors=Cors(settings.cors_origins),
            )
            census = Census(
                base.metrics,
                trusted,
                most=settings.max_connections,
                most_per_address=settings.max_connections_per_address,
            )
            server = PublicServer(proxy, census, settings.patience, settlement.write_down)
            stack.callback(server.stop_ticking)
            await _keys_read(tokens)
            yield cls(server, proxy, base.metrics, base.journal, snapshot, streams, tokens, strangers)


async def _keys_read(tokens: TokenState) -> None:
    """Wait until a key can sign.

    Else the first requests would leave without the assertion that services may insist on.
    """
    with contextlib.suppress(StorageError, TimeoutError):
        async with asyncio.timeout(_KEYS_S):
            await tokens.ready()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What the other parts stand on: the stores, and where tasks, figures and log lines go."""

    blueprint: Blueprint
    stack: contextlib.AsyncExitStack
    """Closes what is pushed on it before all that is here."""
    log: AccessLog
    metrics: Metrics
    journal: Journal
    pool: Pool
    redis: Redis
    counters: RedisCounters
    holds: RedisHolds
    trail: AuditTrail
    tasks: Tasks

    @classmethod
    def open(cls, blueprint: Blueprint, stack: contextlib.AsyncExitStack) -> Self:
        settings = blueprint.settings
        metrics = Metrics()
        log = AccessLog(sys.stdout.fileno(), metrics)
        stack.callback(log.flush)
        journal = Journal(settings.state_dir / "journal", limit_bytes=settings.journal_max_bytes)
        stack.callback(journal.close)
        pool = Pool(blueprint.database_url)
        stack.push_async_callback(pool.close)
        redis = client(blueprint.redis_url)
        stack.push_async_callback(redis.aclose)
        counters = RedisCounters(blueprint.redis_url)
        stack.push_async_callback(counters.close)
        holds = RedisHolds(blueprint.redis_url)
        stack.push_async_callback(holds.close)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        tasks.start(journal.keep(), "journal")
        return cls(
            blueprint=blueprint,
            stack=stack,
            log=log,
            metrics=metrics,
            journal=journal,
            pool=pool,
            redis=redis,
            counters=counters,
            holds=holds,
            trail=AuditTrail(lambda: derived(blueprint.secret_key, CHAIN), SYSTEM),
            tasks=tasks,
        )


def _snapshot(base: _Base, tokens: TokenState, strangers: Strangers) -> Snapshot:
    """Who is asking: by key, by token of ours or of another issuer, by browser session."""
    settings, secret_key = base.blueprint.settings, base.blueprint.secret_key
    return Snapshot(
        PostgresKeyRegistry(base.pool, base.trail),
        derived(secret_key, "api-keys"),
        time.monotonic,
        bearers=Bearers(tokens, PostgresSubjects(base.pool), settings.base_url, strangers),
        metrics=base.metrics,
        sessions=BrowserSessions(
            Sessions(PostgresSessions(base.pool, base.trail), RedisSessions(base.redis, settings.session_idle)),
            PostgresSubjects(base.pool),
            derived(secret_key, SESSIONS),
        ),
    )


def _gatekeeper(base: _Base, snapshot: Snapshot, assertions: Assertions) -> Gatekeeper:
    settings = base.blueprint.settings
    sharers = max(1, settings.workers)
    uses = KeyUses(PostgresKeyUses(base.pool).note)
    base.stack.push_async_callback(uses.flush)
    base.tasks.start(uses.keep(), "last uses")
    holder = Holder(
        holds=base.holds,
        local=LocalHolds(_monotonic_ms, sharers),
        account=PostgresLedger(base.pool),
        events=LimitEvents(base.metrics, PostgresLimitEvents(base.pool), base.tasks),
        metrics=base.metrics,
        now_ms=_now_ms,
    )
    base.tasks.start(holder.keep_counted(), "limits after an outage of Redis")
    return Gatekeeper(
        uses=uses,
        routes=load_routes(settings),
        snapshot=snapshot,
        counters=base.counters,
        local=LocalCounters(_monotonic_ms, sharers),
        holder=holder,
        metrics=base.metrics,
        assertion=assertions.of,
        accepts_usage=lambda: not base.journal.full,
        tickets=RedisTickets(base.redis, derived(base.blueprint.secret_key, TICKETS)),
        default_rate=settings.default_requests,
        now_ms=_now_ms,
        own_hosts=(urlsplit(settings.base_url).netloc.lower().encode(),),
    )


def _upstreams(base: _Base) -> dict[str, Upstream]:
    settings = base.blueprint.settings
    upstreams = {
        name: Upstream(name, one, base.metrics, settings.upstream_connect_timeout)
        for name, one in settings.every_upstream().items()
    }
    if base.blueprint.portal_socket:
        address = f"unix:{quote(base.blueprint.portal_socket)}"
        # There is one portal: to set it aside while it is slow would only make it absent.
        portal = UpstreamSettings(addresses=(address,), faults=1_000, aside=0.1)
        upstreams[PORTAL] = Upstream(PORTAL, portal, base.metrics)
    for upstream in upstreams.values():
        base.stack.callback(upstream.close)
        upstream.start(base.tasks)
    return upstreams


def _credential_headers(settings: Settings) -> frozenset[bytes]:
    """The headers in which our own credentials travel to upstreams: a client's value would stand beside ours."""
    return frozenset(
        folded(one.credential_header.encode())
        for one in settings.every_upstream().values()
        if one.credential is not None
    )


def _manners(settings: Settings) -> Manners:
    return Manners(
        source=settings.forward_auth_source,
        status=settings.forward_auth_status,
        oauth2_proxy=settings.forward_auth_oauth2_proxy,
        login_base=settings.public_url.rstrip("/"),
    )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _monotonic_ms() -> float:
    return time.monotonic() * 1000

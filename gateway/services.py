"""The composition root: which parts a worker is made of, opened in order and closed in reverse."""

import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

from gateway.assertions import Assertions
from gateway.bearers import Bearers, Stranger
from gateway.browser_sessions import PURPOSE as SESSIONS
from gateway.browser_sessions import BrowserSessions
from gateway.clients import Census
from gateway.exchange import Settlement
from gateway.forward_auth import ForwardAuth, Manners
from gateway.gatekeeper import Gatekeeper
from gateway.holder import Holder
from gateway.inquiries import TrustedProxies
from gateway.jobs import Jobs
from gateway.key_uses import KeyUses
from gateway.limit_events import LimitEvents
from gateway.listener import PublicServer
from gateway.proxy import Proxy
from gateway.relay import Relay
from gateway.reserved import ROUTES as RESERVED
from gateway.route_file import read_routes
from gateway.secrets import derived
from gateway.settings import Settings
from gateway.shipped import shipped
from gateway.snapshot import Snapshot
from gateway.streams import Streams
from gateway.tasks import Tasks
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.token_state import TokenState
from gateway.upstream_settings import UpstreamSettings
from gateway.upstreams import Upstream
from policies.audit import SYSTEM
from policies.cookies import session_cookie
from policies.headers import folded
from policies.route_table import RouteTable
from policies.routes import PORTAL
from storage.journal.writer import Journal
from storage.local_counters import LocalCounters
from storage.local_holds import LocalHolds
from storage.ports import Invalidation
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail
from storage.postgres.jobs import PostgresJobs
from storage.postgres.key_uses import PostgresKeyUses
from storage.postgres.limit_events import PostgresLimitEvents
from storage.postgres.pool import Pool
from storage.postgres.registry import PostgresKeyRegistry
from storage.postgres.sessions import PostgresSessions
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.usage import PostgresLedger
from storage.redis.client import client
from storage.redis.counters import RedisCounters
from storage.redis.holds import RedisHolds
from storage.redis.sessions import RedisSessions
from storage.redis.tickets import RedisTickets
from storage.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that a worker must know, with nothing left to look up: the parent has resolved every source of settings."""

    settings: Settings
    database_url: str
    redis_url: str
    secret_key: str
    portal_socket: str = ""
    """The path of the socket on which the portal listens; empty without a portal."""

    def to_message(self) -> dict[str, Any]:
        """For the control channel, which is the only place where this may be written."""
        settings = {
            name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
            for name, value in self.settings
            if value is not None
        }
        settings["issuers"] = {name: one.to_message() for name, one in self.settings.issuers.items()}
        settings["oidc"] = {name: one.to_message() for name, one in self.settings.oidc.items()}
        settings["upstreams"] = {name: one.to_message() for name, one in self.settings.upstreams.items()}
        if self.settings.upstreams.get("default", UpstreamSettings()).addresses:
            del settings["upstream"]
        for name in ("trusted_proxies",):
            settings[name] = [str(item) for item in settings[name]]
        for name in ("state_dir", "routes_file", "default_requests"):
            if name in settings:
                settings[name] = str(settings[name])
        return {
            "settings": settings,
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "secret_key": self.secret_key,
            "portal_socket": self.portal_socket,
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """The other end of :meth:`to_message`."""
        others = ("database_url", "redis_url", "secret_key", "portal_socket")
        return cls(Settings(**message["settings"]), *(message[name] for name in others))


def _now_ms() -> int:
    return int(time.time() * 1000)


def _monotonic_ms() -> float:
    return time.monotonic() * 1000


def load_routes(settings: Settings) -> RouteTable:
    """The route table, and the gateway's own routes with it. Raises RoutesInvalid with every fault."""
    table = read_routes(
        settings.routes_file or shipped("routes.toml"),
        upstream_timeout=settings.upstream_timeout,
        upstreams=settings.every_upstream(),
    )
    return table.with_own(RESERVED)


def _manners(settings: Settings) -> Manners:
    return Manners(
        source=settings.forward_auth_source,
        status=settings.forward_auth_status,
        oauth2_proxy=settings.forward_auth_oauth2_proxy,
        login_base=settings.public_url.rstrip("/"),
    )


@dataclass(frozen=True, slots=True)
class Services:
    """One worker's parts that others ask for."""

    server: PublicServer
    proxy: Proxy
    metrics: Metrics
    snapshot: Snapshot
    streams: Streams
    tokens: TokenState

    def forget(self, change: Invalidation) -> None:
        """Drop what a change may have made untrue."""
        self.tokens.hear(change)
        if not change.revoked:
            self.snapshot.forget(change)
        self.streams.forget(change)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, blueprint: Blueprint) -> AsyncIterator[Self]:
        """Everything open, nothing connected yet: PostgreSQL and Redis may be down when a worker starts."""
        settings = blueprint.settings
        async with contextlib.AsyncExitStack() as stack:
            tasks = Tasks()
            log = AccessLog(sys.stdout.fileno())
            stack.callback(log.flush)
            metrics = Metrics()
            journal = Journal(settings.state_dir / "journal", limit_bytes=settings.journal_max_bytes)
            stack.callback(journal.close)
            pool = Pool(blueprint.database_url)
            stack.push_async_callback(pool.close)
            counters = RedisCounters(blueprint.redis_url)
            stack.push_async_callback(counters.close)
            holds = RedisHolds(blueprint.redis_url)
            stack.push_async_callback(holds.close)
            stack.push_async_callback(tasks.close)
            tasks.start(journal.keep(), "journal")
            redis = client(blueprint.redis_url)
            stack.push_async_callback(redis.aclose)
            tickets = RedisTickets(redis)
            trail = AuditTrail(lambda: derived(blueprint.secret_key, CHAIN), SYSTEM)
            tokens = TokenState.over(pool, blueprint.secret_key)
            tasks.start(tokens.run(), "tokens")
            strangers = Stranger.each(settings.issuers, tasks)
            bearers = Bearers(tokens, PostgresSubjects(pool), settings.base_url, strangers)
            snapshot = Snapshot(
                PostgresKeyRegistry(pool, trail),
                derived(blueprint.secret_key, "api-keys"),
                time.monotonic,
                bearers=bearers,
                metrics=metrics,
                sessions=BrowserSessions(
                    Sessions(PostgresSessions(pool, trail), RedisSessions(redis, settings.session_idle)),
                    PostgresSubjects(pool),
                    derived(blueprint.secret_key, SESSIONS),
                ),
            )
            assertions = Assertions(tokens, settings.base_url)
            tokens.listeners += [snapshot.forget_tokens, assertions.forget]
            trusted = TrustedProxies(settings.trusted_proxies)
            settlement = Settlement(metrics, log, journal, f"{journal.journal_id}-")
            sharers = max(1, settings.workers)
            uses = KeyUses(PostgresKeyUses(pool).note)
            stack.push_async_callback(uses.flush)
            tasks.start(uses.keep(), "last uses")
            gatekeeper = Gatekeeper(
                uses=uses,
                routes=load_routes(settings),
                snapshot=snapshot,
                counters=counters,
                local=LocalCounters(_monotonic_ms, sharers),
                holder=Holder(
                    holds=holds,
                    local=LocalHolds(_monotonic_ms, sharers),
                    account=PostgresLedger(pool),
                    events=LimitEvents(metrics, PostgresLimitEvents(pool), tasks),
                    metrics=metrics,
                    now_ms=_now_ms,
                ),
                metrics=metrics,
                assertion=assertions.of,
                accepts_usage=lambda: not journal.full,
                tickets=tickets,
                default_rate=settings.default_requests,
                now_ms=_now_ms,
                own_hosts=(urlsplit(settings.base_url).netloc.lower().encode(),),
            )
            upstreams = {
                name: Upstream(name, one, metrics, settings.upstream_connect_timeout)
                for name, one in settings.every_upstream().items()
            }
            if blueprint.portal_socket:
                address = f"unix:{quote(blueprint.portal_socket)}"
                # There is one portal: to set it aside while it is slow would only make it absent.
                upstreams[PORTAL] = Upstream(
                    PORTAL, UpstreamSettings(addresses=(address,), faults=1_000, aside=0.1), metrics
                )
            for upstream in upstreams.values():
                stack.callback(upstream.close)
                upstream.start(tasks)
            streams = Streams(gatekeeper, settlement, metrics, tasks)
            stack.callback(streams.close)
            jobs = Jobs(PostgresJobs(pool), metrics)
            proxy = Proxy(
                gatekeeper=gatekeeper,
                jobs=jobs,
                forward_auth=ForwardAuth(gatekeeper, jobs, settlement, trusted, _manners(settings)),
                relay=Relay(upstreams, streams, jobs, settlement, metrics, tasks),
                settlement=settlement,
                metrics=metrics,
                trusted=trusted,
                session_cookie=session_cookie(secure=settings.base_url.startswith("https:")),
                withheld=frozenset(
                    folded(one.credential_header.encode())
                    for one in settings.every_upstream().values()
                    if one.credential is not None
                ),
            )
            census = Census(
                metrics, trusted, most=settings.max_connections, most_per_address=settings.max_connections_per_address
            )
            server = PublicServer(proxy, census, settings.patience)
            stack.callback(server.stop_ticking)
            yield cls(server, proxy, metrics, snapshot, streams, tokens)

"""What every handler may use: settings, stores, secrets, figures, the clock. Opened once, closed in reverse."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from urllib.parse import urlsplit

from aiohttp import web
from redis.asyncio import Redis

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.route_file import load_routes
from gateway.configuration.secrets import derived
from gateway.configuration.settings import Settings
from gateway.portal.long_reads import CONNECTIONS, LongReads
from gateway.portal.turns import Turns
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from gateway.usage.statements import price_lists
from policies.account.price_book import PriceBook
from policies.audit import SYSTEM
from policies.identity.permissions import known_scopes
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from storage.ports import Invalidation
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool
from storage.redis.bus import RedisBus
from storage.redis.client import client

_CONNECTIONS = 10
"""To PostgreSQL: a storm of log-ins asks for more than one at a time."""
_CHANGES = 4
"""Changes of one tenant at one time: they wait for each other in PostgreSQL, and each holds a connection then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The portal's parts. ``now`` is the wall clock; tests set it."""

    settings: Settings
    pool: Pool
    long_reads: LongReads
    changes: Turns
    """Places among those who change something by the API, by tenant."""
    redis: "Redis"
    redis_url: str
    bus: RedisBus
    tasks: Tasks
    metrics: Metrics
    secret_key: str
    table: RouteTable
    """The route table, and the gateway's own routes with it."""
    routes: Mapping[str, Route]
    """The route table's by name, without the gateway's own."""
    price_lists: PriceBook | None
    """None: the gateway knows no prices."""
    trail: AuditTrail
    """The trail of the gateway's own acts; what a request does is recorded by its own actor (``identity.trail``)."""
    listeners: list[Callable[[Invalidation], None]] = field(default_factory=list)
    """Told of every change that the bus tells of."""

    def secret_for(self, purpose: str) -> bytes:
        """A key of its own for every purpose, 32 bytes; the same in the gateway's workers."""
        return derived(self.secret_key, purpose)

    def now(self) -> datetime:
        """The time, with its zone."""
        return datetime.now(UTC)

    @property
    def scopes(self) -> frozenset[str]:
        """Those that keys may have."""
        return known_scopes([*self.settings.own_scopes, *(route.scope for route in self.routes.values())])

    @property
    def public_url(self) -> str:
        """How users reach the gateway, without a slash at its end: the one base of every link that leaves here."""
        return self.settings.base_url

    @property
    def is_https(self) -> bool:
        """Whether users come over TLS: cookies are then ``Secure`` and named ``__Host-``."""
        return urlsplit(self.public_url).scheme == "https"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, blueprint: Blueprint) -> AsyncIterator[Self]:
        """Everything open, nothing connected yet."""
        async with contextlib.AsyncExitStack() as stack:
            pool = Pool(blueprint.database_url, max_size=_CONNECTIONS)
            stack.push_async_callback(pool.close)
            long_reads = Pool(blueprint.database_url, max_size=CONNECTIONS)
            stack.push_async_callback(long_reads.close)
            redis = client(blueprint.redis_url)
            stack.push_async_callback(redis.aclose)
            tasks = Tasks()
            stack.push_async_callback(tasks.close)
            table = load_routes(blueprint.settings)
            yield cls(
                settings=blueprint.settings,
                pool=pool,
                long_reads=LongReads(long_reads),
                changes=Turns(_CHANGES, "What your organisation changed before is still being done."),
                redis=redis,
                redis_url=blueprint.redis_url,
                bus=RedisBus(blueprint.redis_url),
                tasks=tasks,
                metrics=Metrics(),
                secret_key=blueprint.secret_key,
                table=table,
                routes={route.name: route for route in table.routes if not route.is_own},
                price_lists=price_lists(blueprint.settings),
                trail=AuditTrail(lambda: derived(blueprint.secret_key, CHAIN), SYSTEM),
            )


PARTS = web.AppKey("parts", Parts)

"""Sends events to the Redis stream and to webhooks, beside the portal's requests.

A webhook's address is looked up once for each attempt, and the connection goes to the very address that was judged: a
name that leads to our own network gets nothing (U-02), whatever it says a moment later. Redirects are not followed.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import web
from redis.exceptions import RedisError

from gateway.portal.parts import PARTS, Parts
from gateway.portal.rounds import repeat
from gateway.public_addresses import NotAllowed, PublicResolver, check_host
from gateway.tasks import Tasks
from policies.account.events import Event, envelope, next_try, signature_headers
from storage.ports import StorageError, Unavailable
from storage.postgres.events.deliveries import Deliveries, Due
from storage.postgres.events.outbox import Outbox
from storage.sealed import Unsealable, unseal

_log = structlog.get_logger("gateway.webhooks")

STREAM = "platform:events"
SECRETS = "webhooks"
"""What the key that seals webhooks' secrets is derived for."""
routes: tuple[web.RouteDef, ...] = ()

_STREAM_LENGTH = 100_000
_TIMEOUT_S = 15.0
_AT_ONCE = 20
_OF_ONE_TENANT = 5
"""How many of those are one tenant's: if its server hangs, only its own events wait."""
_HOUR_S = 3_600.0


def source_of(parts: Parts) -> str:
    """The installation, as events name it: where users reach it, the same in every replica."""
    return parts.public_url


async def lifetime(app: web.Application) -> AsyncIterator[None]:
    """Publish and deliver for as long as the portal runs."""
    parts = app[PARTS]
    async with sender(allow_private=parts.settings.webhooks_allow_private) as session:
        tasks, wake = Tasks(), asyncio.Event()

        async def publish_and_say_so() -> int:
            count = await publish(parts)
            if count:
                wake.set()
            return count

        tasks.start(repeat(publish_and_say_so, "events", asyncio.Event()), "events")
        tasks.start(repeat(Courier(parts, session, tasks, wake).deliver, "webhooks", wake), "webhooks")
        tasks.start(_forget(parts), "old events")
        yield
        await tasks.close()


def sender(*, allow_private: bool) -> aiohttp.ClientSession:
    """A client that keeps no cookies, follows nothing, and is not moved by proxies in the environment (U-03, U-05)."""
    resolver = None if allow_private else PublicResolver()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True, limit=_AT_ONCE),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        trust_env=False,
        auto_decompress=False,
    )


async def publish(parts: Parts) -> int:
    """Send what waits in the outbox to the stream, and make its deliveries; how many events."""
    source = source_of(parts)

    async def send(events: Sequence[Event]) -> None:
        try:
            async with parts.redis.pipeline(transaction=False) as pipe:
                for event in events:
                    told = orjson.dumps(envelope(event, source))
                    fields: dict[Any, Any] = {"id": event.id, "type": event.type, "event": told}
                    pipe.xadd(STREAM, fields, maxlen=_STREAM_LENGTH, approximate=True)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis does not take events: {error}") from error

    return await Outbox(parts.pool, source).publish(send)


class Courier:
    """Makes the deliveries that are due, each in a task of its own: a slow one keeps no other waiting.

    ``wake`` is set when one is over, so that there is room for another.
    """

    def __init__(self, parts: Parts, session: aiohttp.ClientSession, tasks: Tasks, wake: asyncio.Event) -> None:
        self._parts = parts
        self._session = session
        self._tasks = tasks
        self._wake = wake
        self._deliveries = Deliveries(parts.pool)
        self.under_way: dict[asyncio.Task[None], str] = {}
        """And whose each one is."""

    async def deliver(self) -> int:
        """Begin with those for which there is room; how many."""
        busy = Counter(self.under_way.values())
        full = [tenant_id for tenant_id, count in busy.items() if count >= _OF_ONE_TENANT]
        room = _AT_ONCE - len(self.under_way)
        due = await self._deliveries.due(room, of_one=_OF_ONE_TENANT, without=full) if room else ()
        for each in due:
            task = self._tasks.start(self._attempt(each), "a webhook")
            self.under_way[task] = each.tenant_id
            task.add_done_callback(self._over)
        return len(due)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self.under_way[task]
        self._wake.set()

    async def _attempt(self, due: Due) -> None:
        status, trouble = None, ""
        try:
            status = await _post(self._parts, self._session, due)
            trouble = "" if 200 <= status < 300 else f"it answered {status}"
        except NotAllowed as error:
            trouble = str(error)
        except Unsealable:
            trouble = "its secret was sealed under another GATEWAY_SECRET_KEY: replace the secret"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            refused = error.__cause__ if isinstance(error.__cause__, NotAllowed) else None
            trouble = str(refused or error) or type(error).__name__
        wait = next_try(due.attempts, random.random()) if trouble else None  # noqa: S311  spreads load, keeps no secret
        if trouble:
            _log.warning(
                "a webhook was not delivered", webhook_id=due.webhook_id, event_id=due.event_id, reason=trouble
            )
        with contextlib.suppress(StorageError):  # it is due again when its lease is over
            await self._deliveries.settle(
                due.id,
                status=status,
                trouble=trouble,
                next_at=datetime.now(UTC) + wait if wait else None,
                delivered=not trouble,
            )


async def _post(parts: Parts, session: aiohttp.ClientSession, due: Due) -> int:
    key = parts.secret_for(SECRETS)
    sealed = [due.secret, *([due.old_secret] if due.old_secret else [])]
    secrets = [unseal(key, each, due.webhook_id) for each in sealed]
    body = due.body.encode()
    headers = signature_headers(secrets, due.event_id, datetime.now(UTC), body)
    headers |= {"Content-Type": "application/cloudevents+json", "User-Agent": "tahoe-gateway"}
    check_host(due.url, allow_private=parts.settings.webhooks_allow_private)
    async with session.post(due.url, data=body, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def _forget(parts: Parts) -> None:
    outbox = Outbox(parts.pool, source_of(parts))
    while True:
        with contextlib.suppress(StorageError):
            await outbox.forget_old()
        await asyncio.sleep(_HOUR_S)

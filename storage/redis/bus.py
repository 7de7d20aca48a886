"""The Bus port on Redis pub/sub: one channel, one small JSON object a change.

Publishing is rare and never in a request's way, so each message travels on a connection of its own: there is none to go
stale while nothing happens, and none to be left one reply behind by a cancelled wait (CVE-2023-28858).
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from storage.ports import Invalidation, Unavailable

if TYPE_CHECKING:
    from storage import ports

CHANNEL = "platform:invalidate"

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
"""A change is to be known within a second, also the one that was made just before the server came back."""


class RedisBus:
    """See :class:`storage.ports.Bus`.

    ``timeout`` bounds connecting, and again the answer (seconds). After ``quiet`` seconds without a message the server
    is asked for a sign of life, and given up after as many more: a vanished host says nothing.
    """

    def __init__(self, url: str, *, timeout: float = 2.0, quiet: float = 10.0) -> None:
        parse_url(url)  # raises ValueError now rather than at the first change
        self._url = url
        self._timeout = timeout
        self._quiet = quiet

    async def publish(self, invalidation: Invalidation) -> None:
        """Tell every listener, in this process too."""
        message = json.dumps({"tenant_id": invalidation.tenant_id, "key_id": invalidation.key_id})
        try:
            async with self._connection() as redis:
                await redis.publish(CHANNEL, message)
        except (RedisError, OSError) as error:
            raise Unavailable(f"Redis cannot be told of a change: {error}") from error

    async def listen(self) -> AsyncGenerator[Invalidation, None]:
        """Changes for ever; a dead server is waited for. Close the iterator (``aclosing``) to end the connection."""
        wait = _FIRST_WAIT
        while True:
            try:
                async with aclosing(self._subscription()) as changes:
                    async for change in changes:
                        wait = _FIRST_WAIT
                        yield change
            except (RedisError, OSError):
                # Half of it by chance, so that all processes do not come back in one instant.
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _subscription(self) -> AsyncGenerator[Invalidation, None]:
        """One connection's worth of changes, beginning with "anything may have changed"."""
        async with self._connection() as redis, redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            asked = False
            while True:
                message = await channel.get_message(timeout=self._quiet)
                if message is None and asked:
                    raise RedisConnectionError("no sign of life")
                asked = message is None
                if message is None:
                    await channel.ping()
                elif message["type"] == "subscribe":  # from here on nothing is missed
                    yield Invalidation()
                elif message["type"] == "message":
                    yield _read(message["data"])

    def _connection(self) -> Redis:
        return Redis.from_url(
            self._url,
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )


def _read(data: bytes) -> Invalidation:
    """What cannot be understood, from a newer release perhaps, means "anything"."""
    try:
        fields = json.loads(data)
        tenant_id, key_id = fields["tenant_id"], fields["key_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return Invalidation()
    if not (isinstance(tenant_id, str) and isinstance(key_id, str)):
        return Invalidation()
    return Invalidation(tenant_id=tenant_id, key_id=key_id)


if TYPE_CHECKING:
    _promised: type[ports.Bus] = RedisBus

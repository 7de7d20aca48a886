"""The Bus port on Redis pub/sub: one channel, one small JSON object a change.

Publishing is rare and never in a request's way, so each message travels on a connection of its own: there is none to go
stale while nothing happens, and none to be left one reply behind by a cancelled wait (CVE-2023-28858).
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
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
"""A change is to be known within a second, also the one that was made just after the server came back."""


class RedisBus:
    """See :class:`storage.ports.Bus`.

    ``timeout`` bounds connecting, and again each answer (seconds). After ``quiet`` seconds without a message the server
    is asked for a sign of life, and given up after as many more: a vanished host says nothing.
    """

    def __init__(self, url: str, *, timeout: float = 2.0, quiet: float = 10.0) -> None:
        self._quiet = quiet
        options: dict[str, Any] = {**parse_url(url)}
        options.pop("max_connections", None)  # for a pool; there is none
        self._kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        # Ours comes last: a URL that asks for RESP 3 or for decoded answers would make the bus deaf.
        self._options = options | {
            "protocol": 2,
            "decode_responses": False,
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        try:
            self._kind(**self._options)
        except TypeError as error:
            raise ValueError(f"the Redis address has an option that nobody knows: {error}") from error

    async def publish(self, invalidation: Invalidation) -> None:
        """Tell every listener, in this process too."""
        message = json.dumps(asdict(invalidation))
        try:
            async with self._connected() as connection:
                await connection.send_command("PUBLISH", CHANNEL, message)
                await connection.read_response()
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
        async with self._connected() as connection:
            await connection.send_command("SUBSCRIBE", CHANNEL)
            asked = False
            while True:
                match await connection.read_response(timeout=self._quiet):
                    case [b"subscribe", *_]:  # from here on nothing is missed
                        yield Invalidation()
                    case [b"message", _, bytes(data)]:
                        yield _read(data)
                    case None if asked:
                        raise RedisConnectionError("no sign of life")
                    case None:
                        await connection.send_command("PING")
                        asked = True
                        continue
                    case _:
                        pass  # the answer to PING
                asked = False

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        connection = self._kind(**self._options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
            yield connection
        finally:
            # Closes before it first lets go of the loop. A client's or a pool's way of closing does not, and a second
            # cancellation at that moment leaves the connection open.
            await connection.disconnect(nowait=True)


def _read(data: bytes) -> Invalidation:
    """What cannot be understood, from a newer release perhaps, means "anything"."""
    try:
        fields = json.loads(data)
        change = Invalidation(
            fields["tenant_id"], fields["key_id"], fields.get("user_id", ""), fields.get("revoked", "")
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return Invalidation()
    return change if all(isinstance(value, str) for value in astuple(change)) else Invalidation()


if TYPE_CHECKING:
    _promised: type[ports.Bus] = RedisBus

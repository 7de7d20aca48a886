"""A client for what is asked of Redis now and then: sessions, lock-outs, tickets. The limiter has its own, faster one.

redis-py drops a connection whose wait was cancelled (CVE-2023-28858 was about not doing so), and every command is
bounded in time. Wrap calls in :func:`asking`, so that what goes wrong is :class:`storage.ports.Unavailable`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from storage.ports import Unavailable


def client(url: str, *, timeout: float = 2.0, most: int = 20) -> Redis:
    """A client that connects when first asked, answers bytes, and waits ``timeout`` seconds at most for each answer.

    Who finds all ``most`` connections busy waits for one, as long as for an answer.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=False,
        protocol=2,
        max_connections=most,
        timeout=timeout,
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
        # One more try, for a connection that died while nobody looked.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[RedisConnectionError],
    )
    return Redis.from_pool(pool)


@contextmanager
def asking() -> Iterator[None]:
    """Translate what Redis or the way to it did wrong."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis cannot be asked: {error}") from error

"""The sessions that live, in Redis: a digest is there until its idle time has passed without a request.

Only the digest is a key, and its value says nothing: who reads a dump of Redis can sign in as nobody.
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from storage.redis.client import asking

_PREFIX = "session:"


class RedisSessions:
    """Presence. ``idle_s`` is how long a session lives without a request, in seconds."""

    def __init__(self, redis: "Redis", idle_s: float) -> None:
        self._redis = redis
        self._idle_ms = int(idle_s * 1000)

    async def put(self, digest: bytes) -> None:
        """Let it live for its idle time."""
        with asking():
            await self._redis.set(_key(digest), b"1", px=self._idle_ms)

    async def touch(self, digest: bytes) -> bool:
        """Whether it lives; if so its idle time begins anew. Its absolute end is PostgreSQL's to judge."""
        with asking():
            return bool(await self._redis.pexpire(_key(digest), self._idle_ms))

    async def drop(self, digests: Sequence[bytes]) -> None:
        """End them."""
        if digests:
            with asking():
                await self._redis.delete(*map(_key, digests))


def _key(digest: bytes) -> str:
    return _PREFIX + digest.hex()

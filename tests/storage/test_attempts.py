"""Tries at log-ins as Redis counts them; what they mean for a person is seen in the portal's own tests."""

from redis.asyncio import Redis

from storage.redis.attempts import Bucket, RedisAttempts


async def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_the_longest_wait(redis_url: str) -> None:
    """Q-08: the bucket was shut for as long as the clock had been ahead, besides."""
    bucket = Bucket("account:clock", free=0)
    async with Redis.from_url(redis_url) as redis:
        attempts = RedisAttempts(redis, first_wait_s=0.02, longest_wait_s=0.02)
        await attempts.begin([bucket])
        (key,) = [key async for key in redis.scan_iter("*account:clock*")]
        seconds, _ = await redis.time()
        await redis.hset(key, "until", (seconds + 3_600) * 1_000)
        assert 0 < (await attempts.begin([bucket])).wait_s <= 0.02
        while (await attempts.begin([bucket])).wait_s:
            pass  # each asks Redis, whose clock goes on

"""Tries at log-ins as Redis counts them; what they mean for a person is seen in the portal's own tests."""

from redis.asyncio import Redis

from storage.redis.attempts import Bucket, RedisAttempts, _key


async def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_the_longest_wait(redis_url: str) -> None:
    """Q-08: the bucket was shut for as long as the clock had been ahead, besides; each look must not put it off."""
    bucket, key = Bucket("account:clock", free=0), _key("account:clock")
    async with Redis.from_url(redis_url) as redis:
        attempts = RedisAttempts(redis, longest_wait_s=600.0)
        assert (await attempts.begin([bucket])).shut_s > 0
        seconds, _ = await redis.time()
        await redis.hset(key, "until", (seconds + 36_000) * 1_000)
        assert 0 < (await attempts.begin([bucket])).wait_s <= 600
        until = await redis.hget(key, "until")
        seconds, _ = await redis.time()
        assert int(until) <= (seconds + 1 + 600) * 1_000
        await attempts.begin([bucket])
        assert await redis.hget(key, "until") == until

"""Tries at log-ins, counted per account and per address in Redis, before a password is looked at.

The account is counted under one name whatever its spelling, and whether it exists or not, so that a wait says nothing
of it. After the free tries each further one shuts the bucket, twice as long every time, for minutes at the most. Where
its person has signed in lately an account has a bucket of its own: who tries from elsewhere without end keeps nobody
out. Keys carry a time to live, so that made-up names fill nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

from redis.asyncio import Redis

from policies.networks import customer
from policies.people import account_bucket
from storage.redis.client import asking

_SCRIPT = resources.files("storage.redis").joinpath("attempt.lua").read_text()


@dataclass(frozen=True, slots=True)
class Bucket:
    """What tries are counted under, and how many are free until it shuts."""

    name: str
    free: int


class Try(NamedTuple):
    """``wait_s`` is 0 for a try that was counted. Where that was the last free one, the next waits ``shut_s``."""

    wait_s: float
    shut_s: float


_PLACES_S = 30 * 86_400


class RedisAttempts:
    """Waits double from ``first_wait_s`` to ``longest_wait_s``."""

    def __init__(self, redis: "Redis", first_wait_s: float = 30.0, longest_wait_s: float = 600.0) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._redis = redis
        self._waits = (int(first_wait_s * 1000), int(longest_wait_s * 1000))

    async def begin(self, buckets: Sequence[Bucket]) -> Try:
        """Count one try in all of them, or in none while one of them is shut."""
        with asking():
            wait_ms, shut_ms = await self._script(
                keys=[_key(b.name) for b in buckets], args=[*(b.free for b in buckets), *self._waits]
            )
        return Try(wait_ms / 1000, shut_ms / 1000)

    async def forgive(self, name: str) -> bool:
        """Forget a bucket's tries; whether there were any."""
        with asking():
            return bool(await self._redis.delete(_key(name)))

    async def account_name(self, email: str, address: str) -> str:
        """What a try at an account from that client address is counted under."""
        (account,) = account_names(email)
        with asking():
            for place in address_names(address):
                if await self._redis.sismember(_places(account), place):
                    return _at(account, place)
        return account

    async def signed_in_from(self, email: str, address: str) -> None:
        """Keep the place for some weeks."""
        (account,) = account_names(email)
        with asking():
            for place in address_names(address):
                pipeline = self._redis.pipeline(transaction=True)
                pipeline.sadd(_places(account), place)
                pipeline.expire(_places(account), _PLACES_S)
                await pipeline.execute()

    async def forgive_account(self, email: str) -> bool:
        """Forget an account's tries, from wherever; whether there were any."""
        (account,) = account_names(email)
        with asking():
            places = await self._redis.smembers(_places(account))
        names = [account, *(_at(account, place if isinstance(place, str) else place.decode()) for place in places)]
        return any([await self.forgive(name) for name in names])

    async def forgive_person(self, user_id: str) -> bool:
        """Forget the tries of whoever had given the password, or was signed in; whether there were any."""
        return any([await self.forgive(name) for name in (code_name(user_id), again_name(user_id))])

    async def refund(self, name: str) -> None:
        """Take one try back: it was a good one, and so shuts nothing."""
        with asking():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hincrby(_key(name), "n", -1)
            pipeline.hdel(_key(name), "until")
            await pipeline.execute()


def account_names(email: str) -> tuple[str, ...]:
    """What tries at an account are counted under."""
    return (f"account:{account_bucket(email)}",)


def code_name(user_id: str) -> str:
    """What tries at a person's second factor are counted under."""
    return f"code:{user_id}"


def again_name(user_id: str) -> str:
    """What tries at the password are counted under where who is signed in is asked for it once more."""
    return f"again:{user_id}"


def address_names(address: str) -> tuple[str, ...]:
    """What tries from a client's address are counted under; nothing for what is no address: then the account alone."""
    known = customer(address)
    return () if known is None else (f"login-address:{known}",)


def _places(account: str) -> str:
    return f"signed-in-from:{account}"


def _at(account: str, place: str) -> str:
    return f"{account} at {place}"


def _key(name: str) -> str:
    return f"attempts:{{all}}:{name}"  # one slot of a cluster, because one script takes several

"""The Tickets port: one key a ticket, under the hash of its text, gone when it was taken or its time is over."""

import hashlib
import json
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from policies.http.tickets import Ticket, is_reusable
from storage.redis.client import asking

if TYPE_CHECKING:
    from storage import ports


class RedisTickets:
    """See :class:`storage.ports.Tickets`. GETDEL is one step: of two who redeem at once, one gets nothing."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def keep(self, secret: bytes, ticket: Ticket, life_s: int) -> None:
        """Store under the hash; the text itself is never sent."""
        value = {
            "tenant_id": ticket.tenant_id,
            "credential": ticket.credential.hex(),
            "routes": ticket.routes,
            "longest_s": ticket.longest_s,
        }
        with asking():
            await self._redis.set(_key(secret), json.dumps(value), ex=life_s)

    async def take(self, secret: bytes) -> Ticket | None:
        """Read, and remove where it is good once."""
        key = _key(secret)
        with asking():
            value = await (self._redis.get(key) if is_reusable(secret) else self._redis.getdel(key))
        return None if value is None else _read(value)


def _read(value: bytes | str) -> Ticket | None:
    """None for what another version has stored in another shape: it opens nothing here."""
    try:
        fields = json.loads(value)
        routes, longest_s = fields["routes"], fields["longest_s"]
        if not (isinstance(routes, list) and isinstance(longest_s, int | float)):
            return None
        return Ticket(
            tenant_id=fields["tenant_id"],
            credential=bytes.fromhex(fields["credential"]),
            routes=tuple(routes),
            longest_s=longest_s,
        )
    except (ValueError, TypeError, KeyError):
        return None


def _key(secret: bytes) -> str:
    return f"platform:ticket:{hashlib.sha256(secret).hexdigest()}"


if TYPE_CHECKING:
    _promised: type[ports.Tickets] = RedisTickets

"""The Tickets port: one key a ticket, under the hash of its text, gone when it was taken or its minute is over."""

import hashlib
import json
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from policies.http.tickets import LIFE_S, Ticket
from storage.redis.client import asking

if TYPE_CHECKING:
    from storage import ports


class RedisTickets:
    """See :class:`storage.ports.Tickets`. GETDEL is one step: of two who redeem at once, one gets nothing."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def keep(self, secret: bytes, ticket: Ticket) -> None:
        """Store under the hash; the text itself is never sent."""
        value = {
            "tenant_id": ticket.tenant_id,
            "credential": ticket.credential.hex(),
            "route": ticket.route,
            "longest_s": ticket.longest_s,
        }
        with asking():
            await self._redis.set(_key(secret), json.dumps(value), ex=LIFE_S)

    async def take(self, secret: bytes) -> Ticket | None:
        """Read and remove."""
        with asking():
            value = await self._redis.getdel(_key(secret))
        if value is None:
            return None
        fields = json.loads(value)
        return Ticket(
            tenant_id=fields["tenant_id"],
            credential=bytes.fromhex(fields["credential"]),
            route=fields["route"],
            longest_s=fields["longest_s"],
        )


def _key(secret: bytes) -> str:
    return f"platform:ticket:{hashlib.sha256(secret).hexdigest()}"


if TYPE_CHECKING:
    _promised: type[ports.Tickets] = RedisTickets

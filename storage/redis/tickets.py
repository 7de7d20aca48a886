"""The Tickets port: one key a ticket, under the hash of its text, gone when it was used up or its time is over.

What a ticket is good for is sealed: who can read the store learns of nobody by it, and who can write there makes none.
"""

import hashlib
import json
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from policies.http.tickets import MOST_USES, Ticket, is_reusable
from policies.identity.tokens import AccessToken
from storage.redis.client import asking
from storage.sealed import Unsealable, seal, unseal

if TYPE_CHECKING:
    from storage import ports

PURPOSE = "tickets"
"""What the key is for that they are sealed with."""
_SCRIPT = resources.files("storage.redis").joinpath("ticket.lua").read_text()


class RedisTickets:
    """See :class:`storage.ports.Tickets`. A use is one step: of two who redeem the last one at once, one gets nothing.

    ``sealing_key`` is 32 bytes.
    """

    def __init__(self, redis: Redis, sealing_key: bytes) -> None:
        self._redis = redis
        self._sealing_key = sealing_key
        self._script = redis.register_script(_SCRIPT)

    async def keep(self, secret: bytes, ticket: Ticket, life_s: int) -> None:
        """Store under the hash; the text itself is never sent."""
        key, uses = _key(secret), MOST_USES if is_reusable(secret) else 1
        with asking():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(key, mapping={"sealed": seal(self._sealing_key, _written(ticket), key), "left": uses})
            pipeline.expire(key, life_s)
            await pipeline.execute()

    async def take(self, secret: bytes) -> Ticket | None:
        """Use it once."""
        key = _key(secret)
        with asking():
            sealed = await self._script(keys=[key])
        return None if sealed is None else self._read(sealed, key)

    def _read(self, sealed: bytes, key: str) -> Ticket | None:
        """None for what another version has stored in another shape, or somebody else: it opens nothing here."""
        try:
            fields = json.loads(unseal(self._sealing_key, sealed, key))
            token, routes = fields.pop("token"), tuple(fields.pop("routes"))
            key_digest = bytes.fromhex(fields.pop("key"))
            return Ticket(**fields, routes=routes, key=key_digest, token=None if token is None else _token(token))
        except (Unsealable, ValueError, TypeError, KeyError):
            return None


def _written(ticket: Ticket) -> bytes:
    fields = asdict(ticket) | {"key": ticket.key.hex()}
    if ticket.token is not None:
        fields["token"]["scopes"] = sorted(ticket.token.scopes)
    return json.dumps(fields).encode()


def _token(fields: dict[str, Any]) -> AccessToken:
    scopes, roles = frozenset(fields.pop("scopes")), tuple(fields.pop("roles"))
    return AccessToken(**fields, scopes=scopes, roles=roles)


def _key(secret: bytes) -> str:
    return f"platform:tickets:{hashlib.sha256(secret).hexdigest()}"


if TYPE_CHECKING:
    _promised: type[ports.Tickets] = RedisTickets

"""Which keys were used: noted where a credential is asked for anew, so at most once a key every some seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import structlog

from policies.identity.principals import Principal
from storage.ports import StorageError
from storage.postgres.keys.uses import KeyUse

_log = structlog.get_logger("gateway.key_uses")

_EVERY_S = 10.0
_MOST = 20_000
"""Uses that wait for a database that is away; beyond them the oldest are forgotten."""


class KeyUses:
    """Gathers uses; ``write`` takes them to the registry."""

    def __init__(self, write: Callable[[Sequence[KeyUse]], Awaitable[None]]) -> None:
        self._write = write
        self._seen: dict[str, KeyUse] = {}

    def note(self, principal: Principal, address: str, agent: str) -> None:
        """A key was used now."""
        if principal.key_id:
            self._seen.pop(principal.key_id, None)
            if len(self._seen) >= _MOST:
                del self._seen[next(iter(self._seen))]
            self._seen[principal.key_id] = KeyUse(
                key_id=principal.key_id,
                tenant_id=principal.tenant_id,
                used_at=datetime.now(UTC),
                address=address,
                agent=agent,
            )

    async def flush(self) -> None:
        """Write what was seen; what cannot be written is kept for the next time."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            await self._write(list(seen.values()))
        except StorageError as error:
            _log.warning("last uses of keys wait to be written", keys=len(seen), reason=str(error))
            self._seen = {**seen, **self._seen}

    async def keep(self) -> None:
        """Write every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.flush()

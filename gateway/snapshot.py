"""Credentials that were identified already, for as long as that may be believed.

Keyed by the full HMAC-SHA-256 of the credential (a prefix once gave LiteLLM's callers each other's identity,
CVE-2026-35030). An entry is fresh for a few seconds; then it is asked for again, and if the registry cannot answer the
old word holds until it is stale. What is revoked meanwhile is told over the bus within a second; after every
reconnection of the bus everything is forgotten, because something may have been missed.
"""

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from policies.authorise import Permit
from policies.credentials import Presented, is_well_formed
from policies.principals import Principal
from storage.ports import Invalidation, KeyRegistry, Unavailable

_MOST = 50_000
_UNKNOWN_S = 5.0
_RETRY_S = 2.0


@dataclass(slots=True)
class Entry:
    """One credential's answer. ``permits`` by route name save the pure stages their work while the answer holds."""

    principal: Principal | None
    fresh_until: float
    stale_at: float
    permits: dict[str, Permit] = field(default_factory=dict)


class Snapshot:
    """Identifies API keys. ``clock`` gives monotonic seconds; ``pepper`` is the HMAC key of the registry's digests."""

    def __init__(
        self, keys: KeyRegistry, pepper: bytes, clock: Callable[[], float], fresh_s: float = 15.0, stale_s: float = 60.0
    ) -> None:
        self._keys = keys
        self._pepper = pepper
        self._clock = clock
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._entries: dict[bytes, Entry] = {}
        self._asking: dict[bytes, asyncio.Task[Entry]] = {}
        self._generation = 0

    def known(self, presented: Presented) -> Entry | None:
        """The answer, if it is at hand and fresh: the usual case, without waiting."""
        key = presented.digest
        if not key:
            key = presented.digest = digest(self._pepper, presented.secret)
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry.fresh_until else None

    async def identify(self, presented: Presented) -> Entry:
        """The answer, asked for if need be; callers with one credential share one question. Raises Unavailable."""
        if presented.secret and not is_well_formed(presented.secret):
            return Entry(None, 0.0, 0.0)
        key = presented.digest or digest(self._pepper, presented.secret)
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(key))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(asking)

    def _answered(self, key: bytes, asking: asyncio.Task[Entry]) -> None:
        if self._asking.get(key) is asking:
            del self._asking[key]

    async def _ask(self, key: bytes) -> Entry:
        generation = self._generation
        old = self._entries.get(key)
        try:
            principal = await self._keys.identify_key(key)
        except Unavailable:
            now = self._clock()
            if old is not None and now < old.stale_at and self._entries.get(key) is old:
                # A registry that hangs must not cost every request its time-out.
                old.fresh_until = min(now + _RETRY_S, old.stale_at)
                return old
            raise
        now = self._clock()
        fresh_s = self._fresh_s if principal is not None else _UNKNOWN_S
        entry = Entry(principal, now + fresh_s, now + (self._stale_s if principal is not None else fresh_s))
        if generation == self._generation:  # an invalidation that arrived meanwhile may be newer than this answer
            if len(self._entries) >= _MOST:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry
        return entry

    def forget(self, what: Invalidation) -> None:
        """Drop what a change may have made untrue."""
        self._generation += 1
        self._asking.clear()  # who comes now must not share a question from before the change
        if not what.tenant_id and not what.key_id:
            self._entries.clear()
            return
        self._entries = {
            key: entry
            for key, entry in self._entries.items()
            if entry.principal is not None
            and (entry.principal.key_id != what.key_id if what.key_id else entry.principal.tenant_id != what.tenant_id)
        }


def digest(pepper: bytes, secret: bytes) -> bytes:
    """HMAC-SHA-256: what the registry stores instead of a key."""
    return hmac.digest(pepper, secret, "sha256")

"""Browser sessions: Redis says which live, PostgreSQL which have ended. Both must agree that one lives.

A Redis that lost its data, or came back from an old copy, lets nobody in: what it lacks is logged out, and what it
should not have has ended in PostgreSQL. A store that cannot be asked is ``Unavailable`` and never "no session".
"""

from dataclasses import dataclass

from policies.people import Session
from storage.postgres.people.sessions import Also, NewSession, PostgresSessions
from storage.redis.sessions import RedisSessions


@dataclass(frozen=True, slots=True)
class Sessions:
    """The two of them."""

    listed: PostgresSessions
    living: RedisSessions

    async def begin(self, new: NewSession, also: Also | None = None) -> tuple[Session, str]:
        """A new session, listed before it lives; the one that it replaces is over in both (see the list's own)."""
        made, replaced = await self.listed.begin(new, also)
        if new.replaces is not None:
            await self.living.drop([new.replaces])
        await self.living.put(new.digest)
        return made, replaced

    async def find(self, digest: bytes) -> Session | None:
        """The session that lives under this digest; it has been used now."""
        if not await self.living.touch(digest):
            return None
        return await self.listed.live(digest)

    async def end(self, user_id: str, why: str, *, only: str | None = None, but: str | None = None) -> int:
        """End sessions of a person (:meth:`PostgresSessions.end`); how many.

        They are over when PostgreSQL says so, even if Redis cannot be told.
        """
        ended = await self.listed.end(user_id, why, only=only, but=but)
        await self.living.drop(ended)
        return len(ended)

"""Whose a browser's session is: both stores are asked, and then the registry, as things are now."""

from dataclasses import replace

from gateway.identity.digests import digest
from policies.identity.principals import Method, Principal
from storage.sessions import Sessions
from storage.token_ports import Subjects

PURPOSE = "sessions"
"""What the key of their digests is derived for."""


class BrowserSessions:
    """Identifies sessions; ``pepper`` is the key of their digests."""

    def __init__(self, sessions: Sessions, subjects: Subjects, pepper: bytes) -> None:
        self._sessions = sessions
        self._subjects = subjects
        self._pepper = pepper

    async def identify(self, secret: bytes) -> Principal | None:
        """The person who is signed in, in the session's tenant; None for no session. Raises Unavailable."""
        session = await self._sessions.find(digest(self._pepper, secret))
        if session is None:
            return None
        found = await self._subjects.identify_subject(session.tenant_id, session.user_id)
        if found is None:
            return None
        return replace(found, method=Method.SESSION, expires_ms=int(session.expires_at.timestamp() * 1000))

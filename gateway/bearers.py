"""Bearer tokens: whether one is believed, and whose it is as things are now."""

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.token_state import TokenState
from policies.jws import Jws, parse
from policies.principals import Method, Principal, Standing
from policies.tokens import AccessToken, Fault, Trust, read_access_token, verify
from storage.token_ports import Subjects


class Bearers:
    """Judges access tokens of ``issuer``, which are for itself: this gateway. ``now_s`` tells the time in seconds."""

    def __init__(
        self, state: TokenState, subjects: Subjects, issuer: str, now_s: Callable[[], int] = lambda: int(time.time())
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._issuer = issuer
        self._now_s = now_s

    async def examine(self, secret: bytes, *, also_for: frozenset[str] = frozenset()) -> AccessToken | Fault:
        """Verify a token. Waits only before the first keys are read, and for a key that is not known yet.

        ``also_for`` are other audiences whose tokens may be looked at. Raises Unavailable when no keys could be read.
        """
        jws = parse(secret)
        if jws is None:
            return Fault.MALFORMED
        await self._state.ready()
        said = jws.claims.get("aud")
        audience = said if isinstance(said, str) and said in also_for else self._issuer
        token = self._verified(jws, audience)
        if token is Fault.UNKNOWN_KEY:  # made a moment ago, perhaps
            await self._state.look_again()
            token = self._verified(jws, audience)
        return token

    def is_revoked(self, token: AccessToken) -> bool:
        """Whether it was revoked since."""
        return self._state.is_revoked(token)

    async def principal(self, token: AccessToken) -> Principal | None:
        """Whose it is now; None when that is nobody any more. Raises Unavailable."""
        found = await self._subjects.identify_subject(token.tenant_id, token.subject)
        if found is None:
            return None
        return replace(found, scopes=found.scopes & token.scopes, expires_ms=token.lapses_ms)

    def _verified(self, jws: Jws, audience: str) -> AccessToken | Fault:
        trust = Trust(issuer=self._issuer, audience=audience, keys=self._state.ring.believed)
        claims = verify(jws, trust, self._now_s())
        return claims if isinstance(claims, Fault) else read_access_token(claims)


def as_it_says(token: AccessToken) -> Principal:
    """Whose a token is by its own word: a few minutes old, and all there is while the registry cannot be asked."""
    return Principal(
        method=Method.JWT,
        standing=Standing.GOOD,
        tenant_id=token.tenant_id,
        tenant_slug="",
        user_id=token.subject,
        scopes=token.scopes,
        roles=token.roles,
        expires_ms=token.lapses_ms,
    )

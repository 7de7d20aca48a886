"""Bearer tokens: whether one is believed, and whose it is as things are now."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.identity.strangers import Stranger, Strangers
from gateway.identity.token_state import TokenState
from policies.identity.foreign import read_foreign
from policies.identity.jws import Jws, parse
from policies.identity.principals import Method, Principal, Standing
from policies.identity.tokens import AccessToken, Fault, Trust, read_access_token, verify
from policies.identity.verification_keys import KeySet
from storage.ports import Unavailable
from storage.token_ports import Subjects


class Bearers:
    """Judges access tokens of ``issuer``, which are for itself: this gateway; and those of ``strangers``.

    ``now_s`` tells the time in seconds.
    """

    def __init__(
        self,
        state: TokenState,
        subjects: Subjects,
        issuer: str,
        strangers: Strangers | None = None,
        now_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._state = state
        self._subjects = subjects
        self._issuer = issuer
        self._strangers = strangers
        self._now_s = now_s

    async def examine(self, secret: bytes, *, also_for: frozenset[str] = frozenset()) -> AccessToken | Fault:
        """Verify a token. Waits only before the first keys are read, and for a key that is not known yet.

        ``also_for`` are other audiences whose tokens may be looked at. Raises Unavailable when no keys could be read.
        """
        jws = parse(secret)
        if jws is None:
            return Fault.MALFORMED
        stranger = await self._stranger(jws)
        if stranger is not None:
            return await self._examine_stranger(jws, stranger)
        await self._state.ready()
        said = jws.claims.get("aud")
        audience = said if isinstance(said, str) and said in also_for else self._issuer
        token = self._verified(jws, audience)
        if token is Fault.UNKNOWN_KEY:  # made a moment ago, perhaps
            await self._state.look_again()
            token = self._verified(jws, audience)
        return token

    def is_outdated(self, token: AccessToken) -> bool:
        """Whether its issuer is believed no more, or its claims have got another meaning since they were read."""
        if not token.guest:
            return False
        return self._strangers is None or not self._strangers.believes(token.client_id, token.version)

    async def believes(self, token: AccessToken) -> bool:
        """Whether the key is still believed that signed a token of ours, if one did. Raises Unavailable."""
        await self._state.ready()
        return not token.key_id or token.key_id in self._state.ring.believed.keys

    def is_revoked(self, token: AccessToken) -> bool:
        """Whether it was revoked since."""
        return self._state.is_revoked(token)

    async def subject(self, token: AccessToken) -> Principal | None:
        """Whose it is now, as the registry says; None when that is nobody any more. Raises Unavailable."""
        return await self._subjects.identify_subject(*subject_of(token))

    async def principal(self, token: AccessToken) -> Principal | None:
        """Whose it is now, with what the token allows. Raises Unavailable."""
        found = await self.subject(token)
        return None if found is None else bounded(found, token)

    async def _stranger(self, jws: Jws) -> Stranger | None:
        issuer = jws.claims.get("iss")
        if self._strangers is None or not isinstance(issuer, str) or issuer == self._issuer:
            return None
        return await self._strangers.find(issuer)

    async def _examine_stranger(self, jws: Jws, stranger: Stranger) -> AccessToken | Fault:
        claims = self._believed(jws, stranger, await stranger.jwks.keys())
        if claims is Fault.UNKNOWN_KEY:
            claims = self._believed(jws, stranger, await stranger.jwks.look_again())
        return claims if isinstance(claims, Fault) else read_foreign(claims, stranger.meaning)

    def _believed(self, jws: Jws, stranger: Stranger, keys: KeySet) -> Mapping[str, Any] | Fault:
        settings = stranger.settings
        trust = Trust(
            issuer=settings.issuer,
            audience=settings.audience,
            keys=keys,
            types=frozenset(kind.lower() for kind in settings.types),
            sole_audience=False,
        )
        return verify(jws, trust, self._now_s())

    def _verified(self, jws: Jws, audience: str) -> AccessToken | Fault:
        trust = Trust(issuer=self._issuer, audience=audience, keys=self._state.ring.believed)
        claims = verify(jws, trust, self._now_s())
        return claims if isinstance(claims, Fault) else read_access_token(claims, jws.key_id)


def subject_of(token: AccessToken) -> tuple[str, str]:
    """The tenant and the subject that the registry is asked for; of a guest it knows the tenant alone."""
    return token.tenant_id, "" if token.guest else token.subject


def bounded(found: Principal, token: AccessToken) -> Principal:
    """A subject through one of its tokens: until it lapses, with the scopes that both have; a guest with its own."""
    if token.guest:
        return replace(found, user_id=token.subject, scopes=token.scopes, roles=token.roles, expires_ms=token.lapses_ms)
    return replace(found, scopes=found.scopes & token.scopes, expires_ms=token.lapses_ms)


def as_it_says(token: AccessToken) -> Principal:
    """Whose a token is by its own word: a few minutes old, and all there is while the registry cannot be asked.

    Raises Unavailable for a guest: which tenant that is only the registry knows.
    """
    if token.guest:
        raise Unavailable("The tenant of another issuer's token cannot be looked up.")
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

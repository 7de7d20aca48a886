"""``X-Gateway-Assertion``: who is asking, signed, so that an upstream need not believe its network.

A short JWT of its own type for one upstream (its ``aud``), verified with the gateway's JWKS. One is signed for each
caller and used until nine tenths of its life are over; a permit holds it ready, so that no request ever waits for a
signature. What names a single request (its id) therefore travels beside it, in ``X-Request-ID``.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from gateway.identity.signing import CannotSign
from gateway.identity.token_state import TokenState
from policies.identity.principals import Principal
from policies.identity.tokens import ASSERTION_TYPE, SERVICE_S
from storage.postgres.ids import Kind, new_id

_log = structlog.get_logger("gateway.tokens")

_REUSED_S = SERVICE_S * 9 // 10
_MOST = 20_000


class _Kept(NamedTuple):
    text: str
    until_s: float


class Assertions:
    """Signs for callers, and remembers. ``issuer`` is the gateway's public address."""

    def __init__(self, state: TokenState, issuer: str, now_s: Callable[[], float] = time.time) -> None:
        self._state = state
        self._issuer = issuer
        self._now_s = now_s
        self._kept: dict[tuple[object, ...], _Kept] = {}
        self._mute = False

    def of(self, principal: Principal, upstream: str) -> str:
        """The caller's assertion for one upstream; empty while there is no key to sign with, which upstreams refuse."""
        key = (
            principal.tenant_id, principal.user_id, principal.key_id, principal.scopes, principal.roles, upstream
        )  # fmt: skip
        now = self._now_s()
        kept = self._kept.get(key)
        if kept is not None and now < kept.until_s:
            return kept.text
        try:
            text = self._sign(principal, upstream, now)
        except CannotSign as error:
            if not self._mute:
                _log.error("requests go to the upstream without an assertion", reason=str(error))
            self._mute = True
            return ""
        self._mute = False
        if kept is None and len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(text, now + _REUSED_S)
        return text

    def forget(self, revoked: str) -> None:
        """Sign anew when a key is believed no more (``""``)."""
        if not revoked:
            self._kept.clear()

    def _sign(self, principal: Principal, upstream: str, now: float) -> str:
        now_s = int(now)
        claims = {
            "iss": self._issuer,
            "aud": upstream,
            "sub": principal.user_id or principal.key_id,
            "tenant": principal.tenant_id,
            "scope": " ".join(sorted(principal.scopes)),
            "roles": list(principal.roles),
            "iat": now_s,
            "exp": now_s + SERVICE_S,
            "jti": new_id(Kind.TOKEN),
        }
        if principal.key_id:
            claims["key_id"] = principal.key_id
        return self._state.ring.sign(claims, ASSERTION_TYPE, datetime.fromtimestamp(now, UTC))

"""Credentials that were identified already, for as long as that may be believed: API keys, tokens, sessions.

Keyed by the full HMAC-SHA-256 of the credential (a prefix once gave LiteLLM's callers each other's identity,
CVE-2026-35030). An entry is fresh for a few seconds; then it is asked for again, and if the registry cannot answer the
old word holds until it is stale. What is revoked meanwhile is told over the bus within a second; after every
reconnection of the bus everything is forgotten, because something may have been missed.

A token's signature is verified once; what is asked again is whose it is. While the registry cannot be asked a token is
believed by its own word (counted as a fail-open): it was issued minutes ago, and revocations are known all the same.
A session is never believed longer than it is fresh: without Redis and PostgreSQL nobody is signed in.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gateway.identity.bearers import Bearers, as_it_says, bounded, subject_of
from gateway.identity.digests import digest
from gateway.telemetry.metrics import Metrics
from policies.authorise import Permit
from policies.http.credentials import Presented, is_well_formed
from policies.http.tickets import Ticket
from policies.http.verdict import Refusal
from policies.identity.jws import looks_like_one
from policies.identity.principals import Method, Principal
from policies.identity.tokens import AccessToken, Fault
from storage.ports import Invalidation, KeyRegistry, Unavailable

if TYPE_CHECKING:
    from gateway.identity.browser_sessions import BrowserSessions

_MOST = 50_000
_UNKNOWN_S = 5.0
_RETRY_S = 2.0


@dataclass(slots=True)
class Entry:
    """One credential's answer. ``permits`` by route name save the pure stages their work while the answer holds.

    Without a principal, ``refusal`` is what the client is told and ``reason`` what is counted.
    """

    principal: Principal | None
    fresh_until: float
    stale_at: float
    permits: dict[str, Permit] = field(default_factory=dict)
    token: AccessToken | None = None
    refusal: Refusal = Refusal.INVALID_API_KEY
    method: Method = Method.API_KEY
    reason: str = "unknown"


class Snapshot:
    """Identifies credentials. ``clock`` gives monotonic seconds; ``pepper`` is the HMAC key of the registry's digests.

    Without ``bearers`` no token is taken, without ``sessions`` no cookie.
    """

    def __init__(
        self,
        keys: KeyRegistry,
        pepper: bytes,
        clock: Callable[[], float],
        fresh_s: float = 15.0,
        stale_s: float = 60.0,
        *,
        bearers: Bearers | None = None,
        sessions: "BrowserSessions | None" = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._keys = keys
        self._pepper = pepper
        self._clock = clock
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._bearers = bearers
        self._sessions = sessions
        self._metrics = metrics or Metrics()
        self._entries: dict[bytes, Entry] = {}
        self._asking: dict[bytes, asyncio.Task[Entry]] = {}
        self._generation = 0
        self._registry_rests_until = 0.0
        self._subjects: dict[tuple[str, str], tuple[Principal, float]] = {}
        """Whose tokens are, for those of one subject that are many: a service's, or one made anew every few minutes."""

    def known(self, presented: Presented) -> Entry | None:
        """The answer, if it is at hand and fresh: the usual case, without waiting."""
        key = presented.digest
        if not key:
            key = presented.digest = self._key(presented)
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry.fresh_until else None

    async def identify(self, presented: Presented) -> Entry:
        """The answer, asked for if need be; callers with one credential share one question. Raises Unavailable."""
        secret = presented.secret
        key = presented.digest or self._key(presented)
        if presented.session:
            if self._sessions is None:
                return _no_session()
            return await self._shared(key, partial(self._ask_of_session, self._sessions, secret))
        if presented.token is None and (not secret or is_well_formed(secret)):
            return await self._shared(key, self._ask)
        if self._bearers is not None and (presented.token is not None or looks_like_one(secret)):
            return await self._shared(key, partial(self._ask_of_token, self._bearers, presented))
        return Entry(None, 0.0, 0.0)

    async def behind(self, ticket: Ticket, text: bytes) -> Presented | None:
        """The credential that a ticket stands for; None where no key of ours is behind it any more.

        Raises Unavailable while that is not known.
        """
        token = ticket.token
        if token is None:
            return Presented(b"", ticket.key, ticket)
        if self._bearers is None or not await self._bearers.believes(token):
            return None
        return Presented(b"", digest(self._pepper, b"ticket " + text), ticket, token)

    def _key(self, presented: Presented) -> bytes:
        """A session's secret in another place than its cookie is another credential, and none.

        What stands behind a ticket is another one than the ticket, which is redeemed each time.
        """
        return digest(self._pepper, b"cookie " + presented.secret if presented.session else presented.secret)

    async def _shared(self, key: bytes, ask: Callable[[bytes], Coroutine[None, None, Entry]]) -> Entry:
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(ask(key))
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
                old.permits.clear()  # they hold assertions, which do not live for ever
                return old
            raise
        now = self._clock()
        fresh_s = self._fresh_s if principal is not None else _UNKNOWN_S
        entry = Entry(principal, now + fresh_s, now + (self._stale_s if principal is not None else fresh_s))
        self._keep(key, entry, generation)
        return entry

    async def _ask_of_token(self, bearers: Bearers, presented: Presented, key: bytes) -> Entry:
        generation = self._generation
        old = self._entries.get(key)
        token = old.token if old is not None else presented.token
        if token is None or bearers.is_outdated(token):
            verified: AccessToken | Fault = await bearers.examine(presented.secret)
        else:
            verified = token
        if isinstance(verified, Fault):
            return _no_token(verified)
        if bearers.is_revoked(verified):
            return _no_token(Fault.REVOKED)
        principal, until = await self._whose(bearers, verified, old)
        if principal is None or bearers.is_revoked(verified):  # meanwhile
            return _no_token(Fault.REVOKED)
        entry = Entry(principal, until, until, token=verified)
        self._keep(key, entry, generation)
        return entry

    async def _whose(self, bearers: Bearers, token: AccessToken, old: Entry | None) -> tuple[Principal | None, float]:
        """Whose a token is, and until when that may be believed. A registry that hangs costs one token its time-out."""
        known = self._subjects.get(subject_of(token))
        now = self._clock()
        if known is not None and now < known[1]:
            return bounded(known[0], token), known[1]
        if now >= self._registry_rests_until:
            generation = self._generation
            try:
                found = await bearers.subject(token)
            except Unavailable:
                self._registry_rests_until = self._clock() + _RETRY_S
            else:
                until = self._clock() + self._fresh_s
                if found is None:
                    return None, until
                if generation == self._generation:
                    if len(self._subjects) >= _MOST:
                        del self._subjects[next(iter(self._subjects))]
                    self._subjects[subject_of(token)] = found, until
                return bounded(found, token), until
        self._metrics.fail_open[("token_subject",)] += 1
        until = self._clock() + _RETRY_S
        if known is not None:
            return bounded(known[0], token), until
        return old.principal if old is not None else as_it_says(token), until

    async def _ask_of_session(self, sessions: "BrowserSessions", secret: bytes, key: bytes) -> Entry:
        generation = self._generation
        principal = await sessions.identify(secret)
        if principal is None:
            self._entries.pop(key, None)
            return _no_session()
        until = self._clock() + self._fresh_s
        entry = Entry(principal, until, until)
        self._keep(key, entry, generation)
        return entry

    def _keep(self, key: bytes, entry: Entry, generation: int) -> None:
        if generation != self._generation:
            return  # an invalidation that arrived meanwhile may be newer than this answer
        if key not in self._entries and len(self._entries) >= _MOST:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry

    def forget(self, what: Invalidation) -> None:
        """Drop what a change may have made untrue; a revocation goes to :meth:`forget_tokens`."""
        self._generation += 1
        self._asking.clear()  # who comes now must not share a question from before the change
        if not what.key_id:
            self._subjects.clear()
        if what == Invalidation():
            self._entries.clear()
            return
        self._entries = {key: entry for key, entry in self._entries.items() if not _is_touched(entry, what)}

    def forget_tokens(self, revoked: str) -> None:
        """Drop the tokens that a revocation names (:attr:`Revocation.what`); with ``""`` all of them."""
        self._generation += 1
        for key in [
            key
            for key, entry in self._entries.items()
            if entry.token is not None and (not revoked or revoked in entry.token.names)
        ]:
            del self._entries[key]


def _is_touched(entry: Entry, what: Invalidation) -> bool:
    """Whether a change may have made an answer untrue; who was unknown may be known now."""
    principal = entry.principal
    if principal is None:
        return True
    if what.key_id:
        return principal.key_id == what.key_id
    if what.user_id:
        return principal.user_id == what.user_id
    return principal.tenant_id == what.tenant_id


def _no_token(fault: Fault) -> Entry:
    """Never kept: whoever makes up tokens must not fill the memory, and a refusal costs little."""
    return Entry(None, 0.0, 0.0, refusal=Refusal.INVALID_TOKEN, method=Method.JWT, reason=fault)


def _no_session() -> Entry:
    """Never kept, as with tokens."""
    return Entry(None, 0.0, 0.0, refusal=Refusal.SESSION_ENDED, method=Method.SESSION)

"""What every process that judges or signs tokens must know, kept up to date: signing keys and revocations.

Both live in PostgreSQL. They are read at the start, after every change that the bus tells of, and every few seconds in
case it told nothing; a revocation is in the bus's message itself, so that it counts within the second even where the
database is slow. While PostgreSQL cannot be asked what was read last holds: tokens go on working.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gateway.configuration.secrets import derived
from gateway.identity.keeping_up import KeepingUp
from gateway.identity.signing import SEALING, KeyRing, new_key
from policies.audit import SYSTEM
from policies.identity.tokens import LEEWAY_S, LONGEST_S, AccessToken
from storage.ports import Invalidation
from storage.postgres.audit import PURPOSE as CHAIN
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool
from storage.postgres.tokens.families import PostgresRevocations
from storage.postgres.tokens.signing_keys import PostgresSigningKeys
from storage.token_ports import Revocation, Revocations, SigningKeys

_log = structlog.get_logger("gateway.tokens")

_SOONEST_S = 1.0
"""How often an unknown key's name may make us ask: anybody can make one up."""
_COUNTS_FOR_S = LONGEST_S + 2 * LEEWAY_S
_NOT_ITS_OWN = (
    "With another secret than the data was made with no API key, password or second factor is good either: give the "
    "gateway its own. If it was changed on purpose: gateway signing-keys rotate --new-secret"
)


class TokenState:
    """Keys and revocations.

    ``listeners`` are told what was revoked (:attr:`Revocation.what`), and ``""`` when a key is believed no more.
    """

    def __init__(self, keys: SigningKeys, revocations: Revocations, sealing_key: bytes) -> None:
        self.ring = KeyRing()
        self._keys = keys
        self._revocations = revocations
        self._sealing_key = sealing_key
        self.listeners: list[Callable[[str], None]] = []
        self._revoked: dict[str, int] = {}
        self._read_until: datetime | None = None
        self._asked_at = -_SOONEST_S
        self._reading = KeepingUp(self._load, "signing keys and revocations")

    @classmethod
    def over(cls, pool: Pool, secret_key: str) -> "TokenState":
        """Over the stores of one gateway, whose secret the private keys are sealed with."""
        trail = AuditTrail(lambda: derived(secret_key, CHAIN), SYSTEM)
        return cls(PostgresSigningKeys(pool, trail), PostgresRevocations(pool, trail), derived(secret_key, SEALING))

    async def run(self) -> None:
        """Keep up, for ever."""
        await self._reading.run()

    def hear(self, change: Invalidation) -> None:
        """Take what the bus tells."""
        if change.revoked:
            what, _, second = change.revoked.rpartition("@")
            if what and second.isdecimal():
                self._revoke(what, int(second))
            else:
                self._revoke(change.revoked, int(time.time()))
        elif change == Invalidation():
            self._read_until = None  # something may have been missed: read all
            self._reading.soon()

    async def ready(self) -> None:
        """Return once keys have been read; at most one question at a time. Raises Unavailable."""
        if not self.ring.keys:
            await self.refresh()

    async def look_again(self) -> None:
        """Read the keys again, for a token whose key is unknown, if that was not done just now. Raises Unavailable."""
        if time.monotonic() - self._asked_at >= _SOONEST_S or self._reading.is_loading:
            await self.refresh()

    async def refresh(self) -> None:
        """Read keys and revocations; those who ask meanwhile share the question. Raises StorageError."""
        await self._reading.refresh()

    def is_revoked(self, token: AccessToken) -> bool:
        """Whether it, its log-in or its subject was revoked after it was issued."""
        revoked = self._revoked
        return bool(revoked) and any(token.issued_s <= revoked.get(what, -1) for what in token.names)

    def not_before(self, subject: str) -> int:
        """The second up to which the subject's tokens are void; -1 when none are. A new one must be issued later."""
        return self._revoked.get(f"subject:{subject}", -1)

    async def _load(self) -> None:
        self._asked_at = time.monotonic()
        now = datetime.now(UTC)
        found = await self._keys.keys()
        ring = KeyRing.of(found, self._sealing_key, now)
        if not ring.keys and await self._keys.add_first(
            new_key("EdDSA", self._sealing_key, created_at=now, active_at=now)
        ):
            _log.info("made the first signing key")
        if not ring.keys:
            ring = KeyRing.of(await self._keys.keys(), self._sealing_key, datetime.now(UTC))
        revoked = await self._revocations.since(self._read_until)
        self._replace(ring)
        for each in revoked:
            self._take(each)
        self._purge()
        if not ring.can_sign(datetime.now(UTC)):
            why = "; ".join(ring.broken) or "none is active"
            todo = _NOT_ITS_OWN if ring.broken else "Make one: gateway signing-keys rotate"
            self._reading.complain(f"no key signs: {why}. {todo}")
        else:
            self._reading.complain("")

    def _replace(self, ring: KeyRing) -> None:
        lost = self.ring.believed.keys.keys() - ring.believed.keys.keys()
        self.ring = ring
        if lost:
            self._tell("")

    def _take(self, revocation: Revocation) -> None:
        if self._read_until is None or revocation.revoked_at > self._read_until:
            self._read_until = revocation.revoked_at
        self._revoke(revocation.what, int(revocation.revoked_at.timestamp()))

    def _revoke(self, what: str, second: int) -> None:
        if self._revoked.get(what, -1) < second:
            self._revoked[what] = second
            self._tell(what)

    def _tell(self, what: str) -> None:
        for listener in self.listeners:
            listener(what)

    def _purge(self) -> None:
        horizon = int(time.time()) - _COUNTS_FOR_S
        for what in [what for what, second in self._revoked.items() if second < horizon]:
            del self._revoked[what]

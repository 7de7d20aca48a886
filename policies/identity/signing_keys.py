"""Signing keys: a key's stage follows from its instants and the clock, so that none is ever in two minds.

``pending`` is published but signs nothing yet: verifiers that keep a key set for a while (JWKS, ``Cache-Control``) know
it before they meet it. ``active`` signs. ``retiring`` signs nothing and is still published, until the last token that
it signed has expired. ``gone`` is believed no more. Times are aware datetimes.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from policies.identity.tokens import LEEWAY_S, LONGEST_S

PUBLISHED_FOR = timedelta(seconds=300)
"""For how long others may keep our key set (``max-age``)."""
LEAD = 2 * PUBLISHED_FOR
"""How long a key is published before it signs: whoever asked just before has asked again by then."""
OVERLAP = timedelta(seconds=LONGEST_S + 2 * LEEWAY_S) + PUBLISHED_FOR
"""How long a key is published after it has signed last."""


class Stage(enum.StrEnum):
    """Where a key is in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key as it is stored: ``public_jwk`` is JSON, ``sealed`` the private half, which only the gateway can open."""

    id: str
    algorithm: str
    public_jwk: str
    sealed: bytes | None
    created_at: datetime
    active_at: datetime
    retiring_at: datetime | None = None
    gone_at: datetime | None = None

    def stage(self, now: datetime) -> Stage:
        """Where it is now."""
        if self.gone_at is not None and self.gone_at <= now:
            return Stage.GONE
        if self.retiring_at is not None and self.retiring_at <= now:
            return Stage.RETIRING
        return Stage.ACTIVE if self.active_at <= now else Stage.PENDING


def signer(keys: Iterable[SigningKey], now: datetime) -> SigningKey | None:
    """The key that signs now: of several, that which became active last. None when there is none."""
    active = [key for key in keys if key.stage(now) is Stage.ACTIVE]
    return max(active, key=lambda key: (key.active_at, key.id), default=None)


def unsigned_from(keys: Iterable[SigningKey], now: datetime) -> datetime | None:
    """The first instant from now on at which none of them signs. None when one always does.

    A key stops at its ``retiring_at`` and at no other time, so that only these need to be looked at.
    """
    kept = list(keys)
    ends = {key.retiring_at for key in kept if key.retiring_at is not None and key.retiring_at > now}
    return next((moment for moment in sorted({now, *ends}) if signer(kept, moment) is None), None)

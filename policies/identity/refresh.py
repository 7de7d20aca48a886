"""Refresh tokens: what one looks like, and what becomes of one that is presented (RFC 9700 section 4.14.2).

A log-in is a *family*; its tokens are numbered, each good once. A token is derived from the family's seed, its number
and a secret of the gateway: nothing about it needs to be stored, an old one is known for what it is however old, and
the successor can be told again to a client whose answer was lost. Times are aware datetimes.
"""

import enum
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta

LIFE = timedelta(days=30)
"""How long a log-in can be renewed, however often: rotation does not extend it."""
GRACE = timedelta(seconds=10)
"""How long the predecessor of the newest token still leads to that one: for parallel tabs and lost answers."""
SEED_BYTES = 32

_TOKEN = re.compile(r"thr_([0-9a-z]{20})_([1-9][0-9]{0,8})_[A-Za-z0-9_-]{43}")
_FAMILY = "fam_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One log-in: whose, for what, and how many tokens it has had."""

    id: str
    tenant_id: str
    user_id: str
    client_id: str
    scopes: frozenset[str]
    seed: bytes
    generation: int
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    address: str = ""
    agent: str = ""


class Step(enum.Enum):
    """What a presented token leads to."""

    ROTATE = enum.auto()
    """It is the newest: its successor becomes that."""
    REPEAT = enum.auto()
    """It is the newest one's predecessor, and was used a moment ago: the newest is told again."""
    REUSED = enum.auto()
    """It was used long ago, so two hold tokens of one log-in: the whole family ends."""
    REFUSED = enum.auto()
    """Not a token of this family, or the family has ended."""


def mint(family_id: str, seed: bytes, generation: int, secret: bytes) -> str:
    """The family's token of that number; ``secret`` is the gateway's own for refresh tokens."""
    mac = hmac.digest(secret, b"%b/%d/%b" % (family_id.encode(), generation, seed), "sha256")
    text = urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")
    return f"thr_{family_id.removeprefix(_FAMILY)}_{generation}_{text}"


def read(token: str) -> tuple[str, int] | None:
    """The family and the number that a token claims; None for what cannot be one."""
    match = _TOKEN.fullmatch(token)
    return (_FAMILY + match[1], int(match[2])) if match else None


def judge(family: Family, token: str, secret: bytes, now: datetime) -> Step:
    """What a token leads to. Compared in constant time, whole, with what it would have to be."""
    claimed = read(token)
    if claimed is None:
        return Step.REFUSED
    family_id, generation = claimed
    genuine = mint(family.id, family.seed, generation, secret)
    if family_id != family.id or not hmac.compare_digest(genuine.encode(), token.encode()):
        return Step.REFUSED
    if family.ended_at is not None or family.expires_at <= now or generation > family.generation:
        return Step.REFUSED
    if generation == family.generation:
        return Step.ROTATE
    if generation == family.generation - 1 and now < family.rotated_at + GRACE:
        return Step.REPEAT
    return Step.REUSED

"""Ids: a prefix that says what it names, then twenty characters of which the first ten are the time.

Made here and not by the server, because ``uuidv7()`` begins with PostgreSQL 18. The alphabet is Crockford's base32
(crockford.com/base32.html) in lower case: its ASCII order is its numeric order, so that ids sort by age, to the
millisecond. Fifty bits of chance make two of one millisecond differ; an id is a name and never a secret.
"""

import enum
import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS = 50
_TAIL = re.compile(r"[0-9a-hjkmnp-tv-z]{20}")


class Kind(enum.StrEnum):
    """What an id names; the value is its prefix."""

    TENANT = "ten_"
    USER = "usr_"
    KEY = "key_"
    SESSION = "ses_"
    INVITATION = "inv_"
    EVENT = "evt_"
    FAMILY = "fam_"
    SERVICE = "svc_"
    TOKEN = "tok_"  # noqa: S105  the prefix of its id
    WEBHOOK = "whk_"
    PASSKEY = "psk_"
    LETTER = "ltr_"


def make_id(kind: Kind, now_ms: int, chance: int) -> str:
    """``key_`` + ten characters of milliseconds since the Unix epoch + ten of ``chance``; both below 2**50."""
    return kind + _base32(now_ms) + _base32(chance)


def new_id(kind: Kind) -> str:
    """An id of this very moment."""
    return make_id(kind, time.time_ns() // 1_000_000, secrets.randbits(_BITS))


def is_id(kind: Kind, text: str) -> bool:
    """Whether ``text`` could be such an id; what could not is never sent to the server."""
    return text.startswith(kind) and _TAIL.fullmatch(text, len(kind)) is not None


def _base32(number: int) -> str:
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(_BITS - 5, -1, -5))

"""Passwords: what may be one, and what is stored instead of it.

bcrypt reads 72 bytes and stops at a NUL; the tail of a longer password would count for nothing (Okta, October 2024). So
it gets base64 of HMAC-SHA-256 over the password: always 44 bytes, all of them the whole password's. The HMAC's key, the
pepper, is in no database, so that a stolen one cannot even be guessed at.

Takes a quarter of a second of one core: never on an event loop, and never for API keys. The portal's ``hashing`` keeps
it off the loop, its ``strength`` says how good a password is.
"""

import base64
import hmac
import re
import secrets

import bcrypt
import structlog

SHORTEST = 15
SHORTEST_WITH_SECOND_FACTOR = 8
LONGEST = 1_024
"""In characters. The shortest are those of NIST SP 800-63B-4, section 3.1.1.2: 15 for a password that stands alone."""

_SCHEME = "$hmac-sha256-bcrypt"
"""Says that bcrypt saw a pre-hash; what follows is bcrypt's own string. Another scheme is another prefix."""
_STORED = re.compile(r"\$hmac-sha256-bcrypt(\$2b\$(1[0-5])\$[./A-Za-z0-9]{53})")
"""Only costs that are worth something and end within seconds: cost 31 would take a core for days."""
COST = 12
"""bcrypt's, where the setting says nothing else: 0.2 to 0.3 s."""

_log = structlog.get_logger("gateway.passwords")


def check_length(password: str, shortest: int = SHORTEST) -> None:
    """Raises ValueError with a sentence for whoever chose it."""
    if len(password) < shortest:
        raise ValueError(f"a password has at least {shortest} characters, this one has {len(password)}")
    if len(password) > LONGEST:
        raise ValueError(f"a password has at most {LONGEST} characters, this one has {len(password)}")


def hash_password(password: str, pepper: bytes, *, cost: int | None = None, shortest: int = SHORTEST) -> str:
    """What to store. Raises ValueError as :func:`check_length` does."""
    check_length(password, shortest)
    return _SCHEME + bcrypt.hashpw(_prehash(password, pepper), bcrypt.gensalt(cost or COST)).decode("ascii")


def is_usable(stored: str) -> bool:
    """Whether it is a hash of ours at all; one that is not matches nothing."""
    if _STORED.fullmatch(stored) is None:
        _log.error("a stored password hash cannot be used; its user must set a new password")
        return False
    return True


def needs_rehash(stored: str, cost: int) -> bool:
    """Whether a new hash would be made otherwise: the cost has changed."""
    match = _STORED.fullmatch(stored)
    return match is not None and int(match[2]) != cost


def dummy(pepper: bytes, cost: int) -> str:
    """A hash of nobody's password, at the usual cost: checking against it takes as long as against anybody's."""
    return _SCHEME + bcrypt.hashpw(_prehash(secrets.token_hex(), pepper), bcrypt.gensalt(cost)).decode("ascii")


def verify(password: str, stored: str, pepper: bytes) -> bool:
    """Whether it is the password, compared exactly as it came. A stored hash that is none matches nothing."""
    match = _STORED.fullmatch(stored) if is_usable(stored) else None
    if match is None:
        return False
    return bcrypt.checkpw(_prehash(password, pepper), match[1].encode("ascii"))


def _prehash(password: str, pepper: bytes) -> bytes:
    # JSON can carry halves of surrogate pairs. They are bytes like any other here, not an exception at log-in.
    received = password.encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(pepper, received, "sha256"))

"""Passwords: what may be one, and what is stored instead of it.

bcrypt reads 72 bytes and stops at a NUL; the tail of a longer password would count for nothing (Okta, October 2024). So
it gets base64 of HMAC-SHA-256 over the password: always 44 bytes, all of them the whole password's. The HMAC's key, the
pepper, is in no database, so that a stolen one cannot even be guessed at.

Takes a quarter of a second of one core: never on an event loop, and never for API keys.
"""

import base64
import hmac
import re

import bcrypt
import structlog

SHORTEST = 15
LONGEST = 1_024
"""In characters. The shortest is that of NIST SP 800-63B-4, section 3.1.1.2, for a password that stands alone."""

_SCHEME = "$hmac-sha256-bcrypt"
"""Says that bcrypt saw a pre-hash; what follows is bcrypt's own string. Another scheme is another prefix."""
_STORED = re.compile(r"\$hmac-sha256-bcrypt(\$2b\$(?:1[0-5])\$[./A-Za-z0-9]{53})")
"""Only costs that are worth something and end within seconds: cost 31 would take a core for days."""
_COST = 12

_log = structlog.get_logger("gateway.passwords")


def hash_password(password: str, pepper: bytes) -> str:
    """What to store. Raises ValueError with a sentence for whoever chose it."""
    if len(password) < SHORTEST:
        raise ValueError(f"a password has at least {SHORTEST} characters, this one has {len(password)}")
    if len(password) > LONGEST:
        raise ValueError(f"a password has at most {LONGEST} characters, this one has {len(password)}")
    return _SCHEME + bcrypt.hashpw(_prehash(password, pepper), bcrypt.gensalt(_COST)).decode("ascii")


def verify(password: str, stored: str, pepper: bytes) -> bool:
    """Whether it is the password, compared exactly as it came. A stored hash that is none matches nothing."""
    match = _STORED.fullmatch(stored)
    if match is None:
        _log.error("a stored password hash cannot be used; its user must set a new password")
        return False
    return bcrypt.checkpw(_prehash(password, pepper), match[1].encode("ascii"))


def _prehash(password: str, pepper: bytes) -> bytes:
    # JSON can carry halves of surrogate pairs. They are bytes like any other here, not an exception at log-in.
    received = password.encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(pepper, received, "sha256"))

"""What is stored instead of a secret."""

import hmac


def digest(pepper: bytes, secret: bytes) -> bytes:
    """HMAC-SHA-256: what the registry stores instead of a key."""
    return hmac.digest(pepper, secret, "sha256")

"""What the stores keep and cannot read: AES-256-GCM, each bound to the row or key that it belongs to."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_BYTES = 12


class Unsealable(Exception):
    """Sealed with another key, for another row, or damaged."""


def seal(key: bytes, data: bytes, bound_to: str) -> bytes:
    """``data`` under a key of 32 bytes. ``bound_to`` is the row's own name: moved to another row it does not open."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, data, bound_to.encode())


def unseal(key: bytes, sealed: bytes, bound_to: str) -> bytes:
    """What was sealed. Raises Unsealable."""
    version, nonce, text = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    if version != _VERSION:
        raise Unsealable(f"{bound_to}: it is not sealed in a way that this release knows")
    try:
        return AESGCM(key).decrypt(nonce, text, bound_to.encode())
    except (InvalidTag, ValueError) as error:
        raise Unsealable(f"{bound_to}: it does not open with this GATEWAY_SECRET_KEY") from error

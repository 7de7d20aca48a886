"""Secrets that must be read again, encrypted at rest: AES-256-GCM under a key that is in no database."""

import os

from aiohttp import web
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.portal.parts import PARTS

_NONCE_BYTES = 12
_PURPOSE = "second-factors"


def sealed(request: web.Request, secret: str) -> bytes:
    """Nonce and ciphertext."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(request.app[PARTS].secret_for(_PURPOSE)).encrypt(nonce, secret.encode(), None)


def unsealed(request: web.Request, stored: bytes) -> str:
    """The secret. Raises cryptography's InvalidTag when the gateway's secret key is another one."""
    nonce, text = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:]
    return AESGCM(request.app[PARTS].secret_for(_PURPOSE)).decrypt(nonce, text, None).decode()

"""Second factors' secrets, which must be read again: sealed each to its owner, under a key that is in no database."""

from aiohttp import web

from gateway.portal.parts import PARTS
from storage.sealed import seal, unseal

_PURPOSE = "second-factors"


def sealed(request: web.Request, secret: str, owner: str) -> bytes:
    """The secret of one person, whose id is ``owner``."""
    return seal(request.app[PARTS].secret_for(_PURPOSE), secret.encode(), owner)


def unsealed(request: web.Request, stored: bytes, owner: str) -> str:
    """The secret. Raises :class:`~storage.sealed.Unsealable`: another secret key, another person's."""
    return unseal(request.app[PARTS].secret_for(_PURPOSE), stored, owner).decode()

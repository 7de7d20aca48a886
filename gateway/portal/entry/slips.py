"""What a browser is in the midst of: kept in Redis for minutes, sealed, named by a secret in a cookie of that browser.

Whoever reads Redis finds no link to an invitation in it, and whoever writes there puts nobody else in anybody's place.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gateway.portal.entry.identity import IDENTITY
from gateway.portal.parts import PARTS
from storage.redis.client import asking
from storage.sealed import Unsealable, seal, unseal

LIFE_S = 600
_PURPOSE = "slips"


@dataclass(frozen=True, slots=True)
class Slip:
    """One kind of it: the cookie's name, how keys in Redis begin, and the purpose that their digests are made for.

    ``bound_to`` is what the browser must bring beside the cookie. Whatever asks Redis raises Unavailable.
    """

    cookie: str
    kind: str
    purpose: str
    bound_to: str = ""

    async def leave(self, request: web.Request, response: web.Response, kept: object, life_s: int = LIFE_S) -> None:
        """Keep what JSON can hold."""
        secret = secrets.token_urlsafe(32)
        key = self._key(request, secret)
        sealed = seal(request.app[PARTS].secret_for(_PURPOSE), orjson.dumps(kept), key)
        with asking():
            await request.app[PARTS].redis.set(key, sealed, ex=life_s)
        response.set_cookie(
            self._name(request), secret, max_age=life_s, httponly=True, secure=request.app[PARTS].is_https,
            samesite="Lax", path="/",
        )  # fmt: skip

    async def read(self, request: web.Request) -> Any | None:
        """What is kept of this browser; looking uses nothing up."""
        secret = self._secret(request)
        key = self._key(request, secret)
        with asking():
            kept = await request.app[PARTS].redis.get(key) if secret else None
        return _opened(request, key, kept)

    async def take(self, request: web.Request) -> Any | None:
        """The same, and it is kept no more: of two who ask at once one gets it."""
        secret = self._secret(request)
        key = self._key(request, secret)
        with asking():
            kept = await request.app[PARTS].redis.getdel(key) if secret else None
        return _opened(request, key, kept)

    async def forget(self, request: web.Request, response: web.Response) -> None:
        """It is over, if there was any."""
        secret = self._secret(request)
        if secret:
            with asking():
                await request.app[PARTS].redis.delete(self._key(request, secret))
            self.drop(request, response)

    def drop(self, request: web.Request, response: web.Response) -> None:
        """Take the cookie away, when what it named is gone already."""
        if self._name(request) in request.cookies:
            response.del_cookie(self._name(request), path="/", secure=request.app[PARTS].is_https)

    def _secret(self, request: web.Request) -> str:
        return request.cookies.get(self._name(request), "")

    def _name(self, request: web.Request) -> str:
        return f"__Host-{self.cookie}" if request.app[PARTS].is_https else self.cookie

    def _key(self, request: web.Request, secret: str) -> str:
        named = f"{self.bound_to}.{secret}" if self.bound_to else secret
        return f"platform:{self.kind}:{request.app[IDENTITY].digest(self.purpose, named).hex()}"


def _opened(request: web.Request, key: str, sealed: object) -> Any | None:
    """None as well for what another secret key, or a release before, has left."""
    if not isinstance(sealed, bytes):
        return None
    try:
        return orjson.loads(unseal(request.app[PARTS].secret_for(_PURPOSE), sealed, key))
    except Unsealable:
        return None

"""What a browser is in the midst of: kept in Redis for minutes, named by a secret in a cookie of that browser."""

import secrets
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gateway.portal.identity import IDENTITY
from gateway.portal.parts import PARTS
from storage.redis.client import asking

LIFE_S = 600


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
        with asking():
            await request.app[PARTS].redis.set(self._key(request, secret), orjson.dumps(kept), ex=life_s)
        response.set_cookie(
            self._name(request), secret, max_age=life_s, httponly=True, secure=request.app[PARTS].is_https,
            samesite="Lax", path="/",
        )  # fmt: skip

    async def read(self, request: web.Request) -> Any | None:
        """What is kept of this browser; looking uses nothing up."""
        secret = self._secret(request)
        with asking():
            kept = await request.app[PARTS].redis.get(self._key(request, secret)) if secret else None
        return None if kept is None else orjson.loads(kept)

    async def take(self, request: web.Request) -> Any | None:
        """The same, and it is kept no more: of two who ask at once one gets it."""
        secret = self._secret(request)
        with asking():
            kept = await request.app[PARTS].redis.getdel(self._key(request, secret)) if secret else None
        return None if kept is None else orjson.loads(kept)

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

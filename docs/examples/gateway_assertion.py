"""Verify the gateway's ``X-Gateway-Assertion`` in a service behind it: copy this; it needs aiohttp and PyJWT[crypto].

One object for the whole service, and its middleware::

    assertions = GatewayAssertions(
        issuer="https://gateway.example.com",  # the gateway's public_url
        jwks_url="http://gateway.internal:9200/.well-known/jwks.json",  # as this service reaches it
        audience="default",  # this service's name among the gateway's upstreams
    )
    app = web.Application(middlewares=[assertions.middleware])

A handler then finds in ``request[WHO]`` who asks: ``sub``, ``tenant``, ``scope``, ``roles``.
"""

import asyncio
import re
import time
from typing import Any

import aiohttp
import jwt
from aiohttp import web

HEADER = "X-Gateway-Assertion"
WHO = web.RequestKey("who", dict)
"""Where a handler finds the claims. Before aiohttp 3.14 use a plain text as the key."""
_ALGORITHMS = {"EdDSA", "ES256"}
_TYPE = "gw-assertion+jwt"
_LEEWAY_S = 30
_ASK_AGAIN_S = 30.0


class InvalidAssertion(Exception):
    """The request did not come through the gateway, or not just now. Answer 401, and do nothing for it."""


class GatewayAssertions:
    """Keeps the gateway's keys and verifies what it says. One for the whole service."""

    def __init__(self, *, issuer: str, jwks_url: str, audience: str) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._audience = audience
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fresh_until = self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def verify(self, assertion: str | None) -> dict[str, Any]:
        """What the gateway says of whoever asks. Raises InvalidAssertion."""
        try:
            header = jwt.get_unverified_header(assertion or "")
            key = await self._key(str(header.get("kid", "")))
            if key is None or header.get("typ") != _TYPE:
                raise InvalidAssertion("it is signed with a key that the gateway does not publish, or is no assertion")
            claims: dict[str, Any] = jwt.decode(
                assertion or "",
                key,
                algorithms=[key.algorithm_name],  # the key's own: never what the token says
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"], "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise InvalidAssertion(str(error)) from error
        return claims

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse what the gateway did not send; others find its word in ``request[WHO]``."""
        try:
            request[WHO] = await self.verify(request.headers.get(HEADER))
        except InvalidAssertion:
            return web.Response(status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        """A key by its name. The set is kept as long as the gateway says; one unknown name makes us ask, not each."""
        async with self._asking:
            now = time.monotonic()
            stale = now >= self._fresh_until
            if (stale or key_id not in self._keys) and now - self._asked_at >= _ASK_AGAIN_S:
                self._asked_at = now
                await self._fetch()
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        """Read the key set. While the gateway cannot be asked the old one goes on: its keys outlive their last use."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(self._jwks_url, allow_redirects=False) as answer,
            ):
                answer.raise_for_status()
                found = await answer.json(content_type=None)
                kept = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
            self._keys = {jwk["kid"]: jwt.PyJWK(jwk) for jwk in found["keys"] if jwk.get("alg") in _ALGORITHMS}
            self._fresh_until = time.monotonic() + (float(kept[1]) if kept else 300.0)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, jwt.PyJWTError):
            return

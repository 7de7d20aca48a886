"""Browsers in which the second factor is not asked for again for a month: a cookie that can be revoked."""

import secrets
from datetime import timedelta

from aiohttp import web

from gateway.portal.caller import user_agent
from gateway.portal.entry.identity import IDENTITY, trail
from gateway.portal.parts import PARTS
from storage.postgres.people.trusted import PostgresTrustedBrowsers

DAYS = 30
_PURPOSE = "trusted-browsers"


def trusted_browsers(request: web.Request) -> PostgresTrustedBrowsers:
    """The list, as this request may change it."""
    return PostgresTrustedBrowsers(request.app[PARTS].pool, trail(request))


async def is_trusted(request: web.Request, user_id: str) -> bool:
    """Whether this browser is one of that person's."""
    secret = request.cookies.get(_cookie(request), "")
    return bool(secret) and await trusted_browsers(request).knows(user_id, _digest(request, secret))


async def trust(request: web.Request, response: web.Response, user_id: str, email: str) -> None:
    """Trust this browser from now on."""
    secret = secrets.token_urlsafe(32)
    await trusted_browsers(request).add(
        user_id, email, _digest(request, secret), user_agent(request), timedelta(days=DAYS)
    )
    response.set_cookie(
        _cookie(request), secret, max_age=DAYS * 86_400, httponly=True, secure=request.app[PARTS].is_https,
        samesite="Lax", path="/",
    )  # fmt: skip


def _cookie(request: web.Request) -> str:
    return "__Host-tahoe_trusted" if request.app[PARTS].is_https else "tahoe_trusted"


def _digest(request: web.Request, secret: str) -> bytes:
    return request.app[IDENTITY].digest(_PURPOSE, secret)

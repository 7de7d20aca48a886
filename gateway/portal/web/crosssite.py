"""Requests that other sites make a browser send (CSRF), refused before a handler sees them.

Fetch Metadata first, as Go's ``http.CrossOriginProtection`` reads it: ``Sec-Fetch-Site`` says where a request comes
from; where a browser sends none, ``Origin`` must name the host that was asked. A form also carries a token bound to a
cookie of ours, which serves browsers that send neither, and keeps others from signing a visitor in as themselves.
A request without any cookie of ours and without a form can do nothing in anybody's name, and passes.
"""

import base64
import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from gateway.portal.caller import split
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Handler, Problem
from policies.http.verdict import Refusal

FIELD = "csrf"
"""The name of the form's field."""
FORM = "application/x-www-form-urlencoded"
HEADER = "X-CSRF-Token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = frozenset({FORM, "multipart/form-data", "text/plain", ""})
"""What a page of another site can make a browser send without asking (the simple types of the Fetch standard)."""
_JSON_ONLY = "/platform/"
"""Where no form is taken, whoever sends it."""
_FRESH = web.RequestKey("fresh_csrf_cookie", str)


def exempt(handler: Handler) -> Handler:
    """Mark a handler that takes forms of programs: it must act by nothing that a browser adds of itself."""
    handler.crosssite_exempt = True  # type: ignore[attr-defined]  # read below
    return handler


def cookie_name(request: web.Request) -> str:
    """The cookie that a form's token is bound to."""
    return "__Host-tahoe_form" if request.app[PARTS].is_https else "tahoe_form"


def token(request: web.Request) -> str:
    """The token for a form of the page that is being made; the page's answer sets the cookie if there is none yet."""
    return _bound(request, request.cookies.get(cookie_name(request)) or _fresh(request))


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site may have sent."""
    if request.method not in _SAFE and not getattr(request.match_info.handler, "crosssite_exempt", False):
        await _check(request)
    response = await handler(request)
    fresh = request.get(_FRESH)
    if fresh is not None:
        response.set_cookie(
            cookie_name(request), fresh, httponly=True, secure=request.app[PARTS].is_https, samesite="Lax", path="/"
        )
    return response


async def posted(request: web.Request) -> Mapping[str, object]:
    """The fields of a form of :data:`FORM`. Raises Problem for bytes that are none, or in no encoding that is known."""
    try:
        return await request.post()
    except (ValueError, LookupError) as error:
        raise Problem(Refusal.INVALID_INPUT, "The form cannot be read.") from error


async def _check(request: web.Request) -> None:
    known = _is_same_site(request)
    if known is False:
        raise Problem(Refusal.CROSS_SITE_REQUEST)
    if request.content_type in _FORMS and request.body_exists:
        if request.path.startswith(_JSON_ONLY):
            raise Problem(Refusal.NOT_JSON)  # curl -d without a content type, and no form of ours
        sent = (await posted(request)).get(FIELD, "") if request.content_type == FORM else ""
        if not _is_token(request, sent if isinstance(sent, str) else ""):
            is_page = "text/html" in request.headers.get("Accept", "")
            raise Problem(Refusal.FORM_EXPIRED, "" if is_page else "A program sends JSON instead.")
    elif request.cookies and known is None and not _is_token(request, request.headers.get(HEADER, "")):
        raise Problem(Refusal.CROSS_SITE_REQUEST)


def _is_same_site(request: web.Request) -> bool | None:
    """What the browser says of where the request comes from; None when it says nothing."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    # The gateway has judged Host, and says it here; a page of another site cannot choose it.
    asked = request.headers.get("X-Forwarded-Host", request.host)
    named = split(origin)
    ours = asked.lower(), urlsplit(request.app[PARTS].public_url).netloc.lower()
    return named is not None and named.netloc.lower() in ours


def _fresh(request: web.Request) -> str:
    if _FRESH not in request:
        request[_FRESH] = secrets.token_urlsafe(32)
    return request[_FRESH]


def _is_token(request: web.Request, sent: str) -> bool:
    cookie = request.cookies.get(cookie_name(request))
    return bool(cookie) and hmac.compare_digest(_bytes(sent), _bytes(_bound(request, cookie or "")))


def _bound(request: web.Request, cookie: str) -> str:
    digest = hmac.digest(request.app[PARTS].secret_for("forms"), _bytes(cookie), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """The bytes of whatever a client sent: those that are no UTF-8 stand as surrogates in it."""
    return text.encode("utf-8", "surrogatepass")

"""What others must know: the keys that verify our tokens (RFC 7517), and where the endpoints are (RFC 8414)."""

from datetime import timedelta

import orjson
from aiohttp import web

from gateway.portal.oauth.grants import GRANTS
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import PARTS
from gateway.portal.web.cached import kept
from policies.identity.permissions import ASSIGNABLE, INTROSPECT
from policies.identity.signing_keys import PUBLISHED_FOR

routes = web.RouteTableDef()

_PUBLIC = f"public, max-age={PUBLISHED_FOR // timedelta(seconds=1)}"
_AUTHENTICATION = ["client_secret_basic", "client_secret_post"]


@routes.get("/.well-known/jwks.json")
async def jwks(request: web.Request) -> web.Response:
    """The key set: what signs, what will, and what did until a while ago."""
    state = request.app[OAUTH].tokens.state
    await state.ready()
    return kept(request, orjson.dumps(state.ring.published()), "application/jwk-set+json; charset=utf-8", _PUBLIC)


@routes.get("/.well-known/oauth-authorization-server")
async def metadata(request: web.Request) -> web.Response:
    """The authorization server's metadata."""
    base = request.app[PARTS].public_url
    said = {
        "issuer": base,
        "token_endpoint": f"{base}/auth/token",
        "revocation_endpoint": f"{base}/auth/revoke",
        "introspection_endpoint": f"{base}/auth/introspect",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "grant_types_supported": sorted(GRANTS),
        "response_types_supported": [],
        "scopes_supported": [*ASSIGNABLE, INTROSPECT],
        "token_endpoint_auth_methods_supported": ["none", *_AUTHENTICATION],
        "revocation_endpoint_auth_methods_supported": ["none", *_AUTHENTICATION],
        "introspection_endpoint_auth_methods_supported": _AUTHENTICATION,
    }
    return kept(request, orjson.dumps(said), "application/json; charset=utf-8", _PUBLIC)

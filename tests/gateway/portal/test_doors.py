"""Every door of the portal is declared (T-03): what is not on the list of open ones wants a session."""

import re

from gateway.portal.api.operations import PREFIX
from tests.gateway.portal.conftest import PAGE, Client

OPEN = {
    "/.well-known/jwks.json", "/.well-known/oauth-authorization-server",
    "/.well-known/change-password", "/auth/static/{name}", "/platform/docs", f"{PREFIX}/openapi.json",
    "/auth/login", "/auth/logout", "/auth/mfa", "/auth/mfa/setup", "/auth/mfa/passkey",
    "/auth/mfa/passkey/options", "/auth/passkey", "/auth/passkey/options", "/auth/strength", "/auth/forgot",
    "/auth/reset/{secret}", "/auth/invite/{secret}", "/auth/invite/{secret}/decline",
    "/auth/invite/{secret}/provider/{name}", "/auth/invite/{secret}/passkey", "/auth/invite/{secret}/passkey/options",
    "/auth/email/{secret}",
    "/auth/oidc/{name}", "/auth/oidc/{name}/callback", "/auth/connect", "/auth/connect/refuse",
    "/auth/token", "/auth/revoke", "/auth/introspect", "/auth/grant",
    "/v1/auth/grant", "/v3/token", "/v1/single-use-token/realtime_scribe", "/v1/api_keys",
    "/v1/realtime/client_secrets",
}  # fmt: skip
"""Of whoever comes: each has a proof of its own, or tells nothing. The API's operations have their own test."""


async def test_every_other_door_wants_a_session(portal: Client) -> None:
    """A page leads to the log-in, anything else is refused; no answer to nobody may be kept by a cache (X-01)."""
    tried = 0
    for route in portal.app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        if path in OPEN or path.startswith(f"{PREFIX}/"):
            continue
        body = {} if route.method in ("GET", "HEAD") else {"json": {}}
        answer = await portal.request(
            route.method, re.sub(r"{\w+}", "x", path), headers=PAGE, allow_redirects=False, **body
        )
        if route.method in ("GET", "HEAD"):
            assert answer.status == 303, (route.method, path, answer.status)
            assert answer.headers["Location"].startswith("/auth/login?next="), path
        else:
            assert answer.status in (401, 403), (route.method, path, answer.status)
        assert answer.headers["Cache-Control"] == "no-store", path
        tried += 1
    assert tried > 30


async def test_a_name_that_caches_like_opens_nothing(portal: Client) -> None:
    """X-01: a path that ends like a style sheet is not a page with another name."""
    for path in ("/account/x.css", "/account;.js", "/account%00.png", f"{PREFIX}/me/x.css", f"{PREFIX}/me;.js"):
        answer = await portal.get(path, headers=PAGE, allow_redirects=False)
        assert answer.status == 404, path
        assert answer.headers["Cache-Control"] == "no-store"

"""``/auth/token``, ``/auth/revoke`` (RFC 7009) and ``/auth/introspect`` (RFC 7662)."""

from typing import Any

from aiohttp import web

from gateway.identity.digests import digest
from gateway.portal.oauth import clients
from gateway.portal.oauth.grants import GRANTS
from gateway.portal.oauth.parts import OAUTH, lifetime
from gateway.portal.oauth.requests import OAuthError, endpoint, parameters, required
from gateway.portal.parts import PARTS
from policies.http.credentials import is_well_formed
from policies.identity.jws import parse
from policies.identity.permissions import INTROSPECT
from policies.identity.principals import Principal, Standing
from policies.identity.tenants import ServiceAccount
from policies.identity.tokens import AccessToken
from storage.postgres.keys.registry import PostgresKeyRegistry

__all__ = ["lifetime", "routes"]

routes = web.RouteTableDef()


@routes.post("/auth/token")
@endpoint
async def token(request: web.Request) -> web.Response:
    """Give out tokens."""
    found = await parameters(request)
    if "email" in found:  # a name of ours, which no other grant has
        found = {"grant_type": "password"} | found
    grant = GRANTS.get(required(found, "grant_type"))
    if grant is None:
        raise OAuthError("unsupported_grant_type", f"Use one of: {', '.join(sorted(GRANTS))}.")
    counted = request.app[PARTS].metrics.auth
    try:
        issued = await grant(request, found)
    except OAuthError as error:
        counted[(found["grant_type"], error.code)] += 1
        raise
    counted[(found["grant_type"], "ok")] += 1
    body: dict[str, Any] = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.expires_in,
        "scope": " ".join(sorted(issued.scopes)),
    }
    if issued.refresh:
        body["refresh_token"] = issued.refresh
    return web.json_response(body, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


@routes.post("/auth/revoke")
@endpoint
async def revoke(request: web.Request) -> web.Response:
    """End a token. Whoever holds it may; one that is unknown, or ended already, is as good as ended."""
    found = await parameters(request)
    oauth = request.app[OAUTH]
    if clients.claimed(request, found) is not None:  # whoever authenticates must do so rightly
        await clients.authenticated(request, found, request.app[PARTS], oauth.accounts)
    await oauth.tokens.revoke(required(found, "token"))
    return web.Response()


@routes.post("/auth/introspect")
@endpoint
async def introspect(request: web.Request) -> web.Response:
    """What a token, a refresh token or an API key is good for now; of another tenant's, nothing."""
    found = await parameters(request)
    oauth, parts = request.app[OAUTH], request.app[PARTS]
    account = await clients.authenticated(request, found, parts, oauth.accounts)
    if INTROSPECT not in account.scopes:
        raise OAuthError("insufficient_scope", f"This service account lacks the scope '{INTROSPECT}'.", status=403)
    secret = required(found, "token")
    if is_well_formed(secret.encode()):
        answer = await _of_key(request, secret, account)
    elif secret.startswith("thr_"):
        answer = await _of_refresh_token(request, secret, account)
    else:
        answer = await _of_token(request, secret, account)
    return web.json_response(answer or {"active": False}, headers={"Cache-Control": "no-store"})


async def _of_token(request: web.Request, secret: str, account: ServiceAccount) -> dict[str, Any] | None:
    tokens = request.app[OAUTH].tokens
    found = await tokens.bearers.examine(secret.encode(), also_for=account.audiences)
    jws = parse(secret.encode())
    if (
        jws is None
        or not isinstance(found, AccessToken)
        or found.tenant_id != account.tenant_id
        or tokens.state.is_revoked(found)
    ):
        return None
    principal = await tokens.bearers.principal(found)
    if principal is None or principal.standing is not Standing.GOOD:
        return None
    return _active(principal, "Bearer") | {
        "client_id": found.client_id,
        "iss": tokens.issuer,
        "aud": jws.claims["aud"],
        "iat": found.issued_s,
        "exp": found.expires_s,
        "jti": found.id,
    }


async def _of_refresh_token(request: web.Request, secret: str, account: ServiceAccount) -> dict[str, Any] | None:
    tokens = request.app[OAUTH].tokens
    family = await tokens.family_of(secret)
    if family is None or family.tenant_id != account.tenant_id:
        return None
    principal = await tokens.subject(family.tenant_id, family.user_id)
    if principal is None:
        return None
    return _active(principal, "refresh_token") | {
        "client_id": family.client_id,
        "scope": " ".join(sorted(family.scopes & principal.scopes)),
        "iss": tokens.issuer,
        "exp": int(family.expires_at.timestamp()),
    }


async def _of_key(request: web.Request, secret: str, account: ServiceAccount) -> dict[str, Any] | None:
    parts = request.app[PARTS]
    registry = PostgresKeyRegistry(parts.pool, parts.trail)
    principal = await registry.identify_key(digest(parts.secret_for("api-keys"), secret.encode()))
    if principal is None or principal.standing is not Standing.GOOD or principal.tenant_id != account.tenant_id:
        return None
    answer = _active(principal, "api_key") | {"client_id": principal.key_id}
    if principal.expires_ms is None:
        return answer
    expires_s = principal.expires_ms // 1000
    return answer | {"exp": expires_s} if expires_s > parts.now().timestamp() else None


def _active(principal: Principal, kind: str) -> dict[str, Any]:
    return {
        "active": True,
        "token_type": kind,
        "scope": " ".join(sorted(principal.scopes)),
        "sub": principal.user_id or principal.key_id,
        "tenant": principal.tenant_id,
        "roles": list(principal.roles),
    }

"""Which client asks: a service account by id and secret, in a header or in the body (RFC 6749 section 2.3.1)."""

import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from aiohttp import web

from gateway.configuration.secrets import SERVICE_SECRETS
from gateway.identity.digests import digest
from gateway.portal.oauth.requests import OAuthError
from gateway.portal.parts import Parts
from policies.identity.tenants import ServiceAccount
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts


async def authenticated(
    request: web.Request, found: Mapping[str, str], parts: Parts, accounts: PostgresServiceAccounts
) -> ServiceAccount:
    """The client. Raises OAuthError: invalid_client, the same for an unknown one and a wrong secret."""
    credentials = claimed(request, found)
    account = None
    if credentials is not None:
        client_id, secret = credentials
        mac = digest(parts.secret_for(SERVICE_SECRETS), secret.encode())
        account = await accounts.authenticate(client_id, mac)
    if account is None:
        raise OAuthError(
            "invalid_client",
            "Authenticate with the id and the secret of a service account that is in order.",
            status=401,
            headers={"WWW-Authenticate": 'Basic realm="tahoe-gateway", charset="UTF-8"'},
        )
    return account


def claimed(request: web.Request, found: Mapping[str, str]) -> tuple[str, str] | None:
    """The id and the secret that a request brings, unbelieved; None when it brings none."""
    header = request.headers.get("Authorization")
    secret = found.get("client_secret")
    if header is None:
        return (found.get("client_id", ""), secret) if secret is not None else None
    if secret is not None:
        raise OAuthError("invalid_request", "Authenticate in one way: by the header or in the body.")
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = binascii.a2b_base64(encoded.strip(), strict_mode=True).decode("utf-8").partition(":")
        return (unquote_plus(user, errors="strict"), unquote_plus(password, errors="strict")) if colon else None
    except ValueError:
        return None

"""What each ``grant_type`` leads to."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from aiohttp import web

from gateway.portal.caller import client_address, user_agent
from gateway.portal.entry.identity import actor, people
from gateway.portal.entry.proving import prove
from gateway.portal.oauth import clients
from gateway.portal.oauth.parts import OAUTH, OAuth
from gateway.portal.oauth.requests import OAuthError, required
from gateway.portal.oauth.tokens import FIRST_PARTY, Issued
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.audit import ActorKind
from policies.http.verdict import Refusal
from policies.identity.refresh import Step
from policies.identity.tokens import ACCESS_S, read_scope

Found = Mapping[str, str]
Grant = Callable[[web.Request, Found], Awaitable[Issued]]


async def client_credentials(request: web.Request, found: Found) -> Issued:
    """RFC 6749 section 4.4: a service account, for itself."""
    oauth = request.app[OAUTH]
    account = await clients.authenticated(request, found, request.app[PARTS], oauth.accounts)
    scopes = chosen(found, account.scopes)
    audience = _audience(found, oauth, account.audiences)
    principal = await oauth.tokens.subject(account.tenant_id, account.id)
    if principal is None:
        raise OAuthError("invalid_client", "This service account is disabled, or its tenant is suspended.", status=401)
    return oauth.tokens.service(principal, scopes, audience)


async def refresh_token(request: web.Request, found: Found) -> Issued:
    """RFC 6749 section 6, rotated as RFC 9700 section 4.14.2 asks."""
    tokens = request.app[OAUTH].tokens
    token = required(found, "refresh_token")
    family, principal = await tokens.family_of(token), None
    if family is not None:  # what is wrong with the request, or with the tenant for now, must not cost the token
        chosen(found, family.scopes)
        principal = await tokens.subject(family.tenant_id, family.user_id)
        if principal is None or found.get("client_id", family.client_id) != family.client_id:
            raise _no_grant()
    renewal = await tokens.renew(token)
    family = renewal.family
    if family is None or principal is None or renewal.step in (Step.REFUSED, Step.REUSED):
        raise _no_grant()
    scopes = chosen(found, family.scopes) & principal.scopes
    access = tokens.access(principal, scopes, client_id=family.client_id, family=family.id)
    return Issued(access, ACCESS_S, scopes, renewal.refresh)


async def password(request: web.Request, found: Found) -> Issued:
    """RFC 6749 section 4.3, for our own apps alone: address, password, and a code where there is a second factor."""
    tokens = request.app[OAUTH].tokens
    email = found.get("email") or required(found, "username")
    try:
        proven = await prove(
            request, email, required(found, "password"), tenant=found.get("tenant"), code=found.get("code")
        )
    except Problem as problem:
        raise _as_oauth(problem) from problem
    principal = await tokens.subject(proven.place.tenant_id, proven.person.id)
    if principal is None:
        raise _no_grant()
    issued = await tokens.begin(
        principal,
        chosen(found, principal.scopes),
        found.get("client_id", FIRST_PARTY)[:64],
        address=client_address(request),
        agent=user_agent(request),
    )
    who = replace(actor(request), kind=ActorKind.USER, id=proven.person.id, name=proven.person.email)
    await people(request, who).note("login.succeeded", proven.person.id, proven.person.email, {"by": "token"})
    return issued


GRANTS: Mapping[str, Grant] = {
    "client_credentials": client_credentials,
    "password": password,
    "refresh_token": refresh_token,
}
_CODES = {
    Refusal.INVALID_LOGIN: ("invalid_grant", 400),
    Refusal.INVALID_CODE: ("invalid_grant", 400),
    Refusal.SECOND_FACTOR_REQUIRED: ("mfa_required", 403),
    Refusal.SECOND_FACTOR_MISSING: ("mfa_required", 403),
    Refusal.PASSKEY_REQUIRED: ("interaction_required", 403),
    Refusal.TOO_MANY_TRIES: ("too_many_tries", 429),
    Refusal.TOO_MANY_LOGINS: ("temporarily_unavailable", 503),
}


def chosen(found: Found, allowed: frozenset[str]) -> frozenset[str]:
    """The scopes that are asked for: all that are allowed, unless fewer are named. Raises OAuthError."""
    if "scope" not in found:
        return allowed
    wanted = read_scope(found["scope"])
    if wanted is None or not wanted <= allowed:
        raise OAuthError("invalid_scope", "A scope that was asked for is malformed, or not this client's to have.")
    return wanted


def _audience(found: Found, oauth: OAuth, allowed: frozenset[str]) -> str:
    """RFC 8707: for whom the token shall be. One, and one that the account may have tokens for."""
    named = {found[name] for name in ("resource", "audience") if name in found}
    if not named:
        return oauth.tokens.issuer
    if len(named) > 1 or not named <= {oauth.tokens.issuer, *allowed}:
        raise OAuthError("invalid_target", "This service account may not have tokens for that audience.")
    return named.pop()


def _as_oauth(problem: Problem) -> OAuthError:
    code, status = _CODES.get(problem.refusal, ("invalid_request", 400))
    return OAuthError(code, problem.sentences, status=status, headers=problem.headers)


def _no_grant() -> OAuthError:
    return OAuthError("invalid_grant", "This is no good any more, or never was. Log in again.")

"""Tokens of other issuers: what their claims mean here. Nothing that an operator did not name is believed of them.

Signature, issuer, audience, kind and time are verified as for our own (``policies.identity.tokens``). Whose tenant it
is, and what the token is good for, comes from claims of theirs by tables of ours: what no table names gives nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.identity.permissions import ROLES
from policies.identity.tenants import Role
from policies.identity.tokens import AccessToken, Fault

_SUBJECT = re.compile(r"[\x21-\x7e]{1,256}")
_MOST = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one issuer's claims mean.

    ``name`` stands before their subjects, so that nobody of theirs is ever somebody of ours. A tenant is the fixed
    ``tenant`` (a slug), or what ``tenants`` makes of the value of ``tenant_claim``; ``scopes`` and ``roles`` likewise.
    ``version`` is another one after every change.
    """

    name: str
    tenant: str = ""
    tenant_claim: str = ""
    tenants: Mapping[str, str]
    scope_claim: str = "scope"
    scopes: Mapping[str, str]
    roles_claim: str = ""
    roles: Mapping[str, Role]
    version: str = ""


def read_foreign(claims: Mapping[str, Any], meaning: Meaning) -> AccessToken | Fault:
    """What verified claims of another issuer say, in our words. The tenant is a slug here, the subject a guest's."""
    subject, token_id = claims.get("sub"), claims.get("jti", "")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or not isinstance(token_id, str):
        return Fault.BAD_CLAIMS
    tenant = tenant_of(claims, meaning)
    if not tenant:
        return Fault.BAD_CLAIMS
    roles = roles_of(claims, meaning)
    scopes = {meaning.scopes[name] for name in _names(claims, meaning.scope_claim) if name in meaning.scopes}
    return AccessToken(
        id=f"{meaning.name}:{token_id}" if token_id else "",
        subject=f"{meaning.name}:{subject}",
        tenant_id=tenant,
        client_id=meaning.name,
        scopes=frozenset(scopes).union(*(ROLES[role] for role in roles)),
        roles=tuple(dict.fromkeys(roles)),
        issued_s=claims["iat"],
        expires_s=claims["exp"],
        guest=True,
        version=meaning.version,
    )


def tenant_of(claims: Mapping[str, Any], meaning: Meaning) -> str:
    """The slug of the tenant that the claims mean; empty for none."""
    if meaning.tenant:
        return meaning.tenant
    found = {meaning.tenants[name] for name in _names(claims, meaning.tenant_claim) if name in meaning.tenants}
    return found.pop() if len(found) == 1 else ""  # of two tenants it is nobody's to choose


def roles_of(claims: Mapping[str, Any], meaning: Meaning) -> tuple[Role, ...]:
    """What the claims' roles are here."""
    return tuple(meaning.roles[name] for name in _names(claims, meaning.roles_claim) if name in meaning.roles)


def _names(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """A claim's values: a list of texts, or one text with blanks between them. ``a.b`` is ``b`` inside ``a``."""
    value: Any = claims
    if claim not in claims:
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, dict | Mapping) else None
    else:
        value = claims[claim]
    if isinstance(value, str):
        return tuple(value.split(" "))[:_MOST]
    return tuple(each for each in value if isinstance(each, str))[:_MOST] if isinstance(value, list) else ()

"""Signing in with another provider (OpenID Connect): what its word is worth, and what follows from it here.

An account there is known by issuer and subject alone, never by its address, which may be given to somebody else. The
address only leads to an account of ours when the provider vouches for it, the operator has allowed that, and the person
has proved that the account is theirs.
"""

import enum
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.http.verdict import Refusal
from policies.identity.foreign import Meaning, roles_of, tenant_of
from policies.identity.tenants import Role
from policies.identity.tokens import Fault
from policies.people import folded_email

ID_TOKEN_TYPES = frozenset({"jwt", ""})
"""``typ`` of identity tokens: OpenID Connect Core asks for none. An access token's is another one (RFC 9068)."""
_LONGEST_SUBJECT = 255
_AUTH_TIME_LEEWAY_S = 30
_LAST_S = 2**33
"""A time that any clock can be set to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an operator believes of one provider. ``domains`` empty: addresses of every domain."""

    meaning: Meaning
    domains: frozenset[str]
    default_role: Role
    makes_people: bool
    links_by_email: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asserted:
    """What a provider vouches for. ``email`` is empty unless it was verified; ``tenant`` is a slug, empty for none."""

    issuer: str
    subject: str
    email: str
    name: str
    tenant: str
    role: Role
    proved_s: int | None
    """NumericDate of when the person proved itself there; None where that is not told: it may be long ago."""


class Outcome(enum.Enum):
    """What is done about somebody who comes from a provider."""

    SIGN_IN = "sign in"
    ASK = "ask whether it is theirs"
    MAKE = "make"


def check_id_token(
    claims: Mapping[str, Any], *, client_id: str, nonce: str, signed_in_since_s: int | None = None
) -> Fault | None:
    """What OpenID Connect Core section 3.1.3.7 asks beyond signature, issuer, audience and time; None when all is well.

    Stricter in one thing: a token that is for others as well is refused, because any of them could have handed it on.
    ``signed_in_since_s`` where the person was to prove itself anew: NumericDate of when that was asked.
    """
    if claims.get("aud") not in (client_id, [client_id]) or claims.get("azp", client_id) != client_id:
        return Fault.WRONG_AUDIENCE
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode("utf-8", "replace"), nonce.encode()):
        return Fault.BAD_CLAIMS
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        return Fault.BAD_CLAIMS
    if signed_in_since_s is not None:
        at = claims.get("auth_time")
        if not isinstance(at, int) or isinstance(at, bool) or at < signed_in_since_s - _AUTH_TIME_LEEWAY_S:
            return Fault.EXPIRED
    return None


def read_asserted(claims: Mapping[str, Any], rules: Rules) -> Asserted:
    """What checked claims say, in our words. An address counts only with ``"email_verified": true``."""
    email, name, at = claims.get("email"), claims.get("name", ""), claims.get("auth_time")
    verified = claims.get("email_verified") is True and isinstance(email, str)
    roles: Sequence[Role] = roles_of(claims, rules.meaning)
    return Asserted(
        issuer=claims["iss"],
        subject=claims["sub"],
        email=(folded_email(str(email)) if verified else None) or "",
        name=name if isinstance(name, str) else "",
        tenant=tenant_of(claims, rules.meaning),
        role=min(roles, key=list(Role).index) if roles else rules.default_role,
        proved_s=at if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < _LAST_S else None,
    )


def may_join(asserted: Asserted, rules: Rules, invited: str) -> Refusal | None:
    """Why somebody new does not accept an invitation to that address as who the provider says it is; None if it may.

    It says who comes, and the invitation where to: whether the provider's people are let in unasked does not matter.
    """
    if not asserted.email:
        return Refusal.PROVIDER_EMAIL_UNVERIFIED
    if asserted.email != invited:
        return Refusal.PROVIDER_NOT_INVITED
    return None if _is_of(rules.domains, asserted) else Refusal.PROVIDER_NOT_ADMITTED


def outcome(asserted: Asserted, rules: Rules, *, linked: bool, has_account: bool) -> Outcome | Refusal:
    """What follows for somebody who is linked, whose address has an account, or who is new.

    The domains are checked each time, so that nobody stays who has left them.
    """
    if not _is_of(rules.domains, asserted):
        return Refusal.PROVIDER_NOT_ADMITTED if asserted.email else Refusal.PROVIDER_EMAIL_UNVERIFIED
    if linked:
        return Outcome.SIGN_IN
    if not asserted.email:
        return Refusal.PROVIDER_EMAIL_UNVERIFIED
    if has_account:
        return Outcome.ASK if rules.links_by_email else Refusal.PROVIDER_NOT_LINKED
    return Outcome.MAKE if rules.makes_people and asserted.tenant else Refusal.PROVIDER_NOT_ADMITTED


def _is_of(domains: frozenset[str], asserted: Asserted) -> bool:
    return not domains or asserted.email.rpartition("@")[2] in domains

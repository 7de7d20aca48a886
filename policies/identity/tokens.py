"""Access tokens: what one must say to be believed, and what ours say (RFC 9068, verified by the rules of RFC 8725).

A token is judged against one :class:`Trust`: one issuer, one audience, one kind, and that issuer's keys, each bound to
its own algorithm. What is cheap is looked at first, the signature last, and nothing is learnt from which it was: every
:class:`Fault` is the same answer to the client. Times are whole seconds (NumericDate), as in the tokens themselves.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from policies.identity.jws import Jws
from policies.identity.verification_keys import ALGORITHMS, KeySet, VerificationKey

ACCESS_TYPE = "at+jwt"
"""``typ`` of an access token (RFC 9068 section 2.1); an assertion for the upstream has another, so neither is both."""
ASSERTION_TYPE = "gw-assertion+jwt"
ACCESS_S = 600
"""How long a person's access token lives."""
SERVICE_S = 300
"""How long a service's token, and an assertion for the upstream, lives."""
LONGEST_S = max(ACCESS_S, SERVICE_S)
LEEWAY_S = 30
"""How far the clocks of those who sign and those who verify may be apart, for ``exp``, ``nbf`` and ``iat`` alike."""

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3."""
_NAME = re.compile(r"[\x21-\x7e]{1,256}")
_LAST_S = 2**53
_VERIFIER = PyJWS(algorithms=sorted(ALGORITHMS))


class Fault(enum.StrEnum):
    """Why a token is not believed: for metrics and for operators, never for the client."""

    MALFORMED = "malformed"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_TYPE = "wrong_type"
    WRONG_AUDIENCE = "wrong_audience"
    BAD_CLAIMS = "bad_claims"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNKNOWN_KEY = "unknown_key"
    WRONG_ALGORITHM = "wrong_algorithm"
    BAD_SIGNATURE = "bad_signature"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What is believed of one issuer.

    ``types`` are media subtypes in lower case. ``sole_audience``: the token is for this audience and nobody else; an
    audience list that names others as well could have been handed on by any of them.
    """

    issuer: str
    audience: str
    keys: KeySet
    types: frozenset[str] = frozenset({ACCESS_TYPE})
    sole_audience: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A verified access token. ``family`` is the log-in it descends from, empty for a service's.

    A ``guest`` is of another issuer: its ``tenant_id`` is a slug, and the registry does not know its subject.
    ``version`` says under which version of that issuer's meaning its claims were read. ``key_id`` is that of the key
    which signed one of ours.
    """

    id: str
    subject: str
    tenant_id: str
    client_id: str
    scopes: frozenset[str]
    roles: tuple[str, ...]
    issued_s: int
    expires_s: int
    family: str = ""
    guest: bool = False
    version: str = ""
    key_id: str = ""

    @property
    def names(self) -> tuple[str, str, str]:
        """The names by which it may be revoked: its own, its log-in's, and its subject's."""
        return f"token:{self.id}", f"family:{self.family}", f"subject:{self.subject}"

    @property
    def lapses_ms(self) -> int:
        """The instant until which it is accepted, in milliseconds since the Unix epoch."""
        return (self.expires_s + LEEWAY_S) * 1_000


def verify(jws: Jws, trust: Trust, now_s: int) -> Mapping[str, Any] | Fault:
    """The claims of a token that this trust covers; or the first reason against it."""
    claims = jws.claims
    if claims.get("iss") != trust.issuer:
        return Fault.WRONG_ISSUER
    if jws.type not in trust.types:
        return Fault.WRONG_TYPE
    if not _is_for(claims.get("aud"), trust):
        return Fault.WRONG_AUDIENCE
    fault = _untimely(claims, now_s)
    if fault is not None:
        return fault
    key = trust.keys.get(jws.key_id)
    if key is None:
        return Fault.UNKNOWN_KEY
    if jws.algorithm != key.algorithm:
        return Fault.WRONG_ALGORITHM
    return claims if _is_signed(jws, key) else Fault.BAD_SIGNATURE


def read_access_token(claims: Mapping[str, Any], key_id: str = "") -> AccessToken | Fault:
    """What verified claims of our own say; all that RFC 9068 section 2.2 requires must be there."""
    names = [claims.get(name, "") for name in ("jti", "sub", "tenant", "client_id")]
    family, scope, roles = claims.get("sid", ""), claims.get("scope", ""), claims.get("roles", [])
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names) or not isinstance(family, str):
        return Fault.BAD_CLAIMS
    scopes = read_scope(scope)
    if scopes is None or not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        return Fault.BAD_CLAIMS
    return AccessToken(
        id=names[0],
        subject=names[1],
        tenant_id=names[2],
        client_id=names[3],
        scopes=scopes,
        roles=tuple(roles),
        issued_s=claims["iat"],
        expires_s=claims["exp"],
        family=family,
        key_id=key_id,
    )


def access_claims(token: AccessToken, issuer: str, audience: str) -> dict[str, Any]:
    """What a token of ours says; :func:`read_access_token` is the other way."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": token.subject,
        "client_id": token.client_id,
        "tenant": token.tenant_id,
        "scope": " ".join(sorted(token.scopes)),
        "roles": list(token.roles),
        "iat": token.issued_s,
        "exp": token.expires_s,
        "jti": token.id,
    }
    return claims | {"sid": token.family} if token.family else claims


def read_scope(value: object) -> frozenset[str] | None:
    """A ``scope`` string (RFC 6749 section 3.3); None when it is none. No scopes at all are an empty string."""
    if not isinstance(value, str) or len(value) > 2_048:
        return None
    scopes = value.split(" ") if value else []
    return frozenset(scopes) if all(SCOPE_TOKEN.fullmatch(scope) for scope in scopes) else None


def _is_for(audience: object, trust: Trust) -> bool:
    if isinstance(audience, str):
        return audience == trust.audience
    return not trust.sole_audience and isinstance(audience, list) and trust.audience in audience


def _untimely(claims: Mapping[str, Any], now_s: int) -> Fault | None:
    expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if not (_is_time(expires) and _is_time(issued) and _is_time(not_before)):
        return Fault.BAD_CLAIMS
    if expires + LEEWAY_S <= now_s:
        return Fault.EXPIRED
    if max(issued, not_before) > now_s + LEEWAY_S:
        return Fault.NOT_YET_VALID
    return None


def _is_time(value: object) -> TypeGuard[int]:
    """Whole seconds. RFC 7519 allows fractions; no issuer needs them, and 1e400 is one."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LAST_S


def _is_signed(jws: Jws, key: VerificationKey) -> bool:
    try:
        _VERIFIER.decode_complete(jws.text, key.public, algorithms=[key.algorithm])
    except PyJWTError:
        return False
    return True

"""The settings of one issuer whose tokens are taken: a table ``[issuers.NAME]``, or ``GATEWAY_ISSUERS__NAME__…``."""

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from gateway.configuration.values import Listed
from policies.identity.foreign import Meaning
from policies.identity.permissions import ROLES
from policies.identity.tenants import SLUG, Role
from policies.identity.tokens import SCOPE_TOKEN
from policies.identity.verification_keys import ALGORITHMS
from storage.postgres.ids import Kind, is_id


def check_keys_url(url: str) -> str:
    """The same address, if keys that come from there can be believed: nobody changes them on the way."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    except ValueError:
        parts, plain = urlsplit(""), False
    if not (parts.scheme == "https" or plain) or not parts.hostname or parts.username is not None:
        raise ValueError("an https address, such as https://login.example.com/.well-known/jwks.json")
    return url


def check_algorithms(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names. All of them have a key for signing that is not the one for verifying."""
    if not names or not ALGORITHMS.issuperset(names):
        raise ValueError(f"some of {', '.join(sorted(ALGORITHMS))}")
    return names


def check_tenant(slug: str) -> str:
    """The same slug or id, or none."""
    if slug and not SLUG.fullmatch(slug) and not is_id(Kind.TENANT, slug):
        raise ValueError(f"{slug!r} cannot be a tenant's slug or id")
    return slug


def check_tenants(pairs: tuple[str, ...]) -> tuple[str, ...]:
    """The same pairs, of values and slugs."""
    for slug in table(is_table(pairs)).values():
        check_tenant(slug)
    return pairs


def check_scopes(pairs: tuple[str, ...]) -> tuple[str, ...]:
    """The same pairs, of their scopes and ours."""
    if not all(SCOPE_TOKEN.fullmatch(scope) for scope in table(is_table(pairs)).values()):
        raise ValueError("a scope is printable ASCII without blanks, quotes and backslashes")
    return pairs


def check_roles(pairs: tuple[str, ...]) -> tuple[str, ...]:
    """The same pairs, of their roles and ours."""
    if not set(table(is_table(pairs)).values()) <= set(Role):
        raise ValueError(f"roles are {', '.join(Role)}")
    return pairs


def _there(value: str, info: ValidationInfo) -> str:
    if not value:
        raise ValueError(f"{info.field_name} is missing")
    return value


Needed = Annotated[str, AfterValidator(_there)]


class IssuerSettings(BaseModel):
    """One issuer. A field's description is its line in ``config/gateway.example.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    issuer: Needed = Field(default="", description="What its tokens have as 'iss', to the letter.")
    jwks_url: Annotated[Needed, AfterValidator(check_keys_url)] = Field(
        default="", description="Where its keys are (a JWK Set): https, or http on this machine. Asked now and then."
    )
    audience: Needed = Field(default="", description="What its tokens for this gateway have as 'aud', or among it.")
    algorithms: Annotated[Listed, AfterValidator(check_algorithms)] = Field(
        default=("EdDSA", "ES256", "RS256"), description="Which keys of it are used: EdDSA, ES256, RS256."
    )
    types: Listed = Field(
        default=("at+jwt",),
        description="The 'typ' of its access tokens. Some issuers say JWT, of their identity tokens as well: then only "
        "the audience tells them apart.",
    )
    tenant: Annotated[str, AfterValidator(check_tenant)] = Field(
        default="", description="The tenant that all of its people belong to (a slug or an id),"
    )
    tenant_claim: str = Field(default="", description="or the claim that tells; a.b is b inside a.")
    tenants: Annotated[Listed, AfterValidator(check_tenants)] = Field(
        default=(), description="What that claim's values mean: value=slug, or =id."
    )
    scope_claim: str = Field(default="scope", description="The claim that holds the scopes, as a text or a list.")
    scopes: Annotated[Listed, AfterValidator(check_scopes)] = Field(
        default=(), description="What they mean here: theirs=ours. Others give nothing."
    )
    roles_claim: str = Field(default="", description="The claim that holds roles or groups.")
    roles: Annotated[Listed, AfterValidator(check_roles)] = Field(
        default=(), description="What they mean here: theirs=owner, admin, member or viewer, with all that this may do."
    )

    @field_validator("tenant_claim")
    @classmethod
    def _one_of_them(cls, claim: str, info: ValidationInfo) -> str:
        if "tenant" in info.data and bool(info.data["tenant"]) == bool(claim):
            raise ValueError("say tenant, or tenant_claim with tenants; one of them")
        return claim

    @property
    def gives(self) -> frozenset[str]:
        """Every scope and permission that a token of it can have here."""
        roles = (ROLES[Role(role)] for role in table(self.roles).values())
        return frozenset(table(self.scopes).values()).union(*roles)

    def meaning(self, name: str) -> Meaning:
        """What its claims mean."""
        return Meaning(
            name=name,
            version=hashlib.sha256(self.model_dump_json().encode()).hexdigest(),
            tenant=self.tenant,
            tenant_claim=self.tenant_claim,
            tenants=table(self.tenants),
            scope_claim=self.scope_claim,
            scopes=table(self.scopes),
            roles_claim=self.roles_claim,
            roles={theirs: Role(ours) for theirs, ours in table(self.roles).items()},
        )

    def to_message(self) -> dict[str, Any]:
        """As plain data."""
        return self.model_dump(mode="json")


def is_table(pairs: tuple[str, ...]) -> tuple[str, ...]:
    """The same pairs. Raises ValueError for what is none."""
    if not all(all(pair.rpartition("=")) for pair in pairs) or len(table(pairs)) != len(pairs):
        raise ValueError("pairs with '=' between them, each left side once, such as theirs=ours")
    return pairs


def table(pairs: tuple[str, ...]) -> Mapping[str, str]:
    """What each left side means."""
    return {left: right for left, _, right in (pair.rpartition("=") for pair in pairs)}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The settings of one issuer whose tokens are taken: a table ``[issuers.NAME]``, or ``GATEWAY_ISSUERS__NAME__…``."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from policies.foreign import Meaning
from policies.tenants import SLUG, Role
from policies.tokens import SCOPE_TOKEN
from policies.verification_keys import ALGORITHMS


def _listed(value: object) -> object:
    """A comma list, or a TOML array."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class IssuerSettings(BaseModel):
    """One issuer. A field's description is its line in ``config/gateway.example.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    issuer: str = Field(default="", description="What its tokens have as 'iss', to the letter.")
    jwks_url: str = Field(
        default="", description="Where its keys are (a JWK Set): https, or http on this machine. Asked now and then."
    )
    audience: str = Field(default="", description="What its tokens for this gateway have as 'aud', or among it.")
    algorithms: Listed = Field(
        default=("EdDSA", "ES256", "RS256"), description="Which keys of it are used: EdDSA, ES256, RS256."
    )
    types: Listed = Field(
        default=("at+jwt",),
        description="The 'typ' of its access tokens. Some issuers say JWT, of their identity tokens as well: then only "
        "the audience tells them apart.",
    )
    tenant: str = Field(default="", description="The tenant that all of its people belong to (a slug),")
    tenant_claim: str = Field(default="", description="or the claim that tells; a.b is b inside a.")
    tenants: Listed = Field(default=(), description="What that claim's values mean: value=slug.")
    scope_claim: str = Field(default="scope", description="The claim that holds the scopes, as a text or a list.")
    scopes: Listed = Field(default=(), description="What they mean here: theirs=ours. Others give nothing.")
    roles_claim: str = Field(default="", description="The claim that holds roles or groups.")
    roles: Listed = Field(
        default=(), description="What they mean here: theirs=owner, admin, member or viewer, with all that this may do."
    )

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        if url and (not (parts.scheme == "https" or plain) or not parts.hostname or parts.username is not None):
            raise ValueError("an https address, such as https://login.example.com/.well-known/jwks.json")
        return url

    @field_validator("algorithms")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not ALGORITHMS.issuperset(names):
            raise ValueError(f"some of {', '.join(sorted(ALGORITHMS))}")
        return names

    @field_validator("tenants", "scopes", "roles")
    @classmethod
    def _pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        return is_table(pairs)

    @model_validator(mode="after")
    def _whole(self) -> "IssuerSettings":
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        yield from (f"{name} is missing" for name in ("issuer", "jwks_url", "audience") if not getattr(self, name))
        if bool(self.tenant) == bool(self.tenant_claim):
            yield "say tenant, or tenant_claim with tenants; one of them"
        for slug in (self.tenant, *table(self.tenants).values()):
            if slug and not SLUG.fullmatch(slug):
                yield f"{slug!r} cannot be a tenant's slug"
        if not set(table(self.roles).values()) <= set(Role):
            yield f"roles are {', '.join(Role)}"
        if not all(SCOPE_TOKEN.fullmatch(scope) for scope in table(self.scopes).values()):
            yield "a scope is printable ASCII without blanks, quotes and backslashes"

    def meaning(self, name: str) -> Meaning:
        """What its claims mean."""
        return Meaning(
            name=name,
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

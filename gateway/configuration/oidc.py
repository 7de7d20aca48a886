"""The settings of one provider that people sign in with: a table ``[oidc.NAME]``, or ``GATEWAY_OIDC__NAME__…``."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from gateway.configuration.issuers import check_tenant, is_loopback, is_table, table
from gateway.configuration.values import Listed
from policies.federation import Rules
from policies.identity.foreign import Meaning
from policies.identity.tenants import Role

_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_ROLES = tuple(role for role in Role if role is not Role.SERVICE)


class OidcSettings(BaseModel):
    """One provider. A field's description is its line in ``config/gateway.example.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    label: str = Field(default="", description="What the button on the log-in page says. Empty: the table's name.")
    issuer: str = Field(
        default="",
        description="The provider, to the letter; the rest is read from its /.well-known/openid-configuration. https, "
        "or http on this machine.",
    )
    client_id: str = Field(
        default="", description="Ours at the provider. Register PUBLIC_URL/auth/oidc/NAME/callback there."
    )
    client_secret: SecretStr | None = Field(
        default=None, description="The secret to it, or client_secret_file. None: a public client, by PKCE alone."
    )
    scopes: Listed = Field(default=("openid", "email", "profile"), description="What is asked for.")
    allowed_domains: Listed = Field(
        default=(), description="The domains of addresses that may come in. Empty: every address that it vouches for."
    )
    link_by_email: bool = Field(
        default=False,
        description="Whether who comes with the verified address of an account here may connect the two, by signing in "
        "to that account once more. Otherwise only who is signed in here connects one.",
    )
    make_people: bool = Field(
        default=False, description="Whether who is not known is let in, as a new person, where a tenant is told."
    )
    second_factor: bool = Field(
        default=False, description="Whether it asks for a second factor itself, so that ours is not asked for."
    )
    tenant: str = Field(default="", description="The tenant that new people come to (a slug or an id),")
    tenant_claim: str = Field(default="", description="or the claim that tells; a.b is b inside a.")
    tenants: Listed = Field(default=(), description="What that claim's values mean: value=slug, or =id.")
    role: str = Field(default="member", description="What new people are there: owner, admin, member or viewer.")
    roles_claim: str = Field(default="", description="The claim that tells otherwise, such as groups.")
    roles: Listed = Field(default=(), description="What its values mean: theirs=role. The strongest counts.")

    @field_validator("issuer")
    @classmethod
    def _safe(cls, url: str) -> str:
        if url and not is_safe_url(url):
            raise ValueError("an https address without query, such as https://login.example.com")
        return url

    @field_validator("allowed_domains")
    @classmethod
    def _domains(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_DOMAIN.fullmatch(name) for name in names):
            raise ValueError("domains in small letters, such as example.com")
        return names

    @field_validator("tenants", "roles")
    @classmethod
    def _pairs(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        return is_table(pairs)

    @model_validator(mode="after")
    def _whole(self) -> "OidcSettings":
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        yield from (f"{name} is missing" for name in ("issuer", "client_id") if not getattr(self, name))
        if "openid" not in self.scopes:
            yield "scopes: 'openid' is missing"
        if self.tenant and self.tenant_claim:
            yield "say tenant, or tenant_claim with tenants; one of them"
        if self.make_people and not (self.tenant or self.tenant_claim):
            yield "make_people needs a tenant for them: say tenant, or tenant_claim with tenants"
        for slug in (self.tenant, *table(self.tenants).values()):
            try:
                check_tenant(slug)
            except ValueError as error:
                yield f"{error}"
        if not {self.role, *table(self.roles).values()} <= set(_ROLES):
            yield f"roles are {', '.join(_ROLES)}"

    def rules(self, name: str) -> Rules:
        """What is believed of it."""
        roles: Mapping[str, Role] = {theirs: Role(ours) for theirs, ours in table(self.roles).items()}
        return Rules(
            meaning=Meaning(
                name=name,
                tenant=self.tenant,
                tenant_claim=self.tenant_claim,
                tenants=table(self.tenants),
                scopes={},
                roles_claim=self.roles_claim,
                roles=roles,
            ),
            domains=frozenset(self.allowed_domains),
            default_role=Role(self.role),
            makes_people=self.make_people,
            links_by_email=self.link_by_email,
        )

    def to_message(self) -> dict[str, Any]:
        """As plain data; the secret readable, because it goes to our own processes only."""
        secret = self.client_secret.get_secret_value() if self.client_secret is not None else None
        return self.model_dump(mode="json", exclude={"client_secret"}) | {"client_secret": secret}


def is_safe_url(url: str) -> bool:
    """Whether a secret may be sent there: https, or http on this machine; nobody's name, no query, no fragment."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    except ValueError:
        return False
    return bool((parts.scheme == "https" or plain) and parts.hostname) and not (
        parts.username is not None or parts.query or parts.fragment
    )

"""The nouns of the registry: who exists, who belongs to whom, and which keys they hold."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from policies.identity.principals import Standing

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A tenant's short name: one DNS label (RFC 1035 section 2.3.1), so that it may become a host name."""


class TenantStatus(enum.StrEnum):
    """A suspended tenant keeps its data; none of its credentials is accepted. One that is deleting is gone soon."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"


class UserStatus(enum.StrEnum):
    """A disabled user keeps its history; none of its credentials is accepted. A deleted one keeps nothing."""

    ACTIVE = "active"
    DISABLED = "disabled"
    DELETED = "deleted"


class Role(enum.StrEnum):
    """What a member may do inside one tenant, strongest first."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An organisation: the unit of isolation, of limits and of the account."""

    id: str
    slug: str
    name: str
    status: TenantStatus
    created_at: datetime
    plan: str | None = None
    """The name of the plan that it is on."""
    delete_after: datetime | None = None
    """When what is left of it is removed, once it is deleting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person. Passwords and sessions are not here; a user reaches a tenant only through a Membership."""

    id: str
    email: str
    name: str
    status: UserStatus
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A user's place in a tenant."""

    tenant_id: str
    user_id: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key as the registry knows it: never the key itself, only its digest's row and its last four characters."""

    id: str
    tenant_id: str
    user_id: str | None
    name: str
    last4: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None = None
    """Since when it rests; it can be enabled again, which a revoked key cannot."""
    networks: tuple[str, ...] = ()
    """Whence it may be used, in CIDR notation; none: from everywhere."""
    routes: tuple[str, ...] = ()
    """Where it may be used, by route name; none: wherever its scopes allow."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    last_used: "KeyUsed | None" = None
    service_account_id: str | None = None
    """The program whose key it is; then it is no member's."""
    standing: Standing = Standing.GOOD
    """Whether it would be refused now, and why: its own state and its owner's; not its tenant's, nor its expiry."""

    def status(self, now: datetime, tenant: TenantStatus = TenantStatus.ACTIVE) -> str:
        """How it stands, in the order in which the gateway looks: its standing, ``expired``, or ``active``."""
        if tenant is not TenantStatus.ACTIVE and self.standing in {Standing.GOOD, Standing.USER_DISABLED}:
            return Standing.TENANT_SUSPENDED
        if self.standing is not Standing.GOOD:
            return self.standing
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsed:
    """The last use of a key, to within some seconds."""

    at: datetime
    address: str
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A program of a tenant that asks for tokens: for the gateway itself, and for the services it may name."""

    id: str
    tenant_id: str
    name: str
    scopes: frozenset[str]
    audiences: frozenset[str]
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOverride:
    """One tenant's exception to the route table: a route, by name, that it may not use."""

    tenant_id: str
    route: str
    allowed: bool

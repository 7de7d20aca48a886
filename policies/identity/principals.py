"""Who is asking: the one answer that identification gives, whatever the credential was."""

import enum
from dataclasses import dataclass, field

from policies.limits.allowances import Allowance
from policies.limits.calendars import UTC_MONTHS, Calendar
from policies.limits.rates import Rate
from policies.networks import Network


class Method(enum.StrEnum):
    """How a principal proved itself; the ``method`` label of ``gateway_auth_total``."""

    NONE = "none"
    API_KEY = "api_key"
    JWT = "jwt"
    SESSION = "session"


class Standing(enum.StrEnum):
    """Whether the credential is good, and if not, why: each has a refusal of its own."""

    GOOD = "good"
    REVOKED = "revoked"
    DISABLED = "disabled"
    USER_DISABLED = "user_disabled"
    TENANT_SUSPENDED = "tenant_suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An identified caller, good or not; ``authorise`` decides what its standing means.

    ``expires_ms`` is an instant and not part of ``standing``, because a cached principal must expire on time.
    """

    method: Method
    standing: Standing
    tenant_id: str
    tenant_slug: str
    user_id: str = ""
    key_id: str = ""
    scopes: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()
    expires_ms: int | None = None
    tenant_rate: Rate | None = None
    key_rate: Rate | None = None
    """The plain request rates stand apart: most callers have no other limits."""
    allowances: tuple[Allowance, ...] = ()
    """Every other limit of the tenant, the user and the key."""
    calendar: Calendar = UTC_MONTHS
    denied_routes: frozenset[str] = field(default_factory=frozenset)
    only_routes: frozenset[str] = field(default_factory=frozenset)
    """The routes that a key is bound to; none: it is not."""
    plan_routes: frozenset[str] = field(default_factory=frozenset)
    """The upstream's routes that the tenant's plan opens; none: all."""
    networks: tuple[Network, ...] = ()
    """The networks that a key is bound to; none: it is not."""

"""What somebody may do in a tenant's administration: permissions by name, and the roles that bundle them.

A permission is ``noun:verb``. A person has those of the role in the tenant; an API key or a token those that its scopes
name, and never more than the person whose key it is has at this moment. Nobody grants what they do not hold: a role, a
key or an invitation with more than the giver's own permissions is refused.
"""

import enum
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from policies.identity.tenants import Role


class Permission(enum.StrEnum):
    """Each operation of the platform API names the one that it needs."""

    TENANT_READ = "tenant:read"
    TENANT_WRITE = "tenant:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    ROLES_READ = "roles:read"
    ROLES_WRITE = "roles:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    SERVICE_ACCOUNTS_READ = "service-accounts:read"
    SERVICE_ACCOUNTS_WRITE = "service-accounts:write"
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    USAGE_READ = "usage:read"
    AUDIT_READ = "audit:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    TRANSCRIBE = "transcribe"
    """To use the service itself: the scope of the shipped routes."""
    PLATFORM_READ = "platform:read"
    """Across tenants: operators alone."""
    PLATFORM_WRITE = "platform:write"


OPERATOR = frozenset(Permission)
"""A platform operator's, in every tenant."""

_WITHIN = OPERATOR - {Permission.PLATFORM_READ, Permission.PLATFORM_WRITE}
_READS = frozenset(permission for permission in _WITHIN if permission.endswith(":read"))

ROLES: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _WITHIN,
    Role.ADMIN: _WITHIN - {Permission.TENANT_WRITE, Permission.LIMITS_WRITE},
    Role.MEMBER: frozenset({
        Permission.TENANT_READ, Permission.KEYS_READ, Permission.USAGE_READ, Permission.LIMITS_READ,
        Permission.TRANSCRIBE,
    }),
    Role.VIEWER: _READS - {Permission.AUDIT_READ, Permission.SESSIONS_READ},
    Role.SERVICE: frozenset({Permission.TRANSCRIBE}),
}  # fmt: skip
"""Limits are the operator's word to a tenant and the owner's word to its keys; who manages people does not set them."""

ASSIGNABLE = tuple(sorted(_WITHIN))
"""What custom roles and scopes may name, in a stable order."""


def permitted(scopes: frozenset[str], holder: frozenset[Permission] | None) -> frozenset[Permission]:
    """What a key or a token may do: what its scopes name, within what its ``holder`` may; None: it is the tenant's."""
    named = frozenset(Permission(scope) for scope in scopes if scope in _PERMISSION_NAMES)
    return named & (_WITHIN if holder is None else holder)


def usable(scopes: frozenset[str], holder: frozenset[Permission]) -> frozenset[str]:
    """The scopes of a person's key that count now: of those that are permissions, what the person still holds."""
    return frozenset(scope for scope in scopes if scope not in _PERMISSION_NAMES or scope in holder)


def excess(giver: frozenset[Permission], wanted: Iterable[str]) -> list[str]:
    """The wanted permissions that the giver does not hold, sorted; names that are no permission are nobody's to give.

    A scope of the route table that is no permission of ours (an operator's own) may be given by whoever manages keys.
    """
    return sorted(name for name in wanted if name in _PERMISSION_NAMES and Permission(name) not in giver)


INTROSPECT = "introspect"
"""The scope with which a service account asks about tokens."""


def known_scopes(others: Iterable[str]) -> frozenset[str]:
    """What keys may have: permissions, and ``others``: those that routes ask for (empty for none), operators' own."""
    return frozenset({*Permission, *others} - {""})


def check_scopes(wanted: Iterable[str], known: AbstractSet[str]) -> None:
    """Raises ValueError for the first that is none, with those that there are: a slip would open nothing, silently."""
    strangers = sorted(set(wanted) - known)
    if strangers:
        raise ValueError(f"there is no scope {strangers[0]!r}; there are {', '.join(sorted(known))}")


_PERMISSION_NAMES = frozenset(Permission)

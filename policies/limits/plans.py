"""Plans: limits and routes under one name, which hold for every tenant that is on the plan."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from policies.limits.allowances import Allowance, Scope


class Counted(enum.StrEnum):
    """Things that a tenant makes, and without a bound could make for ever."""

    KEYS = "keys"
    SERVICE_ACCOUNTS = "service_accounts"
    WEBHOOKS = "webhooks"
    INVITATIONS = "invitations"
    ROLES = "roles"


MOST: Mapping[Counted, int] = {
    Counted.KEYS: 10_000,
    Counted.SERVICE_ACCOUNTS: 1_000,
    Counted.WEBHOOKS: 50,
    Counted.INVITATIONS: 1_000,
    Counted.ROLES: 100,
}
"""How many of each a tenant may have whose plan does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What operators offer. ``routes`` are those that it opens, by name; none: all. ``rating`` names a price list.

    ``most``: how many of a thing a tenant may have, in place of :data:`MOST`.
    """

    name: str
    limits: tuple[Allowance, ...] = ()
    routes: frozenset[str] = frozenset()
    rating: str = ""
    note: str = ""
    most: Mapping[Counted, int] = field(default_factory=dict)
    created_at: datetime

    @property
    def texts(self) -> dict[str, list[str]]:
        """The limits as operators write them: ``{"audio": ["100h/month"]}``."""
        found: dict[str, list[str]] = {}
        for limit in self.limits:
            found.setdefault(limit.what.value, []).append(str(limit))
        return found


def checked(limits: Sequence[Allowance]) -> tuple[Allowance, ...]:
    """The limits in a stable order. Raises ValueError for two of one kind with a window, or one calendar period."""
    named = {limit.name: limit for limit in limits}
    if len(named) < len(limits):
        raise ValueError("a plan has one limit of a kind for a window, and one for each calendar period")
    return tuple(named[name] for name in sorted(named))


def in_force(own: Iterable[Allowance], plans: Iterable[Allowance]) -> list[Allowance]:
    """The limits of a plan that hold beside a caller's ``own``.

    A limit that the tenant has itself, on all routes and not in shadow, stands in place of the plan's of that kind.
    """
    replaced = {limit.what for limit in own if limit.scope is Scope.TENANT and not (limit.route or limit.shadow)}
    return [limit for limit in plans if limit.what not in replaced]

"""The lines of ``gateway limits show``: every limit with its current use."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from policies.allowances import Kind, amount_text
from policies.bounds import Bound, counter_key, demands
from policies.calendars import Calendar
from policies.holding import Demand, Spent
from policies.tenants import Tenant
from storage.ports import Grant, Unavailable, UsageOf

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


@dataclass(frozen=True, slots=True)
class Row:
    """One limit. ``used`` in its own unit, None where nobody could be asked; ``whole_s`` seconds until none is used."""

    grant: Grant
    holder: str
    used: int | None
    whole_s: int

    @property
    def scope(self) -> str:
        """tenant, user or key."""
        return self.grant.allowance.scope

    @property
    def holder_id(self) -> str:
        """Empty for the tenant itself."""
        return self.grant.key_id or self.grant.user_id or ""

    @property
    def limit(self) -> str:
        """As it was written."""
        return str(self.grant.allowance)

    @property
    def is_plain(self) -> bool:
        """A request rate on all routes that is enforced."""
        allowance = self.grant.allowance
        return allowance.kind is Kind.RATE and not (allowance.route or allowance.shadow or self.grant.user_id)

    def as_json(self) -> dict[str, Any]:
        """Figures in requests, bytes, or milliseconds of audio."""
        allowance = self.grant.allowance
        return {
            "name": allowance.name,
            "for": self.scope,
            "id": self.holder_id or None,
            "what": allowance.what,
            "limit": self.limit,
            "allowed": allowance.count,
            "used": self.used,
            "whole_in_s": self.whole_s,
            "route": allowance.route or None,
            "shadow": allowance.shadow,
        }

    def as_line(self) -> tuple[str, ...]:
        """For people."""
        allowance = self.grant.allowance
        used = "?"
        if self.used is not None:
            used = f"{amount_text(allowance.what, self.used)} ({100 * self.used // allowance.count} %)"
        remarks = [f"route {allowance.route}"] if allowance.route else []
        remarks += ["shadow"] if allowance.shadow else []
        return (
            self.holder_id or self.scope,
            self.holder,
            allowance.what,
            self.limit,
            used,
            _moment(self.whole_s),
            ", ".join(remarks),
        )


async def rows(stores: "Stores", tenant: Tenant) -> Sequence[Row]:
    """Every limit of a tenant, its users and its keys."""
    grants = await stores.limits.limits(tenant.id)
    names = {"": tenant.slug}
    names |= {key.id: key.name for key in await stores.keys.keys(tenant.id)}
    names |= {user.id: user.email for user, _ in await stores.directory.users(tenant.id)}
    calendar = await stores.limits.calendar(tenant.id)
    wanted = _demands(grants, tenant.id, calendar)
    figures = await _figures(stores, wanted)
    found = []
    for place, (grant, demand) in enumerate(zip(grants, wanted, strict=True)):
        used, whole_ms = figures[place]
        if used is None and grant.allowance.kind is Kind.QUOTA:
            used = await _from_ledger(stores, tenant.id, grant, demand, calendar)
        found.append(Row(grant, names.get(grant.key_id or grant.user_id or "", ""), used, (whole_ms + 999) // 1000))
    return found


def _demands(grants: Sequence[Grant], tenant_id: str, calendar: Calendar) -> tuple[Demand, ...]:
    bound = [Bound(g.allowance, counter_key(g.allowance, tenant_id, g.key_id or g.user_id or "")) for g in grants]
    return demands(bound, calendar, int(time.time() * 1000), Spent(), "")


async def _figures(stores: "Stores", wanted: tuple[Demand, ...]) -> Sequence[tuple[int | None, int]]:
    """What is used, and milliseconds until it is whole."""
    from storage.redis.holds import RedisHolds  # noqa: PLC0415  slow: see the package's docstring

    unknown = [(None, max(demand.ends_ms - int(time.time() * 1000), 0)) for demand in wanted]
    if stores.redis_url is None or not wanted:
        return unknown
    try:
        holds = RedisHolds(stores.redis_url, timeout=2.0)
    except ValueError:
        return unknown
    try:
        answer = await holds.look(wanted)
    except Unavailable:
        return unknown
    finally:
        await holds.close()
    return [
        (None if figure.unknown else demand.allowance.count - figure.left, figure.reset_ms)
        for demand, figure in zip(wanted, answer.figures, strict=True)
    ]


async def _from_ledger(stores: "Stores", tenant_id: str, grant: Grant, demand: Demand, calendar: Calendar) -> int:
    period = calendar.period(grant.allowance.calendar, demand.ends_ms - 1)
    return await stores.ledger.used(
        UsageOf(
            tenant_id=tenant_id,
            user_id=grant.user_id or "",
            key_id=grant.key_id or "",
            route=grant.allowance.route,
            what=grant.allowance.what,
            since=period.start,
            until=period.end,
        )
    )


def _moment(seconds: int) -> str:
    if not seconds:
        return ""
    moment = datetime.fromtimestamp(time.time() + seconds, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")

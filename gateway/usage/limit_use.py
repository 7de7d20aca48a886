"""How much of each limit is in use, for people who look: takes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from policies.bounds import Bound, counter_key, demands
from policies.limits.allowances import Kind
from policies.limits.calendars import Calendar, Period
from policies.limits.forecast import Forecast, forecast
from policies.limits.holding import NOTHING_SPENT, Answer, Demand, Spent
from storage.ports import Grant, UsageOf


class Counts(Protocol):
    """Where the counters are."""

    async def look(self, demands: tuple[Demand, ...]) -> Answer:
        """What every limit says now. Raises Unavailable."""


class Counters(Protocol):
    """The same, to be told."""

    async def tell(self, demand: Demand, used: int) -> None:
        """See :class:`storage.ports.Holds`. Raises Unavailable."""


class Account(Protocol):
    """Where the past is known."""

    async def used(self, of: UsageOf) -> int:
        """See :class:`storage.ports.Ledger`."""


@dataclass(frozen=True, slots=True)
class Use:
    """One limit. ``used`` and ``wanted`` in its own unit; ``whole_ms`` until none of it is in use.

    ``held`` is what of a calendar period's ``used`` requests have reserved that are being served.
    """

    grant: Grant
    used: int
    wanted: int
    whole_ms: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """What is used of a calendar period's allowance, and where that is heading."""

    use: Use
    period: Period
    forecast: Forecast

    @property
    def exhausted_at(self) -> datetime | None:
        """When nothing will be left at this pace; None: not in this period."""
        ms = self.forecast.exhausted_ms
        return None if ms is None else self.period.start + timedelta(milliseconds=ms - self.period.start_ms)


def quota(use: Use, calendar: Calendar, now_ms: int) -> Quota:
    """The quota of an allowance that belongs to a calendar."""
    allowance = use.grant.allowance
    period = calendar.period(allowance.calendar, now_ms)
    return Quota(use, period, forecast(use.used - use.held, allowance.count, period, now_ms))


async def uses(
    grants: Sequence[Grant], tenant_id: str, calendar: Calendar, now_ms: int, counts: Counts, account: Account,
    expected: Spent,
) -> Sequence[Use]:  # fmt: skip
    """The use of every grant, in their order, for a request that would come to ``expected``. Raises Unavailable."""
    wanted = _demands(grants, tenant_id, calendar, now_ms, expected)
    if not wanted:
        return []
    answer = await counts.look(wanted)
    found = []
    for grant, demand, figure in zip(grants, wanted, answer.figures, strict=True):
        used = demand.allowance.count - figure.left
        held = max(used - figure.used, 0) if demand.allowance.kind is Kind.QUOTA else 0
        used = max(used, figure.used)  # in shadow, and by jobs, more may be used than there is
        if figure.unknown:
            used, held = await _from_ledger(account, tenant_id, grant, demand, calendar), 0
        found.append(Use(grant, used, demand.want, figure.reset_ms or max(demand.ends_ms - now_ms, 0), held))
    return found


async def tell(
    grants: Sequence[Grant], tenant_id: str, calendar: Calendar, now_ms: int, counters: Counters, account: Account
) -> None:
    """Have the counters of days and months know what the account has. Raises Unavailable."""
    for grant, demand in zip(grants, _demands(grants, tenant_id, calendar, now_ms, NOTHING_SPENT), strict=True):
        await counters.tell(demand, await _from_ledger(account, tenant_id, grant, demand, calendar))


def _demands(
    grants: Sequence[Grant], tenant_id: str, calendar: Calendar, now_ms: int, expected: Spent
) -> tuple[Demand, ...]:
    bound = [Bound(g.allowance, counter_key(g.allowance, tenant_id, g.key_id or g.user_id or "")) for g in grants]
    return demands(bound, calendar, now_ms, expected, "")


async def _from_ledger(account: Account, tenant_id: str, grant: Grant, demand: Demand, calendar: Calendar) -> int:
    """As the first request would have it told; a counter of no calendar is never unknown."""
    assert grant.allowance.kind is Kind.QUOTA
    period = calendar.period(grant.allowance.calendar, demand.ends_ms - 1)
    return await account.used(
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

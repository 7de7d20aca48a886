"""Leases and reservations inside one process: what a route falls back to while Redis cannot be asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from policies.limits.allowances import Kind
from policies.limits.holding import Answer, Demand, Step, Tally, apply
from storage.held import HeldLease
from storage.ports import Held, Waiter

if TYPE_CHECKING:
    from storage import ports

_MOST = 100_000
_FOR_GOOD_MS = 1e12
"""A process that dies takes its leases along: they need no expiry."""


class LocalHolds:
    """The Holds port in memory. ``clock_ms`` and ``sharers`` as with LocalCounters.

    Of a calendar period each process allows its part of what was left when it was told what had been used.
    """

    def __init__(self, clock_ms: Callable[[], float], sharers: int = 1) -> None:
        self._clock_ms = clock_ms
        self._sharers = sharers
        self._tallies: dict[str, Tally] = {}
        self._numbers = count(1)

    async def hold(self, demands: tuple[Demand, ...]) -> Held:
        """See :class:`storage.ports.Holds`."""
        return self._hold(demands)

    def hold_for(self, demands: tuple[Demand, ...], waiter: Waiter[Held]) -> None:
        """See :class:`storage.ports.Holds`."""
        waiter.set_result(self._hold(demands))

    def _hold(self, demands: tuple[Demand, ...]) -> Held:
        shared = tuple(self._part(demand) for demand in demands)
        lease = HeldLease(self, str(next(self._numbers)), shared)
        answer = self._apply(lease, [Step(demand, 0, 0, demand.want, demand.least) for demand in shared])
        if not answer.admitted:
            return Held(demands, answer, None)
        lease.granted(shared, answer)
        return Held(demands, answer, lease)

    def change(self, lease: HeldLease, steps: Sequence[Step]) -> asyncio.Future[Answer]:
        """See :class:`storage.held.Keeper`."""
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        done.set_result(self._apply(lease, steps))
        return done

    def give_back(self, lease: HeldLease, steps: Sequence[Step]) -> None:
        """See :class:`storage.held.Keeper`."""
        answer = self._apply(lease, steps)
        if lease.hear is not None:
            lease.hear(answer)

    async def tell(self, demand: Demand, used: int) -> None:
        """See :class:`storage.ports.Holds`."""
        self._tallies.setdefault(demand.key, Tally()).used = demand.allowance.count - max(
            (demand.allowance.count - used) // self._sharers, 0
        )

    def forget(self, demand: Demand) -> None:
        """Of a calendar period: what was used has to be told anew."""
        if (tally := self._tallies.get(demand.key)) is not None:
            tally.used = None

    def _apply(self, lease: HeldLease, steps: Sequence[Step]) -> Answer:
        if len(self._tallies) >= _MOST:
            self._forget()
        tallies = [self._tallies.setdefault(step.demand.key, Tally()) for step in steps]
        return apply(tallies, lease.id, steps, self._clock_ms(), _FOR_GOOD_MS)

    def _part(self, demand: Demand) -> Demand:
        """This process's share; at least one unit of what is held, and time enough for one of what refills."""
        allowance = demand.allowance
        if self._sharers == 1 or allowance.kind is Kind.QUOTA:
            return demand
        share = max(allowance.count // self._sharers, 1)
        period = allowance.period_ms
        if allowance.count < self._sharers:
            period = period * self._sharers // allowance.count
        return replace(demand, allowance=replace(allowance, count=share, period_ms=period))

    def _forget(self) -> None:
        now = self._clock_ms()
        self._tallies = {
            key: tally for key, tally in self._tallies.items() if tally.held or tally.used or tally.tat_ms > now
        }
        if len(self._tallies) >= _MOST:
            self._tallies.clear()


if TYPE_CHECKING:
    _promised: type[ports.Holds] = LocalHolds

"""Limits of every kind for the tests' gateway: counted in memory, and made unreachable at will."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from gateway.dataplane.holder import Holder
from gateway.dataplane.limit_events import LimitReached
from gateway.telemetry.metrics import Metrics
from policies.limits.holding import Demand, Step
from storage.held import HeldLease
from storage.local_holds import LocalHolds
from storage.ports import Held, Unavailable, UsageOf, Waiter

NOON_MS = 1_795_694_400_000
"""26 November 2026 at noon, for ever: no calendar period ends while a test runs."""


class SwitchableHolds(LocalHolds):
    """In-process holds that can be made unreachable. ``held`` counts what is out."""

    down = False

    async def hold(self, demands: tuple[Demand, ...]) -> Held:
        if self.down:
            raise Unavailable("Redis is down")
        return await super().hold(demands)

    @override
    def hold_for(self, demands: tuple[Demand, ...], waiter: Waiter[Held]) -> None:
        if self.down:
            waiter.set_exception(Unavailable("Redis is down"))
        else:
            super().hold_for(demands, waiter)

    @override
    async def tell(self, demand: Demand, used: int) -> None:
        if self.down:
            raise Unavailable("Redis is down")
        await super().tell(demand, used)

    def repay(self, amounts: Sequence[tuple[Demand, int]]) -> None:
        lease = HeldLease(self, "repaid", tuple(demand for demand, _ in amounts))
        self.give_back(lease, [Step(demand, 0, -amount, 0) for demand, amount in amounts])

    @property
    def held(self) -> int:
        """How much is held of all limits together."""
        return sum(amount for tally in self._tallies.values() for amount, _ in tally.held.values())


class MemoryAccount:
    """What was used before, by scope; can be made unreachable."""

    def __init__(self) -> None:
        self.before = 0
        self.down = False
        self.asked: list[UsageOf] = []

    async def used(self, of: UsageOf) -> int:
        self.asked.append(of)
        if self.down:
            raise Unavailable("PostgreSQL is down")
        return self.before


@dataclass
class Holding:
    """What a test looks at."""

    metrics: Metrics
    holds: SwitchableHolds = field(default_factory=lambda: SwitchableHolds(lambda: time.monotonic() * 1000))
    account: MemoryAccount = field(default_factory=MemoryAccount)
    events: list[LimitReached] = field(default_factory=list)

    def limit_reached(self, reached: LimitReached) -> None:
        self.events.append(reached)

    def holder(self) -> Holder:
        """One that asks these."""
        return Holder(
            holds=self.holds,
            local=LocalHolds(lambda: time.monotonic() * 1000),
            account=self.account,
            events=self,
            metrics=self.metrics,
            now_ms=lambda: NOON_MS,
        )

"""What a request holds, whichever store counts it: the Lease of ``policies.limits.holding``."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from policies.limits.allowances import Allowance, Kind, What
from policies.limits.holding import Answer, Demand, Spent, Step
from storage.ports import Unavailable

if TYPE_CHECKING:
    from policies.limits import holding


class NotDone(Unavailable):
    """It was certainly not carried out."""


class Keeper(Protocol):
    """The store's side of a lease."""

    def change(self, lease: "HeldLease", steps: Sequence[Step]) -> asyncio.Future[Answer]:
        """Carry out steps on everything that the lease holds. Raises Unavailable, NotDone where that is known."""

    def give_back(self, lease: "HeldLease", steps: Sequence[Step]) -> None:
        """Carry out the last steps, even if the store is away just now. Never waits.

        Whoever wants to hear of the lease is told when that is done.
        """


class HeldLease:
    """See :class:`policies.limits.holding.Lease`. ``amounts`` are what is in reserve of each of ``demands``."""

    __slots__ = (
        "_changing", "_doubts", "_final", "_gone", "_growing", "_keeper",
        "amounts", "demands", "hear", "id", "is_behind", "known_at",
    )  # fmt: skip

    def __init__(self, keeper: Keeper, lease_id: str, demands: Sequence[Demand]) -> None:
        self._keeper = keeper
        self.id = lease_id
        self.demands = tuple(demand for demand in demands if demand.allowance.kind is not Kind.RATE)
        self.amounts = [demand.want for demand in self.demands]
        self._growing = _growing(self.demands)
        self._gone = [0] * len(self.demands)
        self._final: Spent | None = None
        self.known_at = 0.0
        """When the keeper last took notice of what was spent, by its own clock."""
        self.is_behind = False
        """Whether the account has had more since then: what a stream spent, and the keeper did not hear of."""
        self.hear: Callable[[Answer], None] | None = None
        self._changing: asyncio.Future[Answer] | None = None
        self._doubts: list[Step] = []
        """Reservations that may be there or not: the answer to an extension was lost."""

    def granted(self, demands: Sequence[Demand], answer: Answer) -> None:
        """Note what was not reserved: in shadow a request passes without."""
        overruns = {demand.key for demand, said in zip(demands, answer.figures, strict=True) if said.overrun}
        self.amounts = [0 if d.key in overruns else had for d, had in zip(self.demands, self.amounts, strict=True)]

    @property
    def grows(self) -> bool:
        """See :class:`policies.limits.holding.Lease`."""
        return bool(self._growing)

    def settle(self, spent: Spent) -> None:
        """See :class:`policies.limits.holding.Lease`."""
        if self._final is not None:
            return
        self._final = spent
        if self._changing is None:
            self._give_back(spent)

    def exceeds(self, expected: Spent) -> bool:
        """See :class:`policies.limits.holding.Lease`."""
        return any(expected.of(what) > self.amounts[place] + self._gone[place] for place, what in self._growing)

    def follow(self, allowances: Mapping[str, Allowance]) -> None:
        """See :class:`policies.limits.holding.Lease`."""
        now = [allowances.get(one.allowance.name) or replace(one.allowance, shadow=True) for one in self.demands]
        self.demands = tuple(replace(demand, allowance=one) for demand, one in zip(self.demands, now, strict=True))
        self._growing = _growing(self.demands)

    async def extend(self, expected: Spent, spent: Spent) -> Answer:
        """See :class:`policies.limits.holding.Lease`. One at a time: a second call waits for the first."""
        while self._changing is not None:
            await asyncio.wait([self._changing])
        if self._final is not None:
            return Answer(())
        steps = []
        for demand, had, gone in zip(self.demands, self.amounts, self._gone, strict=True):
            what = demand.allowance.what
            if not _grows(demand):
                steps.append(Step(demand, had, 0, had))
                continue
            more = max(spent.of(what) - gone, 0)
            steps.append(Step(demand, had, more, max(expected.of(what) - gone - more, had - more, 0)))
        changing = self._changing = self._keeper.change(self, steps)
        if changing.done():
            self._changed(steps, changing)
        else:
            changing.add_done_callback(lambda done: self._changed(steps, done))
        return await asyncio.shield(changing)

    def _changed(self, steps: Sequence[Step], done: asyncio.Future[Answer]) -> None:
        self._changing = None
        is_known = done.exception() is None and not done.result().unknown
        self.is_behind = not is_known and (self.is_behind or any(step.spent for step in steps))
        if (error := done.exception()) is not None:
            if not isinstance(error, NotDone):  # if it was, once more would be twice; if not, the account has it
                self._gone = [gone + step.spent for gone, step in zip(self._gone, steps, strict=True)]
            self._doubts += [Step(step.demand, step.want, 0, 0) for step in steps if step.want != step.had]
        elif not (answer := done.result()).unknown:
            for place, step in enumerate(steps):
                self._gone[place] += step.spent
                fitted = answer.refused_by is None and not answer.figures[place].overrun
                self.amounts[place] = step.want if fitted else min(step.want, max(step.had - step.spent, 0))
        if self._final is not None:
            self._give_back(self._final)

    def _give_back(self, spent: Spent) -> None:
        steps = [
            Step(demand, had, 0 if demand.allowance.kind is Kind.LEASE else spent.of(demand.allowance.what) - gone, 0)
            for demand, had, gone in zip(self.demands, self.amounts, self._gone, strict=True)
        ]
        self._keeper.give_back(self, steps + self._doubts)


def _growing(demands: Sequence[Demand]) -> list[tuple[int, What]]:
    return [(place, demand.allowance.what) for place, demand in enumerate(demands) if _grows(demand)]


def _grows(demand: Demand) -> bool:
    """Whether it grows while its request runs: audio and bytes do; in shadow it is enough to count them at the end."""
    return demand.allowance.what in (What.AUDIO, What.BYTES) and not demand.allowance.shadow


if TYPE_CHECKING:
    _promised: type[holding.Lease] = HeldLease

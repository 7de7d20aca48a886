"""What one request holds of its limits while it lasts: leases, and reservations of audio and bytes.

A request's price in audio is known when it has ended. So the best guess is reserved when it begins, all limits or none;
the reservation grows where the guess was low; and in the end it makes way for what was spent. All three are one
operation, a :class:`Step` on each limit. What is held expires unless it is renewed, so a crash frees it.

:func:`apply` is the rule. The Lua script in ``storage/redis`` is tested against it, and the in-process fallback is it.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from policies.limits.allowances import Allowance, Kind, What

RETRY_LEASE_MS = 1_000
"""When to come back for what others hold: nobody knows when it will be free, so soon, but not at once."""
NEVER = -1
"""A wait for what no wait brings: more than the whole allowance."""
_GRACE = 1e-6
"""The part of a unit that is forgiven: rounding must refuse nobody."""


class Spent(NamedTuple):
    """What a request comes to: milliseconds of audio, and bytes of its body."""

    audio_ms: int = 0
    bytes_in: int = 0
    requests: int = 1
    """0 for a request that was refused after all: the account does not count it either."""

    def of(self, what: What) -> int:
        """What it comes to in the unit of one kind of allowance."""
        if what is What.AUDIO:
            return self.audio_ms
        if what is What.REQUESTS:
            return self.requests
        return self.bytes_in if what is What.BYTES else 1


NOTHING_SPENT = Spent(requests=0)


@dataclass(frozen=True, slots=True)
class Demand:
    """One limit, and how much of it a request wants.

    ``key`` names its counter; ``ends_ms`` is a calendar period's end. ``least`` has to fit even where only ``want`` is
    reserved, because the request is known to come to as much.
    """

    allowance: Allowance
    key: str
    want: int
    ends_ms: int = 0
    least: int = 0

    @property
    def need(self) -> int:
        """What has to fit."""
        return max(self.want, self.least)


class Step(NamedTuple):
    """One change of one limit: from ``had`` in reserve to ``want``, and ``spent`` for good (negative: given back).

    ``least`` has to fit, and is not reserved.
    """

    demand: Demand
    had: int
    spent: int
    want: int
    least: int = 0

    @property
    def need(self) -> int:
        """What has to fit."""
        return max(self.want, self.least)


class Figure(NamedTuple):
    """What one limit says: units left, and milliseconds until it is whole again (0 for what is held)."""

    left: int
    reset_ms: int
    overrun: bool = False
    """It did not fit. In shadow that is all that happens."""
    unknown: bool = False
    """The counter of a calendar period is missing: it must be told what was used before."""
    used: int = 0
    """In a calendar period, units that are spent for good: whatever else is missing is only held."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one operation; ``figures`` are in the order of its steps.

    ``refused_by`` is a place in it, None when all fitted. ``retry_ms``: when what was refused may fit; :data:`NEVER`
    when it cannot.
    """

    figures: tuple[Figure, ...]
    refused_by: int | None = None
    retry_ms: int = 0

    @property
    def unknown(self) -> bool:
        """Whether a counter must be told before anything can be said. Then nothing was changed."""
        return any(figure.unknown for figure in self.figures)

    @property
    def admitted(self) -> bool:
        """Whether everything was taken and reserved."""
        return self.refused_by is None and not self.unknown


class Lease(Protocol):
    """What an admitted request holds. It is renewed until it is settled."""

    demands: tuple[Demand, ...]
    hear: Callable[[Answer], None] | None
    """Called when it has been settled, with what the limits say then, in the order of ``demands``."""

    @property
    def grows(self) -> bool:
        """Whether anything of it can be extended: audio or bytes, unless in shadow."""

    def settle(self, spent: Spent) -> None:
        """Give everything back and keep what was spent. Never waits; later calls do nothing."""

    def exceeds(self, expected: Spent) -> bool:
        """Whether more is expected than was reserved, so that :meth:`extend` is due. Costs next to nothing."""

    def follow(self, allowances: Mapping[str, Allowance]) -> None:
        """Go by these from here on, by their names; what is not among them any more refuses nobody."""

    def extend(self, expected: Spent, spent: Spent) -> Awaitable[Answer]:
        """Reserve up to ``expected`` in all, of which ``spent`` is gone for good and survives a crash.

        A refusal leaves the reservation as it was. Raises Unavailable.
        """


@dataclass(slots=True)
class Tally:
    """The state of one counter. ``tat_ms`` as in ``policies.limits.rates``; ``used`` is None until it is told."""

    tat_ms: float = 0.0
    used: int | None = None
    held: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By lease: how much, and until when."""


def apply(tallies: Sequence[Tally], lease: str, steps: Sequence[Step], now_ms: float, lease_ms: float) -> Answer:
    """Change all tallies; or, when one refuses, only by what was spent, which has happened and cannot be refused.

    Nobody holds anything for longer than a lease from now: the clock may have been set back.
    """
    until_ms = now_ms + lease_ms
    for tally in tallies:
        held = tally.held.items()
        tally.held = {who: (amount, min(until, until_ms)) for who, (amount, until) in held if until > now_ms}
    pairs = list(zip(tallies, steps, strict=True))
    if any(_is_unknown(tally, step) and step.need for tally, step in pairs):
        return Answer(tuple(Figure(0, 0, unknown=_is_unknown(*pair)) for pair in pairs))
    fits = [_lacks(tally, lease, step, now_ms) <= _GRACE for tally, step in pairs]
    refusing = [n for n, (fit, step) in enumerate(zip(fits, steps, strict=True)) if not (fit or _shadow(step))]
    waits = {n: _wait_ms(*pairs[n], lease, now_ms) for n in refusing}
    figures = []
    for fit, (tally, step) in zip(fits, pairs, strict=True):
        if not _is_unknown(tally, step):
            _change(tally, lease, step, now_ms, until_ms, grow=fit and not refusing)
        figures.append(_figure(tally, step, now_ms, overrun=not fit))
    if not refusing:
        return Answer(tuple(figures))
    worst = max(refusing, key=lambda n: math.inf if waits[n] == NEVER else waits[n])
    return Answer(tuple(figures), worst, waits[worst])


def _shadow(step: Step) -> bool:
    return step.demand.allowance.shadow


def _is_unknown(tally: Tally, step: Step) -> bool:
    return step.demand.allowance.kind is Kind.QUOTA and tally.used is None


def _own(tally: Tally, lease: str) -> int:
    """What this lease holds: less than it believes where it has expired."""
    return tally.held.get(lease, (0, 0.0))[0]


def _used(tally: Tally, allowance: Allowance, now_ms: float) -> float:
    """Units that are spent and have not refilled: bounded, so that a clock set back locks nobody out for long."""
    if allowance.kind is Kind.QUOTA:
        return tally.used or 0
    if allowance.kind is Kind.LEASE:
        return 0
    ahead = min(max(tally.tat_ms - now_ms, 0.0), _furthest_ms(allowance))
    return ahead * allowance.count / allowance.period_ms


def _furthest_ms(allowance: Allowance) -> float:
    """How far ahead a TAT may be. A window goes into debt, by what a request came to beyond its reservation."""
    return allowance.period_ms * (2.0 if allowance.kind is Kind.WINDOW else 1.0)


def _lacks(tally: Tally, lease: str, step: Step, now_ms: float) -> float:
    """How many units are missing. None are for what does not grow: that was granted before."""
    allowance, own = step.demand.allowance, _own(tally, lease)
    if step.need <= own - step.spent or not step.need:
        return 0.0
    others = sum(amount for amount, _ in tally.held.values()) - own
    return _used(tally, allowance, now_ms) + others + step.spent + step.need - allowance.count


def _wait_ms(tally: Tally, step: Step, lease: str, now_ms: float) -> int:
    allowance = step.demand.allowance
    if step.need + max(step.spent, 0) > allowance.count:
        return NEVER
    is_only_held = (tally.used or 0) + max(step.spent, 0) + step.need <= allowance.count
    if allowance.kind is Kind.LEASE or (allowance.kind is Kind.QUOTA and is_only_held):
        return RETRY_LEASE_MS
    if allowance.kind is Kind.QUOTA:
        return max(math.ceil(step.demand.ends_ms - now_ms), 1)
    lacks = _lacks(tally, lease, step, now_ms) - _GRACE
    return max(math.ceil(lacks * allowance.period_ms / allowance.count), 1)


def _change(tally: Tally, lease: str, step: Step, now_ms: float, until_ms: float, *, grow: bool) -> None:
    allowance = step.demand.allowance
    spent, want = step.spent, step.want
    own = _own(tally, lease)
    if not grow:
        want = min(want, max(own - max(spent, 0), 0))
    elif allowance.kind is Kind.RATE:
        spent, want = spent + want, 0
    tally.held.pop(lease, None)
    if want:
        tally.held[lease] = (want, until_ms)
    if allowance.kind is Kind.QUOTA:
        tally.used = max((tally.used or 0) + spent, 0)
    elif allowance.kind is not Kind.LEASE and (spent or tally.tat_ms > now_ms + _furthest_ms(allowance)):
        used = max(_used(tally, allowance, now_ms) + spent, 0.0)
        tally.tat_ms = now_ms + min(used * allowance.period_ms / allowance.count, _furthest_ms(allowance))


def _figure(tally: Tally, step: Step, now_ms: float, *, overrun: bool) -> Figure:
    allowance = step.demand.allowance
    used = _used(tally, allowance, now_ms)
    left = allowance.count - used - sum(amount for amount, _ in tally.held.values())
    reset_ms = 0
    if allowance.kind is Kind.QUOTA:
        reset_ms = max(math.ceil(step.demand.ends_ms - now_ms), 0)
    elif allowance.kind is not Kind.LEASE:
        reset_ms = math.ceil(used * allowance.period_ms / allowance.count - 1e-3)
    spent = (tally.used or 0) if allowance.kind is Kind.QUOTA else 0
    return Figure(max(math.floor(left + _GRACE), 0), reset_ms, overrun, _is_unknown(tally, step), spent)

"""Which of an upstream's addresses gets the next request, and what is learnt from how that went.

An address is in use until it fails a few times in a row. Then it is set aside, and one request at a time tries it::

    in use --(faults in a row)--> set aside --(its time has come: one request)--> on trial
      ^------------------ it went well --------------------------------------------'  |
                                  set aside, twice as long <--------- it failed ------'

An address to which no connection came about is tried with a connection alone when its time has come, so that it comes
back without a request of anybody. One that broke requests can only be tried with a request. Active checks, where they
are configured, take an address out of use and bring it back in the same way.

Two rules keep a service reachable. A fault *after* the connection stood (a reset, an answer that never came) does not
set aside the last address in use: such faults depend on the request, and there is nowhere better to go. And when every
address is set aside, one request at a time still tries the least bad one, whatever its time: a service that has come
back is used at once, and one that is gone costs one waiting request, not all of them.
"""

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When an address is set aside, and for how long. Times in seconds.

    ``faults`` in a row set it aside for ``aside_s``, doubled each time up to ``longest_s``; ``fall`` failed checks in a
    row take it out of use, ``rise`` passed ones bring it back.
    """

    faults: int = 3
    aside_s: float = 5.0
    longest_s: float = 60.0
    fall: int = 3
    rise: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known of one address. Times are those of the caller's clock, 0.0 for never.

    ``faults`` and ``checks`` count what came in a row, failed checks below zero; ``connecting`` says whether the last
    fault was that no connection came about; ``rounds`` how often it was set aside without a long good time between;
    ``trials`` how many were begun since the last news of it.
    """

    faults: int = 0
    connecting: bool = False
    until: float = 0.0
    trial_until: float = 0.0
    rounds: int = 0
    trials: int = 0
    back_at: float = 0.0
    passing: bool = True
    checks: int = 0

    @property
    def in_use(self) -> bool:
        """Whether requests go there as a matter of course."""
        return self.passing and not self.until

    @property
    def is_suspect(self) -> bool:
        """Whether good news about it would change anything."""
        return bool(self.faults or self.until or self.trial_until)


GOOD = Health()
"""The health of an address that nobody has complained about."""


def choose(
    healths: Sequence[Health], busy: Sequence[int], now: float, *, turn: int, tried: AbstractSet[int] = frozenset()
) -> int | None:
    """The index of the address that gets the next request, or None: refuse, or give up when some were tried.

    ``busy`` holds the requests in flight by address; of equals the next one from ``turn`` on is taken. ``tried`` are
    those that this very request has been to. An address whose time has come goes first: it could never come back
    otherwise.
    """
    left = [i for i in range(len(healths)) if i not in tried]
    due = [i for i in left if is_due(healths[i], now)]
    if due:
        return min(due, key=lambda i: healths[i].until)
    in_use = [i for i in left if healths[i].in_use]
    if in_use:
        after = next((place for place, i in enumerate(in_use) if i >= turn), 0)
        return in_use[least_busy([busy[i] for i in in_use], after)]
    if any(h.in_use or h.trial_until > now for h in healths):
        return None
    return min(left, key=lambda i: (not healths[i].passing, healths[i].until, healths[i].faults), default=None)


def least_busy(busy: list[int], turn: int) -> int:
    """The index of the least in a list that is not empty; of equals the next one from ``turn`` on."""
    turn %= len(busy)
    rotated = busy[turn:] + busy[:turn]
    return (turn + rotated.index(min(rotated))) % len(busy)


def is_due(health: Health, now: float) -> bool:
    """Whether it is set aside, its time has come, and nothing tries it yet."""
    return health.passing and 0.0 < health.until <= now and health.trial_until <= now


def is_half_open(health: Health, now: float) -> bool:
    """Whether it is set aside, and a request or connection is trying it or will be the next to do so."""
    return health.passing and bool(health.until) and (health.until <= now or health.trial_until > now)


def due_at(healths: Sequence[Health]) -> float:
    """When the next of those that are set aside may be tried; infinity when there is none."""
    return min((max(h.until, h.trial_until) for h in healths if h.passing and h.until), default=math.inf)


def begun(health: Health, rules: Rules, now: float, *, others: bool) -> Health:
    """A request goes there. To one that is set aside no other follows until it is known how this one went.

    If that is not told, because the client left or there is no answer for long, the next one may try after ``aside_s``.
    With ``others`` in use each one waits twice as long as the one before, up to ``longest_s``: an answer may take ten
    minutes, and an address that never gives one would have a request every few seconds all that time.
    """
    if health.in_use:
        return health
    pause_s = min(rules.aside_s * 2**health.trials, rules.longest_s) if others else rules.aside_s
    return replace(health, trial_until=now + pause_s, trials=min(health.trials + 1, 32))


def connected(health: Health, now: float) -> Health:
    """A connection stands. That is good news only of an address to which none could be made before."""
    return went_well(health, now) if health.connecting else health


def went_well(health: Health, now: float) -> Health:
    """The head of an answer has come, whatever its status."""
    back_at = now if health.until else health.back_at
    return replace(health, faults=0, connecting=False, until=0.0, trial_until=0.0, trials=0, back_at=back_at)


def failed(health: Health, rules: Rules, now: float, *, connecting: bool, others: bool) -> Health:
    """A request failed there without an answer. ``others``: whether another address is in use.

    ``connecting``: no connection came about. What fails while the address is set aside was sent before, unless a trial
    runs.
    """
    if health.until:
        if not health.trial_until:
            return health
        return _set_aside(health, rules, now, connecting=connecting)
    health = replace(health, faults=health.faults + 1, connecting=connecting, trial_until=0.0)
    if health.faults >= rules.faults and (connecting or others):
        return _set_aside(health, rules, now, connecting=connecting)
    return health


def _set_aside(health: Health, rules: Rules, now: float, *, connecting: bool) -> Health:
    """Back-off starts anew when the address was in use for longer than the longest one."""
    rounds = 1 if not health.until and now - health.back_at > rules.longest_s else min(health.rounds + 1, 32)
    aside_s = min(rules.aside_s * 2 ** (rounds - 1), rules.longest_s)
    return replace(
        health, connecting=connecting, until=now + aside_s, trial_until=0.0, rounds=rounds, trials=0, checks=0
    )


def checked(health: Health, rules: Rules, now: float, *, passed: bool) -> Health:
    """The outcome of an active check."""
    if passed:
        health = replace(health, checks=min(max(health.checks, 0) + 1, rules.rise))
        if not health.in_use and health.checks >= rules.rise:
            return replace(went_well(health, now), passing=True)
        return health
    health = replace(health, checks=max(min(health.checks, 0) - 1, -rules.fall))
    return replace(health, passing=False) if health.checks <= -rules.fall else health

"""Limits: what a request is charged, what is left, and how that is said on the wire.

A limit ``N/period`` admits a burst of N and refills evenly: the generic cell rate algorithm (GCRA, ITU-T I.371),
kept as one number a limit, the theoretical arrival time (TAT). A take is all or nothing over all its charges.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` per ``period_ms``, the burst being ``count``."""

    count: int
    period_ms: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``600/m``; the unit is one of s, m, h, d. Raises ValueError with a sentence for the reader."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a rate: write a whole number and a unit, such as 600/m (s, m, h or d)")
        return cls(int(match[1]), _UNITS_MS[match[2]])

    @property
    def interval_ms(self) -> float:
        """Between two requests of an even stream."""
        return self.period_ms / self.count

    def takes_ms(self, requests: int) -> int:
        """Whole milliseconds in which so many refill, or a little less."""
        return requests * self.period_ms // self.count

    def __str__(self) -> str:
        """``600/m`` again."""
        unit = next((u for u, ms in _UNITS_MS.items() if ms == self.period_ms), f"{self.period_ms}ms")
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True)
class Charge:
    """One limit that a request touches: its public name, the counter's key, and the rate."""

    name: str
    key: str
    rate: Rate


@dataclass(slots=True)
class Level:
    """What one limit says after a take. ``reset_ms``: until the full burst is available again.

    Immutable by use, as Taken is; a frozen dataclass costs a microsecond more to make, on every request.
    """

    charge: Charge
    remaining: int
    reset_ms: int


@dataclass(slots=True)
class Taken:
    """The answer to one take.

    ``figures`` holds for each charge in turn what remains and the milliseconds until it is full: flat, because most
    answers only write them down again; :attr:`levels` reads them apart. ``refused_by`` is the charge that did not fit
    and ``retry_ms`` when it will; both empty when admitted, and then every charge was taken. A refusal takes nothing.
    Equal requests that were taken together share their figures, which are the last one's: ``behind`` it so many were
    admitted, and what they took remained as yet.
    """

    charges: tuple[Charge, ...]
    figures: tuple[int, ...]
    refused_by: Charge | None = None
    retry_ms: int = 0
    behind: int = 0

    @classmethod
    def of(cls, levels: Sequence[Level], refused_by: Charge | None = None, retry_ms: int = 0) -> "Taken":
        """Make one from what each limit says."""
        figures = tuple(figure for level in levels for figure in (level.remaining, level.reset_ms))
        return cls(tuple(level.charge for level in levels), figures, refused_by, retry_ms)

    @property
    def levels(self) -> tuple[Level, ...]:
        """What each limit says."""
        figures = zip(self.charges, self.figures[::2], self.figures[1::2], strict=True)
        return tuple(Level(one, left + self.behind, ms - one.rate.takes_ms(self.behind)) for one, left, ms in figures)


FREE = Taken((), ())
"""The answer to a take of no charges."""


_GRACE_MS = 0.001
"""How much earlier than due a request may come: rounding (Redis keeps whole microseconds) must refuse nobody."""


def take(tats: Sequence[float], charges: Sequence[Charge], count: int, now_ms: float) -> tuple[int, list[float]]:
    """GCRA over several limits at once: how many of ``count`` equal requests fit, and the TATs afterwards.

    ``tats`` are milliseconds, one a charge, 0 for a limit never used. This is the model that the Lua script in
    ``storage/redis`` and the in-process fallback are tested against. Store the TATs of a refusal as well: they are
    the same, unless one was impossibly far ahead.
    """
    aheads = [_ahead_ms(tat, charge.rate, now_ms) for tat, charge in zip(tats, charges, strict=True)]
    fit = min([count, *(_fitting(ahead, charge.rate) for ahead, charge in zip(aheads, charges, strict=True))])
    if not fit:
        return 0, [min(tat, now_ms + ahead) for tat, ahead in zip(tats, aheads, strict=True)]
    return fit, [now_ms + a + fit * c.rate.interval_ms for a, c in zip(aheads, charges, strict=True)]


def level(tat: float, charge: Charge, now_ms: float) -> Level:
    """What is left of a limit whose TAT is known."""
    ahead = _ahead_ms(tat, charge.rate, now_ms)
    return Level(charge, _fitting(ahead, charge.rate), math.ceil(ahead - _GRACE_MS))


def retry_after_ms(tats: Sequence[float], charges: Sequence[Charge], now_ms: float) -> tuple[Charge, int]:
    """Which charge refuses the longest, and in how many milliseconds one more request would fit it."""
    waits = []
    for tat, charge in zip(tats, charges, strict=True):
        rate = charge.rate
        waits.append((max(_ahead_ms(tat, rate, now_ms) + rate.interval_ms - rate.period_ms, 0.0), charge))
    wait, charge = max(waits, key=lambda pair: pair[0])
    return charge, math.ceil(wait - _grace_ms(charge.rate))


def _ahead_ms(tat: float, rate: Rate, now_ms: float) -> float:
    """How far a TAT is ahead, at most one period.

    Neither a clock set back nor a limit that was just raised locks anybody out for longer than the limit itself can.
    """
    return min(max(tat - now_ms, 0.0), float(rate.period_ms))


def _fitting(ahead_ms: float, rate: Rate) -> int:
    """How many requests fit now."""
    return int((rate.period_ms - ahead_ms + _grace_ms(rate)) / rate.interval_ms)


def _grace_ms(rate: Rate) -> float:
    """Half a request at most, so that a burst is never one too many."""
    return min(_GRACE_MS, rate.interval_ms / 2)

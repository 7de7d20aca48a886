"""Where a calendar period's allowance is heading: a straight line through what was used so far, and no more.

What was used, over the part of the period that has passed, is the pace; the pace over the whole period is the forecast,
and where it crosses the allowance is the moment at which it will be used up. In the first twenty-fourth of a period (an
hour of a day, 30 hours of a month) one busy minute would foretell a catastrophe: nothing is said then.
"""

from dataclasses import dataclass

from policies.limits.calendars import Period

_LEAST_PART = 24


@dataclass(frozen=True, slots=True)
class Forecast:
    """In the allowance's own unit; ``at_end`` None: too early to say. ``exhausted_ms`` None: not in this period."""

    at_end: int | None
    exhausted_ms: int | None


def forecast(used: int, allowed: int, period: Period, now_ms: int) -> Forecast:
    """The forecast at an instant inside the period. What is used up already is so now."""
    passed, whole = now_ms - period.start_ms, period.end_ms - period.start_ms
    at_end = used * whole // passed if passed * _LEAST_PART >= whole else None
    if used >= allowed:
        return Forecast(at_end, now_ms)
    if at_end is None or at_end <= allowed:
        return Forecast(at_end, None)
    return Forecast(at_end, period.start_ms + allowed * passed // used)

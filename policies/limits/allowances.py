"""What operators grant: so many requests, bytes or seconds of audio in a time, so many requests or streams at one time.

Every allowance that fits a request holds: the tightest wins. One in ``shadow`` is counted and reported and refuses
nobody.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_WINDOWS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CALENDARS = ("day", "month")
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LENGTHS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_MOST = 2**53
"""Redis' Lua counts in doubles: whole numbers are exact up to here."""
_LONG_MS = 10 * 3_600_000


class What(enum.StrEnum):
    """What is counted. The figures are requests, bytes of request bodies, and milliseconds of audio."""

    REQUESTS = "requests"
    BYTES = "bytes"
    AUDIO = "audio"
    CONCURRENCY = "concurrency"
    """Requests in progress at one time; streams are not counted."""
    STREAMS = "streams"
    """WebSockets open at one time."""


class Scope(enum.StrEnum):
    """Whose allowance it is."""

    TENANT = "tenant"
    USER = "user"
    KEY = "key"
    ADDRESS = "address"
    """A client's address: IPv4 whole, IPv6 by its first 64 bits."""


class Kind(enum.StrEnum):
    """How it is counted; each has a rule of its own in ``policies.limits.holding``."""

    RATE = "rate"
    """Refills evenly (GCRA), and a request's price is known when it comes: one."""
    LEASE = "lease"
    """Held while it lasts."""
    WINDOW = "window"
    """Refills evenly; the price is known only when the request has ended, and is reserved until then."""
    QUOTA = "quota"
    """Begins anew with each calendar period; the price is known as late as with a window."""


_UNITS: Mapping[What, tuple[int, Mapping[str, int], str]] = {
    What.REQUESTS: (9, {"": 1}, "600/m, 5/s or 100000/month"),
    What.BYTES: (15, _SIZES, "500MB/h, 10GiB/day or 1TB/month"),
    What.AUDIO: (12, _LENGTHS_MS, "3600s/h, 90m/d or 100h/month"),
}
"""How many digits there may be, the units, and examples."""
_TYPED = re.compile(r"\s*([0-9]{1,3}(?:\s[0-9]{3})+|[0-9]+)\s*([A-Za-z]*)\s*(?:/\s*([a-z]+)\s*)?")
"""A limit with the blanks that people put between thousands, before units and around the stroke."""
_ALSO = {
    "sec": "s", "second": "s", "seconds": "s", "min": "m", "minute": "m", "minutes": "m", "hour": "h", "hours": "h",
}  # fmt: skip
"""Other words for units of time. A day has none: ``d`` is a window, ``day`` one of the calendar."""
_NEXT = re.compile(r"[;\n]|(?<![0-9]),|,(?![0-9]{3}(?![0-9]))|(?<=[A-Za-z])\s+(?=[0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """``count`` in ``period_ms`` (a window), in a ``calendar`` period ("day", "month"), or, with neither, at one time.

    ``route`` is the name of the one route that it is for; empty for all.
    """

    what: What
    count: int
    period_ms: int = 0
    calendar: str = ""
    scope: Scope = Scope.TENANT
    route: str = ""
    shadow: bool = False
    unit: str = field(default="", repr=False, compare=False)
    """In which it was written (``m``, ``GiB``), and is shown again; empty where that is not known, or none."""
    kind: Kind = field(init=False, repr=False, compare=False)
    """How it is counted."""
    name: str = field(init=False, repr=False, compare=False)
    """Its public name, in headers, refusals and metrics: ``key-audio-month``, ``user-streams:listen``."""

    def __post_init__(self) -> None:
        """What follows from the rest is asked for on every request."""
        calendar = f"-{self.calendar}" if self.calendar else ""
        route = f":{self.route}" if self.route else ""
        object.__setattr__(self, "kind", self._kind())
        object.__setattr__(self, "name", f"{self.scope}-{self.what}{calendar}{route}")

    @classmethod
    def parse(cls, what: What, text: str) -> "Allowance":
        """Read ``3600s/h``, ``100h/month``, ``10GB/d``, ``600/m`` or, for what is held, ``10``.

        Windows are s, m, h, d, calendar periods day and month. Raises ValueError with a sentence for the reader.
        """
        match = _TYPED.fullmatch(text)
        digits, unit, period = ("", "", "") if match is None else ("".join(match[1].split()), match[2], match[3] or "")
        if what in (What.CONCURRENCY, What.STREAMS):
            if unit or period or not re.fullmatch(r"[1-9][0-9]{0,8}", digits):
                raise ValueError(f"{text!r} is not a number of {_PLURAL[what]}: write a whole number such as 10")
            return cls(what=what, count=int(digits))
        most_digits, units, examples = _UNITS[what]
        unit, period = (unit if unit in units else _ALSO.get(unit, unit)), _ALSO.get(period, period)
        is_known = unit in units and (period in _WINDOWS_MS or period in _CALENDARS)
        if not is_known or not 0 < len(digits) <= most_digits:
            raise ValueError(
                f"{text!r} is not a limit of {what}: write such as {examples} (a window s, m, h or d; "
                "a calendar period day or month)"
            )
        count = int(digits) * units[unit]
        if not 0 < count <= _MOST:
            raise ValueError(f"{text!r} is out of range: from 1 up to {_MOST} {_PLURAL[what]}")
        return cls(
            what=what,
            count=count,
            period_ms=_WINDOWS_MS.get(period, 0),
            calendar=period if period in _CALENDARS else "",
            unit=unit,
        )

    def _kind(self) -> Kind:
        if self.calendar:
            return Kind.QUOTA
        if not self.period_ms:
            return Kind.LEASE
        return Kind.RATE if self.what is What.REQUESTS else Kind.WINDOW

    def __str__(self) -> str:
        """As :meth:`parse` reads it, in the unit in which it was written."""
        if self.kind is Kind.LEASE:
            return str(self.count)
        period = self.calendar or next((u for u, ms in _WINDOWS_MS.items() if ms == self.period_ms), "")
        return f"{self._amount()}/{period or f'{self.period_ms}ms'}"

    def _amount(self) -> str:
        size = _UNITS[self.what][1].get(self.unit, 0) if self.unit else 0
        if size and self.count % size == 0:
            return f"{self.count // size}{self.unit}"
        return amount_text(self.what, self.count)


def several(field: str) -> list[str]:
    """The limits of one kind that somebody has written in one field: ``600/m, 5 000/day``."""
    return [one.strip() for one in _NEXT.split(field) if one.strip()]


def check_apart(allowances: Iterable[Allowance]) -> None:
    """Check that no kind of limit has two windows, or two of one calendar period: only the last named would count.

    Raises ValueError with a sentence for the reader.
    """
    seen: dict[str, Allowance] = {}
    for one in allowances:
        other = seen.setdefault(one.name, one)
        if other is not one:
            unit = f"a {one.calendar}" if one.calendar else "a window" if one.period_ms else "at one time"
            raise ValueError(
                f"{str(other)!r} and {str(one)!r} are two limits of {one.what} for {unit}: give one of them"
            )


_PLURAL = {
    What.REQUESTS: "requests",
    What.BYTES: "bytes",
    What.AUDIO: "milliseconds of audio",
    What.CONCURRENCY: "requests at one time",
    What.STREAMS: "streams",
}


def amount_text(what: What, count: int) -> str:
    """A figure with a unit that fits: ``3600s``, ``100m``, ``100h``, ``10GB``, ``600``."""
    if what is What.AUDIO:
        if count >= _LONG_MS and count % 3_600_000 == 0:
            return f"{count // 3_600_000}h"
        if count > _LENGTHS_MS["h"] and count % _LENGTHS_MS["m"] == 0:
            return f"{count // _LENGTHS_MS['m']}m"
        return f"{count // 1000}s" if count % 1000 == 0 else f"{count / 1000:.3f}s"
    if what is What.BYTES:
        unit = next((u for u in ("TB", "GB", "MB", "KB") if count and count % _SIZES[u] == 0), "B")
        return f"{count // _SIZES[unit]}{unit}"
    return str(count)

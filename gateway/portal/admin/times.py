"""Ranges of time as people choose them: presets that end now, and days of the person's own calendar."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

UNITS: Final = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}


class Range(NamedTuple):
    """From ``since`` until before ``until``, in buckets of an hour or a day of UTC."""

    since: datetime
    until: datetime
    bucket: str

    @property
    def before(self) -> "Range":
        """As long a time, just before it."""
        return Range(self.since - (self.until - self.since), self.since, self.bucket)

    def starts(self) -> list[datetime]:
        """When each bucket begins; the first one may have begun before ``since``."""
        unit, at, found = UNITS[self.bucket], floor(self.since, self.bucket), []
        while at < self.until:
            found.append(at)
            at += unit
        return found

    def asked(self) -> dict[str, str]:
        """As the API takes it."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}


PRESETS: Final = {"24h": ("24 hours", "1h", 24), "7d": ("7 days", "1d", 7), "30d": ("30 days", "1d", 30)}
"""By name: what people call it, the bucket, and how many of them; the last one goes on."""


def lately(name: str, now: datetime) -> Range:
    """The range of a preset."""
    _, bucket, count = PRESETS[name]
    return Range(floor(now, bucket) - (count - 1) * UNITS[bucket], now, bucket)


_HOURS_UNTIL: Final = timedelta(days=3)
_MOST: Final = 400
"""So many bars can be told apart, and so many lines read."""


_EARLIEST: Final = datetime(1972, 1, 1, tzinfo=UTC)
"""As long a time before it is shown beside it, and nothing knows moments before 1970."""


def bucketed(since: datetime, until: datetime, bucket: str) -> Range:
    """A range of days that somebody chose; without a ``bucket``, in that which suits. Raises ValueError."""
    if since >= until:
        raise ValueError("This is after the end.")
    if since < _EARLIEST:
        raise ValueError(f"Nothing was used then. Ask for {_EARLIEST:%Y} or later.")
    chosen = bucket or ("1h" if until - since <= _HOURS_UNTIL else "1d")
    if (until - since) / UNITS[chosen] > _MOST:
        raise ValueError(f"Ask for {_MOST} {'hours' if chosen == '1h' else 'days'} at the most.")
    return Range(since, until, chosen)


def floor(moment: datetime, bucket: str) -> datetime:
    """When the bucket of UTC began that a moment is in."""
    at = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return at.replace(hour=0) if bucket == "1d" else at


def day_begins(text: str, zone: str, *, after: int = 0) -> datetime:
    """When a day (``2026-11-26``) begins in a time zone, or the day so many days ``after`` it. Raises ValueError."""
    try:
        day = date.fromisoformat(text) + timedelta(days=after)
    except (ValueError, OverflowError):
        raise ValueError("Write a day such as 2026-11-26.") from None
    return datetime.combine(day, time(), ZoneInfo(zone))

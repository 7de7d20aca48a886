"""Which book answers for which part of a range of time: whole days, whole hours, or the raw records at its edges."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Parts:
    """A range in five parts, any of which may be empty.

    since -raw- hours_from -hourly- days_from -daily- days_until -hourly- hours_until -raw- until
    """

    since: datetime
    hours_from: datetime
    days_from: datetime
    days_until: datetime
    hours_until: datetime
    until: datetime

    @property
    def cuts(self) -> tuple[datetime, datetime, datetime, datetime, datetime, datetime]:
        """All six, in order."""
        return (self.since, self.hours_from, self.days_from, self.days_until, self.hours_until, self.until)


def cut(since: datetime, until: datetime, *, by_hour: bool = False) -> Parts:
    """Cut ``[since, until)``; ``by_hour``: days are of no use. Raises ValueError for an instant without a time zone."""
    for instant in (since, until):
        if instant.utcoffset() is None:
            raise ValueError(f"{instant.isoformat()} has no time zone: usage is asked for between instants.")
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    until = max(since, until)
    hours_from, hours_until = _up(since, _HOUR), _down(until, _HOUR)
    if hours_from > hours_until:
        return Parts(since, until, until, until, until, until)
    days_from, days_until = _up(hours_from, _DAY), _down(hours_until, _DAY)
    if by_hour or days_from > days_until:
        return Parts(since, hours_from, hours_until, hours_until, hours_until, until)
    return Parts(since, hours_from, days_from, days_until, hours_until, until)


def day_of(instant: datetime) -> datetime:
    """The start of an instant's UTC day."""
    return _down(instant.astimezone(UTC), _DAY)


def _down(instant: datetime, unit: timedelta) -> datetime:
    whole = instant.replace(minute=0, second=0, microsecond=0)
    return whole.replace(hour=0) if unit == _DAY else whole


def _up(instant: datetime, unit: timedelta) -> datetime:
    whole = _down(instant, unit)
    return whole if whole == instant else whole + unit

"""Calendar periods of a tenant: days and months in its own time zone, months from its own anchor day.

A period is a pair of instants, so that what falls into it needs no calendar any more. Months that lack the anchor day
begin on their last day. Where a clock is set over midnight (or midnight happens twice), the day begins at the first
instant that the zone calls by that date.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """Milliseconds since the Unix epoch, the end exclusive; ``label`` is its first day, ``2026-11-15``."""

    label: str
    start_ms: int
    end_ms: int

    @property
    def start(self) -> datetime:
        """In UTC, as the end."""
        return _EPOCH + timedelta(milliseconds=self.start_ms)

    @property
    def end(self) -> datetime:
        """Exclusive."""
        return _EPOCH + timedelta(milliseconds=self.end_ms)


@dataclass(frozen=True, slots=True)
class Calendar:
    """``zone`` is a name of the IANA database; ``anchor_day`` (1 to 31) is the day that a month begins with."""

    zone: str = "UTC"
    anchor_day: int = 1

    @classmethod
    def checked(cls, zone: str, anchor_day: int) -> "Calendar":
        """Raises ValueError with a sentence for the reader."""
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Europe" is a directory
            raise ValueError(f"{zone!r} is not a time zone: write such as UTC or Europe/Berlin") from None
        if not 1 <= anchor_day <= 31:
            raise ValueError(f"{anchor_day} is not a day of a month: write 1 to 31")
        return cls(zone, anchor_day)

    def period(self, kind: str, now_ms: int) -> Period:
        """The "day" or "month" that an instant falls into.

        Asked for with every request that such a period bounds, so the last one is remembered.
        """
        known = _lately.get((self, kind))
        if known is None or not known.start_ms <= now_ms < known.end_ms:
            if len(_lately) >= _MOST_LATELY:
                _lately.clear()
            known = _lately[(self, kind)] = self._period(kind, now_ms)
        return known

    def _period(self, kind: str, now_ms: int) -> Period:
        zone = ZoneInfo(self.zone)
        today = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(zone).date()
        found = self._of_date(kind, today, zone)
        if now_ms >= found.end_ms:  # a clock was set back over midnight: the new date has begun, once
            return self._of_date(kind, today + timedelta(days=1), zone)
        return found

    def _of_date(self, kind: str, today: date, zone: ZoneInfo) -> Period:
        if kind == "day":
            return _period(today, today + timedelta(days=1), zone)
        first = self._anchor(today.year, today.month)
        return self.month(*((first.year, first.month) if first <= today else _month_before(first)))

    def month(self, year: int, month: int) -> Period:
        """The one that begins in this month."""
        first = self._anchor(year, month)
        return _period(first, self._anchor(*_month_after(first)), ZoneInfo(self.zone))

    def _anchor(self, year: int, month: int) -> date:
        after = date(*_month_after(date(year, month, 1)), 1)
        return date(year, month, min(self.anchor_day, (after - timedelta(days=1)).day))


UTC_MONTHS = Calendar()

_lately: dict[tuple[Calendar, str], Period] = {}
_MOST_LATELY = 10_000


def _month_before(day: date) -> tuple[int, int]:
    return (day.year, day.month - 1) if day.month > 1 else (day.year - 1, 12)


def _month_after(day: date) -> tuple[int, int]:
    return (day.year, day.month + 1) if day.month < 12 else (day.year + 1, 1)


def _period(first: date, after: date, zone: ZoneInfo) -> Period:
    return Period(first.isoformat(), _midnight_ms(first, zone), _midnight_ms(after, zone))


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    """The first instant that the zone calls by this date.

    A midnight that a step forward skips is read with the offset before the step (fold 0): that is the step itself.
    """
    return (datetime(day.year, day.month, day.day, tzinfo=zone) - _EPOCH) // timedelta(milliseconds=1)

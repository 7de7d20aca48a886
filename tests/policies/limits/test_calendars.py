"""Days and months of a tenant: every instant falls into exactly one, whatever zones and anchor days do to the clock."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits.calendars import Calendar

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Pacific/Apia", "America/Sao_Paulo", "Pacific/Kiritimati", "America/Havana", "Africa/Casablanca", "Asia/Tehran",
    "America/St_Johns",
]  # fmt: skip


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


BERLIN, SAO, APIA = "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"
EXAMPLES = [
    # zone, anchor day, kind, now, first day, start, end (exclusive)
    ("UTC", 1, "month", "2026-11-26T10:00Z", "2026-11-01", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
    ("UTC", 1, "day", "2026-11-26T10:00Z", "2026-11-26", "2026-11-26T00:00Z", "2026-11-27T00:00Z"),
    (BERLIN, 1, "month", "2026-10-31T23:30Z", "2026-11-01", "2026-11-01T00:00+01:00", "2026-12-01T00:00+01:00"),
    (BERLIN, 1, "month", "2026-10-15T00:00Z", "2026-10-01", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"),
    ("UTC", 15, "month", "2026-11-14T23:59Z", "2026-10-15", "2026-10-15T00:00Z", "2026-11-15T00:00Z"),
    ("UTC", 15, "month", "2026-11-15T00:00Z", "2026-11-15", "2026-11-15T00:00Z", "2026-12-15T00:00Z"),
    # the 31st of months that have none is their last day
    ("UTC", 31, "month", "2026-02-28T00:00Z", "2026-02-28", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
    ("UTC", 31, "month", "2026-02-27T23:00Z", "2026-01-31", "2026-01-31T00:00Z", "2026-02-28T00:00Z"),
    ("UTC", 30, "month", "2028-02-29T00:00Z", "2028-02-29", "2028-02-29T00:00Z", "2028-03-30T00:00Z"),
    ("UTC", 5, "month", "2026-01-01T00:00Z", "2025-12-05", "2025-12-05T00:00Z", "2026-01-05T00:00Z"),
    # a day of 23 hours, a midnight that is skipped, a date that never was
    (BERLIN, 1, "day", "2026-03-29T12:00Z", "2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
    (SAO, 1, "day", "2018-11-04T12:00Z", "2018-11-04", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
    (APIA, 1, "day", "2011-12-30T09:59Z", "2011-12-29", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
    (APIA, 1, "day", "2011-12-30T10:00Z", "2011-12-31", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
    # a minute past midnight it was 23:01 of the day before again: that day is over all the same
    ("America/St_Johns", 1, "day", "2005-10-30T02:29Z", "2005-10-29", "2005-10-29T02:30Z", "2005-10-30T02:30Z"),
    ("America/St_Johns", 1, "day", "2005-10-30T03:00Z", "2005-10-30", "2005-10-30T02:30Z", "2005-10-31T03:30Z"),
    ("America/St_Johns", 30, "month", "2005-10-30T03:00Z", "2005-10-30", "2005-10-30T02:30Z", "2005-11-30T03:30Z"),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "anchor", "kind", "now", "label", "start", "end"), EXAMPLES)
def test_periods_by_example(zone: str, anchor: int, kind: str, now: str, label: str, start: str, end: str) -> None:
    period = Calendar(zone, anchor).period(kind, ms(now))
    assert (period.label, period.start_ms, period.end_ms) == (label, ms(start), ms(end))
    assert (period.start, period.end) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


@given(
    zone=st.sampled_from(ZONES),
    anchor=st.integers(1, 31),
    kind=st.sampled_from(["day", "month"]),
    now_ms=st.integers(ms("1995-01-01T00:00+00:00"), ms("2060-01-01T00:00+00:00")),
)
def test_periods_lie_side_by_side(zone: str, anchor: int, kind: str, now_ms: int) -> None:
    """No instant is in two and none is in none: the end of one is the start of the next, and all of one agree."""
    calendar = Calendar(zone, anchor)
    period = calendar.period(kind, now_ms)
    assert period.start_ms <= now_ms < period.end_ms
    assert calendar.period(kind, period.start_ms) == period
    assert calendar.period(kind, period.end_ms - 1) == period
    after = calendar.period(kind, period.end_ms)
    assert after.start_ms == period.end_ms
    assert calendar.period(kind, period.start_ms - 1).end_ms == period.start_ms
    days = (period.end_ms - period.start_ms) / 86_400_000
    assert (0 < days < 1.1) if kind == "day" else (26.9 < days < 32.1)


@given(zone=st.sampled_from(ZONES), anchor=st.integers(1, 31), day=st.dates(date(1996, 1, 1), date(2059, 1, 1)))
def test_a_month_begins_on_its_anchor_day_or_its_last(zone: str, anchor: int, day: date) -> None:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone))
    period = Calendar(zone, anchor).period("month", int(noon.timestamp() * 1000))
    first = date.fromisoformat(period.label)
    last_day = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    assert first.day == min(anchor, last_day.day)
    assert Calendar(zone, anchor).month(first.year, first.month) == period


@pytest.mark.parametrize(
    ("zone", "day"), [("Mars/Olympus", 1), ("", 1), ("../etc/passwd", 1), ("Europe", 1), ("UTC", 0), ("UTC", 32)]
)
def test_what_is_no_calendar_is_refused(zone: str, day: int) -> None:
    with pytest.raises(ValueError, match=r"is not a (time zone|day of a month)"):
        Calendar.checked(zone, day)

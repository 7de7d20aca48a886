"""A range of time is cut so that every instant is answered for once, by the coarsest book that can."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.postgres.usage.ranges import cut

INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 5)).map(lambda naive: naive.replace(tzinfo=UTC)) | (  # noqa: DTZ001  Hypothesis takes naive bounds
    st.integers(0, 100).map(lambda hours: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours))
)


@given(since=INSTANTS, until=INSTANTS, by_hour=st.booleans())
def test_the_parts_follow_one_another_and_are_whole_in_their_unit(
    since: datetime, until: datetime, *, by_hour: bool
) -> None:
    parts = cut(since, until, by_hour=by_hour)
    assert list(parts.cuts) == sorted(parts.cuts)
    assert (parts.since, parts.until) == (since, max(since, until))
    for hourly in ((parts.hours_from, parts.days_from), (parts.days_until, parts.hours_until)):
        assert hourly[0] == hourly[1] or all(
            instant.minute == instant.second == instant.microsecond == 0 for instant in hourly
        )
    if parts.days_from < parts.days_until:
        assert not by_hour
        assert all(instant == instant.replace(hour=0, minute=0, second=0, microsecond=0) for instant in parts.cuts[2:4])


@given(INSTANTS, INSTANTS)
def test_raw_records_are_read_for_less_than_an_hour_at_each_edge(since: datetime, until: datetime) -> None:
    parts = cut(since, until)
    hour = timedelta(hours=1)
    # Two edges without a whole hour between them may be one stretch.
    assert parts.hours_from - parts.since < 2 * hour
    assert parts.until - parts.hours_until < hour
    assert parts.days_from - parts.hours_from < timedelta(days=2)


def test_a_zone_is_taken_into_account() -> None:
    local = timezone(timedelta(hours=5, minutes=30))
    parts = cut(datetime(2026, 1, 1, 5, 30, tzinfo=local), datetime(2026, 1, 3, 5, 30, tzinfo=local))
    assert (parts.days_from, parts.days_until) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))


def test_an_instant_without_a_zone_is_no_instant() -> None:
    with pytest.raises(ValueError, match="time zone"):
        cut(datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC))  # noqa: DTZ001  that is the point

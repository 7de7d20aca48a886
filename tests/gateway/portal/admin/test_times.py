"""Ranges that people choose: whole buckets of UTC, and days of their own calendar."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.portal.admin.times import PRESETS, Range, day_begins, lately

NOW = datetime(2026, 3, 29, 10, 20, tzinfo=UTC)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_so_many_buckets_and_the_last_goes_on(name: str) -> None:
    _, bucket, count = PRESETS[name]
    made = lately(name, NOW)
    starts = made.starts()
    assert len(starts) == count
    assert starts[0] == made.since
    assert starts[-1] <= NOW < starts[-1] + (starts[1] - starts[0])
    assert (made.before.until, made.until - made.since) == (made.since, made.since - made.before.since)
    assert made.bucket == bucket


def test_a_range_that_begins_within_a_bucket_has_that_bucket() -> None:
    made = Range(NOW, NOW + timedelta(hours=1), "1h")
    assert [at.hour for at in made.starts()] == [10, 11]


def test_a_day_is_the_persons_and_may_have_23_hours() -> None:
    begins = day_begins("2026-03-29", "Europe/Berlin")
    assert begins == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert day_begins("2026-03-29", "Europe/Berlin", after=1) - begins.astimezone(UTC) == timedelta(hours=23)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "9999-12-31", "0001-01-01 "])
def test_what_is_no_day_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="Write a day"):
        day_begins(text, "UTC", after=1)

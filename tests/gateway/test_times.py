from datetime import UTC, datetime, timedelta, timezone

from gateway import times


def test_a_moment_is_told_in_utc() -> None:
    moment = datetime(2026, 11, 26, 9, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=2)))
    assert times.stamp(moment) == "2026-11-26T07:30:00Z"
    assert times.stamp(moment, "milliseconds") == "2026-11-26T07:30:00.123Z"
    assert times.maybe_stamp(None) is None
    assert times.maybe_stamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"

"""A straight line: by hand in a table, and what must hold of it whatever was used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits.calendars import Period
from policies.limits.forecast import Forecast, forecast

HOUR = 3_600_000
DAY = Period("2026-11-26", 0, 24 * HOUR)


@pytest.mark.parametrize(
    ("used", "allowed", "hours", "said"),
    [
        (50, 100, 12, Forecast(100, None)),
        (60, 100, 12, Forecast(120, 20 * HOUR)),
        (10, 100, 12, Forecast(20, None)),
        (0, 100, 12, Forecast(0, None)),
        (100, 100, 12, Forecast(200, 12 * HOUR)),
        (140, 100, 12, Forecast(280, 12 * HOUR)),
        (90, 100, 0.5, Forecast(None, None)),
        (100, 100, 0.5, Forecast(None, HOUR // 2)),
        (5, 100, 1, Forecast(120, 20 * HOUR)),
    ],
)
def test_a_forecast_is_the_straight_line_reckoned_by_hand(
    used: int, allowed: int, hours: float, said: Forecast
) -> None:
    assert forecast(used, allowed, DAY, round(hours * HOUR)) == said


@given(used=st.integers(0, 2**53), allowed=st.integers(1, 2**53), now_ms=st.integers(0, 24 * HOUR - 1))
def test_no_forecast_is_below_what_was_used_and_no_end_is_past_or_beyond_the_period(
    used: int, allowed: int, now_ms: int
) -> None:
    said = forecast(used, allowed, DAY, now_ms)
    assert said.at_end is None or said.at_end >= used
    assert said.exhausted_ms is None or now_ms <= said.exhausted_ms < DAY.end_ms
    if said.at_end is not None:
        assert (said.exhausted_ms is not None) == (said.at_end > allowed or used >= allowed)

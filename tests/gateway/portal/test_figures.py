"""Figures as people read them."""

import pytest

from gateway.portal.web import figures
from policies.limits.allowances import What


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0"),
        (600, "0.01"),
        (30_000, "0.50"),
        (60_000, "1.0"),
        (90_000, "1.5"),
        (360_000_000, "6,000.0"),
        (-200, "0.00"),
        (-1_200, "-0.02"),
        (-90_000, "-1.5"),
    ],
)
def test_audio_is_in_minutes(milliseconds: int, text: str) -> None:
    assert figures.minutes(milliseconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (999_960, "1.0 MB"), (3 * 10**15, "3000.0 TB")]
)
def test_bytes_have_the_unit_that_fits(count: int, text: str) -> None:
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(43_200, "12 hours"), (86_400, "1 day"), (60, "1 minute"), (5_400, "90 minutes"), (61, "61 seconds")],
)
def test_times_have_the_unit_that_fits(seconds: int, text: str) -> None:
    assert figures.span(seconds) == text


def test_every_kind_of_limit_has_its_unit() -> None:
    assert [figures.amount(1_500_000, what) for what in What] == [
        "1,500,000", "1.5 MB", "25.0 min", "1,500,000", "1,500,000"
    ]  # fmt: skip

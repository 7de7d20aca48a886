"""What operators write is read as they mean it, or refused with a sentence; never an exception of another kind."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import values
from gateway.cli.values import Written, read_duration, read_instant

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("90d", timedelta(days=90)),
        ("2w", timedelta(weeks=2)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, meant: timedelta) -> None:
    assert read_duration(text) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T07:30", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("2026-11-01T07:30:00Z", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("2026-11-01T07:30:00+02:00", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)),
        ("24h", NOW - timedelta(hours=24)),
    ],
)
def test_an_instant_is_a_date_a_time_or_so_long_ago(text: str, meant: datetime) -> None:
    assert read_instant(text, NOW, -1) == meant


@pytest.mark.parametrize(
    "text", ["", "1", "d", "-1d", "1.5h", "1y", "\N{SUPERSCRIPT TWO}d", "1d ", "1D", "9" * 10 + "s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        read_duration(text)


@pytest.mark.parametrize("text", ["999999999d", "999999999w", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59"])
def test_what_no_calendar_holds(text: str) -> None:
    with pytest.raises(ValueError, match=r"calendar|is not a time"):
        read_instant(text, NOW, 1)


KINDS = [kind for kind in vars(values).values() if isinstance(kind, Written)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(text=st.text(max_size=30) | st.from_regex(r"[0-9T:+-]{1,25}[smhdwZ]?", fullmatch=True))
def test_any_text_is_read_or_refused(kind: Written, text: str) -> None:
    with suppress(click.BadParameter):
        kind.convert(text, None, None)

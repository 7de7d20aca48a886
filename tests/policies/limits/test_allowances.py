"""What operators write for a limit: read, written back, and refused with a sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits.allowances import Allowance, Kind, Scope, What, amount_text, check_apart, several

READ = [
    (What.REQUESTS, "600/m", 600, 60_000, "", Kind.RATE),
    (What.REQUESTS, "100000/month", 100_000, 0, "month", Kind.QUOTA),
    (What.AUDIO, "3600s/h", 3_600_000, 3_600_000, "", Kind.WINDOW),
    (What.AUDIO, "90m/d", 5_400_000, 86_400_000, "", Kind.WINDOW),
    (What.AUDIO, "100h/month", 360_000_000, 0, "month", Kind.QUOTA),
    (What.AUDIO, "2h/day", 7_200_000, 0, "day", Kind.QUOTA),
    (What.BYTES, "10GB/d", 10**10, 86_400_000, "", Kind.WINDOW),
    (What.BYTES, "1GiB/day", 2**30, 0, "day", Kind.QUOTA),
    (What.BYTES, "500/s", 500, 1_000, "", Kind.WINDOW),
    (What.CONCURRENCY, "10", 10, 0, "", Kind.LEASE),
    (What.STREAMS, "5", 5, 0, "", Kind.LEASE),
]


@pytest.mark.parametrize(("what", "text", "count", "period_ms", "calendar", "kind"), READ)
def test_an_allowance_is_read_and_written_alike(
    what: What, text: str, count: int, period_ms: int, calendar: str, kind: Kind
) -> None:
    read = Allowance.parse(what, text)
    assert (read.count, read.period_ms, read.calendar, read.kind) == (count, period_ms, calendar, kind)
    assert Allowance.parse(what, str(read)) == read


@pytest.mark.parametrize(
    ("what", "typed", "text"),
    [
        (What.AUDIO, "10 min/day", "10m/day"), (What.AUDIO, " 100 hours / month ", "100h/month"),
        (What.AUDIO, "90sec/minute", "90s/m"), (What.REQUESTS, "1 000/m", "1000/m"),
        (What.REQUESTS, "1\u202f000\u00a0000/month", "1000000/month"), (What.REQUESTS, "5/min", "5/m"),
        (What.BYTES, "10 GB/day", "10GB/day"), (What.CONCURRENCY, "1 000", "1000"), (What.STREAMS, " 5 ", "5"),
    ],
)  # fmt: skip
def test_what_people_type_is_understood_where_it_can_mean_one_thing(what: What, typed: str, text: str) -> None:
    """Blanks between thousands and before units, and the usual words."""
    assert str(Allowance.parse(what, typed)) == text


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("600/m, 5000/day", ["600/m", "5000/day"]), ("600/m,100/day", ["600/m", "100/day"]),
        ("600/m 5 000/day", ["600/m", "5 000/day"]),
        ("10 min/day;100 h/month\n1h/h", ["10 min/day", "100 h/month", "1h/h"]), ("1,000/m", ["1,000/m"]),
        ("1 000/m,5000/day,", ["1 000/m", "5000/day"]), (" ", []), ("10", ["10"]),
    ],
)  # fmt: skip
def test_limits_in_one_field_are_told_apart(field: str, found: list[str]) -> None:
    """By commas, or by a blank behind a period; so that what is refused is named whole."""
    assert several(field) == found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (What.AUDIO, "100m/month"), (What.AUDIO, "3600s/h"), (What.AUDIO, "30m/d"), (What.AUDIO, "1h/day"),
        (What.BYTES, "10GiB/day"), (What.BYTES, "1000MB/h"), (What.BYTES, "5B/s"), (What.REQUESTS, "600/m"),
    ],
)  # fmt: skip
def test_a_limit_is_shown_in_the_unit_in_which_it_was_written(what: What, text: str) -> None:
    written = Allowance.parse(what, text)
    assert str(written) == text


def test_a_share_that_is_not_whole_in_that_unit_is_shown_in_another() -> None:
    assert str(replace(Allowance.parse(What.AUDIO, "1h/day"), count=1_800_000)) == "1800s/day"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (What.REQUESTS, "600"), (What.REQUESTS, "0/m"), (What.REQUESTS, "600/w"), (What.REQUESTS, "6s/m"),
        (What.REQUESTS, "1/month/day"), (What.REQUESTS, "-1/m"), (What.REQUESTS, ""), (What.REQUESTS, "٦/m"),
        (What.AUDIO, "3600/h"), (What.AUDIO, "1.5h/d"), (What.AUDIO, "1d/month"), (What.AUDIO, "999999999999h/d"),
        (What.BYTES, "1XB/h"), (What.BYTES, "GB/h"), (What.BYTES, "1 G B/h"), (What.BYTES, "999999TB/d"),
        (What.REQUESTS, "1,000/m"), (What.REQUESTS, "1.000/m"), (What.REQUESTS, "10 00/m"), (What.REQUESTS, "600 m"),
        (What.AUDIO, "10 min"), (What.AUDIO, "10min/days"),
        (What.CONCURRENCY, "0"), (What.CONCURRENCY, "5/m"), (What.STREAMS, "many"), (What.STREAMS, "1000000000"),
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused_with_a_sentence(what: What, text: str) -> None:
    with pytest.raises(ValueError, match=r"write (such as|a whole number)|out of range"):
        Allowance.parse(what, text)


@given(
    what=st.sampled_from([What.AUDIO, What.BYTES, What.REQUESTS]),
    count=st.integers(1, 999_999_999),
    period=st.sampled_from(["s", "m", "h", "d", "day", "month"]),
)
def test_every_limit_survives_its_own_spelling(what: What, count: int, period: str) -> None:
    unit = {What.AUDIO: "s", What.BYTES: "B"}.get(what, "")
    read = Allowance.parse(what, f"{count}{unit}/{period}")
    assert Allowance.parse(what, str(read)) == read


def test_names_are_public_and_tell_limits_apart() -> None:
    limit = Allowance.parse(What.AUDIO, "100h/month")
    assert limit.name == "tenant-audio-month"
    routed = Allowance(what=What.STREAMS, count=1, scope=Scope.KEY, route="deepgram.listen")
    assert routed.name == "key-streams:deepgram.listen"


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        (What.REQUESTS, ("600/m", "10/s")),
        (What.AUDIO, ("1h/day", "2h/day")),
        (What.STREAMS, ("5", "6")),
        (What.BYTES, ("1GB/h", "1GB/h")),
    ],
)
def test_two_limits_that_would_be_one_are_refused_and_neither_is_dropped_unsaid(
    what: What, texts: tuple[str, str]
) -> None:
    """A window and each calendar period are limits of their own; two windows are not."""
    first, second = (Allowance.parse(what, text) for text in texts)
    with pytest.raises(ValueError, match=f"are two limits of {what} for .*: give one of them"):
        check_apart([first, second])
    check_apart([first])
    check_apart(Allowance.parse(What.AUDIO, text) for text in ("60s/m", "1h/day", "100h/month"))


@pytest.mark.parametrize(
    ("what", "count", "text"),
    [
        (What.AUDIO, 1_500, "1.500s"), (What.AUDIO, 0, "0s"), (What.AUDIO, 3_600_000, "3600s"),
        (What.AUDIO, 36_000_000, "10h"), (What.AUDIO, 6_000_000, "100m"), (What.BYTES, 1_500, "1500B"),
        (What.BYTES, 2_000_000, "2MB"), (What.BYTES, 0, "0B"), (What.REQUESTS, 7, "7"),
    ],
)  # fmt: skip
def test_figures_have_units(what: What, count: int, text: str) -> None:
    assert amount_text(what, count) == text

"""The arithmetic of limits: a burst of N, an even refill, all or nothing, and figures that can be relied on."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits.rates import Charge, Level, Rate, level, retry_after_ms, take

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
GRACE_MS = 0.0011
"""A microsecond, and what floating point adds to it."""

rates = st.builds(Rate, st.integers(1, 2_000), st.sampled_from(sorted(UNITS.values())))
several = st.lists(rates, min_size=1, max_size=3).map(
    lambda rates: tuple(Charge(f"limit-{n}", f"k{n}", rate) for n, rate in enumerate(rates))
)


def pauses(longest: float = 1.5) -> st.SearchStrategy[list[float]]:
    """Waits between requests, as parts of a limit's interval: often none, often about one."""
    parts = st.one_of(st.just(0.0), st.floats(0.0, longest), st.sampled_from([0.5, 0.999, 1.0, 1.001]))
    return st.lists(parts, min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/s", Rate(1, 1_000)),
        ("600/m", Rate(600, 60_000)),
        ("5/h", Rate(5, 3_600_000)),
        ("999999999/d", Rate(999_999_999, 86_400_000)),
    ],
)
def test_a_rate_is_read_and_written_alike(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert str(rate) == text


@pytest.mark.parametrize(
    "text",
    ["", "600", "/m", "0/s", "00/s", "-1/s", "+1/s", "1.5/s", "1e3/s", "600/M", "600/min", "600 / m", " 600/m",
     "600/m\n", "٦/m", "1000000000/s", "1/s/s", "1/w", "0x10/s", "1_000/s"],
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a rate: write a whole number and a unit, such as 600/m"):
        Rate.parse(text)


@given(rates)
def test_every_rate_survives_its_own_spelling(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


def test_a_rate_of_an_odd_period_says_so() -> None:
    assert str(Rate(3, 90_000)) == "3/90000ms"


@given(rate=rates, now=st.floats(0, 1e9))
def test_a_full_burst_passes_at_once_and_not_one_more(rate: Rate, now: float) -> None:
    """In one piece, and one by one."""
    charges = (Charge("a", "k", rate),)
    assert take([0.0], charges, rate.count + 5, now)[0] == rate.count
    tats = [0.0]
    for left in reversed(range(rate.count)):
        admitted, tats = take(tats, charges, 1, now)
        assert admitted == 1
        assert level(tats[0], charges[0], now).remaining == left
    assert take(tats, charges, 1, now)[0] == 0


@given(charges=several, counts=st.lists(st.integers(1, 500), max_size=6), now=st.floats(0, 1e9))
def test_a_take_is_all_or_nothing(charges: tuple[Charge, ...], counts: list[int], now: float) -> None:
    """Every counter moves by what was admitted, or none moves at all; never further than its burst."""
    tats = [0.0] * len(charges)
    for count in counts:
        admitted, after = take(tats, charges, count, now)
        assert 0 <= admitted <= count
        for before, then, charge in zip(tats, after, charges, strict=True):
            moved = then - max(before, now) if admitted else then - before
            assert moved == pytest.approx(admitted * charge.rate.interval_ms, abs=1e-3)
            assert then - now <= charge.rate.period_ms + GRACE_MS
        tats = after


@given(charges=several, count=st.integers(1, 50), used=st.integers(0, 50), now=st.floats(0, 1e9))
def test_equal_requests_together_fare_as_they_do_one_by_one(
    charges: tuple[Charge, ...], count: int, used: int, now: float
) -> None:
    _, tats = take([0.0] * len(charges), charges, used, now)
    together, after = take(tats, charges, count, now)
    one_by_one = 0
    for _ in range(count):
        admitted, tats = take(tats, charges, 1, now)
        one_by_one += admitted
    assert together == one_by_one
    assert tats == pytest.approx(after, abs=1e-3)


@given(rate=rates, parts=pauses())
def test_no_window_ever_holds_more_than_the_burst_and_what_refilled(rate: Rate, parts: list[float]) -> None:
    """Q-01, for every window that begins with a request: at most N and one for each interval that passed."""
    charges, tats, now = (Charge("a", "k", rate),), [0.0], 0.0
    passed: list[float] = []
    _, tats = take(tats, charges, max(0, rate.count - 5), now)
    passed += [now] * max(0, rate.count - 5)
    for part in parts:
        now += part * rate.interval_ms
        admitted, tats = take(tats, charges, 1, now)
        passed += [now] * admitted
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], start=first):
            assert last - first + 1 <= rate.count + (end - begin + GRACE_MS) / rate.interval_ms
            if last - first > 70:
                break


@given(rate=rates, parts=pauses())
def test_it_agrees_with_exact_arithmetic(rate: Rate, parts: list[float]) -> None:
    """The textbook GCRA in fractions: the same answer wherever a microsecond does not decide."""
    charges, tats, now = (Charge("a", "k", rate),), [0.0], 0.0
    interval, exact = Fraction(rate.period_ms, rate.count), Fraction(0)
    _, tats = take(tats, charges, rate.count - 1, now)
    exact += interval * (rate.count - 1)
    for part in parts:
        now += round(part * rate.interval_ms, 2)
        room = Fraction(now) + rate.period_ms - (max(exact, Fraction(now)) + interval)
        admitted, tats = take(tats, charges, 1, now)
        if abs(room) > Fraction(2, 1000):
            assert admitted == (room >= 0)
        if admitted:
            exact = max(exact, Fraction(now)) + interval


@given(charges=several, used=st.integers(0, 3_000), ago=st.floats(0, 1e5), now=st.floats(2e5, 1e9))
def test_retry_after_suffices_and_a_millisecond_less_does_not(
    charges: tuple[Charge, ...], used: int, ago: float, now: float
) -> None:
    """It names the charge that holds out longest."""
    _, tats = take([0.0] * len(charges), charges, used, now - ago)
    admitted, _ = take(tats, charges, 1, now)
    if admitted:
        return
    refusing, wait = retry_after_ms(tats, charges, now)
    assert wait >= 1
    assert take(tats, charges, 1, now + wait)[0] == 1
    if wait > 1:
        assert take(tats, charges, 1, now + wait - 1.01)[0] == 0
        alone = charges.index(refusing)
        assert take([tats[alone]], (refusing,), 1, now + wait - 1.01)[0] == 0


@given(rate=rates, used=st.integers(0, 2_000), waits=st.lists(st.floats(0, 1e6), max_size=10))
def test_what_is_left_only_grows_while_nobody_asks(rate: Rate, used: int, waits: list[float]) -> None:
    """Q-07: and never past the burst; the time to full only shrinks, and at its end the burst is back."""
    charge, now = Charge("a", "k", rate), 0.0
    _, (tat,) = take([0.0], (charge,), used, now)
    before = level(tat, charge, now)
    for wait in waits:
        now += wait
        after = level(tat, charge, now)
        assert before.remaining <= after.remaining <= rate.count
        assert after.reset_ms <= before.reset_ms
        before = after
    assert level(tat, charge, now + before.reset_ms) == Level(charge, rate.count, 0)


@given(rate=rates, back=st.floats(0, 1e10))
def test_a_clock_that_is_set_back_locks_nobody_out(rate: Rate, back: float) -> None:
    """Q-08: the wait is never longer than the limit's own, however far the clock went."""
    charge, now = Charge("a", "k", rate), 2e10
    _, tats = take([0.0], (charge,), rate.count, now)
    now -= back
    _, wait = retry_after_ms(tats, (charge,), now)
    assert wait <= math.ceil(rate.interval_ms)
    assert level(tats[0], charge, now).reset_ms <= rate.period_ms
    _, tats = take(tats, (charge,), 1, now)
    assert take(tats, (charge,), 1, now + wait)[0] == 1


def test_a_limit_that_was_raised_helps_at_once() -> None:
    """Somebody who used up 1/d is not left waiting for a day when an operator grants 600/m."""
    old, new = Charge("a", "k", Rate.parse("1/d")), Charge("a", "k", Rate.parse("600/m"))
    _, tats = take([0.0], (old,), 1, 0.0)
    assert retry_after_ms(tats, (new,), 0.0) == (new, 100)
    refused, tats = take(tats, (new,), 1, 0.0)
    assert (refused, take(tats, (new,), 1, 100.0)[0]) == (0, 1)


def test_the_highest_rate_still_has_a_last_request() -> None:
    """A nanosecond an interval is below every grace: it must not become a burst of a thousand more."""
    charge = Charge("a", "k", Rate.parse("999999999/s"))
    admitted, tats = take([0.0], (charge,), 2_000_000_000, 0.0)
    assert admitted == 999_999_999
    assert level(tats[0], charge, 0.0).remaining == 0

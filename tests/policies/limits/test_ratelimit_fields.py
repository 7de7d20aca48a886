"""The RateLimit fields are Lists of Strings as RFC 9651 has them, and say what the levels say."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits.allowances import Allowance, What
from policies.limits.holding import NEVER, Demand, Figure
from policies.limits.ratelimit_fields import policy_line, refused_lines, refusing_lines, state_line
from policies.limits.rates import Charge, Level, Rate, Taken, level, retry_after_ms, take

Parameters = dict[str, int]
_ITEM = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"((?:; *[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*)')
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_.*-]*)=(-?[0-9]{1,15})")


def parsed(value: str) -> list[tuple[str, Parameters]]:
    """A List of Strings with Integer parameters (RFC 9651 sections 3.1, 3.1.2, 3.3.1, 3.3.3). Raises ValueError."""
    found, at = [], 0
    while True:
        item = _ITEM.match(value, at)
        if item is None:
            raise ValueError(f"no String at {at} of {value!r}")
        found.append((item[1], {key: int(number) for key, number in _PARAMETER.findall(item[2])}))
        at = item.end()
        if at == len(value):
            return found
        separator = re.compile(r"[ \t]*,[ \t]*").match(value, at)
        if separator is None or separator.end() == len(value):
            raise ValueError(f"no comma at {at} of {value!r}")
        at = separator.end()


def field(line: bytes, name: str) -> str:
    begin = f"{name}: ".encode()
    assert line.startswith(begin)
    assert not set(line) & set(b"\r\n")
    return line.removeprefix(begin).decode("ascii")


@pytest.mark.parametrize("bad", ["", "a;q=1", '"a";q=1,', '"a" "b"', '"a";Q=1', '"a";q=x', '"a"b"', '"é"'])
def test_the_little_parser_is_strict(bad: str) -> None:
    with pytest.raises(ValueError, match="at"):
        parsed(bad)


rates = st.builds(Rate, st.integers(1, 999_999_999), st.sampled_from([500, 1_000, 60_000, 3_600_000, 86_400_000]))
several = st.lists(rates, min_size=1, max_size=3).map(
    lambda rates: tuple(Charge(f"limit-{n}", f"k{n}", rate) for n, rate in enumerate(rates))
)


@given(several)
def test_a_policy_is_a_quota_and_a_window(charges: tuple[Charge, ...]) -> None:
    """``q`` at least 0, ``w`` above 0: also for a window below a second."""
    assert parsed(field(policy_line(charges), "RateLimit-Policy")) == [
        (c.name, {"q": c.rate.count, "w": max(1, c.rate.period_ms // 1000)}) for c in charges
    ]


def test_without_limits_there_is_no_policy_line() -> None:
    assert policy_line(()) == b""


@given(charges=several, used=st.integers(0, 3_000), later=st.floats(0, 1e5))
def test_the_state_says_what_is_left_and_for_how_long(charges: tuple[Charge, ...], used: int, later: float) -> None:
    """Q-07. While some is left, until the full burst is back; with nothing left, until one more fits."""
    _, tats = take([0.0] * len(charges), charges, used, 0.0)
    taken = Taken.of(tuple(level(tat, charge, later) for tat, charge in zip(tats, charges, strict=True)))
    for (name, said), told, tat in zip(parsed(field(state_line(taken), "RateLimit")), taken.levels, tats, strict=True):
        assert name == told.charge.name
        assert said["r"] == told.remaining
        _, wait = retry_after_ms([tat], (told.charge,), later)
        ms = told.reset_ms if told.remaining else wait
        assert said["t"] == pytest.approx(-(-ms // 1000), abs=0 if told.remaining else 1)


@given(charges=several, used=st.integers(0, 3_000), later=st.floats(0, 1e5))
def test_a_refusal_carries_all_three_and_they_agree(charges: tuple[Charge, ...], used: int, later: float) -> None:
    """``Retry-After`` is whole seconds, at least one, not before the limit allows nor before an empty ``t`` ends.

    After more than a minute nobody is to come back by itself: openai's Node SDK would sleep through the day.
    """
    _, tats = take([0.0] * len(charges), charges, used, 0.0)
    refused_by, wait = retry_after_ms(tats, charges, later)
    taken = Taken.of(tuple(level(t, c, later) for t, c in zip(tats, charges, strict=True)), refused_by, wait)
    policy, state, retry, *advice = refused_lines(taken)
    assert advice == ([b"X-Should-Retry: false"] if wait > 60_000 else [])
    assert policy == policy_line(charges)
    assert state == state_line(taken)
    seconds = int(field(retry, "Retry-After"))
    assert seconds >= 1
    assert wait <= seconds * 1000 < wait + 1000 or seconds == 1
    for _, said in parsed(field(state, "RateLimit")):
        assert said["r"] > 0 or said["t"] <= seconds


def test_the_fields_as_they_look() -> None:
    charges = (Charge("tenant-requests", "a", Rate.parse("600/m")), Charge("key-requests", "b", Rate.parse("2/s")))
    taken = Taken.of((Level(charges[0], 12, 58_800), Level(charges[1], 0, 1_000)), charges[1], 500)
    assert refused_lines(taken) == [
        b'RateLimit-Policy: "tenant-requests";q=600;w=60, "key-requests";q=2;w=1',
        b'RateLimit: "tenant-requests";r=12;t=59, "key-requests";r=0;t=1',
        b"Retry-After: 1",
    ]


@pytest.mark.parametrize("at_once", [1, 2, 30])
@pytest.mark.parametrize("rate", ["600/m", "30/m", "7/s", "31/d", "60001/m", "900000/m", "4000000/m"])
def test_of_equal_requests_that_were_taken_together_each_is_told_its_own(rate: str, at_once: int) -> None:
    """As if they had been taken one by one: the first was told how long the last one has to wait."""
    charges = (Charge("tenant-requests", "a", Rate.parse(rate)),)
    tats, alone = [0.0], []
    for _ in range(at_once):
        admitted, tats = take(tats, charges, 1, 0.0)
        if not admitted:
            break
        alone.append(state_line(Taken.of((level(tats[0], charges[0], 0.0),))))
    figures = Taken.of((level(tats[0], charges[0], 0.0),)).figures
    together = [Taken(charges, figures, None, 0, behind) for behind in reversed(range(len(alone)))]
    assert [state_line(taken) for taken in together] == alone
    assert [parsed(field(line, "RateLimit"))[0][1]["r"] for line in alone] == [
        taken.levels[0].remaining for taken in together
    ]


@pytest.mark.parametrize(
    ("what", "limit", "retry_ms", "t"),
    [
        (What.AUDIO, "60s/m", 2_389_000, 2_389),
        (What.REQUESTS, "2/m", 30_000, 30),
        (What.AUDIO, "60s/m", NEVER, 5_154),
        (What.BYTES, "1MB/day", 9_000_000, 5_154),
    ],
)
def test_the_window_of_a_refusal_does_not_outlast_its_retry_after(
    what: What, limit: str, retry_ms: int, t: int
) -> None:
    """``Retry-After`` should not be earlier than the end of ``t`` (section 5 of the draft): both cannot be meant."""
    demand = Demand(Allowance.parse(what, limit), "hold:{ten_a}", 1)
    _, state, *_ = refusing_lines(demand, Figure(0, 5_154_000), retry_ms)
    ((_, parameters),) = parsed(field(state, "RateLimit"))
    assert parameters == {"r": 0, "t": t}

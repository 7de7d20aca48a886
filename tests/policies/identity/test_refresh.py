"""Refresh tokens: each is good once, the last one's predecessor for a moment more, every older one ends them all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.identity.refresh import GRACE, Family, Step, judge, mint, read

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SECRET = b"the gateway's own for refresh to"
FAMILY = Family(
    id="fam_" + "0" * 20,
    tenant_id="ten_1",
    user_id="usr_1",
    client_id="first-party",
    scopes=frozenset(),
    seed=bytes(32),
    generation=5,
    created_at=NOW - timedelta(days=1),
    rotated_at=NOW,
    expires_at=NOW + timedelta(days=29),
)


def token(number: int, family: Family = FAMILY, secret: bytes = SECRET) -> str:
    return mint(family.id, family.seed, number, secret)


def step(text: str, family: Family = FAMILY, after: timedelta = timedelta()) -> Step:
    return judge(family, text, SECRET, NOW + after)


def test_the_newest_is_replaced_and_its_predecessor_repeated_for_a_moment() -> None:
    """K-03: within the grace the same successor; after it two parties hold tokens of one log-in."""
    second = timedelta(seconds=1)
    assert step(token(5)) is Step.ROTATE
    assert step(token(5), after=timedelta(days=20)) is Step.ROTATE
    assert step(token(4)) is Step.REPEAT
    assert step(token(4), after=GRACE - second) is Step.REPEAT
    assert step(token(4), after=GRACE) is Step.REUSED


def test_every_older_one_ends_the_family_however_soon() -> None:
    """K-02: R1 after R3."""
    assert {step(token(number)) for number in (1, 2, 3)} == {Step.REUSED}


def test_a_number_that_was_never_given_out_is_nothing() -> None:
    assert step(token(6)) is Step.REFUSED


def test_an_end_is_an_end() -> None:
    """K-04: the end of the family's life too, to the second."""
    for family in (replace(FAMILY, ended_at=NOW), replace(FAMILY, expires_at=NOW)):
        for number in (3, 4, 5):
            assert step(token(number), family) is Step.REFUSED


def test_a_token_is_of_one_family_and_one_gateway() -> None:
    for family in (replace(FAMILY, seed=b"\1" * 32), replace(FAMILY, id="fam_" + "1" * 20)):
        assert step(token(5, family)) is Step.REFUSED
    assert step(token(5, secret=b"another")) is Step.REFUSED


@given(place=st.integers(0, len(token(5)) - 1), other=st.characters(codec="ascii"))
def test_no_character_can_be_changed(place: int, other: str) -> None:
    good = token(5)
    changed = good[:place] + other + good[place + 1 :]
    assert changed == good or step(changed) is Step.REFUSED


@given(text=st.text(max_size=120) | st.from_regex(r"thr_[0-9a-z]{20}_[0-9]{1,12}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_nothing_makes_the_reader_fall_over(text: str) -> None:
    claimed = read(text)
    assert claimed is None or (claimed[0].startswith("fam_") and claimed[1] > 0)
    assert step(text) is Step.REFUSED


@pytest.mark.parametrize("text", ["", "thr_", token(5) + "=", token(5) + "\n", " " + token(5), token(5)[:-1]])
def test_only_a_whole_token_is_one(text: str) -> None:
    assert read(text) is None

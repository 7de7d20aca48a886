"""Blocks of AAC: what a decoder finds sound in, and what it refuses."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.aac import RATES
from policies.audio.aac_blocks import begins_block
from tests.policies.audio.oracle import recording
from tests.policies.audio.test_containers import adts_frames

_LC = 2


def bits(written):
    """Bytes of the bits, which are written in groups; the rest is zeros."""
    ones = written.replace(" ", "")
    return int(ones.ljust(320, "0"), 2).to_bytes(40, "big")


LONG = "0 00 0"  # reserved, a long window, its shape
ONE = "000 0000 00000000 " + LONG  # a single channel: element, instance, gain
FILLED = "000001 0 0001 00001"  # a band, no prediction, a section of one band


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_every_block_of_an_encoder_is_one(rate, channels):
    for frame in adts_frames(recording("adts", "aac", 1.0, rate, channels)):
        assert begins_block(frame[7:], rate, _LC, channels)


def test_what_chance_makes_is_hardly_ever_one():
    chance = random.Random(5)
    assert sum(begins_block(chance.randbytes(320), 44_100, _LC, 2) for _ in range(2000)) < 2000 * 0.12


@pytest.mark.parametrize(
    ("written", "kind", "channels", "expected"),
    [
        (ONE + FILLED, _LC, 1, True),
        ("011" + (ONE + FILLED)[3:], _LC, 1, True),
        ("111", _LC, 1, False),
        (ONE + "000001 1 0", _LC, 1, False),
        (ONE + "000001 1 0 0001 00001", 4, 1, True),
        (ONE + "000001 1 1 00000 0", 1, 1, False),
        (ONE + "000001 1 1 00001 1 0001 00001", 1, 1, True),
        (ONE + "111111 0", _LC, 1, False),
        (ONE + "000001 0 1100", _LC, 1, False),
        (ONE + "000001 0 0001 00010", _LC, 1, False),
        ("001 0000 1 " + LONG + "000001 0 11", _LC, 2, False),
        ("001 0000 1 " + LONG + "000001 0 01 1 00000000 0001 00001", _LC, 2, True),
        ("001 0000 0 00000000 " + LONG + FILLED, _LC, 2, True),
        ("000 0000 00000000 0 10 0 0001 1111111 0001 001", _LC, 1, True),
        ("000 0000 00000000 0 10 0 1111 1111110 0001 111 111 111", _LC, 1, False),
        ("110 0010 00000000 00000000 " + ONE + FILLED, _LC, 1, True),
        ("110 0010 00000000 00000000 " + ONE + "000001 0 1100", _LC, 1, False),
        ("110 1111 00000001 " + "0" * 120 + ONE + "000001 0 1100", _LC, 1, False),
        ("100 0000 1 00000001 00000000 " + ONE + "000001 0 1100", _LC, 1, False),
        ("010 0000 0 000 0 0000 0000 00000000 " + LONG + "000001 0 1100", _LC, 0, False),
        ("010 0000 0 000 0 0000 0000 00000000 " + LONG + FILLED, _LC, 0, True),
        ("010 0000 0 000 0 0000 0000 00000000 " + LONG + FILLED, _LC, 1, False),
        ("101 0000 01 0100 0001 0000 0000 00 000 0000 000 0 0000 000000 00000000 " + ONE + FILLED, _LC, 0, True),
        ("101 0000 01 0100 0001 0000 0000 00 000 0000 000 0 0001 000000 00000000 " + ONE + FILLED, _LC, 0, False),
        ("101 0000 01 0100 0001 0000 0000 00 000 0000 000 00000 00000000 " + "0" * 6 + "111", _LC, 0, False),
    ],
)
def test_a_block_is_judged_as_ffmpeg_does(written, kind, channels, expected):
    assert begins_block(bits(written), 44_100, kind, channels) is expected


@given(data=st.binary(max_size=330), rate=st.sampled_from(RATES), kind=st.integers(1, 4), channels=st.integers(0, 7))
def test_nothing_raises_and_too_few_bytes_may_be_one(data, rate, kind, channels):
    if begins_block(data, rate, kind, channels):
        assert begins_block(data[:1], rate, kind, channels)

"""Blocks of AAC: what a decoder finds sound in, and what it refuses."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.aac.blocks import Blocks, begins_block
from policies.audio.aac.packed import Looks, blocks_in
from policies.audio.aac.setup import RATES
from policies.audio.mp4.packed import SizePairs, Windows
from tests.policies.audio.feeding import cuts
from tests.policies.audio.oracle import recording, tone
from tests.policies.audio.test_containers import adts_frames, noise

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
        assert begins_block(frame[7:], 0, rate, _LC, channels)


@pytest.mark.parametrize("bitrate", [None, 24_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 32_000, 44_100, 64_000, 96_000])
def test_a_block_ends_where_its_encoder_ended_it(rate, channels, bitrate):
    """To the byte, of music and of noise: each rate has bands of its own, and loud sound all twelve books."""
    for sound in (tone, noise):
        frames = adts_frames(recording("adts", "aac", 0.3, rate, channels, bitrate and bitrate * channels, sound=sound))
        for frame, behind in pairwise([*frames, b"\xff" * 9]):
            assert Blocks(rate).pass_block(frame[7:] + behind[7:], 0) == (len(frame) - 7, True)


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        (ONE + "000000 0 0 0 0 111", _LC, (4, True)),
        ("111", _LC, (1, False)),
        ("110 0001 00000000 111", _LC, (3, False)),
        ("110 0001 1011 0000 00000000 111", _LC, (4, False)),
        ("110 0011 1011 1 00000000 1 0000000 0 1 0000 0000 00000000 1 00000000 00000000 111", _LC, (9, False)),
        ("100 0000 1 00000001 00000000 111", _LC, (4, False)),
        ("011" + (ONE + "000000 0 0 0 0 111")[3:], _LC, (4, True)),
        ("001 0000 1 " + LONG + "000000 0 00" + "00000000 0 0 0" * 2 + "111", _LC, (6, True)),
        ("001 0000 0 " + ("00000000 " + LONG + "000000 0 0 0 0") * 2 + "111", _LC, (7, True)),
        ("001 0000 1 " + LONG + "000000 1 0 0 00" + "00000000 0 0 0" * 2 + "111", 4, (6, True)),
        ("001 0000 1 " + LONG + "000000 0 11", _LC, (0, False)),
        (ONE + "000000 0 1 01 000000 00000 0000 00000 0000 0 0 111", _LC, (8, True)),
        (ONE + "000000 0 0 1 01 1 000000 00001 0 0 0000 0 111", _LC, (7, True)),
        (ONE + "000000 0 0 1 01 1 000000 11111", _LC, (0, False)),
        (ONE + "000000 0 0 0 1 01 001 0000 00000 111", _LC, (6, True)),
        (ONE + "000001 0 1101 00001 000000000 0 0 0 111", _LC, (7, True)),
        ("010 0000 1 000 0 0000 0000 00000000 " + LONG + "000000 0 0 0 0 111", _LC, (6, True)),
        ("010 0000 1 000 1 0000 11 0000 00000000 " + LONG + "000000 0 0 0 0 0 111", _LC, (6, True)),
    ],
)
def test_all_that_may_stand_in_a_block_is_passed(written, kind, expected):
    assert Blocks(44_100, kind).pass_block(bits(written), 0) == expected


def test_blocks_of_960_samples_have_the_same_bands_up_to_their_end():
    frame = adts_frames(recording("adts", "aac", 0.3, 44_100, 1, 24_000))[1][7:]
    assert Blocks(44_100, _LC, 960).pass_block(frame, 0) == (len(frame), True)


def test_zeros_behind_a_block_are_no_further_one():
    """Encoders fill samples up with them, and decoders pass them over; a block without sound plays nothing."""
    frames = [frame[7:] for frame in adts_frames(recording("adts", "aac", 0.3, 44_100, 2))]
    assert blocks_in(frames[1] + bytes(50), Blocks(44_100)) == 1
    assert blocks_in(frames[1] + b"\xe0\xe0" + frames[2], Blocks(44_100)) == 2
    assert blocks_in(b"".join(frames[:10]), Blocks(44_100)) == 10
    assert blocks_in(frames[1] * 60, Blocks(44_100)) == 60
    assert blocks_in(b"\xff" * 1000, Blocks(44_100)) == 0


def test_looks_are_as_far_apart_as_they_may_be_and_find_the_most_blocks():
    looks, taken = Looks(), 0
    for number in range(2_000):
        looks.left -= 1_000
        if looks.left < 0:
            looks.note(number.to_bytes(1_000, "big"), 1 + taken % 3)
            taken += 1
    assert 8 <= taken <= 12
    assert looks.most == 3
    assert looks.looks == taken


@given(lengths=cuts, seed=st.integers(0, 99))
def test_windows_are_the_same_however_the_media_is_cut(lengths, seed):
    frames = [frame[7:] for frame in adts_frames(recording("adts", "aac", 1.0, 44_100, 2, 64_000))]
    media = b"".join(random.Random(seed).choices(frames, k=100))
    whole, cut = Windows(), Windows()
    whole.feed(media)
    at = turn = 0
    while at < len(media):
        cut.feed(media[at : at + lengths[turn % len(lengths)] * 50])
        at, turn = at + lengths[turn % len(lengths)] * 50, turn + 1
    blocks, none = Blocks(44_100), SizePairs()
    assert whole.most_blocks(blocks, none, len(media)) == cut.most_blocks(blocks, none, len(media)) > 100


@pytest.mark.parametrize("seed", range(5))
def test_of_several_tracks_in_turns_blocks_are_counted_and_those_within_samples_found_out(seed):
    """Two tracks of one film, one of them hushed, follow each other in no table and are yet no more than that says."""
    loud, hushed = (
        [frame[7:] for frame in adts_frames(recording("adts", "aac", 1.0, 44_100, channels, rate))]
        for channels, rate in ((2, 128_000), (1, 24_000))
    )
    chance, windows = random.Random(seed), Windows()
    media = b"".join(chance.choice(loud) + chance.choice(hushed) for _ in range(1_000))
    windows.feed(media)
    assert windows.most_of_several(Blocks(44_100), 2_000, len(media)) == 0
    assert windows.most_of_several(Blocks(44_100), 500, len(media)) > 2_000


def test_media_without_a_block_costs_a_bounded_time_and_says_nothing():
    windows = Windows()
    windows.feed(random.Random(4).randbytes(1 << 20))
    assert windows.most_blocks(Blocks(44_100), SizePairs(), 1 << 20) == 0
    for rate in (8_000, 16_000, 32_000):
        assert windows.most_blocks(Blocks(rate), SizePairs(), 1 << 20) == 0
    assert windows.most_blocks(Blocks(24_000), SizePairs(), 1 << 20) > 10_000


def test_what_chance_makes_is_hardly_ever_one():
    chance = random.Random(5)
    assert sum(begins_block(chance.randbytes(320), 0, 44_100, _LC, 2) for _ in range(2000)) < 2000 * 0.12


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
    assert begins_block(bits(written), 0, 44_100, kind, channels) is expected


@given(data=st.binary(max_size=330), rate=st.sampled_from(RATES), kind=st.integers(1, 4), channels=st.integers(0, 7))
def test_nothing_raises_and_too_few_bytes_may_be_one(data, rate, kind, channels):
    if begins_block(data, 0, rate, kind, channels):
        assert begins_block(data[:1], 0, rate, kind, channels)

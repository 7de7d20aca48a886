"""Any PCM becomes 16 kHz mono s16, whatever its samples look like and however its bytes are cut."""

import itertools
import math
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.pcm import Converter, Encoding, PcmFormat, Unreadable

HALF = 16_384


def converted(form: PcmFormat, *chunks: bytes) -> list[int]:
    converter = Converter(form)
    return list(array("h", b"".join([*(converter.feed(chunk) for chunk in chunks), converter.finish()])))


@pytest.mark.parametrize(
    ("encoding", "data", "expected", "tolerance"),
    [
        (Encoding.U8, bytes([128, 192, 64, 0, 255]), [0, HALF, -HALF, -32_768, 32_512], 0),
        (Encoding.S16, struct.pack("<4h", 0, HALF, -HALF, -32_768), [0, HALF, -HALF, -32_768], 0),
        (Encoding.S16_BIG_ENDIAN, struct.pack(">3h", 0, HALF, -HALF), [0, HALF, -HALF], 0),
        (Encoding.S24, b"\0\0\0\0\0\x40\0\0\xc0\xff\xff\x7f", [0, HALF, -HALF, 32_767], 0),
        (Encoding.S32, struct.pack("<4i", 0, 2**30, -(2**30), 2**31 - 1), [0, HALF, -HALF, 32_767], 0),
        (Encoding.F32, struct.pack("<5f", 0, 0.5, -0.5, 1, -1), [0, HALF, -HALF, 32_767, -32_767], 1),
        (Encoding.F64, struct.pack("<3d", 0, 0.5, -0.5), [0, HALF, -HALF], 1),
        # ITU-T G.711: the extremes, the smallest steps on either side of zero, and a middle value, on the 16-bit scale
        (Encoding.MULAW, b"\x80\x00\xff\x7f\xfe\x7e\x8f", [32_124, -32_124, 0, 0, 8, -8, 16_764], 0),
        (Encoding.ALAW, b"\xaa\x2a\xd5\x55\x80", [32_256, -32_256, 8, -8, 5_504], 0),
    ],
)
def test_every_encoding_is_read_by_its_standard(encoding: Encoding, data: bytes, expected: list[int], tolerance: int):
    found = converted(PcmFormat(encoding), data)
    assert all(abs(a - b) <= tolerance for a, b in zip(found, expected, strict=True)), found


def test_floats_that_are_no_sound_are_silence_and_too_loud_ones_are_clipped():
    data = struct.pack("<6f", math.nan, math.inf, -math.inf, 1e30, 3.0, -3.0)
    assert converted(PcmFormat(Encoding.F32), data) == [0, 0, 0, 0, 32_767, -32_768]


def test_channels_become_their_mean_and_cannot_clip():
    loud = struct.pack("<6h", 32_767, 32_767, -32_768, -32_768, 1_000, 3_000)
    assert converted(PcmFormat(channels=2), loud) == [32_767, -32_768, 2_000]


@pytest.mark.parametrize("form", [{"rate": 3_999}, {"rate": 192_001}, {"channels": 0}, {"channels": 33}])
def test_a_format_that_no_microphone_has_is_refused(form: dict[str, int]):
    with pytest.raises(Unreadable):
        PcmFormat(**form)


@given(
    st.sampled_from(Encoding),
    st.sampled_from([8_000, 16_000, 22_050, 48_000]),
    st.integers(1, 3),
    st.binary(max_size=400),
    st.lists(st.integers(0, 400), max_size=5),
)
def test_chunk_boundaries_change_nothing(encoding: Encoding, rate: int, channels: int, data: bytes, cuts: list[int]):
    form = PcmFormat(encoding, rate, channels)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert converted(form, *pieces) == converted(form, data)


def test_duration_counts_whole_frames_that_went_in():
    converter = Converter(PcmFormat(Encoding.S16, 8_000, 2))
    converter.feed(bytes(4 * 12_004 + 3))
    assert converter.duration_ms == 1_500  # 1500.5, to even


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 15_999])
def test_resampling_keeps_duration_and_the_pitch_and_level_of_a_tone(rate: int):
    tone = [int(20_000 * math.sin(2 * math.pi * 500 * at / rate)) for at in range(rate // 2)]
    found = converted(PcmFormat(rate=rate), array("h", tone).tobytes())
    assert abs(len(found) - 8_000) <= 2 * 16_000 // rate + 1
    middle = found[2_000:6_000]
    crossings = sum(a < 0 <= b for a, b in itertools.pairwise(middle))
    assert crossings in {124, 125, 126}  # 500 Hz for a quarter of a second
    assert 19_500 <= max(middle) <= 20_500


def test_what_lies_above_the_new_band_is_removed_rather_than_folded_into_speech():
    tone = [int(20_000 * math.sin(2 * math.pi * 12_000 * at / 48_000)) for at in range(24_000)]
    found = converted(PcmFormat(rate=48_000), array("h", tone).tobytes())
    assert max(map(abs, found[500:-500])) < 100  # more than 46 dB down; a linear interpolator leaves it at 4 kHz

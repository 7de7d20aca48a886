"""WAV files are read as their bytes are, not as their headers wish."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo import wav
from gateway.demo.pcm import Encoding, PcmFormat, Unreadable
from tests.gateway.demo import waves
from tests.gateway.demo.waves import ALAW, FLOAT, MULAW, PCM, chunk, extensible, fmt, riff, wave

SAMPLES = bytes(range(48))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (fmt(PCM, bits=8), PcmFormat(Encoding.U8)),
        (fmt(PCM, bits=16), PcmFormat(Encoding.S16)),
        (fmt(PCM, bits=24, channels=2), PcmFormat(Encoding.S24, channels=2)),
        (fmt(PCM, bits=20), PcmFormat(Encoding.S24)),
        (fmt(PCM, bits=32), PcmFormat(Encoding.S32)),
        (fmt(FLOAT, bits=32, rate=48_000), PcmFormat(Encoding.F32, 48_000)),
        (fmt(FLOAT, bits=64), PcmFormat(Encoding.F64)),
        (fmt(ALAW, bits=8, rate=8_000), PcmFormat(Encoding.ALAW, 8_000)),
        (fmt(MULAW, bits=8, rate=8_000), PcmFormat(Encoding.MULAW, 8_000)),
        (extensible(PCM, 6, 16), PcmFormat(Encoding.S16, channels=6)),
        (extensible(FLOAT, 1, 32), PcmFormat(Encoding.F32)),
    ],
)
def test_every_common_sample_format_is_known(form: bytes, expected: PcmFormat):
    parsed = wav.parse(wave(SAMPLES, form))
    assert (parsed.format, parsed.samples) == (expected, SAMPLES)


@pytest.mark.parametrize(("size", "kept"), [(0, 48), (0xFFFFFFFF, 48), (0x7FFFFFFF, 48), (49, 48), (48, 48), (12, 12)])
def test_a_data_length_is_believed_only_where_the_bytes_bear_it_out(size: int, kept: int):
    assert wav.parse(wave(SAMPLES, size=size)).samples == SAMPLES[:kept]


def test_other_chunks_are_stepped_over_with_their_padding_and_what_follows_the_samples_is_not_audio():
    data = riff(chunk(b"LIST", b"odd"), chunk(b"fmt ", fmt()), chunk(b"data", SAMPLES), chunk(b"LIST", b"tail"))
    assert wav.parse(data).samples == SAMPLES


def test_a_file_of_more_than_four_gigabytes_says_so_in_its_name_and_is_read_to_its_end():
    data = riff(chunk(b"ds64", bytes(28)), chunk(b"fmt ", fmt()), chunk(b"data", SAMPLES, 0xFFFFFFFF), magic=b"RF64")
    assert wav.parse(data).samples == SAMPLES


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "The file is empty."),
        (b"fLaC\0\0\0\x22", "This is FLAC audio."),
        (b"OggS\0\x02", "This is Ogg audio."),
        (b"ID3\x04", "This is MP3 audio."),
        (b"\xff\xfb\x90\x64", "This is MP3 audio."),
        (b"\0\0\0\x20ftypM4A ", "This is MP4 audio."),
        (b"\x1aE\xdf\xa3", "This is WebM audio."),
        (b"RIFF\0\0\0\0AVI ", "This is not a WAV file."),
        (b"hello", "This is not a WAV file."),
        (riff(), "ends before its samples"),
        (riff(chunk(b"fmt ", fmt())), "ends before its samples"),
        (riff(chunk(b"data", SAMPLES)), "samples come before their format"),
        (riff(chunk(b"fmt ", fmt()[:10]), chunk(b"data", SAMPLES)), "format chunk is too short"),
        (wave(b""), "holds no samples"),
        (wave(SAMPLES, fmt(0x0011, bits=4)), "samples of format 0x0011 with 4 bits"),
        (wave(SAMPLES, fmt(channels=0)), "0 channels"),
        (wave(SAMPLES, fmt(rate=1)), "A sample rate of 1 Hz"),
        (wave(SAMPLES, fmt(rate=2_000_000_000)), "A sample rate of 2000000000 Hz"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(data: bytes, says: str):
    with pytest.raises(Unreadable, match=says):
        wav.parse(data)


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(0, 0xFFFFFFFF))
def test_any_bytes_are_either_read_or_refused(form: bytes, tail: bytes, size: int):
    for data in (tail, riff(tail), riff(chunk(b"fmt ", form, size), tail), waves.wave(tail, form, size)):
        with contextlib.suppress(Unreadable):
            wav.parse(data)

"""AVI: what is weighed there is no less than a decoder plays, however thrifty its codec."""

import functools
import io
import random

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.build import chunk, fmt, riff
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording


@functools.cache
def avi(codec="gsm_ms"):
    """Of GSM any bytes are sound."""
    if codec != "gsm_ms":
        return recording("avi", codec, 8.0, 8_000, 1, 6_300)
    sound, out = (
        riff(fmt(tag=0x31, rate=8_000, bits=0, block=65), chunk(b"data", random.Random(1).randbytes(13_000))),
        io.BytesIO(),
    )
    with av.open(io.BytesIO(sound)) as wav, av.open(out, "w", format="avi") as file:
        stream = file.add_stream_from_template(wav.streams.audio[0])
        for packet in wav.demux():
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    return out.getvalue()


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


def test_gsm_counts_what_ffmpeg_plays_and_is_flagged():
    """Wound: a minute of it weighed as 34 s."""
    assert billed_ms(avi()) == pytest.approx(played_ms(avi()), rel=0.005)
    assert Heard.of(fed(Track(), avi())).unsure


@pytest.mark.parametrize("codec", ["g723_1", "adpcm_ms", "pcm_s16le"])
def test_no_other_codec_weighs_less_than_it_plays(codec):
    assert billed_ms(avi(codec)) >= played_ms(avi(codec)) * 0.995


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"01wb", b"JUNK"), (b"00wb", b"\0\0\0\0"), (b"00wb", b"idx1"), (b"00wb", b"LIST")],
)
def test_chunks_under_another_name_are_no_cheaper(old, new):
    assert billed_ms(avi().replace(old, new)) >= billed_ms(avi()) * 0.995


@given(at=st.integers(0, 12_000), strange=st.binary(max_size=9), lengths=cuts)
@settings(max_examples=15)
def test_a_damaged_one_raises_nothing_and_any_cut_of_it_says_the_same(at, strange, lengths):
    data = avi()[:at] + strange + avi()[at : at + 9_000]
    assert billed_ms(data, lengths) == billed_ms(data)
    assert played_ms(data) <= billed_ms(data) * 1.005 + 80

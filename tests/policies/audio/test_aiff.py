"""AIFC: what its compressions play at the rate that it declares."""

import random
import struct

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms

COMPRESSIONS = [b"ima4", b"Qclp", b"G722", b"G726", b"GSM ", b"agsm", b"MAC3", b"MAC6", b"ADP4", b"SDX2", b"NONE"]


def aifc(compression, rate, channels):
    """Noise of 6000 bytes."""
    exponent = rate.bit_length() - 1
    common = (
        struct.pack(">HIHHQ", channels, 1 << 20, 16, 16_383 + exponent, rate << 63 - exponent) + compression + b"\0\0"
    )
    sound = bytes(8) + random.Random(4).randbytes(6000)
    body = b"AIFCFVER\0\0\0\4\xa2\x80\x51\x40"
    for name, chunk in ((b"COMM", common), (b"SSND", sound)):
        body += name + struct.pack(">I", len(chunk)) + chunk
    return b"FORM" + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [1000, 8000, 44_100])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_no_compression_is_billed_below_what_ffmpeg_plays_of_it_at_any_rate(compression, rate, channels):
    data = aifc(compression, rate, channels)
    assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80

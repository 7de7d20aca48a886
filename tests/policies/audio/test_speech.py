"""Files of a thrifty speech codec are counted by its frames: weighed they would cost a sixth, or a fortieth."""

import random

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, recording


def dss(version, codec, blocks):
    """Noise whose frames begin with no mark of an end, in blocks of 512 bytes, each with six in front."""
    head = bytearray(512 * version)
    head[:4], head[0x26:0x32], head[0x32:0x44] = bytes([version]) + b"dss", b"261127160000", b"261127160000000100"
    head[0x2A4] = codec
    chance = random.Random(codec)
    return bytes(head) + b"".join(bytes(6) + bytes(chance.randrange(250) for _ in range(506)) for _ in range(blocks))


def gsm(seconds, seed=1):
    """Noise in GSM 06.10, whose frames of 33 bytes begin with 1101."""
    chance = random.Random(seed)
    return b"".join(bytes([0xD0 | chance.randrange(16)]) + chance.randbytes(32) for _ in range(seconds * 50))


FILES = {
    "iLBC of 20 ms": (b"#!iLBC20\n" + bytes(38 * 100), "ilbc", "ilbc", 2000),
    "iLBC of 30 ms": (b"#!iLBC30\n" + bytes(50 * 100), "ilbc", "ilbc", 3000),
    "DSS": (dss(2, 0, 20), "dss", "dss_sp", 5890),
    "DSS of version 3": (dss(3, 0, 20), "dss", "dss_sp", 5890),
    "DSS, long play": (dss(2, 2, 20), "dss", "g723_1", None),
    "bare GSM": (gsm(10), "", "gsm", 10_000),
    "bare GSM with a damaged frame": (gsm(5)[:-33] + bytes(33), "", "gsm", 5000),
}


@pytest.mark.parametrize("lengths", [(1 << 30,), (1, 50, 333)])
@pytest.mark.parametrize("name", FILES)
def test_it_is_counted_as_ffmpeg_plays_it(name, lengths):
    data, container, codec, ms = FILES[name]
    track = fed(Track(), data, lengths)
    assert (track.container, track.codec) == (container, codec)
    assert track.walked_ms == pytest.approx(played_ms(data), abs=31)
    assert ms is None or track.walked_ms == pytest.approx(ms, abs=31)


@pytest.mark.parametrize(("mode", "size", "samples"), [(0, 8, 160), (1, 6, 160), (4, 7, 320), (8, 4, 320)])
def test_codec_2_is_counted_by_its_mode(mode, size, samples):
    """Wound: an hour of 700 bit/s was billed as 90 s. Debian's FFmpeg plays it, PyAV does not."""
    data = b"\xc0\xde\xc2\0\x08" + bytes([mode, 0]) + bytes(size * 500)
    track = fed(Track(), data, (100,))
    assert (track.codec, track.walked_ms, track.unsure) == ("codec2", samples * 500 // 8, False)


def test_a_mode_that_nobody_knows_weighs_as_the_slowest():
    track = fed(Track(), b"\xc0\xde\xc2\0\x08\x7f\0" + bytes(7000))
    assert (track.walked_ms, track.estimated_ms) == (None, 80_080)


@pytest.mark.parametrize(
    ("container", "codec"), [("rm", "ac3"), ("nut", "libopencore_amrnb"), ("nut", "libmp3lame"), ("wtv", "libmp3lame")]
)
def test_a_container_that_is_not_walked_is_not_the_cheap_one(container, codec):
    """Wound: AMR in NUT was billed a fifth, and MP3 at 8 kHz two thirds."""
    rate = 48_000 if codec == "ac3" else 8_000
    data = recording(container, codec, 2.0, rate, 1, 8_000 if codec == "libmp3lame" else None)
    heard = Heard.of(fed(Track(), data))
    assert heard.container == container
    assert heard.best_ms >= played_ms(data)

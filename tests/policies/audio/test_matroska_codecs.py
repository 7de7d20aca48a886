"""Matroska with WavPack, and with what it calls a WAV's format: counted by packets, not by timestamps."""

import struct

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import told

S = 2.3
WAVPACK = ("matroska", "wavpack", S, 16_000)
FORMATS = {  # tag, rate, channels, block, bits, and a packet's bytes, that play so many ms
    "mu-law": ((7, 8_000, 1, 1, 8), 160, 20),
    "A-law of two channels": ((6, 8_000, 2, 2, 8), 320, 20),
    "plain samples": ((1, 16_000, 1, 2, 16), 640, 20),
    "IMA ADPCM": ((0x11, 8_000, 1, 256, 4), 256, 63.125),
    "MS ADPCM": ((2, 8_000, 1, 256, 4), 256, 62.5),
    "GSM": ((0x31, 8_000, 1, 65, 0), 65, 40),
}


def element(name, body):
    return name + (1 << 28 | len(body)).to_bytes(4, "big") + body


def matroska(form, packets, rate=None, output=None):
    """A file of one track, with a block a packet, all at 0."""
    tag, hz, channels, block, bits = form
    private = struct.pack("<HHIIHHH", tag, channels, hz, hz * block, block, bits, 0)
    sound = element(b"\xb5", struct.pack(">f", rate or hz)) + element(b"\x9f", bytes((channels,)))
    sound += element(b"\x78\xb5", struct.pack(">f", output)) if output else b""
    codec = element(b"\x86", b"A_MS/ACM") + element(b"\x63\xa2", private)
    track = element(b"\xae", element(b"\xd7", b"\1") + element(b"\x83", b"\2") + codec + element(b"\xe1", sound))
    blocks = b"".join(element(b"\xa3", b"\x81\0\0\x80" + packet) for packet in packets)
    inside = element(b"\x16\x54\xae\x6b", track) + element(b"\x1f\x43\xb6\x75", element(b"\xe7", b"\0") + blocks)
    head = element(b"\x42\x82", b"matroska") + element(b"\x42\x87", b"\4") + element(b"\x42\x85", b"\2")
    return element(b"\x1a\x45\xdf\xa3", head) + element(b"\x18\x53\x80\x67", inside)


def billed_ms(data):
    return Heard.of(fed(Track(), data)).best_ms


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 1), (22_050, 2), (44_100, 6)])
def test_wavpack_counts_by_what_its_blocks_say(rate, channels):
    """Wound: timestamps made it 1.2 to 3 times of what it plays."""
    data = recording("matroska", "wavpack", S, rate, channels)
    track = fed(Track(), data)
    assert (track.codec, track.unsure) == ("wavpack", False)
    assert track.walked_ms == pytest.approx(played_ms(data), abs=1)
    assert told(fed(Track(), data, (1,))) == told(track)


def test_no_rate_and_no_time_makes_wavpack_play_less():
    data = recording(*WAVPACK)
    for rate in (8_000.0, 96_000.0):
        forged = data.replace(struct.pack(">d", 16_000), struct.pack(">d", rate)).replace(b"\xe7\x81", b"\xec\x81")
        assert forged != data
        assert billed_ms(forged) >= played_ms(forged) * 0.995 - 1 > 0


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_of_wav_count_by_their_blocks(name):
    form, size, ms = FORMATS[name]
    data = matroska(form, [bytes(size)] * 50)
    track = fed(Track(), data)
    assert (track.walked_ms, track.unsure) == (pytest.approx(50 * ms, abs=1), False)
    assert played_ms(data) == pytest.approx(50 * ms, rel=0.005)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


def test_a_rate_of_wavpack_that_only_its_blocks_say_is_the_slowest():
    """Wound: the file's was believed, and FFmpeg plays at the other."""
    data = recording("matroska", "wavpack", S, 17_000)
    forged = data.replace(struct.pack(">d", 17_000), struct.pack(">d", 192_000))
    assert played_ms(forged) == pytest.approx(S * 1000, abs=1)
    assert billed_ms(forged) >= played_ms(forged)
    assert fed(Track(), forged).unsure


@pytest.mark.parametrize("name", FORMATS)
def test_a_rate_of_output_plays_no_less(name):
    """Wound: FFmpeg plays samples at that, and the other was believed: a sixth was billed."""
    form, size, _ = FORMATS[name]
    data = matroska((form[0], 48_000, *form[2:]), [bytes(size)] * 50, output=form[1])
    assert billed_ms(data) >= played_ms(data) * 0.995
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [4_000, 48_000])
def test_another_rate_beside_the_format_makes_it_play_no_less(name, rate):
    form, size, _ = FORMATS[name]
    data = matroska(form, [bytes(size)] * 50, rate)
    assert billed_ms(data) >= played_ms(data) * 0.995

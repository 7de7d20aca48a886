"""NIST SPHERE: all behind the header, at the slowest that its lines say."""

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, tone
from tests.policies.audio.test_containers import told

SOUND = tone(2.0, 16_000)
PLAIN = ("sample_n_bytes -i 2", "sample_byte_format -s2 01", "sample_sig_bits -i 16", "sample_coding -s3 pcm")
MONO, OF_16_KHZ, OF_8_KHZ = "channel_count -i 1", "sample_rate -i 16000", "sample_rate -i 8000"
TELEPHONE = ("channel_count -i 2", OF_8_KHZ, "sample_n_bytes -i 1")


def sphere(*lines, size=1024):
    head = "\n".join(("NIST_1A", f"{size:7}", "database_id -s4 none", *lines, "end_head\n"))
    return head.ljust(1024).encode() + SOUND


HONEST = {
    "plain": ((OF_16_KHZ, MONO, *PLAIN), "pcm_s16le", 2000),
    "the higher byte first": ((OF_16_KHZ, MONO, PLAIN[0], "sample_byte_format -s2 10"), "pcm_s16be", 2000),
    "mu-law": ((*TELEPHONE, "sample_coding -s4 ulaw"), "pcm_mulaw", 4000),
    "A-law": ((*TELEPHONE, "sample_coding -s4 alaw"), "pcm_alaw", 4000),
}


@pytest.mark.parametrize("name", HONEST)
def test_a_recording_is_measured_as_ffmpeg_plays_it(name):
    lines, codec, ms = HONEST[name]
    track = fed(Track(), sphere(*lines))
    assert (track.container, track.codec, track.walked_ms, track.unsure) == ("nist", codec, ms, False)
    assert played_ms(sphere(*lines)) == pytest.approx(ms, abs=1)
    assert told(fed(Track(), sphere(*lines), (1,))) == told(fed(Track(), sphere(*lines), (700, 3))) == told(track)


FORGED = {
    "a rate said twice": (OF_16_KHZ, "sample_rate -i 48000", MONO, *PLAIN),
    "a slower rate behind": ("sample_rate -i 48000", OF_16_KHZ, MONO, *PLAIN),
    "channels said twice": (OF_16_KHZ, MONO, "channel_count -i 8", *PLAIN),
    "a slower rate with something behind it": ("sample_rate -i 48000", f"{OF_16_KHZ}x", MONO, *PLAIN),
    "a slower rate with a sign": ("sample_rate -i 48000", "sample_rate -i +0000000016000", MONO, *PLAIN),
    "a slower rate by another name": ("sample_rate -i 48000", "sample_rate_ -i 16000", MONO, *PLAIN),
    "a slower rate behind what seems the end": ("sample_rate -i 48000", "comment -s8 end_head", OF_16_KHZ, MONO),
    "a slower rate behind a NUL": ("sample_rate -i 48000", f"comment -s1 x\0{OF_16_KHZ}", MONO, *PLAIN),
    "codings said twice": (OF_16_KHZ, MONO, *PLAIN, "sample_coding -s4 ulaw"),
    "no rate": (MONO, *PLAIN),
    "numbers that are none": ("sample_rate -i 1e4", "channel_count -i -1", *PLAIN),
    "shortened samples": (OF_16_KHZ, MONO, *PLAIN[:3], "sample_coding -s26 pcm,embedded-shorten-v2.00"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_its_lines_say_falsely_makes_it_play_no_less(name):
    data = sphere(*FORGED[name])
    assert Heard.of(fed(Track(), data)).best_ms >= max(played_ms(data) * 0.995, 1990)


@pytest.mark.parametrize("size", [0, 48, 70_000])
def test_a_header_of_another_size_hides_nothing(size):
    data = sphere(OF_16_KHZ, MONO, *PLAIN, size=size)
    assert Heard.of(fed(Track(), data)).best_ms >= max(played_ms(data) * 0.995, 2000)

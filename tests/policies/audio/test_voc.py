"""VOC: the samples of all its blocks, at the slowest that any of them says."""

import random

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from policies.audio.voc import VocWalker
from tests.policies.audio.feeding import calls_to_watch, fed
from tests.policies.audio.oracle import played_ms, recording, tone
from tests.policies.audio.test_containers import mutated, told

HEAD = b"Creative Voice File\x1a\x1a\0\x14\x01\x1f\x11"
SOUND = tone(2.0, 8_000)


def block(kind, body, size=None):
    return bytes((kind,)) + (len(body) if size is None else size).to_bytes(3, "little") + body


def new(rate, bits=16, channels=1, codec=4, sound=SOUND, size=None):
    form = rate.to_bytes(4, "little") + bytes((bits, channels)) + codec.to_bytes(2, "little") + bytes(4)
    return block(9, form + sound, size)


def billed_ms(data):
    return Heard.of(fed(Track(), data)).best_ms


@pytest.mark.parametrize(
    "shape",
    [
        ("pcm_s16le", 16_000, 1),
        ("pcm_s16le", 44_100, 2),
        ("pcm_u8", 8_000, 1),
        ("pcm_u8", 22_050, 2),
        ("pcm_alaw", 8_000, 2),
        ("pcm_mulaw", 8_000, 1),
    ],
)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(shape):
    """Wound: it was weighed, at 2 to 48 times of that."""
    codec, rate, channels = shape
    data = recording("voc", codec, 1.3, rate, channels)
    track = fed(Track(), data)
    assert (track.container, track.codec, track.channels, track.unsure) == ("voc", codec, channels, False)
    assert track.walked_ms == pytest.approx(played_ms(data), abs=1)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


OTHERS = {
    "two blocks": new(8_000) + new(8_000),
    "a block that goes on": new(8_000) + block(2, SOUND) + b"\0",
    "a size of nothing": new(8_000, size=0),
    "texts and marks": block(5, b"Dictation\0") + block(4, b"\1\0") + new(8_000) + b"\0",
    "stereo by a block in front": block(8, b"\x06\xfc\0\1") + block(1, b"\xd2\0" + SOUND) + b"\0",
    "a quarter of a byte a sample": block(1, b"\x83\3" + SOUND[:4000]) + b"\0",
}
FORGED = {
    "a second format that is slower": new(44_100) + new(8_000),
    "a second format that is faster": new(8_000) + new(44_100),
    "a size that is larger than the file": new(8_000, size=0xFF_FFFF),
    "sound behind the end": b"\0" + new(8_000),
    "sound in texts": new(8_000, sound=b"") + block(5, SOUND),
    "a format that nobody knows": new(8_000, codec=99),
}


@pytest.mark.parametrize("name", OTHERS)
def test_blocks_of_every_kind_count_as_ffmpeg_plays_them(name):
    data = HEAD + OTHERS[name]
    track = fed(Track(), data)
    assert (track.walked_ms, track.unsure) == (pytest.approx(played_ms(data), abs=2), False)
    assert told(fed(Track(), data, (1,))) == told(track)


@pytest.mark.parametrize("name", FORGED)
def test_what_blocks_say_falsely_makes_them_play_no_less(name):
    data = HEAD + FORGED[name]
    assert billed_ms(data) >= max(played_ms(data) * 0.995 - 1, 2000 if name.startswith("sound") else 0)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data))


def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays_of_it():
    for seed in range(12):
        data = mutated(HEAD + new(8_000) + block(2, SOUND) + b"\0", random.Random(f"voc {seed}"))
        assert played_ms(data) <= billed_ms(data) * 1.005 + 80, seed


def test_small_blocks_end_a_walkers_patience():
    """What they cost is bounded by their bytes; what follows counts as samples."""
    data = HEAD + new(8_000) + block(2, b"\x80") * 100_000
    assert calls_to_watch(VocWalker(), data, 100_000) < 700_000
    assert billed_ms(data) >= played_ms(data)

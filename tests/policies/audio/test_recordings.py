"""What real encoders wrote is measured to the millisecond that FFmpeg decodes of it."""

from pathlib import Path

import pytest

from policies.audio.track import Track
from tests.policies.audio.feeding import fed

RECORDINGS = Path(__file__).parent / "recordings"

DECODED = {  # samples per channel, rate, channels
    "noise_ffmpeg.dts": (19_456, 48_000, None),
    "speech_ffmpeg_cut.flac": (15_808, 16_000, 1),
    "speech_ffmpeg_ms_adpcm.wav": (8144, 8000, 1),
    "speech_ffmpeg_mulaw_piped.wav": (8000, 8000, 1),
    "speech_ffmpeg_rf64.wav": (4000, 8000, 1),
    "speech_flac.flac": (24_000, 16_000, 1),
    "speech_flac_tiny_blocks.flac": (8000, 16_000, 1),
    "speech_sox_24bit_piped.wav": (3200, 8000, 1),
    "speech_sox_gsm.wav": (12_160, 8000, 1),
    "speech_sox_ima.wav": (8080, 8000, 1),
    "speech_sox_odd_size.wav": (4001, 8000, 1),
    "tone_ffmpeg_24bit_6ch.flac": (28_800, 96_000, 6),
    "tone_ffmpeg_piped.flac": (44_100, 44_100, 2),
    "tone_sox_odd_rate.flac": (14_814, 12_345, 1),
}


def test_every_recording_is_measured():
    assert {path.name for path in RECORDINGS.iterdir()} == {*DECODED, "README.md"}


@pytest.mark.parametrize("lengths", [(1,), (1 << 30,), (65_536,), (4096, 3, 1, 1000)])
@pytest.mark.parametrize("name", DECODED)
def test_a_recording_has_the_length_that_is_decoded(name, lengths):
    samples, rate, channels = DECODED[name]
    track = fed(Track(), (RECORDINGS / name).read_bytes(), lengths)
    assert (track.walked_ms, track.channels) == (round(samples * 1000 / rate), channels)


@pytest.mark.parametrize(("name", "claimed"), [("speech_ffmpeg_cut.flac", 1500), ("tone_ffmpeg_piped.flac", None)])
def test_a_real_header_can_be_wrong_without_malice(name, claimed):
    assert fed(Track(), (RECORDINGS / name).read_bytes()).claimed_ms == claimed

"""FLV as later versions write it (Enhanced RTMP): tags of sound that name their codec, and a track."""

import itertools
import random

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told

S = 1.3
RECORDINGS = {
    "opus": ("flv", "libopus", S, 48_000),
    "opus 2.5 ms": ("flv", "libopus", S, 48_000, 2, 24_000, (), (("frame_duration", "2.5"),)),
    "flac": ("flv", "flac", S, 16_000),
    "ac3": ("flv", "ac3", S, 44_100, 2),
    "eac3": ("flv", "eac3", S, 48_000, 2),
}
AAC, MP3 = recording("flv", "aac", S, 44_100, 2), recording("flv", "libmp3lame", S, 22_050)


def billed_ms(data):
    return Heard.of(fed(Track(), data)).best_ms


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    """Wound: all that was added was weighed at 6 kbit/s: five to nineteen times of what it plays."""
    data = recording(*RECORDINGS[name])
    track = fed(Track(), data)
    assert (track.container, track.codec, track.unsure) == ("flv", name.split()[0].replace("eac3", "ac3"), False)
    assert track.walked_ms == pytest.approx(played_ms(data), abs=1)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays_of_it(name):
    for seed in range(4):
        data = mutated(recording(*RECORDINGS[name]), random.Random(f"{name} {seed}"))
        assert played_ms(data) <= billed_ms(data) * 1.005 + 80, seed


def tags(data):
    """The tags of an FLV file: what each is, its time, and its contents."""
    at = 13
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        yield data[at : at + 1], data[at + 4 : at + 11], data[at + 11 : at + 11 + size]
        at += 15 + size


def written(*tags):
    return b"FLV\1\4\0\0\0\x09\0\0\0\0" + b"".join(
        kind + len(body).to_bytes(3, "big") + time + body + (len(body) + 11).to_bytes(4, "big")
        for kind, time, body in tags
    )


def extended(data, name, track=None):
    """Tags of AAC or MP3 as later versions write them, of a codec by its name and perhaps of a track by its number."""
    for kind, time, body in tags(data):
        if kind == b"\x08":
            is_aac = body[0] >> 4 == 10
            what, sound = (body[1], body[2:]) if is_aac else (1, body[1:])
            head = bytes((0x90 | what,)) + name if track is None else bytes((0x95, what)) + name + bytes((track,))
            yield kind, time, head + sound


EXTENDED = {
    "aac": lambda: extended(AAC, b"mp4a"),
    "mp3": lambda: extended(MP3, b".mp3"),
    "aac of a track": lambda: extended(AAC, b"mp4a", 3),
    "aac of two ways to write it": lambda: [
        *tags(AAC),
        *extended(AAC, b"mp4a"),
    ],
    "mp3 beside aac of another track, which is shorter": lambda: [
        *extended(MP3, b".mp3", 0),
        *itertools.islice(extended(AAC, b"mp4a", 1), 30),
    ],
}


@pytest.mark.parametrize("name", EXTENDED)
def test_tags_of_flv_that_name_a_codec_and_a_track_are_counted_by_their_packets(name):
    data = written(*EXTENDED[name]())
    track = fed(Track(), data)
    assert played_ms(data) > S * 900
    assert (track.walked_ms, track.unsure) == (pytest.approx(played_ms(data), abs=3), False)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


OPUS, OF_48_KHZ = recording(*RECORDINGS["opus"]), b"\x90mp4a\x11\x88"
FORGED = {
    "a delay of a second": lambda: [
        (kind, time, body.replace(b"OpusHead\1\1\x38\1", b"OpusHead\1\1\xff\xff"))
        for kind, time, body in tags(OPUS)
    ],
    "a delay that is told of later": lambda: [
        tag for one in itertools.islice(tags(OPUS), 3, None) for tag in (one, *tags(OPUS[:52]))
    ],
    "a description of 48 kHz first": lambda: [
        (b"\x08", bytes(7), OF_48_KHZ), *extended(recording("flv", "aac", S, 8_000), b"mp4a")
    ],
    "a track of a few blocks first": lambda: [
        *itertools.islice(extended(AAC, b"mp4a", 0), 5),
        *extended(AAC, b"mp4a", 1),
    ],
    "several tracks in a tag": lambda: [
        (kind, time, bytes((0x95, 0x10 | body[0] & 15)) + b"Opus\0" + len(body[5:]).to_bytes(3, "big") + body[5:])
        for kind, time, body in tags(OPUS) if kind == b"\x08"
    ],
    "a modifier in front": lambda: [
        (kind, time, bytes((0x97, 2, 0, 0, 0, body[0] & 15)) + body[1:])
        for kind, time, body in tags(OPUS) if kind == b"\x08"
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_such_tags_say_falsely_makes_them_play_no_less(name):
    data = written(*FORGED[name]())
    assert billed_ms(data) >= max(played_ms(data) * 0.995 - 1, S * 900)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data))

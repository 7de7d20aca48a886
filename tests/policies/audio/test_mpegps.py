"""MPEG programme streams: what their packets carry is counted, and no number, map or begin makes it cheaper."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio import walker
from policies.audio.mpegps import PsWalker
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import calls_to_watch, cuts, fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told
from tests.policies.audio.test_others import with_pictures

S = 2.0
KINDS = {
    "mpg": ("mpeg", "mp2", S, 48_000, 2),
    "mpg of a telephone": ("mpeg", "libmp3lame", S, 16_000, 1, 16_000),
    "vcd without pictures": ("vcd", "mp2", S, 44_100, 2),
    "vob": ("vob", "ac3", S, 48_000, 2),
    "vob of plain samples": ("vob", "pcm_dvd", S, 48_000, 2),
}
CODECS = {"libmp3lame": "mp3"}


def recorded(name):
    return recording(*KINDS[name])


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


@pytest.mark.parametrize("name", KINDS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    """Wound: it was weighed, 1.2 to 24 times too high."""
    track = fed(Track(), recorded(name), (777,))
    codec = KINDS[name][1]
    assert (track.container, track.codec, track.unsure) == ("mpegps", CODECS.get(codec, codec), False)
    assert track.walked_ms == pytest.approx(played_ms(recorded(name)), abs=3)


def test_pictures_are_no_sound():
    data = with_pictures("mpeg", "mpeg2video", "mp2")
    track = fed(Track(), data, (65_536,))
    assert len(data) > 200_000
    assert track.walked_ms == pytest.approx(played_ms(data), abs=3)
    assert not track.unsure


@pytest.mark.parametrize("number", [0xC5, 0xE0, 0xE5, 0xF0, 0xFD])
def test_sound_of_another_number_is_billed(number):
    data = recorded("mpg").replace(b"\0\0\1\xc0", b"\0\0\1%c" % number)
    assert played_ms(data) <= billed_ms(data) * 1.005 + 80


LOW = ("mpeg", "libmp3lame", 10.0, 8_000, 1, 8_000)


@pytest.mark.parametrize("decoy", [b"", "mpg"])
@pytest.mark.parametrize("size", [6, 20, 64, 65, 2000, 65_535])
def test_packets_inside_a_header_of_all_are_played(size, decoy):
    """Wound: a header passes over no bytes, whatever it says. All 10 s were behind it."""
    low = recording(*LOW)
    hidden = b"".join(b"\0\0\1\xbb" + size.to_bytes(2, "big") + b"\0\0\1\xba" + pack for pack in packs_of(low))
    data = (recorded(decoy) if decoy else low[:12]) + hidden
    assert played_ms(data) > 10_000
    assert played_ms(data) <= billed_ms(data, (7, 100, 3)) * 1.005 + 80


def test_a_header_of_all_that_ends_within_a_begin_hides_nothing():
    data = recording(*LOW)
    data = data[:12] + b"".join(b"\0\0\1\xbb\0\7\x80abcd\0\0\1\xba" + pack for pack in packs_of(data))
    assert played_ms(data) > 10_000
    assert played_ms(data) <= billed_ms(data, (7, 100, 3)) * 1.005 + 80


def packs_of(data):
    return data.split(b"\0\0\1\xba")[1:]


@pytest.mark.parametrize("said", [0, 200, 600, 2000])
def test_a_map_ends_where_readers_see_its_end(said):
    """Wound: they believe no size that it says of itself, so that the next map's head is passed over, or none."""
    low = recording(*LOW)
    maps = [
        b"\0\0\1\xbc" + (1010).to_bytes(2, "big") + b"\xe0\xff" + said.to_bytes(2, "big") + bytes(4) + pack
        for pack in (low[at : at + 900] for at in range(0, len(low), 900))
    ]
    data = recorded("mpg") + b"".join(maps)
    assert played_ms(data) <= billed_ms(data, (7, 100, 3)) * 1.005 + 80


@pytest.mark.parametrize("number", [b"\xbe\xff\xff", b"\xbf\xff\xff", b"\xbc\xff\xff\xe0\xff\xff\xff\0\0"])
def test_what_passes_over_the_files_end_hides_nothing(number):
    """Wound: FFmpeg goes back where it reads a pipe."""
    low = recording(*LOW)
    assert len(low) < 65_535
    assert billed_ms(recorded("mpg") + b"\0\0\1" + number + low) > 12_000


def test_a_file_that_only_begins_like_one_is_something_else():
    mp3 = recording("mp3", "libmp3lame", 20.0, 16_000, 1, 8_000, (("write_xing", "0"),))
    data = recorded("mpg")[:14] + mp3
    assert played_ms(data) > 19_000
    assert billed_ms(data) >= played_ms(data) - 80


@given(name=st.sampled_from(sorted(KINDS)), seed=st.none() | st.integers(0, 1 << 32), lengths=cuts)
@settings(max_examples=12)
def test_any_cut_of_a_whole_or_a_damaged_file_says_the_same(name, seed, lengths):
    data = recorded(name) if seed is None else mutated(recorded(name), random.Random(seed))
    assert told(fed(Track(), data, lengths)) == told(fed(Track(), data))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays(name, seed):
    data = mutated(recorded(name), random.Random(seed))
    assert played_ms(data) <= billed_ms(data) * 1.005 + 80


def test_a_file_of_nothing_but_headers_is_not_read_to_its_end():
    data = recorded("mpg")[:12] + b"\0\0\1\xbb\xff\xff" * 200_000
    assert calls_to_watch(PsWalker(), data, 65_536) < 2_500_000


@pytest.mark.parametrize("thing", [b"\0\0\1\xc0\0\4\x81\0\0\0", b"\0\0\1\xbb\0\1\1"])
def test_more_packets_than_are_looked_at_say_the_same_however_they_are_cut(monkeypatch, thing):
    """Wound: what came in one piece was looked at for longer, and counted a tenth less."""
    monkeypatch.setattr(walker, "_MOST_TURNS", 300)
    data = b"\0\0\1\xba\x44\0\4\0\4\1\0\0\3\xf8" + thing * 900
    assert told(fed(Track(), data, (655, 7))) == told(fed(Track(), data))

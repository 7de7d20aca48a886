"""One file: its tag is passed over, its container sniffed, its bytes walked or at least weighed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.sniff import Container
from policies.audio.track import ASSUMED_BITRATES, UNKNOWN_BITRATE, WALKERS, Track
from policies.audio.walker import LONGEST_MS
from tests.policies.audio.build import chunk, flac, fmt, frame, id3v2, riff, streaminfo, wav
from tests.policies.audio.feeding import cuts, fed

FLAC = flac([frame(number, 4096) for number in range(5)], info=streaminfo(total=5 * 4096))


def test_every_container_has_a_walker_or_an_assumed_bitrate():
    assert {*WALKERS, *ASSUMED_BITRATES, Container.UNKNOWN} == set(Container)


@pytest.mark.parametrize("tags", [b"", id3v2(0), id3v2(3), id3v2(5000), id3v2(0) * 3 + id3v2(20)])
@pytest.mark.parametrize(("file", "ms", "codec"), [(wav(0.5), 500, "pcm_s16le"), (FLAC, 1280, "flac")])
def test_a_tag_in_front_is_passed_over(tags, file, ms, codec):
    track = fed(Track(), tags + file, (11, 1, 70_000))
    assert (track.walked_ms, track.claimed_ms, track.codec, track.channels) == (ms, ms, codec, 1)
    assert track.tag_size == len(tags)


@given(
    tag=st.sampled_from([b"", id3v2(3), id3v2(100)]), file=st.sampled_from([wav(0.01), FLAC, bytes(99)]), lengths=cuts
)
def test_any_cut_says_the_same(tag, file, lengths):
    def all_of(track):
        return track.container, track.walked_ms, track.claimed_ms, track.estimated_ms, track.size, track.tag_size

    assert all_of(fed(Track(), tag + file, lengths)) == all_of(fed(Track(), tag + file))


@pytest.mark.parametrize(
    ("file", "bitrate"),
    [
        (b"\x1aE\xdf\xa3" + bytes(9996), ASSUMED_BITRATES[Container.MATROSKA]),
        (b"FORM\0\0\0\0AIFF" + bytes(9988), UNKNOWN_BITRATE),
        (riff(fmt(tag=0x55), chunk(b"data", bytes(9948))) + bytes(8), UNKNOWN_BITRATE),  # MP3 in WAV
        (flac([]) + bytes(9958), UNKNOWN_BITRATE),  # a container that holds nothing
    ],
)
def test_what_cannot_be_walked_is_weighed(file, bitrate):
    track = fed(Track(), file)
    assert len(file) == 10_000
    assert (track.walked_ms, track.estimated_ms) == (None, 80_000_000 // bitrate)


def test_a_tag_weighs_nothing_unless_it_is_all_there_is():
    assert fed(Track(), id3v2(50_000) + b"\x1aE\xdf\xa3" + bytes(9996)).estimated_ms == 5000
    tag_alone = id3v2(1 << 20)[:4000]
    assert fed(Track(), tag_alone).estimated_ms == 1000


def test_a_file_too_short_to_tell_is_weighed_too():
    assert fed(Track(), b"RIFF").container is None
    assert fed(Track(), b"RIFF").estimated_ms == 1


def test_an_absurd_claim_is_capped():
    assert fed(Track(), flac([], info=streaminfo(rate=1, total=(1 << 36) - 1))).claimed_ms == LONGEST_MS

"""Bytes that begin like nothing known: what FFmpeg finds in them is found, and the rest is left alone."""

import random
import time

import pytest

from policies.audio.hunt import _MOST_HUNTED_BYTES, HuntWalker
from policies.audio.mpeg import MpegWalker, shapes
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import recording

MP3 = recording("mp3", "libmp3lame", 1.3, 44_100, 1, None, (("write_xing", "0"),))
ADTS = recording("adts", "aac", 1.3, 16_000)
LOAS = recording("latm", "aac", 1.3, 44_100)
AC3 = recording("ac3", "ac3", 1.3, 48_000)
AMR = recording("amr", "libopencore_amrnb", 1.3, 8_000)[6:]
RUBBISH = random.Random(3).randbytes(2000)


@pytest.mark.parametrize(
    ("data", "codec", "channels", "ms"),
    [
        (RUBBISH + MP3, "mp3", 1, 1346),
        (RUBBISH + ADTS, "aac", 1, 1408),
        (RUBBISH + LOAS, "aac_latm", None, 1370),
        (RUBBISH + AC3, "ac3", None, 1312),
        (AC3, "ac3", None, 1312),
        (AMR, "amr_nb", 1, 1320),
    ],
)
def test_frames_behind_rubbish_are_found(data, codec, channels, ms):
    walker = fed(HuntWalker(), data, (777,))
    assert (walker.codec, walker.unsure, walker.channels) == (codec, True, channels)
    assert walker.ms == pytest.approx(ms, abs=60)


def test_rubbish_alone_is_nothing():
    walker = fed(HuntWalker(), RUBBISH)
    assert (walker.ms, walker.codec, walker.channels, walker.unsure) == (None, "", None, False)


@pytest.mark.parametrize("lengths", [(1 << 30,), (65_536, 1, 999)])
def test_what_is_no_audio_in_two_mebibytes_is_not_looked_at_further(lengths):
    noise = random.Random(4).randbytes(_MOST_HUNTED_BYTES)
    walker = fed(HuntWalker(), noise + MP3 * 3, lengths)
    assert (walker.ms, walker._walkers) == (None, ())
    assert walker.strange >= len(MP3) * 3
    went_on = fed(HuntWalker(), RUBBISH + MP3 * 250, lengths)
    assert went_on.ms == pytest.approx(250 * 1346, rel=0.02)


def test_a_frame_that_waits_is_looked_at_once_though_somebody_asks_after_every_piece():
    """A reservation asks so. Eight kilobytes were searched again each time, for half a millisecond a byte."""
    walker, started = HuntWalker(), time.process_time()
    for _ in range(1500):
        walker.feed(b"\x1fC\xb6u\xff\xff\xf8" * 6)
        assert walker.ms is None or walker.ms > 0
    assert time.process_time() - started < 1.0
    assert walker.ms == fed(HuntWalker(), b"\x1fC\xb6u\xff\xff\xf8" * 9000).ms


def test_a_frame_of_the_free_format_ends_at_one_place_in_any_cuts():
    """Wound: its last byte might begin another frame, or not, by where the cuts fell."""
    chance, all_heads = random.Random(0), list(shapes())
    free = [head for head, shape in shapes().items() if shape.is_free and shape.length > 4]
    fill = bytes(shapes()[free[0]].length - 4)
    data = b"".join(chance.choice(free) + fill + chance.choice(all_heads) for _ in range(500))
    whole = fed(MpegWalker(is_linked=False), data)
    for lengths in ((1,), (7,), (188,)):
        walker = fed(MpegWalker(is_linked=False), data, lengths)
        assert (walker.ms, walker.strange) == (whole.ms, whole.strange)


def test_ogg_behind_rubbish_counts_as_who_goes_by_its_name_plays_it():
    """FFmpeg looks for pages in what is called .ogg."""
    walker = fed(HuntWalker(), RUBBISH + recording("ogg", "libopus", 20.0, 48_000, 1), (777,))
    assert (walker.codec, walker.ms) == ("opus", pytest.approx(20_000, abs=60))

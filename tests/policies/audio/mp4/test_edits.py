"""The delay that an M4A notes in a tag of iTunes' is left out as FFmpeg does, as far as it is one."""

import struct

import pytest

from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import told

SHAPE = ("ipod", "aac", 1.3, 44_100)


def box(name, body):
    return struct.pack(">I", 8 + len(body)) + name + body


def tagged(data, delay, padding=500):
    """An M4A whose movie, its last box, ends in that tag."""
    numbers = f" 00000000 {delay:08X} {padding:08X} {57_330:016X}" + " 00000000" * 8
    name = box(b"mean", b"\0\0\0\0com.apple.iTunes") + box(b"name", b"\0\0\0\0iTunSMPB")
    tag = box(b"----", name + box(b"data", b"\0\0\0\1\0\0\0\0" + numbers.encode()))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    extra = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", tag)))
    movie = data.rindex(b"moov") - 4
    size = int.from_bytes(data[movie : movie + 4], "big")
    return data[:movie] + struct.pack(">I", size + len(extra)) + data[movie + 4 :] + extra


@pytest.mark.parametrize("delay", [1, 1024, 2112, 4095])
@pytest.mark.parametrize("edits", [b"edts", b"free"])
def test_what_itunes_notes_as_silent_is_left_out(delay, edits):
    """Wound: 21 to 48 ms too many were billed. Where an edit list leaves out more, that counts."""
    data = tagged(recording(*SHAPE).replace(b"edts", edits), delay)
    track = fed(Track(), data)
    assert (track.walked_ms, track.unsure) == (pytest.approx(played_ms(data), abs=1), False)
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


@pytest.mark.parametrize("delay", [0, 5_000, 16_383, 16_384, 0xFFFF_FFFF])
@pytest.mark.parametrize("edits", [b"edts", b"free"])
def test_what_is_no_encoders_delay_leaves_nothing_out(delay, edits):
    data = tagged(recording(*SHAPE).replace(b"edts", edits), delay)
    assert Heard.of(fed(Track(), data)).best_ms >= played_ms(data) - 1


def test_the_tag_leaves_nothing_out_of_other_codecs():
    """Wound: half a second was left out of AC-3, MP3, ALAC, FLAC and Opus, which FFmpeg plays."""
    data = tagged(recording("mp4", "ac3", 2.0, 32_000), 4095)
    assert Heard.of(fed(Track(), data)).best_ms >= played_ms(data) - 1


@pytest.mark.parametrize(
    ("written", "forged"),
    [(b"iTunSMPB", b"itunsmpb"), (b"----", b"abcd"), (b"ilst", b"ilsx"), (b"000001F4 ", b"zzzzzzzz ")],
)
def test_a_tag_that_is_not_itunes_leaves_nothing_out(written, forged):
    """Wound: the name was looked for anywhere, in any case, and one number was enough."""
    data = tagged(recording(*SHAPE).replace(b"edts", b"free"), 4095).replace(written, forged)
    assert Heard.of(fed(Track(), data)).best_ms >= played_ms(data) - 1


def test_a_tag_in_front_of_the_track_is_of_no_track():
    data = tagged(recording(*SHAPE), 2112)
    extra = data[data.rindex(b"udta") - 4 :]
    track = data.index(b"trak") - 4
    assert Heard.of(fed(Track(), data[:track] + extra + data[track : -len(extra)])).best_ms == pytest.approx(
        played_ms(data[:track] + extra + data[track : -len(extra)]), abs=1
    )

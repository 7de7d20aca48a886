"""ASF, and Windows Media Audio wherever it stands: counted by its blocks, and no forged header makes it cheaper."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio.sources import Heard
from policies.audio.track import Track
from policies.audio.wma import Wma
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told

S = 2.0
KINDS = {
    "wma of a telephone": ("asf", "wmav1", S, 8_000, 1, 24_000),
    "wma": ("asf", "wmav2", S, 44_100, 2, 64_000),
    "wma in wav": ("wav", "wmav2", S, 22_050, 1, 32_000),
    "wma in avi": ("avi", "wmav2", S, 16_000, 1, 32_000),
    "mp3": ("asf", "libmp3lame", S, 16_000, 1, 24_000),
    "aac": ("asf", "aac", S, 44_100, 1, 48_000),
    "adpcm": ("asf", "adpcm_ima_wav", S, 8_000),
    "plain samples": ("asf", "pcm_s16le", S, 8_000),
}


def recorded(name):
    return recording(*KINDS[name])


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


@pytest.mark.parametrize("name", KINDS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    """FFmpeg 5 plays a frame of WMA (64 ms at most) that FFmpeg 8 drops: the longer playing counts."""
    container, codec, _, rate, *_ = KINDS[name]
    track = fed(Track(), recorded(name), (777,))
    assert (track.container, track.unsure) == (container, False)
    frame_ms = max(512, 2048 * (rate > 22_050), 1024 * (rate > 16_000)) * 1000 / rate if "wma" in codec else 0
    assert played_ms(recorded(name)) - 1 <= track.walked_ms <= played_ms(recorded(name)) + frame_ms + 1
    if container == "asf":
        assert track.claimed_ms == pytest.approx(S * 1000, abs=100)


@given(name=st.sampled_from(sorted(KINDS)), seed=st.none() | st.integers(0, 1 << 32), lengths=cuts)
@settings(max_examples=20)
def test_any_cut_of_a_whole_or_a_damaged_file_says_the_same(name, seed, lengths):
    data = recorded(name) if seed is None else mutated(recorded(name), random.Random(seed))
    assert told(fed(Track(), data, lengths)) == told(fed(Track(), data))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays(name, seed):
    data = mutated(recorded(name), random.Random(seed))
    assert played_ms(data) <= billed_ms(data) * 1.005 + 80


FILE, DATA = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


@pytest.mark.parametrize("field", ["playing time", "data's end", "packets' size"])
def test_what_the_file_says_of_its_length_makes_nothing_cheaper(field):
    data = bytearray(recorded("wma"))
    begins = {"playing time": data.find(FILE) + 64, "data's end": data.find(DATA) + 16}.get(field, data.find(FILE) + 92)
    data[begins : begins + 8] = struct.pack("<Q", 150)
    assert played_ms(bytes(data)) <= billed_ms(bytes(data)) * 1.005 + 1


def wma(tag, extra, block, rate=16_000):
    return Wma(struct.pack("<HHIIHHH", tag, 1, rate, 1000, block, 16, len(extra)) + extra)


def test_frames_that_share_blocks_are_counted_by_what_each_block_says():
    """The first of all begins in no block: decoders drop it."""
    one = wma(0x0161, bytes(4) + b"\x0f\0", 100)
    one.feed(b"\x09" + bytes(99) + b"\x18" + bytes(50), is_end=False)
    one.feed(bytes(49) + b"\x28" + bytes(30), is_end=True)
    assert one.ms == (9 + 8 - 1) * 512 // 16


def test_superframes_of_voice_are_counted_by_what_each_block_says():
    one = wma(0x000A, bytes(46), 40)
    one.feed((0b0000_0_000110 << 5).to_bytes(2, "big") + bytes(38), is_end=True)
    one.feed((0b0000_0_111111_000010 << 7).to_bytes(3, "big") + bytes(37), is_end=True)
    assert one.ms == (6 + 65) * 480 // 16


def test_frames_of_professional_are_counted_one_behind_the_other():
    """Ten bits say how long one is, in a block of 64 bytes: the rest of one, two whole ones, and one that goes on."""
    bits = "0" * 6 + f"{60:010b}" + "0" * 60 + 2 * (f"{150:010b}" + "0" * 140) + f"{500:010b}"
    block = int(bits.ljust(512, "0"), 2).to_bytes(64, "big")
    one = wma(0x0162, bytes(14) + b"\xe0\0", 64)
    for _ in range(10):
        one.feed(block, is_end=True)
    assert one.ms == (30 - 1) * 512 // 16


def of_small_payloads(size):
    """A file of so many bytes whose payloads are objects of one byte."""
    whole = bytearray(recorded("plain samples"))
    payload = b"\x81\0\0\0\0\0\x08" + struct.pack("<II", 1, 0) + b"\x01\0\0"
    packet = b"\x82\0\0\x09\x5d" + bytes(7) + b"\xbf" + payload * 63
    says, begins = whole.find(FILE) + 92, whole.find(DATA)
    whole[says : says + 8] = struct.pack("<II", len(packet), len(packet))
    whole[begins + 16 : begins + 24] = struct.pack("<Q", 1 << 40)
    return bytes(whole[: begins + 50]) + packet * (size // len(packet))


def test_a_file_of_the_smallest_payloads_is_not_looked_at_to_its_end():
    track = fed(Track(), of_small_payloads(3_000_000), (65_536,))
    assert track.unsure
    assert track.walked_ms > track.size // 5


@pytest.mark.parametrize("rate", [None, 1000])
@pytest.mark.parametrize("block", [None, 1, 7, 50])
@pytest.mark.parametrize("name", ["wma", "wma of a telephone", "plain samples"])
def test_what_is_weighed_is_no_cheaper_than_its_format(name, block, rate):
    """Wound: behind a packet that recorders do not write all weighed at 4 kbit/s, also where one byte was a frame."""
    data = bytearray(recorded(name))
    form = data.find(bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")) + 78
    if rate:
        struct.pack_into("<I", data, form + 4, rate)
    if block:
        struct.pack_into("<H", data, form + 12, block)
    data[data.find(DATA) + 51] = 1
    assert played_ms(bytes(data)) <= billed_ms(bytes(data)) * 1.005 + 80


def test_what_stands_behind_the_last_packet_is_none_however_the_file_is_cut():
    data = recorded("mp3") + b"\0" * 16 + struct.pack("<Q", 5_000) + bytes(4_976)
    begins = data.find(DATA)
    size = len(recorded("mp3")) - begins
    data = data[: begins + 16] + struct.pack("<Q", size) + data[begins + 24 :]
    assert told(fed(Track(), data)) == told(fed(Track(), data, (700,)))
    assert not fed(Track(), data).unsure

"""Opus in MP4: its packets say how long they play. What the tables say of that is a claim."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.mp4.opus import OpusHeads
from policies.audio.opus import packet_samples
from policies.audio.track import Track
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording

_KINDS = {
    "tables behind": (),
    "tables in front": (("movflags", "+faststart"),),
    "fragments": (("movflags", "+frag_keyframe+empty_moov"), ("frag_duration", "300000")),
}


def noise(seconds, rate, channels):
    return random.Random(1).randbytes(round(seconds * rate) * channels * 2)


def opus(kind, duration, seconds=2.0):
    options = (("frame_duration", duration),)
    return recording("mp4", "libopus", seconds, 48_000, 1, 16_000, _KINDS[kind], options)


def with_durations(data, ticks):
    """The same file, whose tables and fragments say that each packet lasts so many ticks."""
    data = bytearray(data)
    at = 0
    while (at := data.find(b"stts", at + 1)) > 0:
        for entry in range(int.from_bytes(data[at + 8 : at + 12], "big")):
            data[at + 16 + 8 * entry : at + 20 + 8 * entry] = struct.pack(">I", ticks)
    while (at := data.find(b"tfhd", at + 1)) > 0:
        flags = int.from_bytes(data[at + 5 : at + 8], "big")
        assert flags & 8
        field = at + 12 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
        data[field : field + 4] = struct.pack(">I", ticks)
    return bytes(data)


@pytest.mark.parametrize("duration", ["2.5", "5", "10", "20", "60"])
@pytest.mark.parametrize("kind", _KINDS)
def test_packets_of_any_length_count_as_ffmpeg_plays_them_and_are_not_flagged(kind, duration):
    track = fed(Track(), opus(kind, duration))
    assert track.walked_ms == pytest.approx(played_ms(opus(kind, duration)), rel=0.005)
    assert not track.unsure


@pytest.mark.parametrize(("delay", "believed"), [(0, 0), (312, 6), (3_840, 80), (3_841, 0), (48_000, 0)])
def test_the_delay_that_its_description_notes_is_left_out_up_to_80_ms(delay, believed):
    """Where no edits are listed, as browsers write it: theirs is 80 ms."""
    data = bytearray(opus("fragments", "20"))
    at = data.index(b"dOps") + 6
    data[at : at + 2] = delay.to_bytes(2, "big")
    assert fed(Track(), bytes(data)).walked_ms == pytest.approx(2_020 - believed, abs=1)
    assert fed(Track(), bytes(data)).walked_ms >= played_ms(bytes(data)) * 0.995


@pytest.mark.parametrize("ticks", [1, 120])
@pytest.mark.parametrize("kind", _KINDS)
def test_packets_that_are_stated_to_be_shorter_count_as_long_as_they_are(kind, ticks):
    data = with_durations(opus(kind, "60"), ticks)
    assert fed(Track(), data).walked_ms == fed(Track(), opus(kind, "60")).walked_ms


def test_a_track_without_a_number_is_read_however_the_bytes_are_cut():
    data = opus("tables in front", "2.5").replace(b"tkhd", b"free")
    whole = fed(Track(), data)
    assert whole.walked_ms >= played_ms(data) * 0.995
    for length in (7, 100, 997):
        assert fed(Track(), data, (length,)).walked_ms == whole.walked_ms


def test_packets_that_no_table_leads_to_count_twenty_milliseconds():
    data = opus("tables in front", "10")
    at = data.index(b"stco") + 12
    nowhere = data[:at] + bytes(4) + data[at + 4 :]
    whole = fed(Track(), nowhere)
    assert whole.walked_ms >= 2 * fed(Track(), data).walked_ms - 10
    assert whole.unsure


@pytest.mark.parametrize("kind", ["tables behind", "tables in front"])
def test_packets_behind_those_that_were_kept_count_as_those_that_were_looked_at(kind):
    """Wound: they counted 20 ms each. Of media in front of its tables 64 KiB are kept, of tables 16 384 packets."""
    shape = (6.0, 48_000, 2, 256_000) if kind == "tables behind" else (42.0, 48_000, 1, 8_000)
    options = (("frame_duration", "10" if kind == "tables behind" else "2.5"),)
    data = recording("mp4", "libopus", *shape, _KINDS[kind], options, noise)
    for file in (data, with_durations(data, 1)):
        track = fed(Track(), file)
        assert track.walked_ms == pytest.approx(played_ms(data), rel=0.005)
        for length in (1 << 16, 1000, 7):
            assert fed(Track(), file, (length,)).walked_ms == track.walked_ms


@given(
    packets=st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=30),
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    lengths=cuts,
)
def test_every_packet_is_read_once_however_the_bytes_are_cut(packets, gaps, lengths):
    heads, data, begun = OpusHeads(), b"\xaa" * 7, 0
    for number, gap in enumerate(gaps):
        run = packets[number :: len(gaps)]
        data += b"\xff" * gap
        heads.begin_run(len(data))
        heads.pass_sizes([len(packet) for packet in run])
        heads.end_table(b"trun", is_whole=True)
        data += b"".join(run)
        begun += len(run)
    assert heads.waiting == begun
    data += b"\xff"
    at = turn = 0
    while at < len(data):
        piece = data[at : at + lengths[turn % len(lengths)]]
        heads.feed(piece, at)
        at, turn = at + len(piece), turn + 1
    assert (heads.count, heads.waiting) == (begun, 0)
    assert heads.samples == sum(packet_samples(packet, 0, len(packet)) for packet in packets)

"""CAF: counted by packets, and a description or table that says less than they hold makes nothing cheaper."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio.aac import packed
from policies.audio.sources import Heard
from policies.audio.track import Track
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told

CODECS = [b"ima4", b"MAC3", b"MAC6", b"ulaw", b"ilbc", b"agsm", b"Qclp", b"samr", b"ms\0\x31", b"opus", b"lpcm"]
PACKETS = [(34, 64), (34, 1), (1, 1), (33, 1), (50, 240), (38, 160), (2, 6), (256, 1)]


def caf(codec, rate, packet, samples):
    """Noise of 6000 bytes, in packets of so many, which say how many samples each plays."""
    description = struct.pack(">d4s5I", rate, codec, 0, packet, samples, 1, 0)
    data = random.Random(4).randbytes(6000)
    head = b"caff\0\1\0\0desc" + struct.pack(">Q", len(description)) + description
    return head + b"data" + struct.pack(">Q", 4 + len(data)) + bytes(4) + data


@pytest.mark.parametrize("rate", [1000, 8000, 192_000])
@pytest.mark.parametrize(("packet", "samples"), PACKETS)
@pytest.mark.parametrize("codec", CODECS)
def test_no_packet_is_billed_below_what_ffmpeg_plays_of_it(codec, packet, samples, rate):
    data = caf(codec, rate, packet, samples)
    assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80


KINDS = {
    "alac": ("caf", "alac", 3.0, 44_100),
    "flac": ("caf", "flac", 3.0, 16_000),
    "mp3 at 8 kbit/s": ("caf", "libmp3lame", 3.0, 8_000, 1, 8_000),
    "amr": ("caf", "libopencore_amrnb", 3.0, 8_000, 1, 12_200),
    "ac-3": ("caf", "ac3", 3.0, 48_000),
    "plain samples": ("caf", "pcm_s16le", 3.0, 16_000),
}


def recorded(name):
    return recording(*KINDS[name])


@pytest.mark.parametrize("name", KINDS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    """FFmpeg 8 leaves out what the table calls priming and remainder, and FFmpeg 5 plays it: the longer counts.

    Wound: MP3 at 8 kbit/s was billed at half, and others at up to 33 times, by their weight.
    """
    _, codec, _, rate, *_ = KINDS[name]
    track = fed(Track(), recorded(name), (777,))
    assert track.container == "caf"
    assert track.unsure == (codec == "pcm_s16le")
    packet_ms = {"alac": 4096, "libmp3lame": 3 * 576, "ac3": 1536}.get(codec, rate // 40) * 1000 / rate
    assert played_ms(recorded(name)) - 1 <= track.walked_ms <= played_ms(recorded(name)) + packet_ms + 1


def number(size):
    return bytes([size >> 14 | 128, size >> 7 & 127 | 128, size & 127])


def of_packets(kind, packets, rate, samples, cookie=b"", *, table_first=False):
    """A file of these packets, as Apple writes it."""
    chunks = [(b"desc", struct.pack(">d4s5I", rate, kind, 0, 0, samples, 1, 0))]
    if cookie:
        chunks.append((b"kuki", cookie))
    table = struct.pack(">qqii", len(packets), len(packets) * samples, 0, 0) + b"".join(map(number, map(len, packets)))
    both = [(b"data", bytes(4) + b"".join(packets)), (b"pakt", table)]
    chunks += both[::-1] if table_first else both
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", len(body)) + body for name, body in chunks)


def adts_blocks(seconds):
    data, blocks, at = recording("adts", "aac", seconds, 44_100, 1, 48_000), [], 0
    while at < len(data):
        size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        blocks.append(data[at + 7 : at + size])
        at += size
    return blocks


COOKIE = (
    b"\x03\x80\x80\x80\x22\0\0\0\x04\x80\x80\x80\x14\x40\x15"
    + bytes(11)
    + b"\x05\x80\x80\x80\2\x12\x08\6\x80\x80\x80\1\2"
)


@pytest.mark.parametrize("table_first", [False, True])
def test_aac_is_measured_as_ffmpeg_plays_it(table_first):
    data = of_packets(b"aac ", adts_blocks(10.0), 44_100, 1024, COOKIE, table_first=table_first)
    track = fed(Track(), data, (5000,))
    assert (track.codec, track.unsure) == ("aac", False)
    assert track.walked_ms == pytest.approx(played_ms(data), abs=50)


@pytest.mark.parametrize("table_first", [False, True])
@pytest.mark.parametrize("secret", range(5))
def test_several_blocks_of_aac_in_a_packet_are_found_out(secret, table_first, monkeypatch):
    monkeypatch.setattr(packed, "_SECRET", b"%d" % secret)
    blocks = adts_blocks(10.0)
    packets = [b"".join(blocks[at : at + 8]) for at in range(0, len(blocks), 8)]
    data = of_packets(b"aac ", packets, 44_100, 1024, COOKIE, table_first=table_first)
    track = fed(Track(), data, (5000,))
    assert track.unsure
    assert track.walked_ms >= 10_000


@pytest.mark.parametrize("table_first", [False, True])
def test_opus_plays_what_its_packets_say(table_first):
    """Sixty milliseconds each, which the description calls two and a half."""
    packets = [b"\x18" + random.Random(n).randbytes(30) for n in range(400)]
    data = of_packets(b"opus", packets, 48_000, 120, table_first=table_first)
    track = fed(Track(), data, (500,))
    assert (track.unsure, track.walked_ms) == (True, 24_000)
    assert played_ms(data) <= 24_000


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("kind", [*KINDS, "opus", "aac"])
def test_a_rate_that_is_none_makes_no_packet_cheaper(kind, rate):
    """Wound: Opus at 8 kbit/s, and MP3, were weighed at 16."""
    packets = {"opus": [b"\x08" + bytes(14)] * 400, "aac": adts_blocks(3.0)}.get(kind)
    data = of_packets(kind.encode().ljust(4), packets, 48_000, 960, COOKIE) if packets else recorded(kind)
    data = data[:20] + struct.pack(">d", rate) + data[28:]
    track = fed(Track(), data, (777,))
    assert track.claimed_ms is None
    assert played_ms(data) <= Heard.of(track).best_ms * 1.005 + 80


def test_a_table_that_cuts_frames_of_mp3_makes_more_of_them():
    """Heads of frames stand inside what others call their length, where the table lets packets begin."""
    head = bytes.fromhex("ffe3e4c4")
    data = of_packets(b".mp3", [head + bytes(20)] * 500, 8_000, 576)
    assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms


@given(name=st.sampled_from(sorted(KINDS)), seed=st.none() | st.integers(0, 1 << 32), lengths=cuts)
@settings(max_examples=15)
def test_any_cut_of_a_whole_or_a_damaged_file_says_the_same(name, seed, lengths):
    data = recorded(name) if seed is None else mutated(recorded(name), random.Random(seed))
    assert told(fed(Track(), data, lengths)) == told(fed(Track(), data))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays(name, seed):
    data = mutated(recorded(name), random.Random(seed))
    assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80

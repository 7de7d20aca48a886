"""Every container, as FFmpeg writes it: what is measured is what FFmpeg plays, and no forgery makes it less."""

import itertools
import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.audio import ogg
from policies.audio.ac3 import Ac3Walker
from policies.audio.flac import StreamInfo
from policies.audio.packets import FlacPackets, OpusPackets
from policies.audio.sources import Heard
from policies.audio.track import WALKERS, Track
from tests.policies.audio.build import chunk, fmt, riff, streaminfo, wav
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import played_ms, recording

S = 1.3
_STRICT = (("strict", "-2"),)
_FASTSTART = (("movflags", "+faststart"),)
_FRAGMENTED = (("movflags", "+frag_keyframe+empty_moov"), ("frag_duration", "300000"))

# name: what to record, the container and codec that are told
RECORDINGS = {
    "mp3": (("mp3", "libmp3lame", S, 16_000), "mp3", "mp3"),
    "mp3 stereo": (("mp3", "libmp3lame", S, 44_100, 2), "mp3", "mp3"),
    "mp3 8 kHz": (("mp3", "libmp3lame", S, 8_000, 1, 8_000), "mp3", "mp3"),
    "mp3 without Xing": (("mp3", "libmp3lame", S, 44_100, 1, None, (("write_xing", "0"),)), "mp3", "mp3"),
    "mp3 vbr": (("mp3", "libmp3lame", S, 44_100, 1, None, (), (("compression_level", "9"), ("q", "4"))), "mp3", "mp3"),
    "mp3 with tags": (("mp3", "libmp3lame", S, 16_000, 1, None, (("write_id3v1", "1"),)), "mp3", "mp3"),
    "mp2": (("mp2", "mp2", S, 44_100), "mp3", "mp2"),
    "adts": (("adts", "aac", S, 16_000), "adts", "aac"),
    "adts stereo": (("adts", "aac", S, 44_100, 2), "adts", "aac"),
    "latm": (("latm", "aac", S, 44_100), "latm", "aac_latm"),
    "opus": (("ogg", "libopus", S, 16_000), "ogg", "opus"),
    "opus stereo": (("ogg", "libopus", S, 48_000, 2), "ogg", "opus"),
    "opus 2.5 ms": (("ogg", "libopus", S, 48_000, 1, 24_000, (), (("frame_duration", "2.5"),)), "ogg", "opus"),
    "opus 120 ms": (("ogg", "libopus", S, 48_000, 1, 8_000, (), (("frame_duration", "120"),)), "ogg", "opus"),
    "vorbis": (("ogg", "vorbis", S, 44_100, 2, None, (), _STRICT), "ogg", "vorbis"),
    "ogg flac": (("ogg", "flac", S, 16_000), "ogg", "flac"),
    "webm": (("webm", "libopus", S, 48_000), "matroska", "opus"),
    "webm live": (("webm", "libopus", S, 48_000, 1, 12_000, (("live", "1"),)), "matroska", "opus"),
    "webm 2.5 ms": (("webm", "libopus", S, 48_000, 1, 24_000, (), (("frame_duration", "2.5"),)), "matroska", "opus"),
    "webm 60 ms": (("webm", "libopus", S, 48_000, 1, None, (), (("frame_duration", "60"),)), "matroska", "opus"),
    "webm vorbis": (("webm", "vorbis", S, 44_100, 2, None, (), _STRICT), "matroska", "vorbis"),
    "mka aac": (("matroska", "aac", S, 44_100), "matroska", "aac"),
    "mka mp3": (("matroska", "libmp3lame", S, 44_100), "matroska", "mp3"),
    "mka flac": (("matroska", "flac", S, 16_000), "matroska", "flac"),
    "mka alac": (("matroska", "alac", S, 16_000), "matroska", "alac"),
    "mka ac3": (("matroska", "ac3", S, 48_000), "matroska", "ac3"),
    "mka eac3": (("matroska", "eac3", S, 48_000), "matroska", "eac3"),
    "mka pcm": (("matroska", "pcm_s16le", S, 16_000), "matroska", "pcm_s16le"),
    "m4a": (("ipod", "aac", S, 16_000), "mp4", "aac"),
    "m4a moov first": (("ipod", "aac", S, 44_100, 2, None, _FASTSTART), "mp4", "aac"),
    "m4a 8 kHz": (("ipod", "aac", S, 8_000), "mp4", "aac"),
    "m4a fragmented": (("mp4", "aac", S, 44_100, 1, None, _FRAGMENTED), "mp4", "aac"),
    "mp4 ac3 in tables and fragments": (
        ("mp4", "ac3", S, 48_000, 1, None, (("movflags", "+frag_keyframe"), ("frag_duration", "300000"))),
        "mp4",
        "ac3",
    ),
    "alac": (("ipod", "alac", S, 44_100), "mp4", "alac"),
    "mov alac": (("mov", "alac", S, 8_000), "mp4", "alac"),
    "mov fragmented": (("mov", "pcm_s16le", S, 16_000, 2, None, _FRAGMENTED), "mp4", "pcm_sowt"),
    "mp4 pcm of 24 bits": (("mp4", "pcm_s24le", S, 16_000, 1, None, _FRAGMENTED), "mp4", "pcm_ipcm"),
    "mp4 flac fragmented": (("mp4", "flac", S, 16_000, 1, None, _FRAGMENTED), "mp4", "flac"),
    "mp4 mp2": (("mp4", "mp2", S, 16_000), "mp4", "mp3"),
    "mka mp3 8 kHz": (("matroska", "libmp3lame", S, 8_000), "matroska", "mp3"),
    "mp4 opus": (("mp4", "libopus", S, 48_000), "mp4", "opus"),
    "mp4 opus 60 ms": (("mp4", "libopus", S, 48_000, 1, None, (), (("frame_duration", "60"),)), "mp4", "opus"),
    "mp4 opus 10 ms": (("mp4", "libopus", S, 48_000, 1, None, (), (("frame_duration", "10"),)), "mp4", "opus"),
    "mp4 opus 2.5 ms": (
        ("mp4", "libopus", S, 48_000, 2, 24_000, _FASTSTART, (("frame_duration", "2.5"),)),
        "mp4",
        "opus",
    ),
    "mp4 opus 5 ms fragmented": (
        ("mp4", "libopus", S, 48_000, 1, None, _FRAGMENTED, (("frame_duration", "5"),)),
        "mp4",
        "opus",
    ),
    "mp4 flac": (("mp4", "flac", S, 44_100), "mp4", "flac"),
    "mp4 mp3": (("mp4", "libmp3lame", S, 44_100), "mp4", "mp3"),
    "mov": (("mov", "pcm_s16le", S, 16_000), "mp4", "pcm_sowt"),
    "3gp": (("3gp", "libopencore_amrnb", S, 8_000), "mp4", "amr_nb"),
    "amr": (("amr", "libopencore_amrnb", S, 8_000), "amr", "amr_nb"),
    "aiff": (("aiff", "pcm_s16be", S, 16_000), "aiff", "pcm_s16be"),
    "au": (("au", "pcm_s16be", S, 16_000, 2), "au", "pcm_s16be"),
    "w64": (("w64", "pcm_s16le", S, 16_000), "w64", "pcm_s16le"),
    "caf": (("caf", "pcm_s16le", S, 16_000), "caf", "caf_lpcm"),
    "wav": (("wav", "pcm_s16le", S, 16_000), "wav", "pcm_s16le"),
    "wav mp3": (("wav", "libmp3lame", S, 16_000), "wav", "mp3"),
    "wav flac": (("wav", "flac", S, 16_000), "wav", "flac"),
    "wav ac3": (("wav", "ac3", S, 48_000), "wav", "ac3"),
    "wav eac3": (("wav", "eac3", S, 48_000), "wav", "ac3"),
    "flac": (("flac", "flac", S, 16_000), "flac", "flac"),
}


def recorded(name):
    return recording(*RECORDINGS[name][0])


def billed_ms(data, lengths=(1 << 30,)):
    return Heard.of(fed(Track(), data, lengths)).best_ms


def told(track):
    return (
        track.container,
        track.walked_ms,
        track.claimed_ms,
        track.estimated_ms,
        track.codec,
        track.channels,
        track.unsure,
    )


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_honest_recording_is_measured_as_ffmpeg_plays_it(name):
    _, container, codec = RECORDINGS[name]
    track = fed(Track(), recorded(name))
    played = played_ms(recorded(name))
    assert (track.container, track.codec) == (container, codec)
    assert track.walked_ms == pytest.approx(played, rel=0.005, abs=1)
    assert track.channels in {None, RECORDINGS[name][0][4] if len(RECORDINGS[name][0]) > 4 else 1}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_in_single_bytes_is_the_same(name):
    assert told(fed(Track(), recorded(name), (1,))) == told(fed(Track(), recorded(name)))


@given(name=st.sampled_from(sorted(RECORDINGS)), lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=20) | cuts)
@settings(max_examples=60)
def test_any_cut_says_the_same(name, lengths):
    assert told(fed(Track(), recorded(name), lengths)) == told(fed(Track(), recorded(name)))


@given(
    table=st.binary(min_size=1, max_size=40) | st.lists(st.sampled_from([1, 9, 254, 255]), min_size=1).map(bytes),
    seed=st.integers(0, 1 << 32),
    is_fresh=st.booleans(),
)
def test_small_packets_are_counted_together_as_they_are_one_by_one(table, seed, is_fresh):
    packets = OpusPackets(b"OpusHead\1\1" + bytes(9))
    page = random.Random(seed).randbytes(sum(table) + 3)
    together = ogg._by_first_bytes(packets, page, 3, table, is_fresh=is_fresh)
    assert together in (None, ogg._one_by_one(packets, page, 3, table, is_fresh=is_fresh))


def test_a_flac_packet_raises_nothing_whatever_its_header_says():
    """RFC 9639 section 9.1 leaves no rate 15, no channels above 10, no depth 3: a file may say them all the same."""
    packets, chance = FlacPackets(StreamInfo(16_000, 1, 16, 0)), random.Random(2)
    for code in range(1 << 16):
        frame = b"\xff\xf8" + code.to_bytes(2, "big") + chance.randbytes(20)
        assert packets.samples(frame, 0, len(frame)) >= 0


def mutated(data, chance):
    """A file with a few faults: false fields; lost, strange and doubled bytes; an end too early or too late."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(min(len(data), chance.choice([1500, 1 << 30])))
        match chance.randrange(7):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at : at + 4] = chance.choice([bytes(4), b"\xff" * 4, b"\0\0\0\1", chance.randbytes(4)])
            case 2:
                del data[at : at + chance.choice([1, 4, 100, 3000])]
            case 3:
                data[at:at] = chance.randbytes(chance.choice([1, 4, 100, 3000]))
            case 4:
                data[at:at] = data[at : at + chance.choice([4, 100, 3000])]
            case 5:
                del data[max(at, 100) :]
            case _:
                data += recorded(chance.choice(sorted(RECORDINGS)))
        if len(data) < 20:
            break
    return bytes(data)


@given(name=st.sampled_from(sorted(RECORDINGS)), seed=st.integers(0, 1 << 32), lengths=cuts)
@settings(max_examples=150)
def test_a_damaged_file_raises_nothing_and_any_cut_of_it_says_the_same(name, seed, lengths):
    data = mutated(recorded(name), random.Random(seed))
    assert told(fed(Track(), data, lengths)) == told(fed(Track(), data))


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_damaged_file_is_billed_no_less_than_ffmpeg_plays_of_it(name):
    """With room for a last frame that one reader cuts and another one does not."""
    for seed in range(3):
        data = mutated(recorded(name), random.Random(f"{name} {seed}"))
        assert played_ms(data) <= billed_ms(data) * 1.005 + 80, seed


def replaced(data, old, new, count=-1):
    assert old in data
    return data.replace(old, new, count)


def box_field(data, name, at, value):
    """An MP4 box's 32-bit field, at so many bytes behind its name, wherever it stands."""
    start = data.index(name) + len(name) + at
    return data[:start] + struct.pack(">I", value) + data[start + 4 :]


def another_track(data, kind, times=1, *, is_in_front=False):
    """An MP4 with tracks of five samples before or behind its own one. The movie must be its last box."""
    own = data.index(b"trak") - 4
    ends = own + int.from_bytes(data[own : own + 4], "big")
    extra = replaced(box_field(data[own:ends], b"stsz", 8, 5), b"soun", kind) * times
    at = own if is_in_front else ends
    data = data[:at] + extra + data[at:]
    return box_field(data, b"moov", -8, len(data) - data.index(b"moov") + 4)


def interleaved(data, frame_bytes, rubbish):
    """Rubbish between every two frames of one size."""
    return b"".join(data[at : at + frame_bytes] + rubbish for at in range(0, len(data), frame_bytes))


def silent_granules(data):
    """Ogg pages that all claim to lie at 0, with checksums that hold."""
    out, at = bytearray(data), 0
    while (at := data.find(b"OggS", at)) >= 0:
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        out[at + 6 : at + 14] = bytes(8)
        out[at + 22 : at + 26] = bytes(4)
        out[at + 22 : at + 26] = struct.pack("<I", ogg_crc(out[at:end]))
        at = end
    return bytes(out)


def ogg_crc(page):
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x104C11DB7) & 0xFFFFFFFF if crc >> 31 else crc << 1
    return crc


def hidden_clusters(data, leaf, *front):
    """A live WebM whose clusters all stand inside one element, with a fault behind it that sends readers back."""
    at = data.index(CLUSTER)
    inside = b"".join(front) + data[at:]
    size = (1 << 56 | len(inside)).to_bytes(8, "big")
    return data[:at] + CLUSTER + b"\x01" + b"\xff" * 7 + b"\xe7\x81\0" + leaf + size + inside + b"\0" * 8


def decoys(leaf):
    """A live WebM of packets of a byte, among them leaves that hold the begin of a block each, up to the next leaf.

    Who takes what stands in a leaf for the file's sees a few large blocks. Behind no fault no reader does.
    """
    live, endless, whole = recorded("webm live"), b"\x01" + b"\xff" * 7, 1000
    block = b"\xa3" + struct.pack(">H", 1 << 14 | whole) + b"\x81\0\0\x80\x18"
    packet, hidden = b"\xa3\x85\x81\0\0\x80\x18", CLUSTER + endless + b"\xe7\x81\0" + block
    data = live[: live.index(CLUSTER)] + CLUSTER + endless + b"\xe7\x81\0" + packet
    for inside in (hidden, block, block, block):
        data += leaf + bytes([0x80 | len(inside)]) + inside
        ends = len(data) - 5 + whole
        data += packet * ((ends - len(data) - 4) // 7)
        data += leaf + bytes([0x80 | ends - len(data) - 4]) + bytes(ends - len(data) - 4)
    return data


def hidden_behind_an_end(data):
    """A file whose segment has ended, and an element that claims all of the other one which stands behind."""
    return data + b"\x1a\x45\xdf\xa3\x01" + len(data).to_bytes(7, "big") + data


FAST = struct.pack("<HHIIHH", 1, 8, 192_000, 192_000 * 32, 32, 32)
"""A WAV's format in which a second takes six megabytes."""
FAST_CAF = struct.pack(">Qd4s5I", 32, 192_000, b"lpcm", 0, 32, 1, 8, 32) + b"data" + b"\xff" * 8 + bytes(4)
WAVE64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0" + b"\xff" * 8
GUID = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"
NO_HEADERS = {
    "Wave64 of another form": WAVE64 + b"wavx" + GUID + b"fmt " + GUID + b"\x28" + bytes(7) + FAST + bytes(24),
    "RF64 without its sizes": b"RF64\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + FAST + b"data\xff\xff\xff\xff",
    "CAF of version 2": b"caff\0\2\0\0desc" + FAST_CAF,
    "CAF, a description of 33 bytes": b"caff\0\1\0\0desc" + b"\0\0\0\0\0\0\0\x21" + FAST_CAF[8:],
    "AU of no bytes": b".snd" + struct.pack(">5I", 24, 0, 5, 192_000, 8),
    "AU with a header of no bytes": b".snd" + struct.pack(">5I", 0, 1 << 31, 5, 192_000, 8),
}
"""Headers of plain samples with a fault for which FFmpeg takes the file for something else."""

CLUSTER = b"\x1f\x43\xb6\x75"


def noise(seconds, rate, channels):
    """White noise, s16: what compresses worst."""
    return random.Random(1).randbytes(round(seconds * rate) * channels * 2)


def sparse_samples(data, together):
    """An MP4 whose table of sizes makes one sample of so many; decoders play on in it."""
    at = data.index(b"stsz") + 16
    size, count = struct.unpack_from(">II", data, at - 8)
    sizes = [size] * count if size else struct.unpack_from(f">{count}I", data, at)
    sums = [sum(sizes[first : first + together]) for first in range(0, count, together)]
    if size:
        sums = sums[: count // together] or sums
        data = box_field(data, b"stsz", 4, sums[0])
    else:
        data = data[:at] + struct.pack(f">{count}I", *sums, *[0] * (count - len(sums))) + data[at + 4 * count :]
    data = box_field(data, b"stsz", 8, len(sums))
    return box_field(data, b"stts", 8, len(sums))


def behind_rubbish(data, rubbish):
    """An MP4 of one chunk and its movie at the end, with so much more media in front of the first sample."""
    at = data.index(b"mdat")
    (chunk,) = struct.unpack_from(">I", data, data.index(b"stco") + 12)
    data = box_field(
        box_field(data, b"mdat", -8, len(rubbish) + data.index(b"moov") - at), b"stco", 8, chunk + len(rubbish)
    )
    return data[:chunk] + rubbish + data[chunk:]


def tagged(inside, *, claims=0):
    """An ID3 tag with something in it, which may claim to be longer."""
    size = len(inside) + claims
    return b"ID3\4\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + inside


DFPWM = bytes.fromhex("3ac1fa38811d4361a40dce53ca607cd1")


def between_bursts(data, fill):
    """Bursts of S/PDIF with something else at the end of the zeros behind each."""
    first, *bursts = data.split(b"\x72\xf8\x1f\x4e")
    return first + b"".join(b"\x72\xf8\x1f\x4e" + burst[: -len(fill)] + fill for burst in bursts)


def spdif(codec, rate, data_size=0xFFFF_FFFF):
    """A WAV of 192 kHz with the bursts of S/PDIF for samples."""
    bursts = recording("spdif", codec, S, rate, 2)
    return (
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0"
        + struct.pack("<HHIIHH4sI", 1, 2, 192_000, 768_000, 4, 16, b"data", data_size)
        + bytes(1)
        + bursts
    )


FORGED = {
    "ogg, one in the other's tag": lambda: tagged(recorded("opus")) + recorded("vorbis"),
    "mp3 behind an mp4 in a tag that never ends": lambda: (
        tagged(recorded("mp4 mp3"), claims=99_999) + recorded("wav mp3")
    ),
    "mp3 behind a larger mp4 in a tag that never ends": lambda: (
        tagged(recorded("mp4 flac"), claims=99_999) + recorded("mp3")
    ),
    "wav, AC-3 as S/PDIF": lambda: spdif("ac3", 48_000),
    "wav, AC-3 as S/PDIF of 32 kHz": lambda: spdif("ac3", 32_000),
    "wav, E-AC-3 as S/PDIF": lambda: spdif("eac3", 48_000),
    "wav, MP2 as S/PDIF": lambda: spdif("mp2", 16_000),
    "wav, MP3 as S/PDIF": lambda: spdif("libmp3lame", 16_000),
    "wav, MP3 as S/PDIF, each burst's begin inside what looks like one": lambda: between_bursts(
        spdif("libmp3lame", 16_000), b"\x72\xf8\x1f\x4e\5\0\0\x20\xfd\xff".ljust(21, b"\1")
    ),
    "wav gsm, no channels": lambda: riff(
        fmt(tag=0x31, channels=0, rate=8_000, block=65), chunk(b"data", b"\xd4" * 6_500)
    ),
    "wav gsm of another tag": lambda: riff(fmt(tag=0x1500, rate=8_000, block=65), chunk(b"data", b"\xd4" * 6_500)),
    "wav of a bit a sample": lambda: riff(
        fmt(tag=0xFFFE, rate=8_000, bits=1, block=1, extra=struct.pack("<HHI", 22, 1, 4) + DFPWM),
        chunk(b"data", b"\xd4" * 6_500),
    ),
    "nut behind rubbish": lambda: random.Random(1).randbytes(300) + recording("nut", "libopus", S, 48_000, 1, 6_000),
    "nut of another magic": lambda: bytes(4) + recording("nut", "libopus", S, 48_000, 1, 6_000)[4:],
    "nut behind the head of a WAV": lambda: wav(0) + recording("nut", "libopus", S, 48_000, 1, 6_000),
    "wav, S/PDIF behind the samples": lambda: spdif("ac3", 48_000, 100),
    "webm, decoys in padding": lambda: decoys(b"\xec"),
    "webm, decoys in unknown elements": lambda: decoys(b"\xb8"),
    "webm, two in one, the second inside an element": lambda: hidden_behind_an_end(recorded("webm")),
    "webm, twice with remains of its description between": lambda: mutated(
        recorded("webm live"), random.Random("hwebm live678771")
    ),
    "webm, clusters inside a large element": lambda: hidden_clusters(recorded("webm live"), b"\xec", bytes(70_000)),
    "webm, clusters inside a block": lambda: hidden_clusters(
        recorded("webm live"), b"\xa3", b"\x81\0\0\x80\xfc\xff\xfe"
    ),
    "webm, clusters inside padding": lambda: hidden_clusters(recorded("webm live"), b"\xec"),
    "mka pcm, samples of 64 bits": lambda: replaced(recorded("mka pcm"), b"\x62\x64\x81\x10", b"\x62\x64\x81\x40"),
    "mka pcm, no depth and no time": lambda: replaced(
        replaced(recorded("mka pcm"), b"\x62\x64\x81\x10", b"\xec\x82\x81\x10"),
        b"\x2a\xd7\xb1\x83",
        b"\x2a\xd7\xb2\x83",
    ),
    "mka flac, STREAMINFO of 655 kHz": lambda: replaced(recorded("mka flac"), streaminfo()[10:13], b"\x9f\xff\xf0", 1),
    "mka alac, a rate of a megahertz": lambda: replaced(
        recorded("mka alac"), struct.pack(">d", 16_000), struct.pack(">d", 1_000_000)
    ),
    "m4a, a movie in a free box": lambda: replaced(recorded("m4a"), b"moov", b"free", 1),
    "m4a, runs that reach behind their boxes": lambda: replaced(
        recorded("m4a fragmented"), b"\0\0\0\x48trun", b"\0\0\0\x18trun"
    ),
    "m4a, runs whose heads stand behind their boxes": lambda: replaced(
        recorded("m4a fragmented"), b"\0\0\0\x48trun", b"\0\0\0\x08trun"
    ),
    "mov, a flag without room for what it announces": lambda: box_field(recorded("mov fragmented"), b"trun", 0, 5),
    "m4a, sizes that stand in another box": lambda: box_field(
        box_field(recorded("m4a"), b"stsz", -8, 40), b"stsz", 32, 68
    ),
    "m4a, times behind their box": lambda: box_field(recorded("mp4 opus"), b"stts", -8, 16),
    "m4a, a description behind its box, and no time": lambda: box_field(
        box_field(recorded("m4a"), b"stsd", -8, 16), b"stts", 12, 1
    ),
    "m4a, a track without a number, and a short one behind it": lambda: another_track(
        replaced(recorded("m4a"), b"tkhd", b"free"), b"soun"
    ),
    "m4a, seventy pictures before its track, and a short one behind it": lambda: another_track(
        another_track(recorded("m4a"), b"soun"), b"vide", 70, is_in_front=True
    ),
    "m4a, no handler that is known": lambda: replaced(recorded("m4a"), b"soun", b"nuos"),
    "m4a, samples inside data information": lambda: box_field(recorded("m4a"), b"dinf", -8, 1 << 16),
    "3gp, an unknown box in front": lambda: replaced(recorded("3gp"), b"ftyp", b"\1\2\3\4", 1),
    "mp3, in a tag without an end": lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + recorded("mp3 8 kHz"),
    "adts, a last frame that is too long": lambda: (
        recorded("adts")[:4000] + b"\0" + b"\xff\xf1\x60\x43\xff\xff\xfc" + recorded("adts")[4000:8000]
    ),
    "caf, packets of a gigabyte": lambda: box_field(recorded("caf"), b"lpcm", 4, 1 << 30),
    "mp3, Xing says one frame": lambda: box_field(recorded("mp3"), b"Info", 4, 1),
    "mp3, Xing says a million": lambda: box_field(recorded("mp3"), b"Info", 4, 1_000_000),
    "mp3, rubbish in front": lambda: random.Random(1).randbytes(3000) + recorded("mp3 without Xing"),
    "mp3, two in one": lambda: recorded("mp3") + recorded("mp3 stereo"),
    "mp3, behind a tag in the middle": lambda: recorded("mp3") + b"ID3\4\0\0\0\0\x7f\x7f" + recorded("mp3"),
    "mp2, a byte between every two frames": lambda: interleaved(
        recording("mp2", "mp2", S, 48_000, 1, 128_000), 384, b"\0"
    ),
    "ogg, all granules 0": lambda: silent_granules(recorded("opus")),
    "ogg, a large pre-skip": lambda: silent_granules(
        replaced(recorded("opus"), b"OpusHead\1\1\x38\1", b"OpusHead\1\1\xff\xff")
    ),
    "ogg, chained": lambda: recorded("opus") + recorded("opus stereo") + recorded("vorbis"),
    "vorbis, all granules 0": lambda: silent_granules(recorded("vorbis")),
    "webm, a Duration of nothing": lambda: replaced(recorded("webm"), b"\x44\x89\x88", b"\xec\x80\x88", 1),
    "webm, two in one": lambda: recorded("webm") + recorded("webm live"),
    "webm, timestamps all 0": lambda: replaced(recorded("webm"), b"\xe7\x81", b"\xec\x81"),
    "m4a, mvhd says nothing": lambda: box_field(recorded("m4a"), b"mvhd", 16, 0),
    "m4a, mdhd says a millisecond": lambda: box_field(recorded("m4a"), b"mdhd", 16, 16),
    "m4a, stts says no time": lambda: box_field(recorded("m4a"), b"stts", 12, 0),
    "m4a, an edit of a millisecond": lambda: box_field(recorded("m4a"), b"elst", 8, 1),
    "m4a, an edit that begins at the end": lambda: box_field(recorded("m4a"), b"elst", 12, 20_000),
    "m4a, two in one": lambda: recorded("m4a") + recorded("m4a fragmented"),
    "m4a, and the begin of another one": lambda: recorded("m4a 8 kHz") + recorded("m4a moov first")[:2400],
    "mp4 flac, a rate of 325 kHz": lambda: replaced(
        recorded("mp4 flac fragmented"), streaminfo()[10:13], b"\x4f\x36\xde", 1
    ),
    "amr, behind a box that nobody knows": lambda: (
        b"\0\0\0\x08abcd" + recording("amr", "libopencore_amrnb", 4.0, 8_000)[6:]
    ),
    "amr, without its magic": lambda: recorded("amr")[6:],
    "aiff, a size of nothing": lambda: box_field(recorded("aiff"), b"SSND", 0, 8),
    "aiff, no frames": lambda: box_field(recorded("aiff"), b"COMM", 6, 0),
}


PACKED = {
    "mp3": ("mp4", "libmp3lame", S, 44_100, 1, 32_000),
    "mp3 8 kbit/s": ("mp4", "libmp3lame", S, 16_000, 1, 8_000),
    "mp3 moov first": ("mp4", "libmp3lame", S, 44_100, 1, 32_000, _FASTSTART),
    "mp2": ("mp4", "mp2", S, 16_000),
    "ac3": ("mp4", "ac3", S, 48_000),
    "eac3": ("mp4", "eac3", S, 48_000),
    "amr": ("3gp", "libopencore_amrnb", S, 8_000, 1, 4_750),
    "amr 12 kbit/s": ("3gp", "libopencore_amrnb", S, 8_000, 1, 12_200, _FASTSTART),
}


@pytest.mark.parametrize("together", [2, 5, 20])
@pytest.mark.parametrize("name", PACKED)
def test_samples_of_many_frames_that_say_their_length_count_all_of_them(name, together):
    """Wound: AMR packed so was billed 20 ms for a sample of any length, and thrifty MP3 a tenth."""
    data = sparse_samples(recording(*PACKED[name]), together)
    assert played_ms(data) > S * 500
    assert billed_ms(data) >= played_ms(data) * 0.995 - 80
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(fed(Track(), data))


@pytest.mark.parametrize("name", ["mp3", "ac3", "amr"])
def test_packed_samples_behind_other_media_count_as_the_smallest_frames_there_may_be(name):
    """Who follows frames gives up where most is none; a track that is alone gains nothing by that."""
    data = behind_rubbish(sparse_samples(recording(*PACKED[name]), 20), random.Random(6).randbytes(100_000))
    assert played_ms(data) > S * 600
    track = fed(Track(), data)
    assert Heard.of(track).best_ms >= played_ms(data) * 0.995 - 80
    assert track.unsure
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


@pytest.mark.parametrize("name", ["mp4 mp3", "3gp", "mp4 mp2"])
def test_of_several_tracks_the_frames_are_not_added_up(name):
    """Nobody knows here whose a frame is, so it counts for each as much: two of one length are billed as one."""
    data = another_track(recorded(name), b"vide")
    assert billed_ms(data) == billed_ms(recorded(name))
    assert billed_ms(another_track(sparse_samples(recorded(name), 1000), b"soun")) >= S * 450


def test_more_channels_of_an_eac3_frame_in_a_frame_of_their_own_play_beside_it():
    """ATSC A/52 section E.1.3.1.1: 7.1 comes as an independent frame and a dependent one."""
    independent = b"\x0b\x77\x00\x1f\x30\x80" + bytes(58)
    dependent = b"\x0b\x77\x40\x1f\x30\x80" + bytes(58)
    assert fed(Ac3Walker(), (independent + dependent) * 50).ms == fed(Ac3Walker(), independent * 50).ms == 1600


@pytest.mark.parametrize("together", [2, 5, 1000])
@pytest.mark.parametrize("name", ["m4a", "m4a moov first", "m4a 5.1", "flac", "flac moov first"])
def test_frames_that_the_tables_make_one_sample_are_found_out(name, together):
    """Wound: FFmpeg plays all of them, and as few were billed as can be in so many bytes: a tenth at 32 kbit/s."""
    shapes = {
        "m4a 5.1": ("ipod", "aac", S, 44_100, 6, 192_000),
        "flac": ("mp4", "flac", 4 * S, 44_100),
        "flac moov first": ("mp4", "flac", 10.0, 16_000, 2, None, _FASTSTART),
    }
    shape = shapes.get(name) or RECORDINGS[name][0]
    data = sparse_samples(recording(*shape), together)
    track = fed(Track(), data)
    assert played_ms(data) > S * 950
    assert Heard.of(track).best_ms >= played_ms(data) * 0.995
    assert track.unsure
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


@pytest.mark.parametrize(
    "shape",
    [
        ("ipod", "aac", S, 44_100, 2, 320_000),
        ("ipod", "aac", S, 44_100, 1, 256_000),
        ("ipod", "aac", S, 16_000, 1, 128_000),
        ("mp4", "libmp3lame", S, 32_000, 2, 320_000),
        ("mp4", "mp2", S, 48_000, 2, 384_000),
        ("mp4", "flac", S, 44_100, 2),
        ("mp4", "eac3", S, 48_000, 2, 640_000),
    ],
)
def test_the_highest_bit_rates_in_mp4_are_no_forgery(shape):
    data = recording(*shape, sound=noise)
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005, abs=1)


@pytest.mark.parametrize("container", ["ipod", "matroska", "adts"])
@pytest.mark.parametrize("channels", [3, 6, 7, 8])
def test_the_highest_bit_rates_of_aac_are_no_forgery_whatever_its_channels(container, channels):
    """Wound: two at most were taken for so many, and 5.1 was billed a third above what it plays. Some are described."""
    data = recording(container, "aac", 0.4, 48_000, channels, 4_000_000, sound=noise)
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005, abs=1)


@pytest.mark.parametrize(("codec", "rate"), [("flac", 16_000), ("flac", 44_100), ("aac", 16_000)])
@pytest.mark.parametrize("options", [(), _FASTSTART, _FRAGMENTED])
def test_loud_noise_in_mp4_is_not_flagged(codec, rate, options):
    """Its frames are all of one size, which fragments say once and not for each."""
    track = fed(Track(), recording("mp4", codec, 4.0, rate, 1, None, options, sound=noise))
    assert track.walked_ms == pytest.approx(4000, abs=2 * 1024 * 1000 / rate)
    assert not track.unsure


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forgery_is_billed_all_that_it_holds(forgery):
    """Never less than FFmpeg plays, and never less than the honest recording it was made of."""
    data = FORGED[forgery]()
    assert billed_ms(data) >= max(played_ms(data) * 0.995 - 1, S * 1000 - 1)


@pytest.mark.parametrize("kind", ["mp3 without Xing", "adts", "latm", "ac3", "eac3"])
def test_samples_of_a_wav_that_ffmpeg_takes_for_frames_are_counted_as_such(kind):
    """Wound: MP3 in a WAV of 16 bits at 44.1 kHz was billed a hundredth, for FFmpeg probes what is called PCM."""
    sound = (recorded(kind) if kind in RECORDINGS else recording(kind, kind, S, 44_100, 1, 40_000)) * 30
    data = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16)
    data += b"data\xff\xff\xff\xff" + sound
    assert played_ms(data) > 30 * S * 900
    assert billed_ms(data) >= played_ms(data) * 0.995 - 25


@pytest.mark.parametrize(("rubbish", "counts"), [(130_000, True), (132_000, False)])
def test_frames_behind_nearly_half_of_what_is_looked_at_count_in_any_cuts(rubbish, counts):
    """Of 256 KiB. Behind more rubbish who looks for frames has given up, at the same byte however the bytes come."""
    head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16)
    sound = recorded("mp3 without Xing") * 40
    data = head + b"data\xff\xff\xff\xff" + bytes(rubbish) + sound
    figures = {billed_ms(data, lengths) for lengths in ((1 << 30,), (65_536,), (4096, 11), (999,))}
    assert len(figures) == 1
    assert (figures.pop() > 30 * S * 1000) == counts


@pytest.mark.parametrize("kind", ["mp3 without Xing", "adts"])
@pytest.mark.parametrize("header", NO_HEADERS)
def test_a_header_that_ffmpeg_does_not_take_hides_nothing_behind_it(header, kind):
    """Wound: a minute of MP3 behind such a header was billed 10 ms, and not even flagged."""
    data = NO_HEADERS[header] + recorded(kind)
    assert played_ms(data) > S * 600
    assert billed_ms(data) >= played_ms(data) * 0.995 - 25


@pytest.mark.parametrize("forgery", [name for name in FORGED if "two in one" in name or "chained" in name])
def test_of_two_files_in_one_every_part_counts_that_a_decoder_plays(forgery):
    data = FORGED[forgery]()
    assert billed_ms(data) >= played_ms(data) * 0.995 - 1


def pages(data):
    """The pages of an Ogg file."""
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def test_of_multiplexed_streams_one_is_played_and_pictures_are_no_sound():
    short, long = pages(recorded("opus")), pages(recording("ogg", "libopus", 2.1, 48_000))
    mixed = b"".join([short[0], long[0], *(page for two in zip(short[1:], long[1:], strict=False) for page in two)])
    assert played_ms(mixed) > 0
    assert billed_ms(mixed + b"".join(long[len(short) :])) == pytest.approx(2100, abs=1)

    def page(serial, flags, packet):
        head = b"OggS\0" + bytes([flags]) + bytes(8) + struct.pack("<II", serial, 0)
        lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
        whole = head + bytes(4) + bytes([len(lacing)]) + lacing + packet
        return whole[:22] + struct.pack("<I", ogg_crc(whole)) + whole[26:]

    pictures = [page(7, 2, b"\x80theora" + bytes(35)), *(page(7, 0, bytes(9000)) for _ in range(9))]
    track = fed(Track(), pictures[0] + recorded("opus") + b"".join(pictures[1:]))
    assert (track.walked_ms, track.codec) == (1300, "opus")


def frames_of(live):
    """The head of a live WebM, and the frames of its simple blocks."""
    first = at = live.index(CLUSTER)
    frames = []
    while at < len(live) - 3:
        at += 4 if live.startswith(CLUSTER, at) else 1
        width = 9 - live[at].bit_length()
        body = at + width
        if live.startswith(CLUSTER, at - 4):
            at = body
            continue
        end = body + (int.from_bytes(live[at:body], "big") & (1 << 7 * width) - 1)
        if live[at - 1] == 0xA3:
            frames.append(live[body + 4 : end])
        at = end
    return live[:first], frames


def xiph_sizes(frames):
    return b"".join(b"\xff" * (len(frame) // 255) + bytes([len(frame) % 255]) for frame in frames[:-1])


def ebml_sizes(frames):
    differences = [len(two) - len(one) + (1 << 13) - 1 for one, two in itertools.pairwise(frames[:-1])]
    return b"".join(struct.pack(">H", 1 << 14 | number) for number in (len(frames[0]), *differences))


LACINGS = {"xiph": (0x02, xiph_sizes), "ebml": (0x06, ebml_sizes), "fixed": (0x04, lambda _: b"")}


@pytest.mark.parametrize("lacing", LACINGS)
def test_laced_frames_are_counted_each(lacing):
    """RFC 9559 section 10.3, in clusters of unknown size: five frames to the block, as FFmpeg takes them apart."""
    flag, sizes = LACINGS[lacing]
    data, frames = frames_of(recorded("webm live"))
    data += CLUSTER + b"\x01" + b"\xff" * 7 + b"\xe7\x81\0"
    for at in range(0, len(frames) - 4, 5):
        five = frames[at : at + 5]
        if lacing == "fixed":
            five = [frame.ljust(max(map(len, five)), b"\0") for frame in five]
        block = b"\x81" + struct.pack(">hBB", at * 20, 0x80 | flag, 4) + sizes(five) + b"".join(five)
        data += b"\xa3" + (1 << 21 | len(block)).to_bytes(3, "big") + block
    assert len(frames) > 60
    assert billed_ms(data) == billed_ms(data, (1,)) == pytest.approx(played_ms(data), abs=1)
    assert billed_ms(data) >= (len(frames) - 4) * 20 - 7


def in_blocks(head, frames, together):
    """A cluster of blocks of several frames without lacing."""
    data = head + CLUSTER + b"\x01" + b"\xff" * 7 + b"\xe7\x81\0"
    for at in range(0, len(frames), together):
        block = b"\x81" + struct.pack(">hB", at, 0x80) + b"".join(frames[at : at + together])
        data += b"\xa3" + (1 << 28 | len(block)).to_bytes(4, "big") + block
    return data


@pytest.mark.parametrize("together", [1, 2, 5, 20])
@pytest.mark.parametrize(
    ("codec", "rate", "bitrate", "part"),
    [
        ("libmp3lame", 44_100, 32_000, 1),
        ("libmp3lame", 16_000, 8_000, 1),
        ("mp2", 48_000, 128_000, 1),
        ("ac3", 48_000, 64_000, 1),
        ("eac3", 48_000, 64_000, 1),
        ("aac", 16_000, None, 0.995),
        ("aac", 44_100, 32_000, 0.995),
        ("flac", 16_000, None, 0.995),
    ],
)
def test_a_block_of_many_frames_counts_as_those_it_may_or_must_hold(codec, rate, bitrate, part, together):
    """Wound: a block counted as one frame, however many were in it, and FFmpeg played them all.

    AAC and FLAC do not say where one ends: some blocks are read, and what is found counts for all.
    """
    seconds = 10 * S if codec == "flac" else S  # its frames are large, and two of them are read at least
    head, frames = frames_of(recording("matroska", codec, seconds, rate, 1, bitrate, (("live", "1"),)))
    data, alone = (in_blocks(head, frames, number) for number in (together, 1))
    played = played_ms(data)
    assert played > 100
    assert billed_ms(data) == billed_ms(data, (1,)) == billed_ms(data, (700, 3))
    if together == 1:
        assert billed_ms(data) == pytest.approx(played, abs=1)
    if part == 1:
        assert billed_ms(data) == pytest.approx(played_ms(alone), abs=1)
    assert billed_ms(data) >= played * part - 80


@pytest.mark.parametrize(
    "shape",
    [
        ("matroska", "aac", S, 44_100, 2, 320_000),
        ("matroska", "aac", S, 16_000, 1, 128_000),
        ("matroska", "libmp3lame", S, 32_000, 2, 320_000),
        ("matroska", "mp2", S, 48_000, 2, 384_000),
        ("matroska", "flac", S, 44_100, 2),
        ("matroska", "ac3", S, 48_000, 2, 640_000),
        ("matroska", "eac3", S, 48_000, 2, 640_000),
        ("adts", "aac", S, 44_100, 2, 320_000),
        ("adts", "aac", S, 44_100, 1, 256_000),
        ("adts", "aac", S, 16_000, 1, 128_000),
    ],
)
def test_the_highest_bit_rates_in_matroska_and_adts_are_no_forgery(shape):
    data = recording(*shape, sound=noise)
    assert fed(Track(), data).walked_ms == pytest.approx(played_ms(data), rel=0.005, abs=1)


def adts_frames(data):
    """The frames of an ADTS stream."""
    frames, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 7], "big") >> 13 & 0x1FFF
        frames.append(data[at : at + length])
        at += length
    return frames


def swallowing(frames, together):
    """ADTS frames each of which claims the next ones for its own."""
    out = b""
    for at in range(0, len(frames), together):
        whole = b"".join(frames[at : at + together])
        header = int.from_bytes(whole[:7], "big") & ~(0x1FFF << 13) | len(whole) << 13
        out += header.to_bytes(7, "big") + whole[7:]
    return out


@pytest.mark.parametrize("together", [2, 5, 9])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_adts_frames_inside_one_of_a_false_length_count(rate, together):
    """Wound: FFmpeg's decoder stops where a frame's sound ends and plays on in the rest; a twentieth was billed."""
    data = swallowing(adts_frames(recording("adts", "aac", S, rate, 1, 32_000)), together)
    assert played_ms(data) > S * 950
    assert billed_ms(data) >= played_ms(data) * 0.995 - 1
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(fed(Track(), data))


@pytest.mark.parametrize("shape", [(44_100, 64_000), (48_000, 192_000), (32_000, 64_000)])
def test_loud_stereo_in_adts_is_no_forgery(shape):
    """Wound: its code words are runs of ones and look like headers, and up to 2.7 times of what it plays was billed."""
    rate, bitrate = shape
    data = recording("adts", "aac", S, rate, 2, bitrate)
    assert billed_ms(data) == billed_ms(data, (1,)) == pytest.approx(played_ms(data), rel=0.005, abs=1)


def test_an_adts_frame_larger_than_one_can_be_counts_as_several():
    """The same without the inner headers, where only a decoder tells the frames apart."""
    frames = adts_frames(recording("adts", "aac", S, 16_000, 1))
    data = b"".join(
        swallowing([first, *(frame[7:] for frame in rest)], 20)
        for first, *rest in (frames[at : at + 20] for at in range(0, len(frames), 20))
    )
    assert played_ms(data) > S * 950
    assert billed_ms(data) == billed_ms(data, (1,)) >= played_ms(data)


def test_a_claim_comes_early_where_the_container_has_one():
    for name in ("mp3", "webm", "m4a moov first", "flac", "aiff"):
        early = fed(Track(), recorded(name)[:4096])
        assert early.claimed_ms == pytest.approx(S * 1000, rel=0.1), name


def test_pictures_that_go_on_behind_the_sound_are_no_false_claim():
    longer = box_field(recorded("m4a"), b"mvhd", 16, 60_000)
    heard = Heard.of(fed(Track(), longer))
    assert (heard.claimed_ms, heard.is_doubtful) == (Heard.of(fed(Track(), recorded("m4a"))).claimed_ms, False)


@pytest.mark.parametrize(
    ("codec", "rate", "said"), [("libmp3lame", 8_000, None), ("aac", 8_000, None), ("aac", 8_000, 1000.0)]
)
def test_a_delay_in_matroska_is_left_out_as_far_as_the_rate_beside_it_is_true(codec, rate, said):
    """Wound: FFmpeg makes samples of the delay by that rate: without one, or at a low one, it plays 138 ms more."""
    data = recording("matroska", codec, S, rate)
    audio = data.index(b"\xe1", data.index(b"\x16\x54\xae\x6b") + 30)
    field = data.index(b"\xb5\x88", audio) + 2
    if said is None:
        data = data[:audio] + b"\xec" + data[audio + 1 :]
    else:
        data = data[:field] + struct.pack(">d", said) + data[field + 8 :]
    assert played_ms(data) <= billed_ms(data) <= played_ms(data) + 2


def test_a_table_cut_short_says_the_same_in_any_cuts():
    """Wound: of entries of four bytes the last one waited for four more, where the one before it ended a piece."""
    whole = recorded("m4a moov first")
    data = whole[: whole.index(b"stsz") + 4 + 12 + 5 * 4]
    assert told(fed(Track(), data)) == told(fed(Track(), data, (1,))) == told(fed(Track(), data, (5, 4)))


def test_a_file_cut_short_is_billed_for_what_came():
    whole = recorded("m4a moov first")
    assert billed_ms(whole[: len(whole) * 2 // 3]) < S * 1000 * 0.75


@pytest.mark.parametrize("head", ["mp3", "adts", "opus", "webm", "m4a moov first", "latm", "amr", "unknown"])
def test_any_upload_is_walked_in_a_bounded_memory(head):
    """Whatever follows a true head: noise, zeros, or a pattern made to be taken for headers."""
    chance = random.Random(5)
    blocks = [
        chance.randbytes(32_768),
        b"\xff\xfb\x90\x64" * 8_192,
        b"OggS\0\0" * 5_461,
        b"\xa3\x41\x00\x81" * 8_192,
        b"\x00\x00\x00\x08moov" * 4_096,
    ]
    known = b"nothing known" if head == "unknown" else recorded(head)[:3000]
    for block in blocks:
        track = Track()
        track.feed(known)
        tracemalloc.start()
        for _ in range(6):
            track.feed(block)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 300_000
        assert peak < 900_000


@pytest.mark.parametrize("container", sorted(WALKERS))
def test_a_walker_takes_any_bytes_from_the_first_on(container):
    chance = random.Random(str(container))
    for _ in range(30):
        data = chance.randbytes(chance.choice([0, 1, 9, 200, 3000]))
        whole, single = fed(WALKERS[container](), data), fed(WALKERS[container](), data, (1,))
        assert (whole.ms, whole.strange, whole.codec) == (single.ms, single.strange, single.codec)


@pytest.mark.parametrize(
    ("head", "small"),
    [("webm live", b"\xec\x80"), ("m4a moov first", b"\0\0\0\x08free"), ("mp3 without Xing", b"\xff\xf3\x10\xc4\0")],
)
def test_a_file_of_small_things_ends_a_walkers_patience_and_is_weighed(head, small):
    """What it costs is bounded by its bytes; what had been found goes on, and the rest is no free ride."""
    track = fed(Track(), recorded(head), (65_536,))
    found = track.walked_ms
    padding = small * (65_536 // len(small))
    for _ in range(8 * len(small)):
        track.feed(padding)
    assert track.unsure
    assert Heard.of(track).best_ms >= max(found, track.size * 8000 // 32_000)

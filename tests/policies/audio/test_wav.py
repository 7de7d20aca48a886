"""WAV: what is counted is what the bytes hold and a decoder plays, whatever the header says."""

import io
import random
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.sources import Heard
from policies.audio.track import Track
from policies.audio.wav import WavWalker
from tests.policies.audio.build import chunk, ds64, extensible, fmt, riff, wav
from tests.policies.audio.feeding import cuts, fed, said
from tests.policies.audio.oracle import played_ms, recording
from tests.policies.audio.test_containers import mutated, told

PCM = bytes(range(256)) * 250  # 64,000 bytes: 2 s of 16 bits at 16 kHz
DATA = chunk(b"data", PCM)
LIST = chunk(b"LIST", b"INFOISFT\x05\x00\x00\x00SoX\0\0\0")
ODD = chunk(b"note", b"odd")


def walk(data, lengths=(1 << 30,)):
    return fed(WavWalker(), data, lengths)


@given(
    rate=st.integers(1, 400_000),
    channels=st.integers(1, 9),
    width=st.integers(1, 4),
    frames=st.integers(0, 4000),
    lengths=cuts,
)
def test_agrees_with_the_standard_library_on_every_pcm_file(rate, channels, width, frames, lengths):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(bytes(frames * channels * width))
    with wave.open(io.BytesIO(file.getvalue())) as reader:
        expected = (reader.getnframes() * 1000 + rate // 2) // rate
    walked = walk(file.getvalue(), lengths)
    assert (walked.ms, walked.channels) == (expected, channels)


@pytest.mark.parametrize(
    ("form", "codec", "ms"),
    [
        (fmt(), "pcm_s16le", 2000),
        (fmt(bits=8), "pcm_u8", 4000),
        (fmt(bits=24), "pcm_s24le", 1333),
        (fmt(bits=12), "pcm_s16le", 2000),
        (fmt(bits=64), "pcm_s64le", 500),
        (fmt(channels=6, rate=48_000), "pcm_s16le", 111),
        (fmt(tag=3, bits=32), "pcm_f32le", 1000),
        (fmt(tag=3, bits=64), "pcm_f64le", 500),
        (fmt(tag=6, bits=8), "pcm_alaw", 4000),
        (fmt(tag=7, bits=8, channels=2), "pcm_mulaw", 2000),
        (fmt(tag=7, bits=16), "pcm_mulaw", 4000),  # a false depth: mu-law has one
        (fmt(tag=0x11, bits=4, block=256), "adpcm_ima_wav", 7891),  # 250 blocks of 505 samples
        (fmt(tag=0x11, bits=4, block=1024, channels=2), "adpcm_ima_wav", 3972),  # 62.5 blocks, the last one cut short
        (fmt(tag=2, bits=4, block=256), "adpcm_ms", 7813),  # 250 blocks of 500 samples
        (fmt(tag=0x28F, bits=4, block=1), "adpcm_g722", 8000),
        (fmt(tag=0x45, bits=2, block=1, rate=8000), "adpcm_g726", 32_000),
        (fmt(tag=0x83, bits=0, block=10, rate=8000), "g729", 80_000),  # of 10 bytes, or of 8 by a false byte rate
        (fmt(tag=0x31, bits=0, block=65), "gsm_ms", 19_680),  # 984 blocks of 320 samples
        (chunk(b"fmt ", fmt()[8:22]), "pcm_u8", 4000),  # 14 bytes, without a depth: 8 bits
        (extensible(valid=16), "pcm_s16le", 2000),
        (extensible(valid=0), "pcm_s16le", 2000),
        (extensible(valid=32, bits=32, tag=3), "pcm_f32le", 1000),
        (extensible(valid=24, bits=32), "pcm_s32le", 1000),
        (extensible(valid=20, bits=24), "pcm_s24le", 1333),
        (extensible(valid=8, bits=8, tag=6), "pcm_alaw", 4000),
    ],
)
def test_every_format_is_counted_by_its_own_frame(form, codec, ms):
    walked = walk(riff(form, DATA))
    assert (walked.ms, walked.codec, walked.claimed_ms) == (ms, codec, ms)


@pytest.mark.parametrize(
    ("form", "ms"),
    [
        (fmt(byte_rate=1), 2000),
        (fmt(byte_rate=0xFFFFFFFF), 2000),
        (fmt(block=64), 2000),
        (fmt(block=0), 2000),
        (fmt(tag=0x11, bits=4, block=256, extra=struct.pack("<HH", 2, 5)), 7891),  # says 5 samples to the block
        (extensible(valid=8, bits=32), 4000),  # FFmpeg plays it as 8 bits, libsndfile as 32: the longer
        (extensible(valid=32, bits=8), 4000),  # and the other way round
    ],
)
def test_a_false_byte_rate_block_or_depth_shortens_nothing(form, ms):
    assert walk(riff(form, DATA)).ms == ms


@pytest.mark.parametrize(
    "form",
    [
        fmt(rate=0),
        fmt(rate=1 << 31),
        fmt(channels=0, block=2),
        fmt(bits=0, block=2),
        fmt(bits=72),
        fmt(tag=3, bits=16),
        fmt(tag=0x11, bits=4, block=3),
        fmt(tag=0x11, bits=8, block=256),
        fmt(tag=2, bits=4, block=6),
        fmt(tag=0x55),  # MP3 in WAV
        chunk(b"fmt ", b"\x01\x00\x01\x00"),
    ],
)
def test_a_format_that_nobody_could_count_says_nothing(form):
    walked = walk(riff(form, DATA))
    assert said(walked) == (None, None, None, "")


@pytest.mark.parametrize(
    ("size", "ms", "claimed"),
    [
        (64_000, 2000, 2000),
        (0, 2000, None),  # FFmpeg and others, into a pipe
        (0xFFFFFFFF, 2000, None),
        (0x7FFFFFFF, 2000, None),
        (0x7FFFF024, 2000, None),  # SoX, into a pipe
        (640_000, 2000, 20_000),  # more than there is: a cut upload, or a lie
        (3200, 2000, 100),  # less: decoders stop there, simple readers do not
    ],
)
def test_a_data_size_is_honoured_as_far_as_the_bytes_go(size, ms, claimed):
    walked = walk(riff(fmt(), chunk(b"data", PCM, size=size)))
    assert (walked.ms, walked.claimed_ms) == (ms, claimed)


@pytest.mark.parametrize(
    ("data", "ms"),
    [
        pytest.param(riff(LIST, fmt(), LIST, DATA, LIST), 2000, id="other chunks around"),
        pytest.param(riff(ODD, fmt(), ODD, DATA, ODD), 2000, id="chunks of odd size, padded"),
        pytest.param(riff(DATA, fmt()), 2000, id="format behind the data"),
        pytest.param(riff(fmt(), fmt(rate=48_000), DATA), 2000, id="second format: the first counts"),
        pytest.param(riff(fmt(tag=0x55), fmt(), DATA), 2000, id="second format: the first one that can be counted"),
        pytest.param(riff(fmt(), chunk(b"data", PCM[:3200]), DATA), 2100, id="a second data chunk is played too"),
        pytest.param(riff(fmt(), DATA) * 2, 4001, id="two files: the second one counts whole, its headers too"),
        pytest.param(
            riff(fmt(), DATA) + b"RIFF" + struct.pack("<I", 4) + riff(fmt(), DATA)[8:],
            4000,
            id="two files, the second with a forged size: FFmpeg plays both",
        ),
        pytest.param(riff(fmt(bits=8), chunk(b"data", PCM[:3201]), DATA), 4201, id="odd data, padded, and more data"),
        pytest.param(
            riff(fmt(bits=8), chunk(b"data", PCM[:3201], pad=False), DATA), 4201, id="odd data, unpadded, and more data"
        ),
        pytest.param(riff(fmt(bits=8), chunk(b"data", PCM[:3201]), LIST), 200, id="odd data, and a chunk that is none"),
        pytest.param(riff(fmt(), DATA) + bytes(100_003), 2000, id="filled up with zeros"),
        pytest.param(riff(fmt(), bytes(80_000), DATA), 2000, id="zeros in between"),
        pytest.param(riff(fmt(), chunk(b"data", b"")), 0, id="nothing"),
        pytest.param(riff(fmt()), None, id="no data chunk"),
        pytest.param(riff(fmt(), chunk(b"LIST", b"INFO", size=0xFFFFFFFF), DATA), None, id="data inside another chunk"),
        pytest.param(riff(ds64(64_000), fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), magic=b"RF64"), 2000, id="RF64"),
        pytest.param(riff(ds64(64_000), fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), magic=b"BW64"), 2000, id="BW64"),
        pytest.param(riff(ds64(0), fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), magic=b"RF64"), 2000, id="RF64, piped"),
        pytest.param(riff(ds64(3200), fmt(), DATA, magic=b"RF64"), 2000, id="RF64, two sizes: the longer"),
        pytest.param(
            riff(ds64(64_000), fmt(), chunk(b"data", PCM, size=3200), magic=b"RF64"), 2000, id="the other way"
        ),
        pytest.param(riff(ds64((1 << 64) - 1), fmt(), DATA, magic=b"RF64"), 2000, id="RF64, an absurd size"),
        pytest.param(riff(ds64(3200), fmt(), DATA), 2000, id="ds64 means nothing in RIFF"),
    ],
)
def test_samples_are_found_whatever_the_sizes_say(data, ms):
    assert walk(data).ms == ms


HIDDEN = PCM[1:] + b"\1"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(riff(fmt(), chunk(b"data", PCM[:320]), chunk(b"junk", HIDDEN)), id="in a junk chunk"),
        pytest.param(riff(fmt(), chunk(b"junk", HIDDEN), chunk(b"data", PCM[:320])), id="before the data"),
        pytest.param(riff(fmt(), chunk(b"data", PCM[:320])) + HIDDEN, id="behind the data"),
        pytest.param(riff(fmt(), chunk(b"data", PCM[:320]), chunk(b"bext", HIDDEN * 2)), id="as metadata"),
        pytest.param(riff(fmt(), chunk(b"fmt ", fmt()[8:] + HIDDEN), DATA[:328]), id="in a format chunk"),
        pytest.param(riff(ds64(320), fmt(), chunk(b"data", HIDDEN, size=0xFFFFFFFF), magic=b"RF64"), id="small ds64"),
        pytest.param(riff(ds64(320), fmt(), chunk(b"data", HIDDEN, size=3200), magic=b"RF64"), id="and small size"),
        pytest.param(riff(fmt(rate=48_000), fmt(), chunk(b"data", HIDDEN)), id="a faster format first"),
        pytest.param(riff(fmt(), fmt(rate=48_000), chunk(b"data", HIDDEN)), id="a faster format last"),
        pytest.param(riff(fmt(), *[chunk(b"%4d" % i, HIDDEN[i * 9 :][:9]) for i in range(7000)]), id="in crumbs"),
    ],
)
def test_no_header_hides_audio_from_the_account(data):
    """Some reader plays it, so it counts."""
    assert walk(data).ms >= 2000


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"bext", bytes(range(1, 200)) * 40), LIST],
        [chunk(b"JUNK", bytes(32_000))],
        [chunk(b"FLLR", bytes(4044)), chunk(b"id3 ", b"ID3" + PCM[:50_000])],
    ],
)
def test_what_recorders_write_beside_the_samples_is_free(chunks):
    assert walk(riff(*chunks, fmt(), *chunks[:1], DATA, LIST)).ms == 2000


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("loudness", [0.3, 1, 2])
def test_the_quietest_samples_are_not_taken_for_mpeg_audio(loudness, channels):
    """Dithered silence is full of headers of the free format, of which FFmpeg plays none."""
    chance = random.Random(7)
    samples = [round(chance.gauss(0, loudness)) for _ in range(32_000 * channels)]
    data = struct.pack(f"<{len(samples)}h", *samples)
    walked = walk(riff(fmt(channels=channels), chunk(b"data", data)))
    assert (walked.ms, walked.unsure) == (2000, False)


def test_of_many_formats_few_are_kept_and_the_slowest_stays():
    rates = [48_000, 16_000, *range(17_000, 40_000, 100), 8000, *range(17_000, 40_000, 100)]
    walked = walk(riff(*[fmt(rate=rate) for rate in rates], DATA))
    assert walked.ms == 4000
    assert len(walked.reading.layouts) == 4


def test_a_long_size_is_a_claim_of_its_own():
    """RF64 is for files above 4 GiB: the size that counts has 64 bits."""
    head = riff(ds64(10 << 30), fmt(), chunk(b"data", PCM, size=0xFFFFFFFF), magic=b"RF64")
    assert walk(head).claimed_ms == (10 << 30) // 32


def test_rifx_is_read_in_the_other_byte_order():
    form = struct.pack(">HHIIHH", 1, 2, 8000, 0, 4, 16)
    data = b"RIFX\0\0\0\0WAVEfmt " + struct.pack(">I", 16) + form + b"data" + struct.pack(">I", 32_000) + bytes(32_000)
    assert said(walk(data)) == (1000, 1000, 2, "pcm_s16be")


def test_a_file_of_empty_chunks_pays_for_itself():
    """Beyond 4096 chunks all that follows counts as audio, at no cost by the byte."""
    walked = walk(riff(fmt(), *[chunk(b"junk", b"")] * 5000, DATA))
    assert walked.ms == 3250  # the two seconds, and 5000 chunk headers
    assert walked.claimed_ms is None


structures = st.lists(
    st.one_of(
        st.sampled_from(
            [
                bytes(19),
                bytes(8),
                fmt(),
                fmt(bits=8),
                fmt(tag=0x11, bits=4, block=36),
                LIST,
                ODD,
                ds64(77),
                extensible(valid=8),
            ]
        ),
        st.builds(
            chunk,
            st.sampled_from([b"data", b"LIST", b"fmt ", b"ds64"]),
            st.binary(max_size=80),
            size=st.none() | st.integers(0, 90) | st.sampled_from([0, 0x7FFFFFFF, 0xFFFFFFFF]),
            pad=st.booleans(),
        ),
    ),
    max_size=8,
).map(lambda chunks: riff(*chunks))
magics = st.sampled_from([b"RIFF", b"RIFX", b"RF64", b"BW64"])


@given(data=structures, magic=magics, lengths=cuts)
def test_any_cut_says_the_same(data, magic, lengths):
    data = magic + data[4:]
    assert said(walk(data, lengths)) == said(walk(data)) == said(walk(data, (1,)))


@given(data=st.one_of(structures, st.binary(max_size=300).map(lambda junk: b"RIFF\0\0\0\0WAVE" + junk)))
def test_nothing_raises_and_nothing_counts_more_bytes_than_there_are(data):
    walked = walk(data, (7,))
    reading = walked.reading
    assert (reading.played or 0) <= len(data)
    assert len(reading._held) <= 40
    assert reading.unpadded is None or reading.unpadded.unpadded is None


def test_an_honest_file_of_an_hour_is_exact():
    """No rounding gathers: the figure is made once, of all bytes."""
    walker = fed(WavWalker(), wav(rate=44_100, channels=2)[:44])
    whole = bytes(44_100 * 4)
    for _ in range(600):
        walker.feed(whole)
    assert walker.ms == 1000  # the header says one second, and a decoder stops there

    piped = fed(WavWalker(), riff(fmt(rate=44_100, channels=2), chunk(b"data", b"", size=0)))
    for _ in range(3600):
        piped.feed(whole)
    assert piped.ms == 3_600_000


THRIFTY = {
    0x0010: "adpcm_ima_oki", 0x0014: "g726", 0x0017: "adpcm_ima_oki", 0x0020: "adpcm_yamaha", 0x0022: "truespeech",
    0x0038: "amrnb", 0x0040: "g726", 0x0041: "g728", 0x0044: "g726", 0x0057: "amrnb", 0x0058: "amrwb", 0x0064: "g726",
    0x0065: "g726", 0x0077: "amrnb", 0x0078: "amrwb", 0x0083: "g729", 0x0125: "adpcm_sanyo", 0x0130: "sipr",
    0x0135: "acelp.kelvin", 0x0141: "wmav2", 0x0160: "wmav1", 0x0161: "wmav2", 0x0200: "adpcm_ct", 0x028E: "msnsiren",
    0x028F: "g722", 0x1501: "truespeech",
}  # fmt: skip
"""Format tags that FFmpeg plays, of codecs that take less than 32 kbit/s at some rate."""


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [1000, 8000, 44_100])
@pytest.mark.parametrize("tag", THRIFTY)
def test_a_thrifty_codec_is_billed_no_less_than_ffmpeg_plays_of_it_at_any_rate(tag, rate, channels):
    noise = random.Random(4).randbytes(6000)
    for block, bits, extra in ((1, 4, b""), (20, 0, b""), (256, 4, b"\xf9\x01"), (32, 16, b"")):
        form = fmt(
            tag=tag,
            rate=rate,
            channels=channels,
            bits=bits,
            block=block,
            byte_rate=rate // 2,
            extra=struct.pack("<H", len(extra)) + extra,
        )
        data = riff(form, chunk(b"data", noise))
        assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80


def test_g723_is_billed_no_less_than_ffmpeg_plays_of_its_speech():
    """Wound: at 6.3 kbit/s 1.2 times of what it plays was billed.

    FFmpeg begins anew at each packet of whole blocks, so what of the frames is of another size is not exact.
    """
    for kind, size, is_sure in (0, 24, True), (1, 20, True), (1, 24, False), (2, 24, False):
        size_of = (24, 20, 4)[kind]
        frames = b"".join(bytes((kind,)) + random.Random(at).randbytes(size_of - 1) for at in range(600))
        for tag in (0x42, 0x111, 0xA100):
            data = riff(fmt(tag=tag, rate=8000, bits=0, block=size), chunk(b"data", frames))
            track = fed(Track(), data)
            assert told(fed(Track(), data, (1,))) == told(track)
            assert (track.walked_ms, track.unsure) == (18_000, not is_sure)
            assert not is_sure or played_ms(data) == 18_000


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "dfpwm", 8_000),
        ("avi", "dfpwm", 8_000),
        ("avi", "g723_1", 8_000),
        ("asf", "g723_1", 8_000),
        ("wav", "g723_1", 8_000),
        ("w64", "g723_1", 8_000),
        ("w64", "libmp3lame", 8_000),
        ("w64", "libmp3lame", 44_100),
        ("w64", "mp2", 48_000),
        ("w64", "ac3", 48_000),
        ("w64", "eac3", 48_000),
        ("w64", "flac", 16_000),
        ("w64", "adpcm_ms", 8_000),
        ("w64", "pcm_alaw", 8_000),
    ],
)
def test_the_same_codecs_count_alike_in_all_that_describe_them_as_wav_does(container, codec, rate):
    """Wound: in Wave64 they were weighed, at up to 80 times."""
    data = recording(container, codec, 1.3, rate, 1, 6_300 if codec == "g723_1" else None)
    track = fed(Track(), data)
    assert track.walked_ms == pytest.approx(played_ms(data), rel=0.005, abs=1)
    assert not track.unsure
    assert told(fed(Track(), data, (1,))) == told(fed(Track(), data, (700, 3))) == told(track)


@pytest.mark.parametrize("codec", ["libmp3lame", "flac"])
def test_a_damaged_wave64_is_billed_no_less_than_ffmpeg_plays_of_it(codec):
    for seed in range(8):
        data = mutated(recording("w64", codec, 1.3, 16_000), random.Random(f"w64 {codec} {seed}"))
        assert played_ms(data) <= Heard.of(fed(Track(), data)).best_ms * 1.005 + 80, seed


@pytest.mark.parametrize("place", ["in front", "behind"])
def test_of_several_formats_in_a_wave64_none_makes_it_cheaper(place):
    """Wound: FFmpeg obeys the last, and the first was read."""
    data = recording("w64", "pcm_s16le", 1.0, 8_000)
    form = data[40:80]
    fast = form[:28] + (48_000).to_bytes(4, "little") + form[32:]
    forged = data[:40] + fast + (form + data[80:] if place == "in front" else data[80:] + form)
    assert played_ms(forged) == pytest.approx(1000, abs=10)
    for lengths in ((1 << 30,), (1,), (700, 3)):
        assert Heard.of(fed(Track(), forged, lengths)).best_ms >= 1000

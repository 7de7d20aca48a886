"""FLAC: every frame that a decoder plays is counted, whatever STREAMINFO and the frames' numbers say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.flac import FlacWalker, FrameHeader, frame_header, header_of
from tests.policies.audio.build import block, coded_number, crc, flac, frame, header, streaminfo
from tests.policies.audio.feeding import calls_to_watch, cuts, fed, said

TWELVE = [frame(number, 4096) for number in range(12)]  # 3.072 s
NOISE = random.Random(1)


def walk(data, lengths=(1 << 30,)):
    return fed(FlacWalker(), data, lengths)


rates = (
    st.sampled_from([0, 8000, 16_000, 44_100, 96_000])
    | st.integers(1, 65_535)
    | st.integers(6554, 65_535).map(lambda tens: tens * 10)
)
shapes = st.fixed_dictionaries(
    {"rate": rates, "bits": st.sampled_from([0, 8, 12, 16, 20, 24, 32]), "variable": st.booleans()}
)


def test_the_example_of_the_rfc_is_one_sample():
    """RFC 9639 appendix D.1."""
    example = bytes.fromhex(
        "664c6143800000221000100000000f00000f0ac442f0000000013e84b41807dc690307586a3dad1a2e0f"
        "fff869180000bf0358fd03128baa9a"
    )
    assert frame_header(example, 42) == FrameHeader(1, 44_100, 2, 16, variable=False, number=0)
    assert crc(example[42:], 0x8005, 16) == 0
    assert said(walk(example * 2)) == (0, 0, 2, "flac")


@given(number=st.integers(0, (1 << 36) - 1), samples=st.integers(1, 65_536), channels=st.integers(1, 8), shape=shapes)
def test_a_header_reads_back_as_it_was_written(number, samples, channels, shape):
    written = header(number, samples, channels=channels, **shape)
    expected = FrameHeader(samples=samples, number=number, channels=channels, **shape)
    assert frame_header(written, 0) == frame_header(memoryview(b"\0" + written), 1) == expected
    assert header_of(written) is not None


@given(number=st.integers(0, (1 << 36) - 1), samples=st.integers(1, 65_536), shape=shapes, data=st.data())
def test_a_header_with_one_wrong_byte_is_none(number, samples, shape, data):
    """CRC-8 sees every error within eight bits, save one that moves the CRC (the codes at 2, the number at 4)."""
    written = bytearray(header(number, samples, **shape))
    at = data.draw(st.sampled_from([place for place in range(len(written)) if place not in (2, 4)]))
    written[at] ^= data.draw(st.integers(1, 255))
    assert header_of(bytes(written) + bytes(8)) is None


def test_stereo_of_every_kind_is_two_channels():
    assert [frame_header(header(0, 192, stereo=code), 0).channels for code in (8, 9, 10)] == [2, 2, 2]


@pytest.mark.parametrize("first", [0x80, 0xBF, 0xFF])
def test_a_number_that_begins_with_no_number_is_none(first):
    assert frame_header(b"\xff\xf8\xc5\x08" + bytes([first]) + bytes(8), 0) is None


@given(sizes=st.lists(st.integers(1, 65_536), min_size=1, max_size=12), variable=st.booleans(), lengths=cuts)
def test_the_length_is_the_sum_of_the_blocks_and_the_last_one_counts(sizes, variable, lengths):
    starts = [sum(sizes[:i]) if variable else i for i in range(len(sizes))]
    frames = [frame(start, size, variable=variable) for start, size in zip(starts, sizes, strict=True)]
    walked = walk(flac(frames), lengths)
    assert walked.ms == (sum(sizes) * 1000 + 8000) // 16_000


@pytest.mark.parametrize(
    ("data", "ms"),
    [
        pytest.param(flac(TWELVE, info=streaminfo(total=12 * 4096)), 3072, id="honest"),
        pytest.param(flac(TWELVE), 3072, id="total 0, as from a pipe"),
        pytest.param(flac(TWELVE, info=streaminfo(total=1)), 3072, id="total too small"),
        pytest.param(flac(TWELVE, info=streaminfo(total=(1 << 36) - 1)), 3072, id="total absurd"),
        pytest.param(flac([frame(0, 4096)] * 12), 3072, id="all frames numbered 0: FFmpeg plays them all"),
        pytest.param(flac([frame(n * 77 % 13, 4096) for n in range(12)]), 3072, id="frames numbered at random"),
        pytest.param(flac([frame(1000 + n, 4096) for n in range(12)]), 3072, id="cut out of the middle"),
        pytest.param(flac([*TWELVE[:11], frame(11, 100)]), 2822, id="a short last frame"),
        pytest.param(flac(TWELVE, info=streaminfo(rate=48_000)), 3072, id="STREAMINFO's rate too high: FFmpeg"),
        pytest.param(
            flac([frame(n, 4096, rate=48_000) for n in range(12)]), 3072, id="the frames' rate too high: libsndfile"
        ),
        pytest.param(flac([frame(n, 4096, rate=0) for n in range(12)]), 3072, id="the rate is STREAMINFO's alone"),
        pytest.param(flac(TWELVE, info=streaminfo(rate=0)), 3072, id="STREAMINFO without a rate"),
        pytest.param(flac([frame(0, 4096, rate=0)], info=streaminfo(rate=0)), None, id="no rate anywhere"),
        pytest.param(flac(TWELVE, info=streaminfo(channels=2)), 3072, id="STREAMINFO's channels false"),
        pytest.param(flac(TWELVE, info=streaminfo(bits=24)), 3072, id="STREAMINFO's depth false"),
        pytest.param(
            flac([frame(n * 77 % 13, 4096, rate=16_000 - n) for n in range(12)]), 3073, id="every frame another stream"
        ),
        pytest.param(
            flac([frame(n * 4096 if n & 1 else n, 4096, variable=bool(n & 1)) for n in range(12)]),
            3072,
            id="fixed and variable blocks in turn",
        ),
        pytest.param(flac([NOISE.randbytes(5000), *TWELVE]), 3072, id="noise before the first frame"),
        pytest.param(flac([NOISE.randbytes(900) + one for one in TWELVE]), 3072, id="noise between frames"),
        pytest.param(b"".join(TWELVE), 3072, id="no magic, no metadata"),
        pytest.param(flac(TWELVE) * 2, 6144, id="two files in one"),
        pytest.param(
            flac(TWELVE) + flac([frame(n, 4096, rate=8000) for n in range(12)], info=streaminfo(rate=8000)),
            9216,
            id="two files in one, of two rates",
        ),
        pytest.param(flac(TWELVE, between=[(4, b"x" * 300), (6, TWELVE[0] * 9), (1, b"")]), 3072, id="metadata passes"),
        pytest.param(b"fLaC" + block(0, streaminfo()) + b"".join(TWELVE), None, id="metadata that never ends"),
        pytest.param(
            b"fLaC" + block(0, streaminfo()) + block(1, b"", last=True, size=len(TWELVE[0]) * 6) + b"".join(TWELVE),
            1536,
            id="padding that covers half of the frames: no decoder looks inside",
        ),
        pytest.param(b"fLaC" + block(1, b"abcd", last=True) + b"".join(TWELVE), 3072, id="no STREAMINFO: libFLAC"),
        pytest.param(b"fLaC" + block(0, streaminfo() + b"xx", last=True) + b"".join(TWELVE), 3072, id="a longer one"),
        pytest.param(
            b"fLaC" + block(0, streaminfo()) + block(0, streaminfo(rate=96_000), last=True) + b"".join(TWELVE),
            3072,
            id="two of them: the first",
        ),
        pytest.param(
            b"fLaC" + b"fLaC"[:1] + (4).to_bytes(3, "big") + b"LaC!" + block(0, streaminfo(), last=True) + TWELVE[0],
            256,
            id="a block header that looks like magic is a block",
        ),
        pytest.param(flac(TWELVE)[: len(flac(TWELVE[:6])) + 4], 1536, id="cut within a header"),
        pytest.param(flac([]), None, id="no frames"),
    ],
)
def test_what_decoders_play_is_counted(data, ms):
    assert walk(data).ms == ms


def test_the_total_is_a_claim_and_zero_is_none():
    assert walk(flac(TWELVE[:1], info=streaminfo(total=160_000))).claimed_ms == 10_000
    assert walk(flac(TWELVE, info=streaminfo(total=0))).claimed_ms is None


def test_a_forged_header_does_not_hide_the_true_one_that_it_overlaps():
    """It may end in the first three bytes of a frame: as its rate, and as its CRC."""
    true = frame(1, 4096)
    forged = next(shape for number in range(1 << 11) if (shape := header(number, 192, rate=0xFFF8))[-1] == true[2])
    assert forged[-3:] == true[:3]
    assert (
        walk(flac([frame(0, 4096), forged[:-3] + true])).ms == 2 * 256
    )  # the forged one agrees with nothing, and is alone


def test_one_header_imitated_by_chance_counts_nothing():
    """It agrees with the stream in nothing, and there is no second one."""
    impostor = header(700_000, 32_768, rate=12_000, channels=7, bits=12)
    walked = walk(flac([frame(0, 4096, noise=impostor + bytes(8192 - len(impostor))), *TWELVE[1:]]))
    assert (walked.ms, walked.channels) == (3072, 1)


def test_frames_that_disagree_count_once_they_are_too_many_for_chance():
    strangers = [frame(50 * n + 9, 4096, rate=8000, channels=2) for n in (1, 2)]
    assert walk(flac([*TWELVE, strangers[0]])).ms == 3072
    assert walk(flac([*TWELVE, *strangers])).ms == 3072 + 2 * 512


def test_the_noise_of_real_data_adds_no_frames():
    """Two megabytes of it hold sixty sync codes, and no frame."""
    body = [frame(number, 65_536, noise=NOISE.randbytes(131_072)) for number in range(16)]
    assert walk(flac(body), (65_536,)).ms == 16 * 4096


streams = st.builds(
    lambda pieces, info, last: b"fLaC" + block(0, info) + block(4, b"note", last=last) + b"".join(pieces),
    st.lists(
        st.one_of(
            st.builds(frame, st.integers(0, 1 << 36), st.integers(1, 65_536), rate=rates, variable=st.booleans()),
            st.binary(max_size=12),
            st.sampled_from([b"\xff", b"\xff\xf8", b"\xff\xf9\xc5", header(3, 65_000, rate=65_001)[:-1]]),
        ),
        max_size=8,
    ),
    st.builds(streaminfo, rate=st.sampled_from([0, 16_000]), total=st.integers(0, 1 << 35)),
    st.booleans(),
)


@given(data=streams, raw=st.booleans(), lengths=cuts)
def test_any_cut_says_the_same(data, raw, lengths):
    data = header(0, 192) + data[50:] if raw else data
    assert said(walk(data, lengths)) == said(walk(data)) == said(walk(data, (1,)))


@given(data=st.one_of(streams, st.binary(max_size=300).map(lambda junk: b"fLaC" + junk)))
def test_nothing_raises_and_little_is_kept(data):
    walker = FlacWalker()
    for i in range(0, len(data), 5):
        walker.feed(data[i : i + 5])
        assert len(walker._held) < 64
    assert walker.ms is None or walker.ms >= 0


def test_what_no_number_begins_with_is_not_looked_at():
    """Wound: four bytes that may begin a header, and nothing else, took a microsecond each."""
    assert calls_to_watch(FlacWalker(), flac(()) + b"\xff\xf8\xc9\x18" * 5000, 20_000) < 500


def test_the_number_code_is_utf8_where_utf8_reaches():
    assert all(coded_number(n) == chr(n).encode() for n in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF))

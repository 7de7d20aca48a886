"""A whole request body in, audio milliseconds out, with their source."""

import base64
import dataclasses
import json
import quopri
import random
import re
import tracemalloc
from urllib.parse import quote, quote_from_bytes, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.account.usage import NOT_AUDIO, AudioSource
from policies.audio.track import UNKNOWN_BITRATE
from policies.metering.meters import meter_for
from tests.policies.audio.build import chunk, flac, fmt, frame, id3v2, riff, streaminfo, wav
from tests.policies.audio.feeding import cuts, fed
from tests.policies.audio.oracle import recording
from tests.policies.audio.test_containers import recorded
from tests.policies.metering.test_multipart import MODEL, TYPE, form, part

WALKED, REPORTED, ESTIMATED = AudioSource.WALKED, AudioSource.REPORTED, AudioSource.ESTIMATED
FLAC = flac([frame(number, 4096) for number in range(5)], info=streaminfo(total=5 * 4096))  # 1.28 s


def file(body, name="file", filename="a.bin", encoding=""):
    extra = f"Content-Transfer-Encoding: {encoding}\r\n".encode() if encoding else b""
    return part(name, body, filename=filename, extra=extra)


def posted(*parts, reported=None, lengths=(1 << 30,)):
    return fed(meter_for("multipart", TYPE), form(*parts), lengths).finish(reported_ms=reported)


def put(body, content_type="audio/wav", reported=None, lengths=(1 << 30,)):
    return fed(meter_for("raw", content_type), body, lengths).finish(reported_ms=reported)


def figure(measured):
    return measured.audio_ms, measured.source, measured.discrepant


@pytest.mark.parametrize("lengths", [(1 << 30,), (1,), (65_536,), (1, 1000)])
def test_a_form_upload_is_walked(lengths):
    measured = posted(MODEL, part("language", b"de"), part("prompt", b"RIFFs"), file(wav(0.5)), lengths=lengths)
    assert dataclasses.asdict(measured) == {
        "audio_ms": 500,
        "source": "walked",
        "walked_ms": 500,
        "reported_ms": None,
        "estimated_ms": 4011,
        "discrepant": False,
        "channels": 1,
        "container": "wav",
        "codec": "pcm_s16le",
        "model": "whisper-1",
        "language": "de",
        "response_format": "",
        "input_tokens": None,
        "output_tokens": None,
        "job": "",
        "before_ms": None,
    }


@pytest.mark.parametrize("content_type", ["audio/wav", "", "text/plain", "application/json", "video/mp4"])
def test_a_raw_body_is_told_by_its_bytes_and_not_by_its_type(content_type):
    assert figure(put(FLAC, content_type)) == (1280, WALKED, False)


@pytest.mark.parametrize("profile", ["raw", "multipart"])
def test_a_form_is_a_form_and_a_file_a_file_on_either_kind_of_route(profile):
    assert fed(meter_for(profile, TYPE), form(file(FLAC))).finish().audio_ms == 1280
    assert fed(meter_for(profile, "audio/flac"), FLAC).finish().audio_ms == 1280


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([file(FLAC), file(wav(1.0), name="file2")], (2280, WALKED, False), id="two files add up"),
        pytest.param([part("file", FLAC)], (1280, WALKED, False), id="a file without a file name (whisper.cpp)"),
        pytest.param([part("clip", FLAC)], (1280, WALKED, False), id="under any name"),
        pytest.param([file(id3v2(99) + FLAC)], (1280, WALKED, False), id="behind a tag"),
        pytest.param([file(bytes(40_000))], (10_000, ESTIMATED, False), id="unknown: 32 kbit/s"),
        pytest.param([part("file", bytes(40_000))], (10_000, ESTIMATED, False), id="unknown, without a file name"),
        pytest.param([part("prompt", b"x" * 40_000)], (0, AudioSource.NONE, False), id="a long text is no audio"),
        pytest.param([file(b"")], (0, AudioSource.NONE, False), id="an empty file"),
        pytest.param([], (0, AudioSource.NONE, False), id="an empty form"),
        pytest.param([file(FLAC), file(bytes(4000), name="b")], (2280, ESTIMATED, False), id="half of it unknown"),
        pytest.param([file(base64.encodebytes(FLAC), encoding="base64")], (1280, WALKED, False), id="base64"),
        pytest.param([file(FLAC, encoding="base64")], (1280, WALKED, False), id="base64, and it is not true"),
        *(
            pytest.param([file(base64.encodebytes(FLAC), encoding=said)], (1280, WALKED, False), id=f"base64 as {said}")
            for said in ("BASE64; x=y", '"base64"', "base64 (as ever)", "base64\r\nContent-Transfer-Encoding: binary")
        ),
        pytest.param(
            [file(quopri.encodestring(FLAC), encoding="Quoted-Printable")], (1280, WALKED, False), id="quoted-printable"
        ),
        pytest.param([file(FLAC, encoding="binary")], (1280, WALKED, False), id="binary"),
        pytest.param(
            [file(FLAC + bytes(40_000), encoding="quoted-printable")],
            (10_024, ESTIMATED, False),
            id="not undone: weighed",
        ),
    ],
)
def test_the_audio_of_a_form_is_that_of_its_files(parts, expected):
    measured = posted(*parts)
    assert (measured.audio_ms, *figure(measured)[1:]) == pytest.approx(expected, abs=4)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b' {"url": "https://example.com/a.wav"}', (0, AudioSource.UNMEASURED, True), id="audio by URL"),
        pytest.param(b"\x7b\xff" * 2000, (1000, ESTIMATED, False), id="bytes that only say they are JSON"),
        pytest.param(b"", (0, AudioSource.NONE, False), id="nothing"),
    ],
)
def test_a_request_for_audio_elsewhere_carries_none(body, expected):
    assert figure(put(body, "application/json")) == expected


def test_audio_in_json_of_utf_16_is_measured():
    """Wound: what tells such a text begins like a frame of MP3, and a large part of it was billed as such."""
    speech = recording("ogg", "libopus", 10.0, 48_000, 1, 6_000)
    body = json.dumps({"audio": f"data:audio/ogg;base64,{base64.b64encode(speech).decode()}"}).encode("utf-16")
    assert put(body, "application/json").audio_ms == pytest.approx(10_000, abs=60)


def test_audio_elsewhere_is_as_long_as_reported():
    assert figure(put(b'{"url": ""}', "application/json", reported=61_000)) == (61_000, REPORTED, False)


@pytest.mark.parametrize(
    "forged",
    [
        riff(fmt(), chunk(b"data", bytes(32_000), size=0)),
        riff(fmt(), chunk(b"data", bytes(32_000), size=0xFFFFFFFF)),
        riff(fmt(byte_rate=1), chunk(b"data", bytes(32_000))),
        riff(fmt(), chunk(b"data", bytes(32_000), size=0x70000000)),
        flac([frame(number, 4000) for number in range(4)], info=streaminfo(total=0)),
        flac([frame(number, 4000) for number in range(4)], info=streaminfo(total=16)),
        flac([frame(number, 4000) for number in range(4)], info=streaminfo(total=(1 << 36) - 1)),
        flac([frame(0, 4000) for _ in range(4)]),
    ],
)
@pytest.mark.parametrize("reported", [None, 0, 400, 10**9])
def test_a_forged_header_and_a_false_report_change_nothing(forged, reported):
    for measured in (put(forged, reported=reported), posted(file(forged), reported=reported)):
        assert (measured.audio_ms, measured.source, measured.walked_ms) == (1000, WALKED, 1000)
        assert measured.discrepant or reported is None


@pytest.mark.parametrize(
    ("query", "body"),
    [
        pytest.param("", recorded("mp3 without Xing") + b"\r\n" + form(MODEL), id="in front of the form"),
        pytest.param("", form(part("prompt", b"a" + recorded("mp3 without Xing"))), id="in a text field"),
        pytest.param("encoding=linear16&sample_rate=16000", form(part("prompt", bytes(41_600))), id="declared"),
    ],
)
def test_a_form_on_a_raw_route_is_what_a_service_plays_that_reads_none(query, body):
    """Wound: MP3 in front of a form, or samples in a text field, were free where the service decodes the whole body."""
    measured = fed(meter_for("raw", TYPE, len(body), query), body, (65_536,)).finish()
    assert measured.audio_ms >= 1300
    assert measured.discrepant


def test_a_long_text_field_is_weighed():
    """A form within a form, for one."""
    assert posted(MODEL, part("prompt", b"a" * 80_000)).audio_ms == 80_000 * 8000 // UNKNOWN_BITRATE


def test_a_form_that_can_be_read_in_two_ways_is_weighed():
    """The second file is behind a bare line feed: some services see it, others take it for the first one's tail."""
    hidden = wav(0.1) + b"\n--" + TYPE.partition("=")[2].encode() + b"\n" + file(wav(10))
    measured = posted(file(hidden))
    assert measured.audio_ms >= len(hidden) * 8000 // UNKNOWN_BITRATE
    assert (measured.source, measured.discrepant, measured.walked_ms) == (ESTIMATED, True, 100)


@pytest.mark.parametrize(
    ("filename", "ms"),
    [
        ("a.bin", 8_000),
        ("a.g729", 32_000),
        ("A.G729", 32_000),
        ("a%2eg729", 32_000),
        ("a.tco", 48_301),
        ("a.g7290", 8_000),
    ],
)
def test_a_codec_without_a_header_is_told_by_the_files_name(filename, ms):
    """Wound: FFmpeg goes by the name where bytes say nothing, and plays 8 kbit/s, billed at a quarter."""
    samples = random.Random(1).randbytes(32_000)
    measured = fed(meter_for("multipart", TYPE), form(part("file", samples, filename=filename))).finish()
    assert measured.audio_ms == pytest.approx(ms, abs=2)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=a; boundary=b"])
def test_a_form_without_one_boundary_is_weighed_as_the_thriftiest_speech(content_type):
    """Wound: who reads one of the two all the same heard six times as much Opus as was billed."""
    measured = fed(meter_for("multipart", content_type), bytes(40_000)).finish()
    assert figure(measured) == (80_000, ESTIMATED, True)


def test_speech_behind_the_end_of_a_form_is_no_cheaper_than_in_it():
    hidden = part("file", recording("ogg", "libopus", 10.0, 48_000, 1, 6_000))
    assert fed(meter_for("multipart", TYPE), form(MODEL) + form(hidden)).finish().audio_ms >= 10_000


def test_estimates_come_early_and_are_replaced_by_what_was_walked():
    body = form(MODEL, file(wav(60.0)))
    meter = meter_for("multipart", TYPE, len(body))
    assert meter.estimate_ms == len(body) // 4  # nothing known yet: the announced length at the unknown's bit rate
    meter.feed(body[:400])
    assert meter.estimate_ms == 60_000
    so_far = meter.finish()
    assert so_far.audio_ms < 10
    assert so_far.discrepant
    meter.feed(body[400:])
    assert meter.estimate_ms == 60_000
    assert figure(meter.finish(reported_ms=60_000)) == (60_000, WALKED, False)


def test_an_estimate_without_a_claim_grows_with_what_passes():
    piped = riff(fmt(), chunk(b"data", bytes(range(1, 251)) * 1280, size=0))  # 10 s
    meter = meter_for("raw", "", len(piped))
    meter.feed(piped[:16_044])
    assert (meter.finish().audio_ms, meter.estimate_ms) == (500, 9_973)
    unannounced = meter_for("raw", "")
    assert unannounced.estimate_ms is None
    unannounced.feed(piped[:16_044])
    assert (unannounced.finish().audio_ms, unannounced.estimate_ms) == (500, 500)


def test_a_claim_beyond_the_announced_bytes_reserves_no_year():
    meter = meter_for("raw", "", 100_000)
    meter.feed(flac([], info=streaminfo(rate=1, total=1 << 30)))
    assert meter.estimate_ms == 2_000_000  # 50 bytes a second, which no codec goes below


def test_a_route_without_audio_measures_nothing():
    meter = fed(meter_for("none", TYPE), form(file(FLAC)))
    assert meter.estimate_ms is None
    assert meter.finish(reported_ms=5000) is NOT_AUDIO


def test_an_unknown_profile_is_an_error_for_the_operator():
    with pytest.raises(ValueError, match="not a metering profile"):
        meter_for("websocket", "")


bodies = st.sampled_from([FLAC, wav(0.02), base64.b64encode(FLAC[:900]), bytes(50), b"plain text"])
forms = st.lists(
    st.builds(
        file,
        bodies,
        st.sampled_from(["file", "x", "model"]),
        st.sampled_from([None, "a"]),
        st.sampled_from(["", "base64"]),
    ),
    max_size=4,
)


@given(parts=forms, junk=st.binary(max_size=30), lengths=cuts)
def test_any_cut_measures_the_same(parts, junk, lengths):
    body = form(*parts) + junk
    whole = fed(meter_for("multipart", TYPE), body).finish()
    assert fed(meter_for("multipart", TYPE), body, lengths).finish() == whole


@given(body=st.binary(max_size=500), reported=st.none() | st.integers(0, 10**9), form_first=st.booleans())
def test_nothing_raises(body, reported, form_first):
    body = form(file(FLAC))[:400] + body if form_first else body
    for profile in ("multipart", "raw"):
        for content_type in (TYPE, "application/json", "audio/wav"):
            measured = fed(meter_for(profile, content_type), body, (9,)).finish(reported_ms=reported)
            assert measured.audio_ms >= 0


@pytest.mark.parametrize("file_head", [wav(0.1)[:44], FLAC, b"unknown"])
def test_a_large_upload_is_not_kept(file_head):
    meter = meter_for("multipart", TYPE)
    meter.feed(form(file(file_head))[:-45])
    block = bytes(range(256)) * 256
    meter.feed(block)  # what is made once for all walkers is there then
    tracemalloc.start()
    for _ in range(200):
        meter.feed(block)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < len(block) // 4
    assert peak < 4 * len(block)


FREE_RIDES = [
    b'Content-Disposition: form-data; name="file"\r\nContent-Disposition: form-data; name="model"\r\n',
    b"Content-Disposition: form-data; name*=utf-8''file; name=\"model\"\r\n",
    b'Content-Disposition: form-data; name*0="fi"; name*1="le"\r\n',
    b'Content-Disposition: form-data; name="model"; name="file"\r\n',
    b'Content-Disposition: form-data; name="language"\r\n',
]


@pytest.mark.parametrize("header", FREE_RIDES)
def test_a_part_that_some_server_takes_for_the_file_is_never_free(header: bytes) -> None:
    """Two names, a name in RFC 2231's forms, or a field too long for one: weighed, and flagged."""
    clip = wav(2.0)
    body = b"--b\r\n" + header + b"\r\n" + clip + b"\r\n--b--\r\n"
    meter = meter_for("multipart", "multipart/form-data; boundary=b")
    meter.feed(body)
    measured = meter.finish()
    assert measured.audio_ms >= 2_000
    assert measured.discrepant


def test_an_upstream_that_heard_more_than_the_container_admits_is_believed() -> None:
    """A header that only its reader sees through must not make audio free; a report beyond the bytes still is not."""
    meter = meter_for("raw", "audio/wav")
    meter.feed(riff(fmt(), chunk(b"data", bytes(320)), chunk(b"junk", bytes(90_000))))
    assert meter.finish(reported_ms=2_789).audio_ms == 2_789
    assert meter.finish(reported_ms=10**12).audio_ms == 10


def b64(data):
    return base64.b64encode(data).decode()


def slow(seconds):
    """So small that it can be fed in single bytes; all letters of base64 are in it."""
    return riff(fmt(rate=2_000, bits=8), chunk(b"data", bytes(range(250)) * round(seconds * 8)))


@pytest.mark.parametrize(
    "value",
    [
        {"model": "m", "messages": [{"content": [{"input_audio": {"data": b64(slow(2.0)), "format": "wav"}}]}]},
        {"model": "m", "audio": {"content": b64(slow(2.0))}},
        {"model": "m", "file": "data:audio/wav;base64," + b64(slow(2.0))},
        {
            "model": "m",
            "file": "data:;base64," + b64(slow(1.0)),
            "file2": b64(slow(1.0)).replace("+", "-").replace("/", "_"),
        },
        {"audio": b64(slow(2.0)), "prompt": "a long text, " * 500, "model": "m"},
    ],
)
@pytest.mark.parametrize("lengths", [(1 << 30,), (1,), (777,)])
def test_audio_inside_json_is_walked(value, lengths):
    measured = put(json.dumps(value).replace("/", "\\/").encode(), "application/json", lengths=lengths)
    assert figure(measured) == (2000, WALKED, False)
    assert measured.model == "m"


def test_a_long_text_in_json_is_no_audio():
    body = json.dumps({"prompt": "It was a bright cold day in April. " * 300}).encode()
    assert put(body, "application/json").source is AudioSource.NONE


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"audio_url": "https://example.com/a.mp3"}', "application/json"),
        (b'{"fetch_data": {"url": "s3://bucket/a.mp3"}}', "application/json"),
        (b"url=https%3A%2F%2Fexample.com", "application/x-www-form-urlencoded"),
        (form(MODEL, part("url", b"https://example.com/a.mp3")), TYPE),
    ],
)
def test_audio_by_url_is_flagged_until_the_answer_tells(body, content_type):
    assert figure(put(body, content_type)) == (0, AudioSource.UNMEASURED, True)
    assert figure(put(body, content_type, reported=61_000)) == (61_000, REPORTED, False)


@pytest.mark.parametrize(
    ("body", "content_type", "weighs"),
    [
        (numbers := json.dumps({"samples": list(range(20_000))}).encode(), "application/json", len(numbers)),
        (b"samples=" + b"1,2,3," * 20_000, "application/x-www-form-urlencoded", 120_008),
        (b"audio=" + b"QUJD" * 40_000, "application/x-www-form-urlencoded", 120_000),
    ],
)
def test_a_long_text_that_explains_nothing_is_weighed(body, content_type, weighs):
    """Audio as numbers is not free, and of base64 what it holds."""
    assert figure(put(body, content_type)) == (weighs // 4, ESTIMATED, False)


@pytest.mark.parametrize("lengths", [(1 << 30,), (7, 1)])
@pytest.mark.parametrize("counted", [1600, 1601])
def test_a_short_text_full_of_numbers_is_weighed(counted, lengths):
    """Wound: below 64 KiB samples that are written as numbers were free."""
    body = json.dumps({"samples": [-1, 0.5] * (counted // 2) + [3] * (counted % 2), "name": "7"}).encode()
    weighs_ms = len(body) // 4 if counted > 1600 else 0
    assert put(body, "application/json", lengths=lengths).audio_ms == weighs_ms
    assert posted(part("config", body), lengths=lengths).audio_ms == weighs_ms


def in_form(value):
    return form(MODEL, part("url", value.encode())), TYPE


def in_pairs(value):
    return urlencode({"model": "m", "url": value, "language": "en"}).encode(), "application/x-www-form-urlencoded"


def in_json(value):
    return json.dumps({"model": "m", "url": value}).encode(), "application/json"


DATA_URLS = {
    "base64": lambda data: "data:audio/ogg;base64," + b64(data),
    "escapes": lambda data: "data:audio/ogg," + quote_from_bytes(data),
    "base64 with escapes": lambda data: "data:audio/ogg;base64," + quote(b64(data), safe=""),
    "base64 that does not say so": lambda data: "data:audio/ogg," + b64(data),
    "base64 with many spaces": lambda data: "data:;base64," + " ".join(re.findall(".{1,7}", b64(data))),
    "behind a space, in capitals": lambda data: " DATA:audio/ogg;BASE64," + b64(data),
}


@pytest.mark.parametrize("lengths", [(1 << 30,), (7, 100)])
@pytest.mark.parametrize("put_in", [in_form, in_pairs, in_json])
@pytest.mark.parametrize("url", DATA_URLS)
def test_a_data_url_is_the_audio_that_it_holds(url, put_in, lengths):
    """Groq's shape takes one as ``url``, and what fetches URLs by Python's urllib takes it anywhere."""
    body, content_type = put_in(DATA_URLS[url](recorded("opus")))
    assert len(body) < 65_536
    assert figure(put(body, content_type, lengths=lengths)) == (1300, WALKED, False)


def test_base64_in_a_short_form_is_walked_and_text_in_it_is_none():
    assert put(*in_pairs(b64(FLAC))).audio_ms == 1280
    for put_in in (in_form, in_pairs, in_json):
        assert put(*put_in("data: we have it, of many kinds, " * 100)).source is AudioSource.NONE


def test_what_a_short_form_says_is_noted():
    measured = put(*in_pairs(b64(FLAC)))
    assert (measured.model, measured.language) == ("m", "en")


def asked(query, body, content_type="application/octet-stream"):
    return fed(meter_for("raw", content_type, None, query), body).finish()


@pytest.mark.parametrize(
    ("query", "content_type", "ms", "codec"),
    [
        ("encoding=linear16&sample_rate=16000", "", 1000, "pcm_s16le"),
        ("encoding=mulaw&sample_rate=8000&channels=2&model=m", "", 2000, "pcm_mulaw"),
        ("encoding=linear16&sample_rate=48000&sample_rate=16000", "", 1000, "pcm_s16le"),
        ("", "audio/l16; rate=8000; channels=2", 1000, "pcm_s16be"),
        ("", "audio/pcm", 1000, "pcm_s16le"),
        ("", "audio/basic", 4000, "pcm_mulaw"),
    ],
)
def test_raw_samples_are_counted_by_the_format_that_was_declared(query, content_type, ms, codec):
    measured = asked(query, bytes(range(1, 251)) * 128, content_type)
    assert (measured.audio_ms, measured.source, measured.codec, measured.container) == (ms, WALKED, codec, "pcm")


def test_a_url_beside_a_form_that_can_be_read_in_two_ways_makes_none_of_it_free():
    """Its parts may be cut otherwise than the meter cuts them, so all of it weighs as what nobody can read."""
    body = form(part("url", b"https://cdn.example/a.wav"), file(wav(0.1)), epilogue=b"x" * 40_000)
    alone, beside = (fed(meter_for("multipart", TYPE), one).finish() for one in (body.replace(b"url", b"abc"), body))
    assert beside.audio_ms == alone.audio_ms >= 10_000
    assert beside.discrepant


def test_a_declared_format_makes_no_file_cheaper():
    """Some services read the file, some the samples."""
    assert asked("encoding=linear16&sample_rate=192000", FLAC).audio_ms == 1280
    assert asked("encoding=mulaw&sample_rate=8000", wav(1.0)).audio_ms == 4006


def test_whisper_asr_reads_a_file_as_samples_when_told_not_to_decode():
    body = form(file(wav(1.0, rate=48_000), name="audio_file"))
    measured = fed(meter_for("multipart", TYPE, None, "encode=false&task=transcribe"), body).finish()
    assert measured.audio_ms == 3001


def test_parts_that_have_ended_leave_a_figure_and_none_of_their_bytes():
    """Each of these begins an Ogg page that never ends: a walker waits for it, but not behind its part."""
    page = b"OggS\0\2" + bytes(20) + b"\xff" * 256 + bytes(30_000)
    body = form(*[file(page, name=f"file{index}") for index in range(150)])
    tracemalloc.start()
    meter = fed(meter_for("multipart", TYPE), body, (65_536,))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 400_000
    assert meter.finish().audio_ms >= 150 * 30_000 * 8 // 32


def test_many_strings_of_audio_add_up_and_are_not_kept():
    strings = [b64(wav(0.01))] * 600
    measured = put(json.dumps(strings).encode(), "application/json", lengths=(4096,))
    assert measured.audio_ms == 6_000


URL = "https://cdn.example/a.mp3"
FETCHING = part("config", json.dumps({"fetch_data": {"url": URL}}).encode())
DECOYS = {
    "json": (json.dumps({"url": URL, "x": b64(wav(0.1))}).encode(), "application/json"),
    "json, typed as audio": (json.dumps({"url": URL, "x": b64(wav(0.1))}).encode(), "audio/wav"),
    "form": (form(part("url", URL.encode()), file(wav(0.1))), TYPE),
    "form, in a part of JSON": (form(FETCHING, file(wav(0.1))), TYPE),
}


@pytest.mark.parametrize("decoy", DECOYS)
def test_a_short_clip_beside_a_url_bounds_nothing(decoy):
    """The service may take either: what it reports counts, and without that the request is flagged as not measured."""
    assert figure(put(*DECOYS[decoy])) == (100, AudioSource.UNMEASURED, True)
    assert figure(put(*DECOYS[decoy], reported=3_600_000)) == (3_600_000, REPORTED, True)
    assert figure(put(*DECOYS[decoy], reported=0)) == (100, REPORTED, True)


def test_text_in_front_of_frames_makes_them_no_text():
    """FFmpeg looks for MPEG audio behind any rubbish, so what begins like JSON or a form may be a recording."""
    for content_type in ("application/json", "application/x-www-form-urlencoded", "audio/mpeg"):
        measured = put(b'{"a": "long enough"}' + recorded("mp3 without Xing"), content_type)
        assert measured.audio_ms >= 1300


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(part("model", b"m"), part("language", b"en"), file(wav(0.1))), TYPE),
        (form(part("model_id", b"m"), part("language_code", b"en"), file(wav(0.1))), TYPE),  # ElevenLabs
        (json.dumps({"audio_url": URL, "speech_model": "m", "language_code": "en"}).encode(), "application/json"),
        (b'{"audio_url": "https://a.test/a", "speech_models": ["m", "n"], "language_code": "en"}', "application/json"),
        (form(part("config", b'{"transcription_config": {"model": "m", "language": "en"}}'), file(wav(0.1))), TYPE),
        (form(part("config", b'{"transcription_config": {"operating_point": "m", "language": "en"}}')), TYPE),
    ],
)  # fmt: skip
def test_model_and_language_are_noted_by_the_names_that_services_give_them(body, content_type):
    """OpenAI's, ElevenLabs', AssemblyAI's; and in a part of JSON, as Speechmatics has it, with a file behind it."""
    measured = put(body, content_type)
    assert (measured.model, measured.language) == ("m", "en")


def test_json_in_a_part_of_a_form_is_walked():
    parts = [part("request", json.dumps({"audio": b64(wav(2.0))}).encode()), file(wav(1.0))]
    assert posted(*parts).audio_ms == 3000


STRANGE_BASE64 = {
    "padding in front": lambda text: "=" + text,
    "padding behind one letter": lambda text: text[:1] + "=" * 9 + text[1:],
    "a letter of the other alphabet": lambda text: text[:5] + "-" + text[5:],
    "line breaks": lambda text: "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
}


def test_a_small_string_of_audio_does_not_speak_for_a_large_text_beside_it():
    """There may be audio in it, as numbers or in small pieces; escapes alone make no text large."""
    decoy = {"decoy": b64(wav(0.1)), "audio": [b64(bytes(range(250)) * 8)] * 200}
    measured = fed(meter_for("raw", "application/json"), json.dumps(decoy).encode()).finish()
    assert (measured.source, measured.audio_ms > 100_000) == (ESTIMATED, True)
    escaped = json.dumps({"audio": b64(wav(30.0))}).replace("/", "\\/").replace("+", "\\u002b").encode()
    assert figure(put(escaped, "application/json")) == (30_000, WALKED, False)


def test_a_string_that_begins_like_a_url_and_plays_is_audio():
    """Decoders of base64 pass over its colon, and players over the six bytes that the rest of it makes."""
    text = "http://AA" + b64(recording("mp3", "libmp3lame", 10.0, 16_000, 1))
    measured = fed(meter_for("raw", "application/json"), json.dumps({"audio": text[:-1]}).encode()).finish()
    assert measured.audio_ms >= 9_900
    url = json.dumps({"audio": "https://cdn.example/" + "a" * 4_000}).encode()
    assert fed(meter_for("raw", "application/json"), url).finish().audio_ms == 0


@pytest.mark.parametrize("strange", STRANGE_BASE64)
def test_base64_that_some_decoders_read_all_the_same_is_no_text(strange):
    """As Python's b64decode does by default: what it ignores must not make audio free."""
    text = STRANGE_BASE64[strange](b64(FLAC))
    assert base64.b64decode(text) == FLAC
    assert figure(put(json.dumps({"audio": text}).encode(), "application/json")) == (1280, WALKED, False)


LONG = wav(20.0)  # so long that nobody looks for other codecs' frames in it any more


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, file(LONG)),
        form(MODEL, file(LONG + b"more than it promised" * 10_000)),
        form(MODEL, file(LONG[: len(LONG) * 3 // 4]), file(wav(30.0))),
        form(file(wav(1.0)), file(LONG)),
        form(file(riff(fmt(), chunk(b"data", bytes(300_001)), chunk(b"data", bytes(90_000))))),
        form(file(riff(chunk(b"junk", bytes(range(1, 255)) * 90), fmt(), chunk(b"data", bytes(400_000))))),
        form(file(riff(fmt(rate=1), chunk(b"data", bytes(400_000))))),
        form(file(base64.b64encode(LONG), encoding="base64")),
        form(MODEL, file(FLAC)),
    ],
)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_an_estimate_that_is_asked_for_all_the_time_is_that_of_a_meter_which_is_asked_once(body, data):
    """The rest of a long WAV is not estimated anew: a delimiter may end it all the same, where its header says no."""
    length = data.draw(st.sampled_from([None, len(body)]))
    asked, at = meter_for("multipart", TYPE, length), 0
    for size in data.draw(st.lists(st.integers(1, 400_000), max_size=8)):
        asked.feed(body[at : at + size])
        at += size
        once = meter_for("multipart", TYPE, length)
        once.feed(body[:at])
        assert asked.estimate_ms == once.estimate_ms

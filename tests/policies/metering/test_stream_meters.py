"""Transcripts of each protocol: what was forwarded is counted, and nothing else."""

import base64
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.usage import AudioSource
from policies.http.websocket import BINARY, TEXT
from policies.metering.stream_meters import PROFILES, stream_meter
from policies.routing.routes import STREAM_METERS
from tests.policies.audio.oracle import recording

SECOND_16K, SECOND_8K = bytes(32_000), bytes(16_000)


def talk(profile, query="", client=(), upstream=(), lengths=(1 << 30,)):
    """A stream of messages: bytes are binary, all else is JSON."""
    meter = stream_meter(profile, query)
    for take, messages in ((meter.client_piece, client), (meter.upstream_piece, upstream)):
        for message in messages:
            opcode = BINARY if isinstance(message, bytes) else TEXT
            payload = message if isinstance(message, bytes) else json.dumps(message).encode()
            at = turn = 0
            while at < len(payload) or not at:
                piece = payload[at : at + lengths[turn % len(lengths)]]
                at, turn = at + len(piece), turn + 1
                take(opcode, piece, at >= len(payload))
                if not payload:
                    break
    return meter.measured()


def b64(data):
    return base64.b64encode(data).decode()


def append(data):
    return {"type": "input_audio_buffer.append", "audio": b64(data)}


def eleven(data, rate):
    return {"message_type": "input_audio_chunk", "audio_base_64": b64(data), "commit": False, "sample_rate": rate}


def mistral(data):
    return {"type": "input_audio.append", "audio": b64(data)}


MISTRAL_MULAW = {"session": {"audio_format": {"encoding": "pcm_mulaw", "sample_rate": 8_000}}, "type": "session.update"}
OPENAI_G711 = {"session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}}
OPENAI_FAST = {"session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 96_000}}}}}
FILLING = {f"x{number}": number for number in range(200)}
OPENAI_TOOLS = {"session": {"tools": [{"parameters": {"properties": FILLING}}], "input_audio_format": "g711_ulaw"}}
OPENAI_BOTH = {"session": {"input_audio_format": "g711_ulaw"} | OPENAI_FAST["session"]}
MANY = "&".join(f"keywords={number}" for number in range(100))
RAW = {"message": "StartRecognition", "audio_format": {"type": "raw", "encoding": "pcm_f32le", "sample_rate": 16_000}}


@pytest.mark.parametrize(
    ("profile", "query", "client", "ms", "codec"),
    [
        (
            "openai_realtime",
            "model=m",
            [append(bytes(48_000)), {"type": "input_audio_buffer.commit"}],
            1000,
            "pcm_s16le",
        ),
        ("openai_realtime", "", [{"type": "session.update"} | OPENAI_G711, append(bytes(8_000))], 1000, "pcm_mulaw"),
        ("openai_realtime", "", [{"type": "session.update"} | OPENAI_TOOLS, append(bytes(8_000))], 1000, "pcm_mulaw"),
        ("openai_realtime", "", [{"type": "session.update"} | OPENAI_BOTH, append(bytes(8_000))], 1000, "pcm_mulaw"),
        ("openai_realtime", "", [append(bytes(48_000)) | {"audio": "-_" * 32_000}], 1000, "pcm_s16le"),
        ("deepgram", f"encoding=linear16&{MANY}&sample_rate=8000", [SECOND_16K], 2000, "pcm_s16le"),
        ("whisperlive", "", [FILLING | {"audio_format": "uint8"}, bytes(16_000)], 1000, "pcm_u8"),
        ("openai_realtime", "", [{"type": "session.update"} | OPENAI_FAST, append(bytes(48_000))], 1000, "pcm_s16le"),
        (
            "openai_realtime",
            "",
            [
                {"type": "transcription_session.update", "session": {"input_audio_format": "g711_alaw"}},
                append(bytes(16_000)),
            ],
            2000,
            "pcm_alaw",
        ),
        (
            "openai_realtime",
            "",
            [
                {"session": {"input_audio_format": "pcm16", "input_audio_params": {"sample_rate_hz": 16_000}}},
                append(SECOND_16K),
            ],
            1000,
            "pcm_s16le",
        ),
        ("deepgram", "encoding=linear16&sample_rate=16000", [SECOND_16K, {"type": "KeepAlive"}], 1000, "pcm_s16le"),
        ("deepgram", "encoding=mulaw&sample_rate=8000&channels=2", [bytes(16_000)], 1000, "pcm_mulaw"),
        ("deepgram", "encoding=linear16&sample_rate=48000&sample_rate=8000", [bytes(16_000)], 1000, "pcm_s16le"),
        ("assemblyai", "sample_rate=16000", [SECOND_16K, {"type": "Terminate"}], 1000, "pcm_s16le"),
        ("assemblyai", "sample_rate=8000&encoding=pcm_mulaw", [bytes(8_000)], 1000, "pcm_mulaw"),
        ("speechmatics", "", [RAW, bytes(64_000), {"message": "EndOfStream", "last_seq_no": 1}], 1000, "pcm_f32le"),
        ("speechmatics", "", [RAW, {"message": "AddChannelAudio", "data": b64(bytes(64_000))}], 1000, "pcm_f32le"),
        ("elevenlabs", "model_id=m&audio_format=pcm_24000", [eleven(bytes(48_000), 24_000)], 1000, "pcm_s16le"),
        ("elevenlabs", "audio_format=ulaw_8000", [eleven(bytes(8_000), 8_000)], 1000, "pcm_mulaw"),
        ("elevenlabs", "", [eleven(SECOND_16K, 16_000), eleven(b"", 16_000)], 1000, "pcm_s16le"),
        (
            "elevenlabs",
            "audio_format=pcm_48000&audio_format=pcm_16000",
            [eleven(SECOND_16K, 48_000)],
            1000,
            "pcm_s16le",
        ),
        ("elevenlabs", "audio_format=pcm_48000", [eleven(b"", 16_000), eleven(SECOND_16K, 16_000)], 1000, "pcm_s16le"),
        ("mistral", "model=m", [mistral(SECOND_16K), {"type": "input_audio.end"}], 1000, "pcm_s16le"),
        ("mistral", "", [MISTRAL_MULAW, mistral(bytes(8_000))], 1000, "pcm_mulaw"),
        ("whisperlive", "", [{"uid": "u", "model": "small"}, bytes(64_000), b"END_OF_AUDIO"], 1000, "pcm_f32le"),
        ("whisperlive", "", [{"uid": "u", "audio_format": "int16"}, SECOND_16K], 1000, "pcm_s16le"),
        ("vosk", "", [{"config": {"sample_rate": 16_000.0}}, SECOND_16K, {"eof": 1}], 1000, "pcm_s16le"),
        ("vosk", "", [bytes(16_000)], 1000, "pcm_s16le"),
    ],
)
def test_audio_is_counted_by_the_format_that_was_agreed_on(profile, query, client, ms, codec):
    measured = talk(profile, query, client)
    assert (measured.audio_ms, measured.source, measured.codec) == (ms, AudioSource.WALKED, codec)
    assert talk(profile, query, client, lengths=(7,)) == measured


def test_a_container_without_a_declared_encoding_is_walked():
    measured = talk("deepgram", "model=nova-3", [recording("ogg", "libopus", 1.3, 16_000)])
    assert (measured.audio_ms, measured.container, measured.model) == (1300, "ogg", "nova-3")
    file = [
        {"message": "StartRecognition", "audio_format": {"type": "file"}},
        recording("mp3", "libmp3lame", 1.3, 16_000),
    ]
    assert talk("speechmatics", "", file).audio_ms == 1300


def test_the_server_has_the_last_word_on_the_format_of_a_session():
    meter = stream_meter("openai_realtime", "")
    told = {"type": "session.created", "session": {"input_audio_format": "g711_ulaw"}}
    meter.upstream_piece(TEXT, json.dumps(told).encode(), True)
    asked = {"type": "session.update", "session": {"input_audio_format": "pcm16"}}
    meter.client_piece(TEXT, json.dumps(asked).encode(), True)
    meter.client_piece(TEXT, json.dumps(append(bytes(8_000))).encode(), True)
    assert meter.measured().audio_ms == 1000


@pytest.mark.parametrize(
    ("profile", "asked", "told", "client"),
    [
        ("elevenlabs", "audio_format=pcm_48000",
         {"message_type": "session_started", "config": {"sample_rate": 16_000, "audio_format": "pcm_16000"}},
         eleven(SECOND_16K, 48_000)),
        ("mistral", "",
         {"type": "session.updated", "session": {"audio_format": {"encoding": "pcm_s16le", "sample_rate": 8_000}}},
         mistral(SECOND_8K)),
    ],
)  # fmt: skip
def test_what_the_server_says_of_the_format_is_believed(profile, asked, told, client):
    meter = stream_meter(profile, asked)
    meter.upstream_piece(TEXT, json.dumps(told).encode(), True)
    meter.client_piece(TEXT, json.dumps(client).encode(), True)
    assert meter.measured().audio_ms == 1000


def test_some_name_the_model_otherwise():
    assert talk("openai_realtime", "api-version=2025&deployment=whisper", [append(bytes(480))]).model == "whisper"
    measured = talk("elevenlabs", "model_id=scribe&language_code=en", [eleven(SECOND_16K, 16_000)])
    assert (measured.model, measured.language) == ("scribe", "en")
    assert talk("assemblyai", "sample_rate=16000&speech_model=universal", [SECOND_16K]).model == "universal"
    for name in ("model", "operating_point"):
        begin, later = ({"transcription_config": {name: value}} for value in ("enhanced", "standard"))
        said = [RAW | begin, bytes(64_000), {"message": "SetRecognitionConfig"} | later]
        assert talk("speechmatics", "", said).model == "enhanced"


def test_a_format_that_changes_counts_from_there_on():
    to_g711 = {"type": "session.update", "session": {"input_audio_format": "g711_ulaw"}}
    assert talk("openai_realtime", "", [append(bytes(48_000)), to_g711, append(bytes(8_000))]).audio_ms == 2000


@pytest.mark.parametrize(
    ("profile", "upstream", "reported"),
    [
        (
            "deepgram",
            [{"type": "Results", "start": 1.5, "duration": 1.0}, {"type": "Metadata", "duration": 2.61}],
            2610,
        ),
        ("deepgram", [{"type": "TurnInfo", "audio_window_end": 1.92}], 1920),
        ("assemblyai", [{"type": "Termination", "audio_duration_seconds": 2}], 2000),
        ("mistral", [{"type": "transcription.done", "usage": {"prompt_audio_seconds": 2}}], 2000),
        (
            "openai_realtime",
            [
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "usage": {"type": "duration", "seconds": seconds},
                }
                for seconds in (1, 2)
            ],
            3000,
        ),
    ],
)
def test_the_upstreams_figure_is_kept_beside_ours(profile, upstream, reported):
    measured = talk(profile, "encoding=linear16&sample_rate=16000", [SECOND_16K] * 2, upstream)
    assert measured.reported_ms == reported
    assert measured.walked_ms is not None


def test_every_profile_of_the_route_table_exists():
    assert tuple(PROFILES) == STREAM_METERS
    assert stream_meter("none", "") is None


@given(
    profile=st.sampled_from(STREAM_METERS),
    query=st.text(alphabet="encodigsample_rt=&%0123linear16mu", max_size=60),
    pieces=st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=60), st.booleans()), max_size=12),
)
def test_nothing_raises(profile, query, pieces):
    meter = stream_meter(profile, query)
    for opcode, piece, last in pieces:
        meter.client_piece(opcode, piece, last)
        meter.upstream_piece(opcode, piece, last)
        assert meter.measured().audio_ms >= 0


@pytest.mark.parametrize("profile", STREAM_METERS)
def test_a_large_message_is_not_kept(profile):
    meter = stream_meter(profile, "")
    meter.client_piece(TEXT, b'{"audio": "', False)
    piece = b"QUJD" * 16_384
    tracemalloc.start()
    for _ in range(30):
        meter.client_piece(TEXT, piece, False)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 300_000
    assert meter.measured().audio_ms > 0


def test_tokens_of_a_session_are_added_up():
    done = {"type": "conversation.item.input_audio_transcription.completed"}
    told = [done | {"usage": {"type": "tokens", "input_tokens": 5, "output_tokens": 2}}] * 2
    measured = talk("openai_realtime", "", [append(bytes(4_800))], told)
    assert (measured.input_tokens, measured.output_tokens) == (10, 4)


CONFIG = {"config": {"sample_rate": 192_000}}
FAST = {"audio_format": {"type": "raw", "encoding": "pcm_f32le", "sample_rate": 192_000}}


@pytest.mark.parametrize(
    ("profile", "client"),
    [
        ("vosk", [SECOND_8K, CONFIG, SECOND_8K]),
        ("whisperlive", [{"audio_format": "int16"}, SECOND_16K, {"audio_format": "float32"}, SECOND_16K]),
        ("speechmatics", [RAW, bytes(64_000), RAW | FAST, bytes(64_000)]),
        ("speechmatics", [RAW, bytes(64_000), {"message": "SetRecognitionConfig"} | FAST, bytes(64_000)]),
        ("openai_realtime", [OPENAI_G711, append(bytes(8_000)), FAST, append(bytes(8_000))]),
    ],
)  # fmt: skip
def test_a_format_that_the_server_does_not_take_any_more_makes_nothing_cheaper(profile, client):
    """vosk-server makes its recogniser at the first audio, others read one first message."""
    assert talk(profile, client=client).audio_ms == 2000


CREATED = {
    "type": "session.created",
    "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24_000}}}},
}


def test_a_slower_format_counts_from_the_message_that_asks_for_it():
    """Wound: an append behind it that came before the server's word, of 15 MiB perhaps, counted a sixth."""
    meter = stream_meter("openai_realtime", "")
    meter.upstream_piece(TEXT, json.dumps(CREATED).encode(), True)
    for message in ({"type": "session.update"} | OPENAI_G711, append(bytes(8_000))):
        meter.client_piece(TEXT, json.dumps(message).encode(), True)
    assert meter.measured().audio_ms == 1000


def test_a_message_counts_at_the_rate_that_it_names_itself():
    """Wound: it held from the next one on."""
    measured = talk("elevenlabs", "audio_format=pcm_48000", [eleven(SECOND_8K * 6, 48_000), eleven(SECOND_8K, 8_000)])
    assert measured.audio_ms == 2000


def test_a_start_behind_one_that_was_refused_makes_nothing_cheaper():
    raw = {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}
    fast = RAW | {"audio_format": RAW["audio_format"] | {"sample_rate": 192_000}}
    assert talk("speechmatics", "", [fast, RAW | {"audio_format": raw}, SECOND_16K]).audio_ms == 1000
    assert talk("speechmatics", "", [RAW | {"audio_format": raw}, fast, SECOND_16K]).audio_ms == 1000


@pytest.mark.parametrize(
    ("profile", "said", "ms"),
    [
        ("vosk", b'{"config": {"sample_rate": 8000, "sample_rate": 192000}}', 2000),
        ("vosk", b'{"config": {"Sample_Rate": 192000}}', 2000),
        ("whisperlive", b'{"uid": "a", "audio_format": "int16", "audio_format": "float32"}', 2000),
        ("whisperlive", b'{"uid": "a", "Audio_Format": "float32"}', 2000),
        ("openai_realtime", b'{"session": {"input_audio_format": "g711_ulaw", "input_audio_format": "pcm16"}}', 4000),
        ("openai_realtime", b'{"session": {"Input_Audio_Format": "g711_ulaw"}}', 4000),
        (
            "speechmatics",
            b'{"message":"StartRecognition","audio_format":{"type":"raw","encoding":"pcm_s16le","encoding":""}}',
            4000,
        ),
    ],
)
def test_of_a_format_that_readers_take_in_two_ways_the_slowest_counts(profile, said, ms):
    meter = stream_meter(profile, "")
    meter.client_piece(TEXT, said, True)
    meter.client_piece(BINARY, SECOND_16K, True)
    assert meter.measured().audio_ms == ms


def test_audio_under_a_name_of_other_letters_counts():
    """Wound: Go, and with it LocalAI, takes names in any case."""
    message = {"type": "input_audio_buffer.append", "Audio": b64(bytes(48_000))}
    assert talk("openai_realtime", "", [message]).audio_ms == 1000

"""The upstream's figure is found where services put it, and believed only when it is a length."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.audio.reported import MOST_KEPT_BYTES, answer_reader, asking_plainly
from policies.audio.walker import LONGEST_MS
from tests.policies.audio.feeding import cuts

JSON, EVENTS = "application/json; charset=utf-8", "text/event-stream"


def read(body, content_type=JSON, encoding="", lengths=(1 << 30,)):
    reader, at, turn = answer_reader(content_type, encoding), 0, 0
    while at < len(body):
        length = lengths[turn % len(lengths)]
        reader.feed(body[at : at + length])
        at, turn = at + length, turn + 1
    return reader.reported_ms


@pytest.mark.parametrize(
    ("answer", "ms"),
    [
        ({"text": "a", "usage": {"type": "duration", "seconds": 9}}, 9000),
        ({"text": "a", "usage": {"prompt_tokens": 4, "prompt_audio_seconds": 9}}, 9000),  # Mistral
        ({"text": "a", "audio_duration_secs": 9.5}, 9500),  # ElevenLabs
        ({"text": "a", "usage": {"type": "tokens", "total_tokens": 9}}, None),
        ({"task": "transcribe", "duration": 8.4700002670288, "text": "a"}, 8470),
        ({"duration": 9.963, "usage": {"type": "duration", "seconds": 10}}, 9963),  # the finer one
        ({"duration": "9.963", "text": "a"}, 9963),  # vLLM
        ({"metadata": {"request_id": "x", "duration": 25.933313, "channels": 1}, "results": {}}, 25_933),  # Deepgram
        ({"metadata": {"duration": 1.5, "audio_duration": 100.2}}, 100_200),  # whisperX-FastAPI: the other is work
        ({"audio_duration": 61}, 61_000),
        ({"duration": 0, "text": ""}, 0),
        ({"text": 'she said "duration": 5'}, None),
        ({"segments": [{"duration": 4}]}, None),
        ({"duration": None}, None),
        ({"duration": True}, None),
        ({"duration": [1]}, None),
        ({"duration": -1}, None),
        ({"duration": "NaN"}, None),
        ({"duration": float("inf")}, None),
        ({"duration": float("nan")}, None),
        ({"duration": "long"}, None),
        ({"duration": 192_153_584_101_141.16}, None),
        ({"duration": 10**400}, None),
        ({"duration": -5, "usage": {"seconds": 7}}, 7000),
        (["duration", 3], None),
        ("duration", None),
    ],
)
def test_the_length_is_found_where_services_put_it(answer, ms):
    assert read(json.dumps(answer).encode(), lengths=(3,)) == ms


@pytest.mark.parametrize(
    "body", [b"", b'{"duration": 5', b'{"duration": 5}}', b'\xff"duration"', b'"duration"' + b"[" * 60_000]
)
def test_an_answer_that_is_no_json_says_nothing(body):
    assert read(body) is None


def test_text_and_compressed_answers_are_not_read():
    body = b'{"duration": 5}'
    assert read(body, "text/plain") is None
    assert read(body, "") is None
    assert read(body, JSON, "gzip") is None
    assert read(body, JSON, "identity") == 5000
    assert read(body, "application/vnd.x+json") == 5000


LONG_TEXT = {"text": '{"duration": 1, \\"' * 12_000, "segments": [{"duration": 3}] * 50}


@pytest.mark.parametrize(
    ("answer", "ms"),
    [
        ({"task": "transcribe", "duration": 3600.5, **LONG_TEXT}, 3_600_500),
        ({"duration": "3600.5", **LONG_TEXT}, 3_600_500),
        ({"metadata": {"models": ["a", {"b": []}], "duration": 3600.5}, **LONG_TEXT}, 3_600_500),
        ({"metadata": {"duration": 5, "audio_duration": 3600.5}, **LONG_TEXT}, 3_600_500),
        ({**LONG_TEXT, "usage": {"type": "duration", "seconds": 3601}}, 3_601_000),
        ({**LONG_TEXT, "duration": 3600.5}, 3_600_500),
        (LONG_TEXT, None),
        ({"words": [{"duration": 4}], **LONG_TEXT}, None),
        ({"duration": "9 minutes", "x": '"duration": 3,', **LONG_TEXT}, None),
        ({**LONG_TEXT, "last": {"duration": 3}}, None),
    ],
)
@pytest.mark.parametrize("lengths", [(1 << 30,), (777,), (MOST_KEPT_BYTES,)])
def test_a_long_answer_is_read_at_its_head_and_its_end(answer, ms, lengths):
    body = json.dumps(answer).encode()
    assert len(body) > MOST_KEPT_BYTES
    assert read(body, lengths=lengths) == ms


def event(**data):
    return b"event: x\r\ndata: " + json.dumps(data).encode() + b"\r\n\r\n"


DONE = event(type="transcript.text.done", text="a b", usage={"type": "duration", "seconds": 12})


@pytest.mark.parametrize(
    ("stream", "ms"),
    [
        (event(type="transcript.text.delta", delta="a") * 9 + DONE, 12_000),
        (DONE + b"data: [DONE]\n\n", 12_000),
        (event(type="transcript.text.delta", delta="a" * 500) * 900 + DONE, 12_000),
        (event(type="transcript.text.done", usage={"type": "tokens", "total_tokens": 5}), None),
        (event(delta='"seconds": 5}}'), None),
        (event(type="transcription.done", usage={"prompt_audio_seconds": 9}, language="en"), 9000),
        (event(type="done", text="x" * 200_000, usage={"seconds": 12}), 12_000),
        (b'data: {"usage": {"seconds": 12', None),
        (b"", None),
    ],
)
def test_event_streams(stream, ms):
    assert read(stream, EVENTS, lengths=(1000,)) == ms


@given(body=st.binary(max_size=300), content_type=st.sampled_from([JSON, EVENTS]), lengths=cuts)
def test_nothing_raises(body, content_type, lengths):
    body = b'{"duration": ' + body + b'"seconds"'
    assert read(body, content_type, lengths=lengths) == read(body, content_type)


@given(seconds=st.floats(allow_nan=True, allow_infinity=True))
def test_what_is_believed_is_a_length(seconds):
    ms = read(json.dumps({"duration": seconds}).encode())
    assert ms is None or 0 <= ms <= LONGEST_MS


@pytest.mark.parametrize("content_type", [JSON, EVENTS])
def test_a_long_answer_is_not_kept(content_type):
    reader = answer_reader(content_type)
    chunk = b"x" * 10_000
    tracemalloc.start()
    for _ in range(1000):
        reader.feed(chunk)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 4 * MOST_KEPT_BYTES


@pytest.mark.parametrize(
    ("answer", "content_type", "tokens"),
    [
        (b'{"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45}}', "application/json", (14, 45)),
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": 0}}', "application/json", (3, 0)),
        (b'{"usage": {"type": "duration", "seconds": 3}}', "application/json", None),
        (b'{"usage": {"input_tokens": -1}}', "application/json", None),
        (b'{"usage": {"input_tokens": "many"}}', "application/json", None),
        (b'{"text": "input_tokens"}', "application/json", None),
        (
            b'data: {"delta": "input_tokens"}\n\ndata: {"usage": {"input_tokens": 7, "output_tokens": 8}}\n\n',
            "text/event-stream",
            (7, 8),
        ),
        (b"WEBVTT", "text/vtt", None),
    ],
)
def test_tokens_are_read_where_an_upstream_counts_in_them(answer, content_type, tokens):
    reader = answer_reader(content_type)
    for at in range(0, len(answer), 9):
        reader.feed(answer[at : at + 9])
    assert reader.tokens == tokens


@pytest.mark.parametrize(
    "answer",
    [
        b'{"job": {"id": "a", "duration": 61}}',
        b'{"status": "done", "result": {"metadata": {"audio_duration": 61.0}}}',
        b'{"totalBilledTime": "61s"}',
    ],
)
def test_the_result_of_a_job_tells_too(answer):
    reader = answer_reader("application/json")
    reader.feed(answer)
    assert reader.reported_ms == 61_000


def test_an_answer_is_asked_for_whole_and_plain() -> None:
    """Compressed, or a range of it, it would not say what has to be known."""
    lines = (
        b"Accept-Encoding: gzip, br\r\nX: a\r\nRANGE: bytes=0-9\r\nIf-Range: x\r\naccept_encoding: br\r\nX-Range: 1\r\n"
    )
    assert asking_plainly(lines) == b"X: a\r\nX-Range: 1\r\nAccept-Encoding: identity\r\n"
    assert asking_plainly(b"") == b"Accept-Encoding: identity\r\n"

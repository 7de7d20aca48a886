"""OpenAI's interface over HTTP: the right words in every format, progress while streaming, refusals that help."""

import io
import json
import os
import signal

import aiohttp
import pytest

from gateway.demo.samples import SAMPLES, Sample
from tests.gateway.demo.conftest import Running

FIRST = SAMPLES[0]
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def form(audio: bytes | None = None, content_type: str = "audio/wav", **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("model", "whisper-1")
    for name, value in fields.items():
        data.add_field(name, value)
    wav = FIRST.path.read_bytes() if audio is None else audio
    data.add_field("file", io.BytesIO(wav), filename="clip.wav", content_type=content_type)
    return data


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.path.stem)
async def test_json_has_the_words_and_the_seconds(http_client: aiohttp.ClientSession, sample: Sample):
    async with http_client.post(TRANSCRIPTIONS, data=form(sample.path.read_bytes())) as answer:
        assert answer.status == 200
        usage = {"type": "duration", "seconds": sample.duration_ms / 1000}
        assert await answer.json() == {"text": sample.words, "usage": usage}


@pytest.mark.parametrize(
    ("response_format", "content_type", "expected"),
    [
        ("text", "text/plain", f"{FIRST.words}\n"),
        ("srt", "application/x-subrip", f"1\n00:00:00,000 --> 00:00:02,786\n{FIRST.words}\n\n"),
        ("vtt", "text/vtt", f"WEBVTT\n\n00:00:00.000 --> 00:00:02.786\n{FIRST.words}\n\n"),
    ],
)
async def test_plain_formats_have_the_words(
    http_client: aiohttp.ClientSession, response_format: str, content_type: str, expected: str
):
    async with http_client.post(TRANSCRIPTIONS, data=form(response_format=response_format)) as answer:
        assert (answer.status, answer.content_type, await answer.text()) == (200, content_type, expected)


async def test_a_translation_into_english_is_a_transcription(http_client: aiohttp.ClientSession):
    async with http_client.post("/v1/audio/translations", data=form(response_format="verbose_json")) as answer:
        body = await answer.json()
    assert (body["task"], body["language"], body["text"]) == ("translate", "english", FIRST.words)


async def test_raw_samples_are_read_when_the_content_type_says_so(http_client: aiohttp.ClientSession):
    samples = FIRST.path.read_bytes()[44:]
    async with http_client.post(TRANSCRIPTIONS, data=form(samples, "audio/pcm; rate=16000")) as answer:
        assert (await answer.json())["text"] == FIRST.words


async def test_deltas_arrive_while_the_rest_is_still_being_heard(
    http_client: aiohttp.ClientSession, transcriber: Running
):
    """The recogniser is killed after the first delta: had that waited for the end, it would never have come."""
    minutes = FIRST.path.read_bytes() + (bytes(32_000) + FIRST.path.read_bytes()[44:]) * 20
    async with http_client.post(TRANSCRIPTIONS, data=form(minutes, stream="true")) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        first = await answer.content.readline()
        os.kill(transcriber.recogniser, signal.SIGKILL)
        rest = [json.loads(line.removeprefix(b"data: ")) async for line in answer.content if line.strip()]
    assert json.loads(first.removeprefix(b"data: ")) == {"type": "transcript.text.delta", "delta": "go"}
    assert rest[-1]["error"]["code"] == "recogniser_gone"
    assert "transcript.text.done" not in {event.get("type") for event in rest}


async def test_a_stream_ends_with_the_whole_text_which_is_its_deltas_joined(http_client: aiohttp.ClientSession):
    async with http_client.post(TRANSCRIPTIONS, data=form(stream="true")) as answer:
        lines = [line async for line in answer.content]
    assert lines[1::2] == [b"\n"] * (len(lines) // 2)
    *deltas, done = [json.loads(line.removeprefix(b"data: ")) for line in lines[::2]]
    assert [delta["delta"] for delta in deltas] == ["go", " forward", " ten", " meters"]
    assert done == {"type": "transcript.text.done", "text": FIRST.words}


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"hello", "not a WAV file"),
        (b"fLaC....", "This is FLAC audio. The demo recogniser reads WAV"),
        (b"", "The file is empty"),
    ],
)
async def test_unreadable_audio_is_a_400_that_says_what_is_read(
    http_client: aiohttp.ClientSession, audio: bytes, says: str, stream: str
):
    async with http_client.post(TRANSCRIPTIONS, data=form(audio, stream=stream)) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", "file")
    assert says in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"response_format": "diarized_json"}, "response_format", "json, text, verbose_json, srt, vtt"),
        ({"timestamp_granularities[]": "syllable"}, "timestamp_granularities[]", "segment, word"),
        ({"language": "de"}, "language", "knows English only"),
    ],
)
async def test_a_field_that_cannot_be_served_is_a_400_that_names_it(
    http_client: aiohttp.ClientSession, fields: dict[str, str], param: str, says: str
):
    async with http_client.post(TRANSCRIPTIONS, data=form(**fields)) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert says in error["message"]


BOUNDARY = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        (BOUNDARY, b""),
        (BOUNDARY, b"no form at all"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nRIFF'),
        (BOUNDARY, b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n\r\n--y--\r\n--x--\r\n"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 70 + b"--x--\r\n"),
        (BOUNDARY, b"--x\r\n" + b"A: b\r\n" * 500 + b"\r\n\r\n--x--\r\n"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Length: no\r\n\r\nx\r\n--x--\r\n'),
    ],
)
async def test_what_is_no_form_with_a_file_is_a_400(http_client: aiohttp.ClientSession, content_type: str, body: bytes):
    async with http_client.post(TRANSCRIPTIONS, data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 400, await answer.text()
        assert (await answer.json())["error"]["message"]


@pytest.mark.parametrize("length", ["announced", "chunked"])
async def test_too_much_audio_is_a_413(http_client: aiohttp.ClientSession, length: str):
    head = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'

    async def chunked():
        yield head
        for _ in range(26):
            yield bytes(2**20)

    body = io.BytesIO(head + bytes(30 * 2**20)) if length == "announced" else chunked()
    async with http_client.post(TRANSCRIPTIONS, data=body, headers={"Content-Type": BOUNDARY}) as answer:
        assert answer.status == 413
        assert "25 MiB" in (await answer.json())["error"]["message"]


async def test_an_unknown_path_is_a_404_and_a_wrong_method_a_405(http_client: aiohttp.ClientSession):
    async with http_client.get("/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "unknown_url")
    async with http_client.get(TRANSCRIPTIONS) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_credentials_of_any_kind_change_nothing(http_client: aiohttp.ClientSession):
    headers = {"Authorization": "Bearer whatever", "X-API-Key": "other", "Cookie": "session=x"}
    async with http_client.post(TRANSCRIPTIONS, data=form(), headers=headers) as answer:
        assert (await answer.json())["text"] == FIRST.words

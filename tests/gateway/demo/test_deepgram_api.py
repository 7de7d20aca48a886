"""Deepgram's interface: recordings by POST, and live audio whose words are heard while it comes."""

import hashlib
import io
from typing import Any

import aiohttp
import pytest

from gateway.demo.samples import SAMPLES

FIRST = SAMPLES[0]
WAV = FIRST.path.read_bytes()
PCM = WAV[44:]
PAUSE = bytes(32_000)
BLOCK_BYTES = 3_200


def transcript(result: dict[str, Any]) -> str:
    (alternative,) = result["alternatives"]
    assert [word["word"] for word in alternative["words"]] == alternative["transcript"].split()
    return alternative["transcript"]


@pytest.mark.parametrize(
    ("query", "content_type", "body"),
    [
        ("?model=nova-3&smart_format=true", "application/octet-stream", WAV),
        ("?encoding=linear16&sample_rate=16000&channels=1", "application/octet-stream", PCM),
    ],
)
async def test_a_recording_is_answered_in_deepgrams_shape(
    http_client: aiohttp.ClientSession, query: str, content_type: str, body: bytes
):
    async with http_client.post(f"/v1/listen{query}", data=body, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 200, await answer.text()
        found = await answer.json()
    assert found["metadata"]["duration"] == FIRST.duration_ms / 1000
    assert found["metadata"]["channels"] == 1
    assert found["metadata"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert [transcript(channel) for channel in found["results"]["channels"]] == [FIRST.words]


@pytest.mark.parametrize(
    ("query", "content_type", "body", "status", "says"),
    [
        ("", "audio/wav", b"hello", 400, "not a WAV file"),
        ("", "audio/wav", b"", 400, "empty"),
        ("", "application/json", b'{"url": "http://localhost/"}', 400, "does not fetch audio"),
        ("?encoding=opus", "audio/ogg", b"OggS", 400, "linear16"),
        ("?encoding=linear16&sample_rate=fast", "audio/raw", PCM, 400, "whole numbers"),
        ("?encoding=linear16&sample_rate=1", "audio/raw", PCM, 400, "1 Hz"),
        ("", "audio/l16; rate=0", PCM, 400, "0 Hz"),
    ],
)
async def test_a_refusal_is_in_deepgrams_shape(
    http_client: aiohttp.ClientSession, query: str, content_type: str, body: bytes, status: int, says: str
):
    async with http_client.post(f"/v1/listen{query}", data=body, headers={"Content-Type": content_type}) as answer:
        found = await answer.json()
    assert answer.status == status
    assert says in found["err_msg"]
    assert found.keys() == {"err_code", "err_msg", "request_id"}


async def test_too_much_audio_is_a_413_in_deepgrams_shape(http_client: aiohttp.ClientSession):
    async with http_client.post("/v1/listen", data=io.BytesIO(bytes(26 * 2**20))) as answer:
        assert (answer.status, (await answer.json())["err_code"]) == (413, "AUDIO_TOO_LARGE")


async def test_partial_words_come_before_the_audio_has_ended_and_the_final_ones_after_the_close(
    http_client: aiohttp.ClientSession,
):
    async with http_client.ws_connect("/v1/listen") as call:
        for at in range(0, len(PCM), BLOCK_BYTES):
            await call.send_bytes(PCM[at : at + BLOCK_BYTES])
        partial = await call.receive_json()  # the stream has not been closed yet, and no pause has ended the utterance
        assert (partial["type"], partial["is_final"]) == ("Results", False)
        assert FIRST.words.startswith(transcript(partial["channel"]))
        await call.send_json({"type": "CloseStream"})
        *results, metadata = [message.json() async for message in call]
    assert [result["is_final"] for result in results] == [False] * (len(results) - 1) + [True]
    assert transcript(results[-1]["channel"]) == FIRST.words
    assert all(result["metadata"]["model_info"]["name"] == "pocketsphinx-en-us" for result in results)
    assert (metadata["type"], metadata["duration"]) == ("Metadata", FIRST.duration_ms / 1000)
    assert metadata["sha256"] == hashlib.sha256(PCM).hexdigest()
    assert call.close_code == 1000


async def test_words_become_final_at_a_pause_or_on_request_while_the_stream_goes_on(
    http_client: aiohttp.ClientSession,
):
    async def final() -> str:
        while not (result := await call.receive_json())["is_final"]:
            raise AssertionError("interim_results=false, and yet a partial result came")
        return transcript(result["channel"])

    async with http_client.ws_connect("/v1/listen?interim_results=false") as call:
        await call.send_json({"type": "KeepAlive"})
        await call.send_bytes(PCM + PAUSE)
        assert await final() == FIRST.words
        await call.send_bytes(PCM)
        await call.send_json({"type": "Finalize"})
        assert await final() == FIRST.words
        await call.send_json({"type": "CloseStream"})
        assert (await call.receive_json())["type"] == "Metadata"


async def test_other_formats_are_taken_as_the_query_describes_them(http_client: aiohttp.ClientSession):
    stereo = b"".join(PCM[at : at + 2] * 2 for at in range(0, len(PCM), 2))
    url = "/v1/listen?encoding=linear16&sample_rate=16000&channels=2&interim_results=false"
    async with http_client.ws_connect(url) as call:
        await call.send_bytes(stereo[:1_001])
        await call.send_bytes(stereo[1_001:])
        await call.send_json({"type": "CloseStream"})
        result, metadata = [message.json() async for message in call]
    assert transcript(result["channel"]) == FIRST.words
    assert metadata["duration"] == FIRST.duration_ms / 1000


@pytest.mark.parametrize("text", ["", "hello", "[]", '{"type": 5}', '{"type": "Speak"}'])
async def test_a_message_that_is_no_command_closes_with_the_reason(http_client: aiohttp.ClientSession, text: str):
    async with http_client.ws_connect("/v1/listen") as call:
        await call.send_str(text)
        message = await call.receive()
        assert (message.type, call.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert "CloseStream" in message.extra


async def test_a_handshake_with_a_credential_in_its_protocols_selects_the_scheme_alone(
    http_client: aiohttp.ClientSession,
):
    async with http_client.ws_connect("/v1/listen", protocols=("token", "a-secret")) as call:
        assert call.protocol == "token"


async def test_a_handshake_for_an_encoding_that_is_not_read_is_refused_before_the_upgrade(
    http_client: aiohttp.ClientSession,
):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http_client.ws_connect("/v1/listen?encoding=opus")
    assert refused.value.status == 400
    async with http_client.get("/v1/listen") as answer:
        assert (answer.status, "WebSocket" in (await answer.json())["err_msg"]) == (400, True)

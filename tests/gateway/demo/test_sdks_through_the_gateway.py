"""The official clients of OpenAI and Deepgram, unmodified, through a gateway to the demo's transcriber."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import openai
import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment

from gateway.demo.samples import SAMPLES
from policies.limits.rates import Rate
from tests.gateway.demo.conftest import Running
from tests.gateway.harness import Gateway, Options, running

# Deepgram's client asks websockets for names that are on their way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*websockets.* is deprecated:DeprecationWarning")

FIRST = SAMPLES[0]
SOUND = FIRST.path.read_bytes()


@pytest.fixture
async def gateway(transcriber: Running) -> AsyncIterator[Gateway]:
    async with running(Options(upstream_url=transcriber.url)) as made:
        yield made


def openai_client(gateway: Gateway, key: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0)


@contextlib.asynccontextmanager
async def deepgram_client(gateway: Gateway, **credential: str) -> AsyncIterator[AsyncDeepgramClient]:
    streams = gateway.url.replace("http", "ws")
    environment = DeepgramClientEnvironment(base=gateway.url, production=streams, agent=streams, agent_rest=gateway.url)
    client = AsyncDeepgramClient(environment=environment, **(credential or {"api_key": gateway.key}))
    try:
        yield client
    finally:
        await client._client_wrapper.httpx_client.httpx_client.aclose()


async def test_openais_client_transcribes_and_its_audio_is_measured(gateway: Gateway) -> None:
    async with openai_client(gateway) as client:
        answer = await client.audio.transcriptions.create(model="whisper-1", file=FIRST.path)
    assert answer.text == FIRST.words
    (record,) = gateway.journal.records
    assert (record.route, record.measured.audio_ms) == ("openai.transcriptions", FIRST.duration_ms)


async def test_openais_client_streams_a_transcript(gateway: Gateway) -> None:
    async with openai_client(gateway) as client:
        stream = await client.audio.transcriptions.create(model="whisper-1", file=FIRST.path, stream=True)
        events = [event async for event in stream]
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == FIRST.words


async def test_openais_client_knows_our_refusals(gateway: Gateway) -> None:
    """By status, with the code and the request id that its users look for."""
    async with openai_client(gateway, "sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.models.list()
    assert (wrong.value.code, wrong.value.request_id) == ("invalid_api_key", gateway.lines[-1]["request_id"])
    async with openai_client(gateway, gateway.add_key(scopes=frozenset())) as client:
        with pytest.raises(openai.PermissionDeniedError) as lacking:
            await client.models.list()
    assert lacking.value.code == "insufficient_scope"
    async with openai_client(gateway, gateway.add_key(key_rate=Rate(1, 86_400_000))) as client:
        await client.models.list()
        with pytest.raises(openai.RateLimitError) as limited:
            await client.models.list()
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) > 0


@pytest.mark.parametrize("credential", ["api_key", "access_token"])
async def test_deepgrams_client_transcribes_and_its_audio_is_measured(gateway: Gateway, credential: str) -> None:
    """``Token KEY``, and ``bearer`` in lower case."""
    async with deepgram_client(gateway, **{credential: gateway.key}) as client:
        answer = await client.listen.v1.media.transcribe_file(request=SOUND, model="nova-3")
    assert answer.results.channels[0].alternatives[0].transcript == FIRST.words
    (record,) = gateway.journal.records
    assert (record.route, record.measured.audio_ms) == ("deepgram.listen", FIRST.duration_ms)


async def test_deepgrams_client_knows_our_refusals(gateway: Gateway) -> None:
    """In the error object that it reads."""
    async with deepgram_client(gateway, api_key="wrong") as client:
        with pytest.raises(ApiError) as refused:
            await client.listen.v1.media.transcribe_file(request=SOUND, model="nova-3")
    assert (refused.value.status_code, refused.value.body["err_code"]) == (401, "INVALID_API_KEY")
    assert refused.value.body["request_id"] == gateway.lines[-1]["request_id"]


async def test_deepgrams_client_streams_live_audio(gateway: Gateway) -> None:
    """Over the WebSocket that it opens itself, with the compression that it offers."""
    async with (
        deepgram_client(gateway) as client,
        client.listen.v1.connect(model="nova-3", encoding="linear16", sample_rate="16000") as call,
        asyncio.timeout(60),
    ):
        await call.send_media(SOUND[44:])
        await call.send_close_stream()
        heard = ""
        async for message in call:
            if message.type == "Results" and message.is_final:
                heard = message.channel.alternatives[0].transcript
            if message.type == "Metadata":
                break
    assert heard == FIRST.words


async def test_deepgrams_client_is_refused_before_a_stream_opens(gateway: Gateway) -> None:
    """As a plain 401 to the handshake."""
    async with deepgram_client(gateway, api_key="wrong") as client:
        with pytest.raises(ApiError) as refused:
            async with client.listen.v1.connect(model="nova-3"):
                pass
    assert refused.value.status_code == 401
    assert (gateway.lines[-1]["route"], gateway.lines[-1]["code"]) == ("deepgram.stream", "invalid_api_key")

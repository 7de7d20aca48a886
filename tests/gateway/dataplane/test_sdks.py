"""The official SDKs of AssemblyAI and Speechmatics, unmodified: they work, are measured, and understand a refusal.

Those of OpenAI and Deepgram have the demo's transcriber behind the gateway (``tests/gateway/demo``).
"""

import asyncio
import io
from collections.abc import AsyncIterator

import assemblyai
import pytest
from assemblyai.streaming.v3 import (
    AsyncRealTimeTranscriber,
    RealTimeError,
    RealTimeEvents,
    RealTimeParameters,
    RealTimeTranscriberOptions,
    TurnEvent,
)
from speechmatics import batch, rt

from policies.account.usage import AudioSource
from policies.limits.allowances import Allowance, Scope, What
from tests.gateway.dataplane.test_audio_limits import limit
from tests.gateway.harness import Gateway, Options, running
from tests.gateway.sdk_services import SECONDS, WORDS, services
from tests.policies.audio.build import wav
from tests.storage.memory_jobs import MemoryJobs
from tests.storage.waiting import until

# AssemblyAI's client asks websockets and pydantic for names that are on their way out.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*ConnectionClosed.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `[a-z_]+` method is deprecated:DeprecationWarning"),
]

SOUND = wav(2.5)
SAMPLES = bytes(80_000)
"""2.5 s of 16 kHz."""


@pytest.fixture
async def book() -> MemoryJobs:
    return MemoryJobs()


@pytest.fixture
async def gateway(book: MemoryJobs) -> AsyncIterator[Gateway]:
    async with services() as upstream, running(Options(upstream_url=upstream, jobs=book)) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dataplane.streams._TICK_S", 0.01)
    monkeypatch.setattr("gateway.dataplane.tunnel._CHECKPOINT_S", 0.02)


def used_up(gateway: Gateway) -> str:
    """A key that has a second of audio left."""
    return gateway.add_key(allowances=(SECOND,))


SECOND: Allowance = limit(What.AUDIO, "1s/month")
assert SECOND.scope is Scope.KEY


# --- AssemblyAI -------------------------------------------------------------------------------------------------------


async def transcribed(gateway: Gateway, key: str) -> assemblyai.Transcript:
    settings = assemblyai.Settings(api_key=key, base_url=gateway.url, polling_interval=0.01)
    async with assemblyai.AsyncClient(settings=settings) as client:
        config = assemblyai.TranscriptionConfig(language_code="en")
        return await assemblyai.AsyncTranscriber(client=client, config=config).transcribe(io.BytesIO(SOUND))


async def test_assemblyais_client_uploads_waits_and_is_accounted(gateway: Gateway, book: MemoryJobs) -> None:
    """Once, by the service's own figure, with the language that the client asked for."""
    transcript = await transcribed(gateway, gateway.key)
    assert transcript.text == WORDS
    assert [line["route"] for line in gateway.lines[:2]] == ["assemblyai.upload", "assemblyai.transcribe"]
    (record,) = book.accounted
    assert (record.measured.audio_ms, record.measured.source) == (SECONDS * 1000, AudioSource.REPORTED)
    assert gateway.journal.records[1].measured.language == "en"


@pytest.mark.parametrize(("scopes", "status"), [(None, 401), (frozenset[str](), 403)])
async def test_assemblyais_client_says_why_it_was_refused(
    gateway: Gateway, scopes: frozenset[str] | None, status: int
) -> None:
    """By our sentence: of an object in its place the client for Node says ``[object Object]``."""
    key = "wrong" if scopes is None else gateway.add_key(scopes=scopes)
    with pytest.raises(assemblyai.TranscriptError) as refused:
        await transcribed(gateway, key)
    assert refused.value.status_code == status
    assert f"(request id {gateway.lines[-1]['request_id']})" in str(refused.value)
    assert "{" not in str(refused.value)


async def live_assemblyai(gateway: Gateway, key: str, times: int = 1) -> tuple[list[str], list[RealTimeError]]:
    heard: list[str] = []
    failed: list[RealTimeError] = []
    options = RealTimeTranscriberOptions(api_key=key, api_host=gateway.url.replace("http", "ws"))
    client = AsyncRealTimeTranscriber(options)
    client.on(RealTimeEvents.Turn, lambda _, turn: heard.append(turn.transcript if isinstance(turn, TurnEvent) else ""))
    client.on(RealTimeEvents.Error, lambda _, error: failed.append(error))
    await client.connect(RealTimeParameters(sample_rate=16_000, speech_model="universal-streaming-english"))
    for _ in range(times if not failed else 0):
        await client.stream(SAMPLES)
    if times > 1:
        await until(lambda: bool(failed))
    await client.disconnect(terminate=True)
    return heard, failed


async def test_assemblyais_client_streams(gateway: Gateway) -> None:
    assert await live_assemblyai(gateway, gateway.key) == ([WORDS], [])
    measured = gateway.journal.records[-1].measured
    assert (measured.audio_ms, measured.reported_ms) == (2500, SECONDS * 1000)
    assert measured.model == "universal-streaming-english"


@pytest.mark.usefixtures("quick")
async def test_assemblyais_client_is_told_how_its_stream_ended(gateway: Gateway) -> None:
    _, (refused,) = await live_assemblyai(gateway, "wrong")
    assert refused.code == 401
    _, (ended,) = await live_assemblyai(gateway, used_up(gateway), times=2)
    assert (ended.code, str(ended).partition(":")[0]) == (4029, "quota_exceeded")


# --- Speechmatics -----------------------------------------------------------------------------------------------------


async def words_of_job(gateway: Gateway, key: str) -> str:
    async with batch.AsyncClient(api_key=key, url=f"{gateway.url}/v2") as client:
        config = batch.TranscriptionConfig(language="en")
        result = await client.transcribe(io.BytesIO(SOUND), transcription_config=config, polling_interval=0.01)
    assert isinstance(result, batch.Transcript)
    return result.transcript_text


async def test_speechmatics_client_makes_a_job_and_is_measured(gateway: Gateway, book: MemoryJobs) -> None:
    """As the upload passes, and not again with the result."""
    assert await words_of_job(gateway, gateway.key) == WORDS
    record = gateway.journal.records[0]
    assert (record.route, record.measured.audio_ms, record.measured.language) == ("speechmatics.create", 2500, "en")
    assert sum(one.measured.audio_ms for one in book.accounted) <= (SECONDS * 1000 - 2500)


async def test_speechmatics_client_knows_our_refusals(gateway: Gateway) -> None:
    with pytest.raises(batch.AuthenticationError):
        await words_of_job(gateway, "wrong")
    with pytest.raises(batch.BatchError, match=r'HTTP 429.*"reason":"quota_exceeded"'):
        await words_of_job(gateway, used_up(gateway))


async def live_speechmatics(gateway: Gateway, key: str, times: int = 1) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    async with (
        rt.AsyncClient(api_key=key, url=f"{gateway.url.replace('http', 'ws')}/v2") as client,
        asyncio.timeout(30),
    ):
        for kind in (rt.ServerMessageType.ADD_TRANSCRIPT, rt.ServerMessageType.ERROR):
            client.on(kind, told.append)
        samples = rt.AudioFormat(encoding=rt.AudioEncoding.PCM_S16LE, sample_rate=16_000)
        await client.start_session(transcription_config=rt.TranscriptionConfig(language="en"), audio_format=samples)
        for _ in range(times):
            await client.send_audio(SAMPLES)
        if times > 1:
            await until(lambda: bool(told))
        else:
            await client.stop_session()
    return told


async def test_speechmatics_client_streams(gateway: Gateway) -> None:
    (transcript,) = await live_speechmatics(gateway, gateway.key)
    assert transcript["message"] == "AddTranscript"
    measured = gateway.journal.records[-1].measured
    assert (measured.audio_ms, measured.model, measured.language) == (2500, "enhanced", "en")


@pytest.mark.usefixtures("quick")
async def test_speechmatics_client_is_told_how_its_stream_ended(gateway: Gateway) -> None:
    with pytest.raises(rt.ConnectionError, match="HTTP 401"):
        await live_speechmatics(gateway, "wrong")
    (error,) = await live_speechmatics(gateway, used_up(gateway), times=2)
    assert (error["type"], error["code"]) == ("quota_exceeded", 4029)

"""The official OpenAI client works unmodified."""

from collections.abc import AsyncIterator

import openai
import pytest

from gateway.demo.samples import SAMPLES
from tests.gateway.demo.conftest import Running

FIRST = SAMPLES[0]


@pytest.fixture
async def client(transcriber: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{transcriber.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


async def test_json_has_the_words_and_the_length(client: openai.AsyncOpenAI):
    answer = await client.audio.transcriptions.create(model="whisper-1", file=FIRST.path)
    assert answer.text == FIRST.words
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == FIRST.duration_ms / 1000


async def test_verbose_json_with_words_and_segments(client: openai.AsyncOpenAI):
    answer = await client.audio.transcriptions.create(
        model="whisper-1",
        file=FIRST.path,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.text, answer.duration, answer.language) == (FIRST.words, FIRST.duration_ms / 1000, "english")
    assert [word.word for word in answer.words or ()] == FIRST.words.split()
    (segment,) = answer.segments or ()
    assert segment.text == FIRST.words
    assert all(value is not None for value in segment.model_dump().values())


async def test_srt_is_one_cue_with_the_words(client: openai.AsyncOpenAI):
    answer = await client.audio.transcriptions.create(model="whisper-1", file=FIRST.path, response_format="srt")
    assert answer == f"1\n00:00:00,000 --> 00:00:02,786\n{FIRST.words}\n\n"


async def test_a_stream_has_the_words_in_pieces_and_then_whole(client: openai.AsyncOpenAI):
    events = [
        event async for event in await client.audio.transcriptions.create(model="any", file=FIRST.path, stream=True)
    ]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == FIRST.words
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == FIRST.words


# The SDK's own decorator: OpenAI means to retire translations.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_translation(client: openai.AsyncOpenAI):
    answer = await client.audio.translations.create(model="whisper-1", file=FIRST.path)
    assert answer.text == FIRST.words


async def test_a_refusal_is_the_exception_that_clients_catch(client: openai.AsyncOpenAI):
    with pytest.raises(openai.BadRequestError, match="not a WAV file") as caught:
        await client.audio.transcriptions.create(model="whisper-1", file=("x.wav", b"hello"))
    assert caught.value.code == "invalid_audio"


async def test_there_is_one_model_under_one_name(client: openai.AsyncOpenAI):
    (model,) = [model async for model in client.models.list()]
    assert model.id == "pocketsphinx-en-us"
    assert await client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("another")
    assert refused.value.code == "model_not_found"

"""OpenAI's interface: transcriptions and translations, whole or as server-sent events, and the models.

The model is English, so a translation into English is a transcription. ``prompt`` and ``temperature`` have no
counterpart in this recogniser and change nothing.
"""

import enum
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from gateway.demo import formats, problems, recordings
from gateway.demo.formats import Granularity, ResponseFormat
from gateway.demo.messages import Finished, Heard, Message, Refused
from gateway.demo.uploads import Form, read_form
from gateway.demo.workshop import RecogniserGone, Workshop

MODEL = "pocketsphinx-en-us"
_THE_MODEL = {"id": MODEL, "object": "model", "created": 1_420_070_400, "owned_by": "cmusphinx"}
"""Made in 2015, the year in the acoustic model's own README."""
_ENGLISH = ("en", "en-us", "english")


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asked for, apart from the audio."""

    response_format: ResponseFormat
    granularities: frozenset[Granularity]
    stream: bool


def options(form: Form) -> Options:
    """Read the form's fields. Raises Problem for a value that cannot be served."""
    language = form.last("language")
    if language and language.lower() not in _ENGLISH:
        raise problems.invalid(
            f"The demo recogniser knows English only, not {language!r}. Leave language out, or send en.", "language"
        )
    granularities = form.fields.get("timestamp_granularities[]", ["segment"])
    return Options(
        response_format=_chosen(ResponseFormat, form.last("response_format") or "json", "response_format"),
        granularities=frozenset(_chosen(Granularity, name, "timestamp_granularities[]") for name in granularities),
        stream=(form.last("stream") or "").lower() in {"true", "1"},
    )


class OpenAI:
    """The handlers, over one workshop."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/v1/audio/transcriptions", self.transcribe),
            web.post("/v1/audio/translations", self.translate),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{model}", self.model),
        ]

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/audio/transcriptions``."""
        form = await read_form(request)
        wanted = options(form)
        return await (self._stream(request, form) if wanted.stream else self._whole(form, wanted, "transcribe"))

    async def translate(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/audio/translations``: never streamed, as with OpenAI."""
        form = await read_form(request)
        return await self._whole(form, options(form), "translate")

    async def models(self, _: web.Request) -> web.Response:
        """``GET /v1/models``. Requests may name any model and get this one."""
        return web.json_response({"object": "list", "data": [_THE_MODEL]})

    async def model(self, request: web.Request) -> web.Response:
        """``GET /v1/models/{model}``."""
        if request.match_info["model"] != MODEL:
            raise problems.no_model(MODEL)
        return web.json_response(_THE_MODEL)

    async def _whole(self, form: Form, wanted: Options, task: str) -> web.Response:
        job = recordings.job_of(form.upload)
        transcript = await recordings.transcribed(self._workshop, job, form.upload.audio)
        match wanted.response_format:
            case ResponseFormat.JSON:
                return web.json_response(formats.json(transcript))
            case ResponseFormat.VERBOSE_JSON:
                return web.json_response(formats.verbose_json(transcript, task, wanted.granularities))
            case plain:
                content_type, written = formats.PLAIN[plain]
                return web.Response(text=written(transcript), content_type=content_type)

    async def _stream(self, request: web.Request, form: Form) -> web.StreamResponse:
        """Deltas as words settle, then the whole; no ``[DONE]``, as with OpenAI."""
        async with self._workshop.session(recordings.job_of(form.upload)) as session:
            session.give(form.upload.audio)
            # Unreadable audio is refused with a status, so that answer begins only when the audio has been opened.
            messages = session.messages()
            opening = await anext(messages)
            if isinstance(opening, Refused):
                raise problems.unreadable(opening.reason)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
            await response.prepare(request)
            try:
                await _tell(response, messages)
            except RecogniserGone:
                await _send(response, problems.openai_body(problems.gone()))
            return response


async def _tell(response: web.StreamResponse, messages: AsyncIterator[Message]) -> None:
    said = ""
    async for message in messages:
        match message:
            case Heard(settled=words):
                for word in words:
                    delta = f" {word.text}" if said else word.text
                    said += delta
                    await _send(response, {"type": "transcript.text.delta", "delta": delta})
            case Finished():
                # No usage: in OpenAI's schema a stream's usage is in tokens, and there are none here.
                await _send(response, {"type": "transcript.text.done", "text": said})
            case _:
                pass


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


_Choice = TypeVar("_Choice", bound=enum.StrEnum)


def _chosen(choices: type[_Choice], name: str, param: str) -> _Choice:
    try:
        return choices(name)
    except ValueError as unknown:
        known = ", ".join(choices)
        raise problems.invalid(f"{name!r} is not available for {param}; choose one of {known}.", param) from unknown

"""Deepgram's interface, ``/v1/listen``: a recording by POST, or live audio over a WebSocket, words as they are heard.

Live audio is ``linear16`` of 16 kHz mono unless ``encoding``, ``sample_rate`` and ``channels`` say otherwise. Partial
results are sent unless ``interim_results=false``. Channels are mixed, never recognised apart.
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from gateway.demo import problems, recordings
from gateway.demo.formats import seconds
from gateway.demo.messages import Finished, Heard, Job
from gateway.demo.openai_api import MODEL
from gateway.demo.pcm import Encoding, PcmFormat
from gateway.demo.transcript import Word, joined
from gateway.demo.uploads import read_body
from gateway.demo.workshop import RecogniserGone, Session, Workshop

_ENCODINGS = {"linear16": Encoding.S16, "mulaw": Encoding.MULAW, "alaw": Encoding.ALAW, "linear32": Encoding.F32}
_PING_SECONDS = 30
_MODEL_UUID = str(uuid.uuid5(uuid.NAMESPACE_URL, MODEL))
_MODEL_INFO = {"name": MODEL, "version": "5", "arch": "pocketsphinx"}
"""Said with every result: Deepgram's SDK for Python before version 5 cannot read one without."""


class Deepgram:
    """The handlers, over one workshop."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [web.post("/v1/listen", self.recording), web.get("/v1/listen", self.live, allow_head=False)]

    async def recording(self, request: web.Request) -> web.Response:
        """``POST /v1/listen``."""
        if request.content_type == "application/json":
            raise problems.invalid("This server does not fetch audio from a URL. Send the audio as the body.")
        upload = await read_body(request)
        job = Job(format=_format(request.query)) if "encoding" in request.query else recordings.job_of(upload)
        transcript = await recordings.transcribed(self._workshop, job, upload.audio)
        digest = hashlib.sha256(upload.audio).hexdigest()
        metadata = _metadata(str(uuid.uuid4()), digest, transcript.duration_ms)
        metadata |= {"models": [MODEL], "model_info": {MODEL: _MODEL_INFO}}
        channel = {"alternatives": [_alternative(transcript.words)]}
        return web.json_response({"metadata": metadata, "results": {"channels": [channel]}})

    async def live(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/listen``, upgraded to a WebSocket."""
        job = Job(live=True, format=_format(request.query))
        # A browser puts the credential's scheme here, and fails a handshake that selects none of its protocols.
        connection = web.WebSocketResponse(heartbeat=_PING_SECONDS, protocols=("token", "bearer"))
        if not connection.can_prepare(request).ok:
            raise problems.invalid("Send a recording by POST, or open a WebSocket for live audio.")
        await connection.prepare(request)
        try:
            async with self._workshop.session(job) as session, asyncio.TaskGroup() as tasks:
                call = _Call(connection, session, interim=request.query.get("interim_results") != "false")
                telling = tasks.create_task(call.tell())
                if not await call.listen():
                    telling.cancel()
        except* RecogniserGone:
            await connection.close(code=WSCloseCode.INTERNAL_ERROR, message=problems.gone().message.encode())
        return connection


class _Call:
    """One live connection: what comes in goes to the recogniser, what that hears goes out."""

    def __init__(self, connection: web.WebSocketResponse, session: Session, *, interim: bool) -> None:
        self._connection = connection
        self._session = session
        self._interim = interim
        self._digest = hashlib.sha256()
        self._id = str(uuid.uuid4())

    async def listen(self) -> bool:
        """Take audio until the client says that it is over; False when it left without a word, or made no sense."""
        async for message in self._connection:
            if message.type is WSMsgType.BINARY:
                self._digest.update(message.data)
                await self._session.feed(message.data)
                continue
            match _command(message):
                case "CloseStream":
                    self._session.end()
                    return True
                case "Finalize":
                    self._session.finalize()
                case "KeepAlive":
                    pass
                case _:
                    await self._connection.close(code=WSCloseCode.POLICY_VIOLATION, message=_COMMANDS.encode())
                    return False
        return False

    async def tell(self) -> None:
        """Send results as they come, the metadata after the last, and close."""
        try:
            async for message in self._session.messages():
                match message:
                    case Heard() if message.final or (message.words and self._interim):
                        await self._connection.send_json(self._results(message))
                    case Finished(duration_ms):
                        metadata = _metadata(self._id, self._digest.hexdigest(), duration_ms)
                        await self._connection.send_json({"type": "Metadata"} | metadata)
                    case _:
                        pass
        except ConnectionError:
            return  # the client is gone, which ends listen() too
        await self._connection.close()

    def _results(self, heard: Heard) -> dict[str, Any]:
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": seconds(heard.start_ms),
            "duration": seconds(heard.end_ms - heard.start_ms),
            "is_final": heard.final,
            "speech_final": heard.final,
            "channel": {"alternatives": [_alternative(heard.words)]},
            "metadata": {"request_id": self._id, "model_info": _MODEL_INFO, "model_uuid": _MODEL_UUID},
        }


_COMMANDS = 'Text messages are {"type": T}, T being CloseStream, Finalize or KeepAlive.'


def _command(message: WSMessage) -> str | None:
    """The type of a text message; None for what is no command at all."""
    if message.type is not WSMsgType.TEXT:
        return None
    try:
        command = json.loads(message.data)
    except ValueError:
        return None
    name = command.get("type") if isinstance(command, dict) else None
    return name if isinstance(name, str) else None


def _format(query: Mapping[str, str]) -> PcmFormat:
    """The format of raw audio, as the query gives it. Raises Problem."""
    encoding = query.get("encoding", "linear16")
    if encoding not in _ENCODINGS:
        raise problems.invalid(
            f"The encoding {encoding!r} is not read here; choose one of {', '.join(_ENCODINGS)}.", "encoding"
        )
    return recordings.described(PcmFormat(_ENCODINGS[encoding]), query, "sample_rate")


def _metadata(request_id: str, digest: str, duration_ms: int) -> dict[str, Any]:
    """``digest`` is the SHA-256 of the audio, in hexadecimal."""
    return {
        "transaction_key": "deprecated",
        "request_id": request_id,
        "sha256": digest,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "duration": seconds(duration_ms),
        "channels": 1,
    }


def _alternative(words: tuple[Word, ...]) -> dict[str, Any]:
    return {
        "transcript": joined(words),
        "confidence": round(sum(word.score for word in words) / len(words), 4) if words else 0.0,
        "words": [
            {
                "word": word.text,
                "start": seconds(word.start_ms),
                "end": seconds(word.end_ms),
                "confidence": word.score,
            }
            for word in words
        ],
    }

"""Stand-ins of AssemblyAI and Speechmatics: what their official SDKs expect of them, and no more."""

import contextlib
import itertools
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

WORDS = "go forward ten meters"
SECONDS = 3
"""What either says of any audio."""


class Services:
    """Both, on one port; jobs are done the second time that they are asked about."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._asked: set[str] = set()

    def app(self) -> web.Application:
        """The paths that the SDKs use."""
        app = web.Application()
        app.router.add_post("/v2/upload", self._upload)
        app.router.add_post("/v2/transcript", self._new_transcript)
        app.router.add_get("/v2/transcript/{id}", self._transcript)
        app.router.add_get("/v3/ws", self._live_assemblyai)
        app.router.add_post("/v2/jobs", self._new_job)
        app.router.add_get("/v2/jobs/{id}", self._speechmatics_job)
        app.router.add_get("/v2/jobs/{id}/transcript", self._speechmatics_transcript)
        app.router.add_get("/v2", self._live_speechmatics)
        return app

    def _is_done(self, request: web.Request) -> bool:
        job = request.match_info["id"]
        before = job in self._asked
        self._asked.add(job)
        return before

    async def _upload(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"upload_url": "https://cdn.test/upload/1"})

    async def _new_transcript(self, request: web.Request) -> web.Response:
        await request.read()
        made = {"id": f"transcript-{next(self._ids)}", "status": "queued", "audio_url": "https://cdn.test/upload/1"}
        return web.json_response(made)

    async def _new_job(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"id": f"job-{next(self._ids)}"}, status=201)

    async def _transcript(self, request: web.Request) -> web.Response:
        told = {"id": request.match_info["id"], "audio_url": "https://cdn.test/upload/1", "status": "processing"}
        if self._is_done(request):
            told |= {"status": "completed", "text": WORDS, "audio_duration": SECONDS, "words": []}
        return web.json_response(told)

    async def _live_assemblyai(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "Begin", "id": "b", "expires_at": 1_900_000_000})
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.json()["type"] == "Terminate":
                turn = {"turn_order": 0, "turn_is_formatted": True, "end_of_turn": True, "end_of_turn_confidence": 1.0}
                await socket.send_json({"type": "Turn", "transcript": WORDS, "words": []} | turn)
                ended = {"audio_duration_seconds": SECONDS, "session_duration_seconds": SECONDS}
                await socket.send_json({"type": "Termination"} | ended)
                await socket.close()
        return socket

    async def _speechmatics_job(self, request: web.Request) -> web.Response:
        return web.json_response({"job": self._job_of(request) | {"status": "done"}})

    async def _speechmatics_transcript(self, request: web.Request) -> web.Response:
        word = {
            "type": "word",
            "start_time": 0.0,
            "end_time": 1.0,
            "alternatives": [{"content": WORDS, "confidence": 1.0, "language": "en"}],
        }
        about = {"created_at": "2026-01-01T00:00:00Z", "type": "transcription", "transcription_config": {}}
        told = {"format": "2.9", "job": self._job_of(request), "metadata": about, "results": [word]}
        return web.json_response(told)

    @staticmethod
    def _job_of(request: web.Request) -> dict[str, object]:
        about = {"created_at": "2026-01-01T00:00:00Z", "data_name": "a.wav", "duration": SECONDS}
        return {"id": request.match_info["id"]} | about

    async def _live_speechmatics(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        heard = 0
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                heard += 1
                await socket.send_json({"message": "AudioAdded", "seq_no": heard})
            elif message.type is WSMsgType.TEXT and message.json()["message"] == "StartRecognition":
                await socket.send_json({"message": "RecognitionStarted", "id": "s"})
            elif message.type is WSMsgType.TEXT and message.json()["message"] == "EndOfStream":
                about = {"start_time": 0, "end_time": 1, "transcript": WORDS}
                await socket.send_json({"message": "AddTranscript", "metadata": about, "results": []})
                await socket.send_json({"message": "EndOfTranscript"})
        return socket


@contextlib.asynccontextmanager
async def services() -> AsyncIterator[str]:
    """Both, running: their address."""
    async with TestServer(Services().app()) as server:
        yield str(server.make_url("/")).rstrip("/")

"""What may go wrong, said in the dialect of the interface that was called."""

import uuid
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.demo.workshop import RecogniserGone


class Problem(Exception):
    """An answer other than the one hoped for. ``message`` says what happened and what to do; ``param`` where."""

    def __init__(self, status: HTTPStatus, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Problem:
    """The request cannot be served as it is."""
    return Problem(HTTPStatus.BAD_REQUEST, code, message, param)


def unreadable(message: str) -> Problem:
    """The audio cannot be read."""
    return invalid(message, "file", "invalid_audio")


def too_large(limit_bytes: int) -> Problem:
    """The body is bigger than this server takes."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "audio_too_large",
        f"The audio is larger than the {limit_bytes // 2**20} MiB that this server takes. Send it in parts.",
        "file",
    )


def no_model(there_is: str) -> Problem:
    """A model is asked for by a name that none has."""
    message = f"There is no model by that name. There is one, '{there_is}': requests may name any and get it."
    return Problem(HTTPStatus.NOT_FOUND, "model_not_found", message, "model")


def gone() -> Problem:
    """A fault of this server's own."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "recogniser_gone",
        "The recogniser stopped in the middle of its work. Try again; if it happens again, report it with the audio.",
    )


@web.middleware
async def explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer problems, and aiohttp's own refusals, with a body that says what happened."""
    try:
        return await handler(request)
    except Problem as problem:
        return _answer(request, problem)
    except RecogniserGone:
        return _answer(request, gone())
    except web.HTTPNotFound:
        message = f"Nothing is served at {request.method} {request.path}."
        return _answer(request, Problem(HTTPStatus.NOT_FOUND, "unknown_url", message))
    except web.HTTPMethodNotAllowed as refusal:
        message = f"{request.path} answers {', '.join(sorted(refusal.allowed_methods))}, not {request.method}."
        answer = _answer(request, Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", message))
        answer.headers["Allow"] = refusal.headers["Allow"]
        return answer


def openai_body(problem: Problem) -> dict[str, Any]:
    """``{"error": {…}}``."""
    kind = "server_error" if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


def deepgram_body(problem: Problem) -> dict[str, Any]:
    """``{"err_code", "err_msg", "request_id"}``."""
    return {"err_code": problem.code.upper(), "err_msg": problem.message, "request_id": str(uuid.uuid4())}


def _answer(request: web.Request, problem: Problem) -> web.Response:
    body = deepgram_body if request.path == "/v1/listen" else openai_body
    return web.json_response(body(problem), status=problem.status)

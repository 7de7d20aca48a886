"""Parameters of a request to an OAuth endpoint, and errors as RFC 6749 section 5.2 has them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from gateway.portal.caller import request_id
from gateway.portal.web.crosssite import exempt
from policies.identity import strict_json
from storage.ports import Rejected, Unavailable

_log = structlog.get_logger("gateway.portal")

_LONGEST = 65_536
_MOST_FIELDS = 50
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OAuthError(Exception):
    """A refusal. ``code`` is one of the registered ones; the description is for whoever writes the client."""

    def __init__(
        self, code: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status
        self.headers = dict(headers or {})


def endpoint(handler: Handler) -> Handler:
    """An endpoint for programs: errors are JSON, and forms need no token because nothing here acts by a cookie."""

    async def answering(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except OAuthError as error:
            return _answer(request, error)
        except Rejected as error:
            return _answer(request, OAuthError("invalid_request", str(error)))
        except Unavailable as error:
            _log.warning("a store cannot be asked", reason=str(error), request_id=request_id(request))
            return _answer(
                request,
                OAuthError(
                    "temporarily_unavailable",
                    "A store does not answer at the moment. Nothing was changed for certain; try again.",
                    status=503,
                    headers={"Retry-After": "2"},
                ),
            )

    return exempt(answering)


async def parameters(request: web.Request) -> dict[str, str]:
    """The parameters of a form or a JSON object. One without a value is not there; one that comes twice is an error."""
    body = await request.read()
    if len(body) > _LONGEST:
        raise OAuthError("invalid_request", f"The body is longer than {_LONGEST} bytes.", status=413)
    try:
        if request.content_type == "application/json":
            found = _members(strict_json.read(body.decode("utf-8")))
        elif request.content_type == "application/x-www-form-urlencoded":
            found = _fields(body.decode("ascii"))
        else:
            raise OAuthError("invalid_request", "Send a form (application/x-www-form-urlencoded) or JSON.")
    except ValueError as error:
        raise OAuthError("invalid_request", "The body cannot be read, or a parameter comes twice.") from error
    return {name: value for name, value in found.items() if value}


def required(found: Mapping[str, str], name: str) -> str:
    """A parameter that must be there."""
    value = found.get(name)
    if value is None:
        raise OAuthError("invalid_request", f"The parameter '{name}' is missing.")
    return value


def _members(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004  data, not a type
    if not all(isinstance(each, str) for each in value.values()):
        raise OAuthError("invalid_request", "Every parameter is a text.")
    "".join(value.values()).encode()  # half of a surrogate pair is no text, and raises
    return value


def _fields(body: str) -> dict[str, str]:
    pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a parameter comes twice")
    return found


def _answer(request: web.Request, error: OAuthError) -> web.Response:
    body = {"error": error.code, "error_description": error.description, "request_id": request_id(request)}
    return web.json_response(body, status=error.status, headers={"Cache-Control": "no-store", **error.headers})

"""The gateway's own answers: status line, headers, and an error body in the dialect of the route's clients, or a page.

Built as bytes and written in one piece. Never repeats a byte of the request: parser texts and header values stay out.
"""

import http
from collections.abc import Sequence

import orjson
from aiohttp.helpers import rfc822_formatted_time

from gateway.dataplane import error_page
from policies.account.usage import Outcome
from policies.admission import Admit
from policies.http.browsers import shows_pages
from policies.http.cors import without_upstreams
from policies.http.headers import AnswerHead, RequestHead
from policies.http.questions import PATH as FORWARD_AUTH
from policies.http.verdict import Deny, Refusal
from policies.limits.ratelimit_fields import refused_lines, state_line
from policies.metering.streams import Ending
from policies.routing.route_table import RouteTable
from policies.routing.routes import PORTAL, RESERVED, Route

_REALM = b'Bearer realm="tahoe-gateway"'
_OPENAI_TYPES = {Refusal.QUOTA_EXCEEDED: "insufficient_quota"}
"""The types of refusals by 429 that are not ``rate_limit_exceeded``."""
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_STATUS_LINES: dict[int, bytes] = {
    code: f"HTTP/1.1 {code} {_PHRASES.get(code, 'Unknown')}\r\n".encode() for code in range(100, 600)
}
PROBLEM_TYPE = "urn:tahoe-gateway:problem:"
"""What a problem's ``type`` begins with; the code follows."""
_API = "/platform/"
_RETRY_SOON = b"Retry-After: 2"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    """``HTTP/1.1 200 OK`` with its line end; an upstream's code outside 100 to 599 becomes 502."""
    return _STATUS_LINES.get(status) or _STATUS_LINES[502]


def head(status: int, lines: Sequence[bytes]) -> bytes:
    """A whole header, ready to write."""
    return head_so_far(status, lines) + b"\r\n\r\n"


def head_so_far(status: int, lines: Sequence[bytes]) -> bytes:
    """The beginning of a header, up to the end of the last of these lines."""
    return status_line(status) + b"\r\n".join(lines)


def interim(status: int, answer: AnswerHead, cors: Sequence[bytes]) -> bytes:
    """An upstream's answer before its answer, whole: what passes of its header, and nothing of ours."""
    lines = without_upstreams(answer.lines) if cors else answer.lines
    return b"".join((status_line(status), *(line + b"\r\n" for line in lines), b"\r\n"))


def passed_on(answer: AnswerHead, admit: Admit, id_line: bytes, cors: Sequence[bytes]) -> list[bytes]:
    """The lines of an upstream's answer as its client gets them, but for what frames it."""
    lines = [*answer.lines, id_line]
    permit, taken = admit.permit, admit.taken
    if not answer.is_dated:
        lines.append(_date())
    if cors and not permit.route.is_own:
        lines = [*without_upstreams(lines), *cors]
    if answer.own_cookies and permit.route.upstream == PORTAL:
        lines += answer.own_cookies
    if taken.charges:
        lines.append(permit.rate_policy)
        lines.append(state_line(taken))
    else:
        lines += admit.limit_lines
    return lines


def _date() -> bytes:
    return b"Date: " + rfc822_formatted_time().encode()


def date_line() -> bytes:
    """The line that says now, behind the end of the one before."""
    return b"\r\n" + _date()


def plain(
    status: int, lines: Sequence[bytes], body: bytes, *, keep_alive: bool, send_body: bool = True, upgrade: bool = False
) -> bytes:
    """An answer of our own, whole; ``upgrade`` where it names a protocol (RFC 9110 section 7.8)."""
    framing = [_date()]
    if status != 204:  # RFC 9110 section 8.6
        framing.append(b"Content-Length: %d" % len(body))
    if upgrade:
        framing.append(b"Connection: Upgrade" if keep_alive else b"Connection: close, Upgrade")
    elif not keep_alive:
        framing.append(b"Connection: close")
    return head(status, [*lines, *framing]) + (body if send_body else b"")


def dialect_of(route: Route | None, path: str, head: RequestHead | None, routes: RouteTable) -> str:
    """In which shape errors are told: a page to a person before a browser, except on what is the portal's API.

    To others in the route's; where no route was found, in the portal's on what would be its own, elsewhere as nearby.
    The second door stands among the portal's paths, and answers for routes of the table. ``head`` is None where the
    request could not be read that far.
    """
    if head is not None and shows_pages(head) and not path.startswith(_API):
        return "page"
    if route is not None:
        return route.dialect
    if path.startswith(FORWARD_AUTH):
        return "openai"
    return "problem" if path[1:].partition("/")[0] in RESERVED else routes.dialect_near(path)


def refusal_body(deny: Deny, request_id: str, dialect: str) -> bytes:
    """What a refusal says to a program, in a dialect."""
    return _BODIES[dialect](deny, request_id)


def refusal(
    deny: Deny,
    request_id: str,
    dialect: str,
    *,
    keep_alive: bool,
    send_body: bool,
    pages: str | None = "",
    more: Sequence[bytes] = (),
) -> tuple[bytes, int]:
    """A refusal, whole: challenge, limits, dialect; and the size of its body as sent.

    ``pages``: see ``error_page``. ``more``: further lines of its header.
    """
    lines = [_TYPES.get(dialect, _JSON), b"X-Request-ID: " + request_id.encode(), *more]
    lines += challenge(deny)
    upgrade = deny.refusal.status == 426
    if upgrade:
        lines += [b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"]
    lines += advice(deny)
    lines.append(b"Cache-Control: no-store")
    if dialect == "page":
        body = error_page.page(deny, request_id, _retry_after(lines), pages)
    else:
        body = refusal_body(deny, request_id, dialect)
    whole = plain(deny.refusal.status, lines, body, keep_alive=keep_alive, send_body=send_body, upgrade=upgrade)
    return whole, len(body) if send_body else 0


def advice(deny: Deny) -> list[bytes]:
    """What would be let in: ``Allow``, which a 405 must have (RFC 9110 section 15.5.6); what limits leave, and when."""
    lines = [b"Allow: " + ", ".join(deny.allow).encode()] if deny.allow else []
    if deny.taken is not None:
        lines += refused_lines(deny.taken)
    elif deny.limit_lines:
        lines += deny.limit_lines
    elif deny.refusal.status in (502, 503, 504):
        lines.append(_RETRY_SOON)
    return lines


def _retry_after(lines: Sequence[bytes]) -> int | None:
    """The seconds of ``Retry-After``, where it is among the lines."""
    name = b"Retry-After: "
    return next((int(line.removeprefix(name)) for line in lines if line.startswith(name)), None)


def challenge(deny: Deny) -> list[bytes]:
    """``WWW-Authenticate`` (RFC 6750 section 3): no error code when no credential was sent."""
    reason = deny.refusal
    if reason is Refusal.MISSING_CREDENTIAL:
        return [b"WWW-Authenticate: " + _REALM]
    if reason.status == 401:
        return [
            b"WWW-Authenticate: " + _REALM + f', error="invalid_token", error_description="{reason.message}"'.encode()
        ]
    if reason is Refusal.INSUFFICIENT_SCOPE:
        return [b"WWW-Authenticate: " + _REALM + f', error="insufficient_scope", scope="{deny.scope}"'.encode()]
    if reason is Refusal.CONFLICTING_CREDENTIALS:
        return [b"WWW-Authenticate: " + _REALM + b', error="invalid_request"']
    return []


def _error(deny: Deny, request_id: str) -> dict[str, object]:
    """The error object of OpenAI's API; all four members are always there. Where a dialect leaves room for it."""
    reason = deny.refusal
    usual = "server_error" if reason.status >= 500 else "invalid_request_error"
    kind = _OPENAI_TYPES.get(reason, "rate_limit_exceeded" if reason.status == 429 else usual)
    message = f"{deny.message} (request id {request_id})"
    return {"error": {"message": message, "type": kind, "param": None, "code": reason.code}}


def _openai(deny: Deny, request_id: str) -> bytes:
    return orjson.dumps(_error(deny, request_id))


def _deepgram(deny: Deny, request_id: str) -> bytes:
    """Deepgram's legacy error object, which its SDKs read, before ours.

    Its Node SDK before version 5 says what stands in ``message``, and of a body that has none ``error``, an object.
    """
    said = {"err_code": deny.refusal.code.upper(), "err_msg": deny.message, "request_id": request_id}
    message = f"{deny.message} (request id {request_id})"
    return orjson.dumps(said | {"message": message} | _error(deny, request_id))


def _assemblyai(deny: Deny, request_id: str) -> bytes:
    """AssemblyAI's: a sentence, of which its Node SDK makes the message of an Error."""
    message = f"{deny.message} (request id {request_id})"
    return orjson.dumps({"error": message, "code": deny.refusal.code, "request_id": request_id})


_SPEECHMATICS_ERRORS = {
    401: "Permission Denied", 404: "Job not found", 409: "Transcription not ready", 413: "Unprocessable Entity",
    415: "Format Not Supported", 422: "Unprocessable Entity", 400: "Bad Request", 501: "Not Implemented",
}  # fmt: skip
"""Words that its Node SDK knows: an answer with any other is an unexpected one to it, and its detail is lost."""


def _speechmatics(deny: Deny, request_id: str) -> bytes:
    """The error object of Speechmatics' batch API; its SDK for temporary keys says what stands in ``message``."""
    status = deny.refusal.status
    usual = "Internal Server Error" if status >= 500 else "Forbidden"
    detail = f"{deny.message} (request id {request_id})"
    error = _SPEECHMATICS_ERRORS.get(status, usual)
    said = {"code": status, "error": error, "detail": detail, "message": detail, "reason": deny.refusal.code}
    return orjson.dumps(said)


def _elevenlabs(deny: Deny, request_id: str) -> bytes:
    """What ElevenLabs' SDKs show as the body of an error, before ours."""
    said = {"status": deny.refusal.code, "message": deny.message, "request_id": request_id}
    return orjson.dumps({"detail": said} | _error(deny, request_id))


def _detail(deny: Deny, request_id: str) -> bytes:
    """What FastAPI servers say, before ours."""
    said = {"detail": deny.message, "code": deny.refusal.code, "request_id": request_id}
    return orjson.dumps(said | _error(deny, request_id))


_STREAM_TYPES = {Ending.LIMIT_REACHED: "rate_limit_exceeded"}
_SPEECHMATICS_TYPES = {
    Ending.LIMIT_REACHED: "quota_exceeded", Ending.CREDENTIAL_ENDED: "not_authorised",
    Ending.STREAM_IDLE: "idle_timeout", Ending.STREAM_TOO_LONG: "timelimit_exceeded",
    Ending.PROTOCOL_ERROR: "protocol_error",
}  # fmt: skip
_ELEVENLABS_TYPES = {
    Ending.LIMIT_REACHED: "quota_exceeded", Ending.CREDENTIAL_ENDED: "auth_error",
    Ending.STREAM_TOO_LONG: "session_time_limit_exceeded",
}  # fmt: skip


def stream_error(
    dialect: str, ending: Ending, code: str, message: str, request_id: str, audio_ms: int | None, session: str = ""
) -> bytes:
    """A last message on a stream, in the shape that the route's clients know; with the audio that is accounted.

    ``session``: see :class:`policies.metering.streams.StreamMeter`.
    """
    usage = {} if audio_ms is None else {"usage": {"type": "duration", "seconds": audio_ms / 1000}}
    error: dict[str, object]
    if session:
        return orjson.dumps({"uid": session, "status": "ERROR", "message": f"{code}: {message}"} | usage)
    match dialect:
        case "openai":
            usual = "invalid_request_error" if ending.outcome is Outcome.DENIED else "server_error"
            kind = _STREAM_TYPES.get(ending, usual)
            details = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
            error = {"type": "error", "event_id": request_id, "error": details}
        case "deepgram":
            error = {"type": "Error", "variant": code, "description": message, "request_id": request_id}
        case "assemblyai":
            error = {"type": "Error", "error_code": ending.close_code, "error": f"{code}: {message}"}
        case "speechmatics":
            kind = _SPEECHMATICS_TYPES.get(ending, "job_error")
            error = {"message": "Error", "type": kind, "code": ending.close_code, "reason": f"{code}: {message}"}
        case "elevenlabs":
            error = {"message_type": _ELEVENLABS_TYPES.get(ending, "error"), "error": f"{code}: {message}"}
        case _:
            error = {"detail": message, "code": code, "request_id": request_id}
    return orjson.dumps(error | usage)


def stream_warning(protocol: str, session: str) -> bytes:
    """That a limit is nearly used up, in a protocol that has such a message; empty in all others."""
    text = "A limit of this credential or its organisation is nearly used up: the stream will end then."
    match protocol:
        case "speechmatics":
            return orjson.dumps({"message": "Warning", "type": "duration_limit_exceeded", "reason": text})
        case "whisperlive":
            return orjson.dumps({"uid": session, "status": "WARNING", "message": text})
        case _:
            return b""


def _problem(deny: Deny, request_id: str) -> bytes:
    """A problem of RFC 9457, as the portal says them."""
    reason = deny.refusal
    return orjson.dumps(
        {
            "type": f"{PROBLEM_TYPE}{reason.code}",
            "title": _PHRASES[reason.status],
            "status": reason.status,
            "detail": deny.message,
            "code": reason.code,
            "request_id": request_id,
        }
    )


_BODIES = {
    "openai": _openai, "deepgram": _deepgram, "assemblyai": _assemblyai, "speechmatics": _speechmatics,
    "elevenlabs": _elevenlabs, "detail": _detail, "problem": _problem,
}  # fmt: skip
_JSON = b"Content-Type: application/json; charset=utf-8"
_TYPES = {"problem": b"Content-Type: application/problem+json", "page": error_page.LINES}

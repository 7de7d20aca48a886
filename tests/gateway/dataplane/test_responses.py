"""The gateway's own answers: well-formed HTTP in one piece, in the shape that the route's clients know."""

import email.utils
import re

import orjson
import pytest

from gateway.dataplane import responses
from policies.http.verdict import Deny, Refusal
from policies.limits.rates import Charge, Level, Rate, Taken
from policies.routing.routes import DIALECTS, Route
from tests.gateway.harness import Answer, shipped_routes

CHARGE = Charge("tenant-requests", "rate:{ten_a}", Rate(600, 60_000))
TAKEN = Taken.of((Level(CHARGE, 0, 60_000),), CHARGE, 1_500)
SPEECHMATICS_KNOWS = {
    "Bad Request", "Forbidden", "Format Not Supported", "Internal Server Error", "Job not found", "Not Implemented",
    "Permission Denied", "Transcription not ready", "Unprocessable Entity",
}  # fmt: skip
"""Of the words in the schema of @speechmatics/batch-client 5.1.0, by which it tells an error from nonsense."""
ROUTE = Route(name="r", path="/r", methods=("GET",))


def deny(refusal: Refusal) -> Deny:
    """A refusal with all that it comes with."""
    return Deny(
        refusal=refusal,
        detail="More.",
        taken=TAKEN if refusal is Refusal.RATE_LIMIT_EXCEEDED else None,
        allow=("GET", "POST") if refusal is Refusal.METHOD_NOT_ALLOWED else (),
        scope="transcribe" if refusal is Refusal.INSUFFICIENT_SCOPE else "",
    )


def answered(
    denied: Deny, dialect: str | None = "openai", *, keep_alive: bool = True, send_body: bool = True
) -> tuple[Answer, bytes]:
    whole, size = responses.refusal(denied, "req-1", dialect or "openai", keep_alive=keep_alive, send_body=send_body)
    answer = Answer.parse(whole)
    assert size == len(answer.body)
    return answer, whole


@pytest.mark.parametrize("dialect", [None, *DIALECTS])
@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.code)
def test_every_refusal_is_one_whole_answer_in_every_dialect(refusal: Refusal, dialect: str | None) -> None:
    """Status, framing, request id, no caching; and a body that says which one it is."""
    answer, whole = answered(deny(refusal), dialect)
    assert re.match(rb"HTTP/1\.1 %d [A-Z][A-Za-z' -]+\r\n" % refusal.status, whole)
    assert not answer.rest
    assert (answer["x-request-id"], answer["cache-control"]) == ("req-1", "no-store")
    json = "application/problem+json" if dialect == "problem" else "application/json; charset=utf-8"
    assert answer["content-type"] == json
    assert int(answer["content-length"]) == len(answer.body)
    assert email.utils.parsedate_to_datetime(answer["date"])
    assert len({name for name, _ in answer.headers}) == len(answer.headers)
    body = orjson.loads(answer.body)
    said = f"{refusal.message} More."
    if dialect == "problem":
        assert (body["status"], body["code"], body["detail"]) == (refusal.status, refusal.code, said)
        assert body["type"].endswith(refusal.code)
        return
    if dialect not in ("assemblyai", "speechmatics"):  # their clients read a text there
        error = body.pop("error")
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["code"], error["message"]) == (refusal.code, f"{said} (request id req-1)")
    match dialect:
        case "deepgram":
            assert body.pop("message") == f"{said} (request id req-1)"  # its old Node SDK would show the object error
            assert body == {"err_code": refusal.name, "err_msg": said, "request_id": "req-1"}
        case "assemblyai":
            assert body == {"error": f"{said} (request id req-1)", "code": refusal.code, "request_id": "req-1"}
        case "speechmatics":
            assert (body["code"], body["reason"]) == (refusal.status, refusal.code)
            assert body["detail"] == f"{said} (request id req-1)"
            assert body["error"] in SPEECHMATICS_KNOWS
        case "elevenlabs":
            assert body == {"detail": {"status": refusal.code, "message": said, "request_id": "req-1"}}
        case "detail":
            assert body == {"detail": said, "code": refusal.code, "request_id": "req-1"}
        case _:
            assert body == {}


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal.INVALID_API_KEY, "invalid_request_error"),
        (Refusal.BODY_TOO_LARGE, "invalid_request_error"),
        (Refusal.ROUTE_DENIED, "invalid_request_error"),
        (Refusal.RATE_LIMIT_EXCEEDED, "rate_limit_exceeded"),
        (Refusal.UPSTREAM_TIMEOUT, "server_error"),
        (Refusal.REGISTRY_UNAVAILABLE, "server_error"),
    ],
)
def test_openai_clients_find_the_type_they_know(refusal: Refusal, kind: str) -> None:
    answer, _ = answered(deny(refusal))
    assert orjson.loads(answer.body)["error"]["type"] == kind


_CHALLENGE = re.compile(r'Bearer realm="tahoe-gateway"((?:, [a-z_]+="[\x20\x21\x23-\x5b\x5d-\x7e]*")*)')


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.code)
def test_a_challenge_is_there_where_the_standard_wants_one(refusal: Refusal) -> None:
    """RFC 9110 section 11.6.1: with every 401. RFC 6750 section 3: no error code when nothing was sent."""
    answer, _ = answered(deny(refusal))
    found = answer.all("www-authenticate")
    wanted = {
        Refusal.INSUFFICIENT_SCOPE: {"error": "insufficient_scope", "scope": "transcribe"},
        Refusal.CONFLICTING_CREDENTIALS: {"error": "invalid_request"},
        Refusal.MISSING_CREDENTIAL: {},
    }
    if refusal.status != 401 and refusal not in wanted:
        assert found == []
        return
    whole = _CHALLENGE.fullmatch(found[0])
    assert whole is not None
    parameters = dict(re.findall(r'([a-z_]+)="([^"]*)"', whole[1]))
    assert parameters == wanted.get(refusal, {"error": "invalid_token", "error_description": refusal.message})


def test_a_limit_says_how_long_to_wait() -> None:
    answer, _ = answered(deny(Refusal.RATE_LIMIT_EXCEEDED))
    assert (answer["retry-after"], answer["ratelimit-policy"]) == ("2", '"tenant-requests";q=600;w=60')
    assert answer["ratelimit"].startswith('"tenant-requests";r=0;t=')


def test_an_unknown_method_is_told_the_known_ones() -> None:
    """RFC 9110 section 15.5.6."""
    answer, _ = answered(deny(Refusal.METHOD_NOT_ALLOWED))
    assert answer["allow"] == "GET, POST"


@pytest.mark.parametrize("refusal", [r for r in Refusal if r.status == 503], ids=lambda refusal: refusal.code)
def test_what_passes_soon_says_when_to_come_back(refusal: Refusal) -> None:
    answer, _ = answered(deny(refusal))
    assert int(answer["retry-after"]) >= 1


def test_head_gets_the_same_header_and_no_body() -> None:
    """RFC 9110 section 9.3.2."""
    full, _ = answered(deny(Refusal.UNKNOWN_ROUTE))
    bare, whole = answered(deny(Refusal.UNKNOWN_ROUTE), send_body=False)
    assert whole.endswith(b"\r\n\r\n")
    assert bare["content-length"] == full["content-length"]


def test_an_ending_connection_says_so() -> None:
    ending, _ = answered(deny(Refusal.DRAINING), keep_alive=False)
    staying, _ = answered(deny(Refusal.UNKNOWN_ROUTE))
    assert ending["connection"] == "close"
    assert staying.all("connection") == []


@pytest.mark.parametrize("status", [100, 200, 299, 404, 418, 499, 599])
def test_a_status_line_carries_the_upstreams_status(status: int) -> None:
    assert responses.status_line(status).startswith(b"HTTP/1.1 %d " % status)
    assert responses.status_line(status).endswith(b"\r\n")


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_what_is_no_status_becomes_502(status: int) -> None:
    assert responses.status_line(status) == b"HTTP/1.1 502 Bad Gateway\r\n"


def test_an_empty_answer_is_whole() -> None:
    assert Answer.parse(responses.plain(200, [b"X-A: 1"], b"", keep_alive=True))["content-length"] == "0"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/nope", "openai"),
        ("/v1/audio/speech", "openai"),
        ("/v2/transcript", "assemblyai"),  # by a method that it does not take
        ("/v2/transcript/tr-1/word-search", "assemblyai"),
        ("/v2/jobs", "speechmatics"),
        ("/v2/realtime/token", "openai"),
        ("/asr", "detail"),
        ("/v1/listen/x", "deepgram"),
        ("/v1/speech-to-text/transcripts/x", "elevenlabs"),
        ("/authors", "openai"),
        ("/v1/auth/x", "openai"),
        ("/auth/verify", "openai"),
        ("/auth/verify/traefik", "openai"),
        ("/auth", "problem"),
        ("/auth/", "problem"),
        ("/auth/grant", "problem"),
        ("/admin/", "problem"),
        ("/platform", "problem"),
        ("/platform/v1", "problem"),
        ("/.well-known/jwks.json", "problem"),
    ],
)
def test_where_no_route_is_it_is_told_as_all_else_nearby(path: str, dialect: str) -> None:
    """A wrong method, a slash too many, a part of a service that is closed: its SDKs read what is said all the same."""
    assert responses.dialect_of(None, path, None, shipped_routes()) == dialect

"""The table: what it names is open as it says, everything else is closed, and every fault of it is told at once."""

import dataclasses
import datetime as dt
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shipped import shipped
from policies.http.inquiry import is_plain_path
from policies.http.verdict import Deny, Refusal
from policies.routing import route_fields
from policies.routing.route_table import RoutesInvalid, RouteTable
from policies.routing.routes import GRANTING, LONGEST_S, METHODS, PORTAL, RESERVED, Access, Route, WithoutLimiter

PLAIN = {"name": "a", "path": "/a", "methods": ["GET"]}


def table(*entries: dict[str, Any]) -> RouteTable:
    return RouteTable.compile({"routes": list(entries)})


def faults(data: object) -> tuple[str, ...]:
    with pytest.raises(RoutesInvalid) as caught:
        RouteTable.compile(data)
    return caught.value.faults


def names(found: Route | Deny) -> str:
    return found.refusal.code if isinstance(found, Deny) else found.name


OPEN = [
    ("POST", "/v1/audio/transcriptions", "openai.transcriptions", "multipart"),
    ("POST", "/v1/audio/translations", "openai.translations", "multipart"),
    ("GET", "/v1/models", "openai.models", "none"),
    ("HEAD", "/v1/models/whisper-1", "openai.model", "none"),
    ("GET", "/v1/models/Systran/faster-whisper-small", "speaches.model", "none"),
    ("GET", "/v1/realtime", "openai.realtime", "openai_realtime"),
    ("POST", "/openai/v1/audio/transcriptions", "groq.transcriptions", "multipart"),
    ("POST", "/openai/v1/audio/translations", "groq.translations", "multipart"),
    ("GET", "/openai/v1/models", "groq.models", "none"),
    ("POST", "/openai/deployments/my-whisper/audio/transcriptions", "azure.transcriptions", "multipart"),
    ("POST", "/openai/deployments/my-whisper/audio/translations", "azure.translations", "multipart"),
    ("GET", "/openai/v1/realtime", "azure.realtime", "openai_realtime"),
    ("GET", "/openai/realtime", "azure.realtime_preview", "openai_realtime"),
    ("GET", "/v1/audio/transcriptions/realtime", "mistral.realtime", "mistral"),
    ("POST", "/v1/listen", "deepgram.listen", "raw"),
    ("GET", "/v1/listen", "deepgram.stream", "deepgram"),
    ("GET", "/v2/listen", "deepgram.flux", "deepgram"),
    ("POST", "/v1/speech-to-text", "elevenlabs.transcribe", "multipart"),
    ("GET", "/v1/speech-to-text/realtime", "elevenlabs.realtime", "elevenlabs"),
    ("POST", "/v1/audio/speech/timestamps", "speaches.timestamps", "multipart"),
    ("POST", "/v1/audio/diarization", "speaches.diarization", "multipart"),
    ("POST", "/v1/audio/speech/embedding", "speaches.embedding", "multipart"),
    ("POST", "/inference", "whispercpp.inference", "multipart"),
    ("POST", "/asr", "asr.transcribe", "multipart"),
    ("POST", "/detect-language", "asr.detect_language", "multipart"),
    ("POST", "/v2/upload", "assemblyai.upload", "none"),
    ("POST", "/v2/transcript", "assemblyai.transcribe", "raw"),
    ("GET", "/v2/transcript/x", "assemblyai.transcript", "none"),
    ("DELETE", "/v2/transcript/x", "assemblyai.transcript", "none"),
    ("GET", "/v2/transcript/x/sentences", "assemblyai.sentences", "none"),
    ("GET", "/v2/transcript/x/paragraphs", "assemblyai.paragraphs", "none"),
    ("GET", "/v2/transcript/x/srt", "assemblyai.srt", "none"),
    ("GET", "/v2/transcript/x/vtt", "assemblyai.vtt", "none"),
    ("GET", "/v2/transcript/x/word-search", "assemblyai.words", "none"),
    ("GET", "/v2/transcript/x/redacted-audio", "assemblyai.redacted", "none"),
    ("GET", "/v3/ws", "assemblyai.stream", "assemblyai"),
    ("GET", "/v2", "speechmatics.stream", "speechmatics"),
    ("GET", "/v2/agent", "speechmatics.agent", "speechmatics"),
    ("POST", "/v2/jobs", "speechmatics.create", "multipart"),
    ("POST", "/v2/jobs/", "speechmatics.create_too", "multipart"),
    ("GET", "/v2/jobs/x", "speechmatics.job", "none"),
    ("GET", "/v2/jobs/x/transcript", "speechmatics.transcript", "none"),
    ("POST", "/speech-to-text", "whisperx.transcribe", "multipart"),
    ("POST", "/service/transcribe", "whisperx.service", "multipart"),
    ("GET", "/task/x", "whisperx.task", "none"),
    ("DELETE", "/task/x/delete", "whisperx.delete", "none"),
    ("POST", "/v1/realtime/client_secrets", "openai.client_secrets", "none"),
    ("POST", "/v1/auth/grant", "deepgram.grant", "none"),
    ("POST", "/v1/single-use-token/realtime_scribe", "elevenlabs.token", "none"),
    ("GET", "/v3/token", "assemblyai.token", "none"),
    ("POST", "/v1/api_keys", "speechmatics.key", "none"),
]
CLOSED = [
    ("POST", "/load"), ("POST", "/v1/models/whisper-1"), ("DELETE", "/v1/models/whisper-1"),
    ("DELETE", "/v1/models/Systran/faster-whisper-small"), ("POST", "/api/ps/x"), ("DELETE", "/api/ps/x"),
    ("GET", "/api/ps"), ("GET", "/v2/transcript"), ("GET", "/v2/jobs"),
    ("GET", "/v2/jobs/"), ("GET", "/task"),
    ("POST", "/v1/realtime/sessions"),
    ("GET", "/v1/realtime/client_secrets"), ("POST", "/v1/realtime/transcription_sessions"),
    ("POST", "/v1/realtime/calls"), ("POST", "/v1/realtime"), ("POST", "/v1/chat/completions"), ("GET", "/load"),
    ("POST", "/v1/load_lora_adapter"), ("POST", "/sleep"), ("GET", "/v1/registry"), ("POST", "/speech-to-text-url"),
    ("GET", "/health"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/"),
    ("GET", "/v2/usage"), ("GET", "/v2/en"), ("POST", "/v3/token"), ("GET", "/v1/api_keys"),
    ("DELETE", "/v1/api_keys"), ("POST", "/v1/single-use-token/batch_scribe"),
    ("GET", "/v1/speech-to-text/transcripts/x"),
    ("POST", "/openai/deployments/x/chat/completions"),
    ("POST", "/v1/projects/p/keys"), ("GET", "/auth/verify"), ("GET", "/inference"), ("GET", "/asr"),
]  # fmt: skip


def test_shipped_calls_for_tickets_are_bounded() -> None:
    """Each ticket lies in Redis for up to ten minutes, and a tenant need not have a limit of its own."""
    made = RouteTable.compile(tomllib.loads(shipped("routes.toml").read_text()))
    granting = [route for route in made.routes if route.grants]
    assert len(granting) == len(GRANTING)
    assert all(route.address_requests is not None for route in granting)


def test_the_shipped_table_opens_what_transcribes() -> None:
    """Every server of which there is a profile; all with the same scope, streams marked as such."""
    made = RouteTable.compile(tomllib.loads(shipped("routes.toml").read_text()))
    for method, path, name, meter in OPEN:
        route = made.match(method, path)
        assert isinstance(route, Route), path
        assert (route.name, route.meter, route.scope, route.access) == (name, meter, "transcribe", Access.CREDENTIAL)
    assert {route.name for route in made.routes} == {name for _, _, name, _ in OPEN}
    assert [route.name for route in made.routes if route.websocket] == [
        "openai.realtime", "azure.realtime", "azure.realtime_preview", "mistral.realtime", "deepgram.stream",
        "deepgram.flux", "elevenlabs.realtime", "assemblyai.stream", "speechmatics.stream", "speechmatics.agent",
    ]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_the_shipped_table_keeps_dangerous_neighbours_closed(method: str, path: str) -> None:
    """What loads, deletes, lists everybody's, mints the server's own credentials or leads past the gateway."""
    made = RouteTable.compile(tomllib.loads(shipped("routes.toml").read_text()))
    assert names(made.match(method, path)) in ("unknown_route", "method_not_allowed")


def test_the_shipped_table_compiles_and_closes_what_it_does_not_name() -> None:
    made = RouteTable.compile(tomllib.loads(shipped("routes.toml").read_text()))
    assert names(made.match("POST", "/v1/audio/transcriptions")) == "openai.transcriptions"
    assert names(made.match("POST", "/v1/listen")) == "deepgram.listen"
    assert names(made.match("GET", "/v1/models/whisper-1")) == "openai.model"
    for path in ("/", "/load", "/metrics", "/docs", "/openapi.json", "/v1", "/v1/", "/v1/models/", "/v1/audio"):
        assert names(made.match("GET", path)) == "unknown_route"
    assert names(made.match("DELETE", "/v1/models/whisper-1")) == "method_not_allowed"


def test_a_route_has_its_defaults() -> None:
    (made,) = table(PLAIN).routes
    assert made == Route(name="a", path="/a", methods=("GET",))
    assert (made.access, made.scope, made.upstream, made.meter) == (Access.CREDENTIAL, "", "default", "none")
    assert (made.dialect, made.without_limiter) == ("openai", WithoutLimiter.LOCAL)


def test_a_route_may_say_everything() -> None:
    said = {
        "name": "x.y-z_1", "path": "/a/{id}/b", "methods": list(METHODS), "access": "public", "scope": "audio:read",
        "upstream": "default", "meter": "raw", "dialect": "detail", "without_limiter": "closed", "max_body": 1,
        "first_byte_s": 0.5, "idle_s": LONGEST_S, "websocket": False, "max_message": 1, "ping_s": 1, "stream_idle_s": 2,
        "stream_longest_s": 3, "address_requests": "60/m", "address_concurrency": 4, "total_s": 9,
        "job": "", "owned": "", "job_kind": "", "job_days": 14, "job_done": "", "job_failed": "", "job_audio": "",
        "job_settled": False, "unmeasured_callbacks": True, "grants": "",
    }  # fmt: skip
    (made,) = table({key: value for key, value in said.items() if value != ""}).routes
    rate = {"count": 60, "period_ms": 60_000}
    assert dataclasses.asdict(made) == said | {"methods": METHODS, "address_requests": rate, "grants": ()}
    assert made.access is Access.PUBLIC
    assert made.without_limiter is WithoutLimiter.CLOSED


def test_every_field_of_a_route_has_a_reader() -> None:
    assert set(route_fields._READERS) == {field.name for field in dataclasses.fields(Route)}


def test_an_empty_table_closes_everything() -> None:
    assert names(RouteTable.compile({}).match("GET", "/")) == "unknown_route"
    assert names(RouteTable.compile({"routes": []}).match("GET", "/")) == "unknown_route"


WRONG = [
    ({"name": "A"}, "a name is lower-case letters"),
    ({"name": ""}, "a name is lower-case letters"),
    ({"name": "a" * 64}, "a name is lower-case letters"),
    ({"name": "a b"}, "a name is lower-case letters"),
    ({"name": "a\n"}, "a name is lower-case letters"),
    ({"name": 1}, "a name is lower-case letters"),
    ({"path": "a"}, "not a plain path"),
    ({"path": ""}, "not a plain path"),
    ({"path": 1}, "not a plain path"),
    ({"path": "/a/../b"}, "not a plain path"),
    ({"path": "//a"}, "not a plain path"),
    ({"path": "/a?b"}, "not a plain path"),
    ({"path": "/a;b"}, "not a plain path"),
    ({"path": "/%61"}, "not a plain path"),
    ({"path": "/a%3Ab"}, "not a plain path"),
    ({"path": "/caf%c3%a9"}, "not a plain path"),
    ({"path": "/a\n"}, "not a plain path"),
    ({"path": "/{id"}, "a parameter is a whole segment"),
    ({"path": "/{}"}, "a parameter is a whole segment"),
    ({"path": "/{Id}"}, "a parameter is a whole segment"),
    ({"path": "/x{id}"}, "a parameter is a whole segment"),
    ({"path": "/{id}.wav"}, "a parameter is a whole segment"),
    ({"path": "/{a}{b}"}, "a parameter is a whole segment"),
    ({"path": "/{a/b}"}, "a parameter is a whole segment"),
    ({"methods": []}, "methods is a list out of GET, HEAD"),
    ({"methods": "GET"}, "methods is a list out of GET, HEAD"),
    ({"methods": ["get"]}, "methods is a list out of GET, HEAD"),
    ({"methods": ["TRACE"]}, "methods is a list out of GET, HEAD"),
    ({"methods": ["CONNECT"]}, "methods is a list out of GET, HEAD"),
    ({"methods": [["GET"]]}, "methods is a list out of GET, HEAD"),
    ({"access": "open"}, "access is one of public, credential, optional, not 'open'"),
    ({"access": ["public"]}, "access is one of public, credential"),
    ({"access": True}, "access is one of public, credential"),
    ({"without_limiter": "maybe"}, "without_limiter is one of local, closed, open, not 'maybe'"),
    ({"address_requests": 60}, "address_requests is a rate"),
    ({"address_requests": "60"}, "is not a rate"),
    ({"address_concurrency": 0}, "address_concurrency is a whole number above 0"),
    ({"meter": "wav"}, "meter is one of none, multipart, raw"),
    ({"dialect": "soap"}, "dialect is one of openai, deepgram, assemblyai, speechmatics, elevenlabs, detail"),
    ({"scope": 1}, "scope is one word"),
    ({"scope": "a b"}, "scope is one word"),
    ({"scope": 'a"b'}, "scope is one word"),
    ({"scope": "a\\b"}, "scope is one word"),
    ({"scope": "a\r\nX-Evil: 1"}, "scope is one word"),
    ({"scope": "é"}, "scope is one word"),
    ({"upstream": 1}, "upstream is a string"),
    ({"websocket": "yes"}, "websocket is true or false"),
    ({"websocket": 1}, "websocket is true or false"),
    ({"websocket": True, "methods": ["POST"]}, "a WebSocket opens by GET alone"),
    ({"websocket": True, "methods": ["GET", "HEAD"]}, "a WebSocket opens by GET alone"),
    *(({"path": f"/{own}{rest}"}, "are the gateway's own") for own in RESERVED for rest in ("", "/", "/{x}")),
    ({"upstream": "portal"}, "are the gateway's own"),
    ({"name": "portal.x"}, "are those of the gateway's own routes"),
    ({"path": "/auth/{rest...}"}, "are the gateway's own"),
    ({"scop": "x"}, "unknown setting 'scop'; did you mean 'scope'?"),
    ({"max_body": 0}, "max_body is a whole number above 0"),
    ({"max_body": -1}, "max_body is a whole number above 0"),
    ({"max_body": 1.5}, "max_body is a whole number above 0"),
    ({"max_body": True}, "max_body is a whole number above 0"),
    ({"max_body": "1"}, "max_body is a whole number above 0"),
    ({"idle_s": 0}, "idle_s is a number above 0"),
    ({"idle_s": float("nan")}, "idle_s is a number above 0"),
    ({"idle_s": float("inf")}, "idle_s is a number above 0"),
    ({"first_byte_s": 10**400}, "first_byte_s is a number above 0"),
    ({"first_byte_s": True}, "first_byte_s is a number above 0"),
    ({"first_byte_s": dt.time(1)}, "first_byte_s is a number above 0"),
    ({"colour": "red"}, "unknown setting 'colour'"),
    ({"Scope": "x"}, "unknown setting 'Scope'"),
]


@pytest.mark.parametrize(("changed", "sentence"), WRONG, ids=[str(changed)[:40] for changed, _ in WRONG])
def test_a_wrong_value_is_one_sentence(changed: dict[str, object], sentence: str) -> None:
    (fault,) = faults({"routes": [PLAIN | changed]})
    assert sentence in fault
    assert fault.startswith("route 1 (")


STREAM = {"name": "live", "path": "/live", "methods": ["GET"], "websocket": True}
GRANT = {"name": "token", "path": "/token", "methods": ["POST"], "grants": ["live"]}


def test_a_route_that_grants_leads_to_the_portal_and_is_none_of_its_own() -> None:
    """So that plans, keys and pages of other sites are as with any route of the table."""
    stream, grant = table(STREAM, GRANT).routes
    assert (grant.grants, grant.upstream, grant.is_own) == (("live",), PORTAL, False)
    assert grant.max_body < stream.max_body


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"grants": []}, "grants is a list of the names of routes that lead to an upstream"),
        ({"grants": "live"}, "grants is a list of the names of routes that lead to an upstream"),
        ({"grants": ["nothing"]}, "'token' grants 'nothing', and no route of that name leads to an upstream"),
        ({"grants": ["token"]}, "'token' grants 'token', and no route of that name leads to an upstream"),
        ({"upstream": "default"}, "with grants the gateway answers itself: upstream has no meaning there"),
        ({"meter": "raw"}, "with grants the gateway answers itself: meter has no meaning there"),
        ({"unmeasured_callbacks": True}, "with grants the gateway answers itself: unmeasured_callbacks has no meaning"),
        ({"dialect": "detail"}, "grants answers as one of openai, deepgram, assemblyai, speechmatics, elevenlabs"),
        ({"access": "public"}, "a ticket stands for somebody: access is credential"),
        ({"access": "optional"}, "a ticket stands for somebody: access is credential"),
        ({"path": "/token/{kind}"}, "with grants the path is letters, digits and '/._-' alone"),
    ],
)  # fmt: skip
def test_what_cannot_grant_is_a_fault(changed: dict[str, object], sentence: str) -> None:
    (fault,) = faults({"routes": [STREAM, GRANT | changed]})
    assert sentence in fault


@pytest.mark.parametrize("key", ["name", "path", "methods"])
def test_what_must_be_said_is_missed(key: str) -> None:
    left = {other: value for other, value in PLAIN.items() if other != key}
    assert faults({"routes": [left]}) == (f"route 1 ({left.get('name', 'without a name')}): '{key}' is missing",)


def test_all_faults_are_told_at_once() -> None:
    """Of every route, of the clashes among the good ones, and of what is beside the routes."""
    found = faults(
        {
            "route": [],
            "routes": [
                {"name": "A", "path": "x", "methods": [], "access": 1, "meter": 2, "idle_s": 3, "max_body": 0, "b": 5},
                {},
                PLAIN,
                PLAIN | {"path": "/b"},
                PLAIN | {"name": "c"},
            ],
        }
    )
    for sentence in (
        "unknown table 'route': only [[routes]] is known",
        "route 1 (A): unknown setting 'b'",
        "route 1 (A): a name is",
        "route 1 (A): 'x' is not a plain path",
        "route 1 (A): methods is",
        "route 1 (A): access is",
        "route 1 (A): meter is",
        "route 1 (A): max_body is",
        "route 2 (without a name): 'name' is missing",
        "route 2 (without a name): 'path' is missing",
        "route 2 (without a name): 'methods' is missing",
        "two routes are called 'a'",
        "'c' and 'a' both claim GET /a",
    ):
        assert [fault for fault in found if fault.startswith(sentence)], sentence
    assert len(found) == 13


@pytest.mark.parametrize("given_routes", [1, "x", {}, {"a": 1}, [1], [[]], [PLAIN, "x"], None, True])
def test_routes_that_are_no_list_of_tables_are_one_fault(given_routes: object) -> None:
    (fault,) = faults({"routes": given_routes})
    assert "each route begins with a line [[routes]]" in fault


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (("/a", ["GET"]), ("/a", ["GET"]), True),
        (("/a", ["GET"]), ("/a", ["POST"]), False),
        (("/a", ["GET", "POST"]), ("/a", ["POST", "PUT"]), True),
        (("/a/{x}", ["GET"]), ("/a/{y}", ["GET"]), True),
        (("/a/{x}/{y}", ["GET"]), ("/a/{y}/{x}", ["GET"]), True),
        (("/a/{x}", ["GET"]), ("/a/b", ["GET"]), False),
        (("/a", ["GET"]), ("/a/", ["GET"]), False),
        (("/a", ["GET"]), ("/A", ["GET"]), False),
    ],
)
def test_two_routes_cannot_claim_one_question(
    one: tuple[str, list[str]], two: tuple[str, list[str]], clash: bool
) -> None:
    entries = [
        {"name": n, "path": path, "methods": methods} for n, (path, methods) in zip("ab", (one, two), strict=True)
    ]
    if clash:
        (fault,) = faults({"routes": entries})
        assert fault.startswith("'b' and 'a' both claim ")
    else:
        assert len(table(*entries).routes) == 2


MATCHING = table(
    {"name": "models", "path": "/v1/models", "methods": ["GET", "HEAD"]},
    {"name": "model", "path": "/v1/models/{id}", "methods": ["GET"]},
    {"name": "model.delete", "path": "/v1/models/{other_name}", "methods": ["DELETE"]},
    {"name": "default", "path": "/v1/models/default", "methods": ["GET"]},
    {"name": "part", "path": "/v1/{a}/parts/{b}", "methods": ["PUT"]},
    {"name": "dots", "path": "/v1.0/a+b(c)*", "methods": ["GET"]},
    {"name": "root", "path": "/", "methods": ["OPTIONS"]},
)


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/v1/models", "models"),
        ("HEAD", "/v1/models", "models"),
        ("POST", "/v1/models", "method_not_allowed"),
        ("get", "/v1/models", "method_not_allowed"),
        ("GET", "/v1/models/", "unknown_route"),
        ("GET", "/v1/models/x", "model"),
        ("DELETE", "/v1/models/x", "model.delete"),
        ("HEAD", "/v1/models/x", "method_not_allowed"),
        ("GET", "/v1/models/default", "default"),
        ("DELETE", "/v1/models/default", "method_not_allowed"),
        ("GET", "/v1/models/x/y", "unknown_route"),
        ("PUT", "/v1/x/parts/y", "part"),
        ("PUT", "/v1//parts/y", "unknown_route"),
        ("GET", "/v1.0/a+b(c)*", "dots"),
        ("GET", "/v1x0/a+b(c)*", "unknown_route"),
        ("GET", "/v1.0/aab(c)", "unknown_route"),
        ("OPTIONS", "/", "root"),
        ("GET", "/v1/Models", "unknown_route"),
        ("GET", "/v1/models\n", "unknown_route"),
        ("GET", "/v1/models/a%20b", "model"),
        ("GET", "/v1/models/ft%3Awhisper", "model"),
    ],
)
def test_a_question_finds_its_route_or_none(method: str, path: str, found: str) -> None:
    """P-05, P-07, P-14: whole paths, listed methods, exact case; a literal path comes before a parameter."""
    assert names(MATCHING.match(method, path)) == found


def test_a_refused_method_names_the_ones_allowed() -> None:
    assert MATCHING.match("PATCH", "/v1/models/x") == Deny(refusal=Refusal.METHOD_NOT_ALLOWED, allow=("DELETE", "GET"))


def test_no_parameter_reaches_into_the_gateways_own_paths() -> None:
    """Whatever a table says, /auth/verify and the pages never become an upstream's."""
    wide = table(
        *(
            {"name": f"w{n}", "path": "/" + "/".join(f"{{{c}}}" for c in "abcd"[:n]), "methods": ["GET"]}
            for n in (1, 2, 3)
        )
    )
    for own in RESERVED:
        for rest in ("", "/verify", "/", "/verify/envoy"):
            assert names(wide.match("GET", f"/{own}{rest}")) == "unknown_route"
        assert names(wide.match("GET", f"/{own}x/y")) == "w2"
        assert names(wide.match("GET", f"/x/{own}/y")) == "w3"


def test_a_table_of_any_size_is_matched_in_one_step() -> None:
    """Some regular expression engines stop at a hundred groups."""
    many = table(*({"name": f"r{n}", "path": f"/v{n}/{{id}}", "methods": ["GET"]} for n in range(300)))
    assert [names(many.match("GET", f"/v{n}/x")) for n in (0, 150, 299, 300)] == ["r0", "r150", "r299", "unknown_route"]
    assert list(many.patterns) == [2]


AZURE = table(
    {"name": "job", "path": "/jobs/{id}", "methods": ["POST"], "access": "public"},
    {"name": "transcribe", "path": "/jobs/x:transcribe", "methods": ["POST"], "scope": "admin"},
    {"name": "deep", "path": "/jobs/{id}/a@b", "methods": ["POST"], "scope": "admin"},
    {"name": "deeper", "path": "/jobs/{id}/{other}", "methods": ["POST"]},
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/jobs/x:transcribe", "transcribe"),
        ("/jobs/x%3Atranscribe", "ambiguous_target"),
        ("/jobs/x%3atranscribe", "ambiguous_target"),
        ("/jobs/y%3Atranscribe", "job"),
        ("/jobs/1/a@b", "deep"),
        ("/jobs/1/a%40b", "ambiguous_target"),
        ("/jobs/%31/a@b", "deep"),
        ("/jobs/1/a%2540b", "deeper"),
    ],
)
def test_an_escape_is_no_way_around_a_literal_route(path: str, found: str) -> None:
    """The upstream decodes before it looks; so both spellings lead to one route, or nowhere."""
    if path != "/jobs/%31/a@b":  # the door refuses that one already
        assert is_plain_path(path)
    assert names(AZURE.match("POST", path)) == found


def test_the_rest_of_a_path_comes_after_everything_more_literal() -> None:
    """One segment or more; a route that says more of the path wins, wherever it stands."""
    made = table(
        PLAIN | {"name": "rest", "path": "/a/{rest...}"},
        PLAIN | {"name": "deep", "path": "/a/{id}/b"},
        PLAIN | {"name": "deeper", "path": "/a/{id}/{rest...}"},
        PLAIN | {"name": "exact", "path": "/a/b"},
    )
    for path, found in {
        "/a": "unknown_route", "/a/": "unknown_route", "/a/x": "rest", "/a/x/": "rest", "/a/b": "exact",
        "/a/x/b": "deep", "/a/x/c": "deeper", "/a/x/b/c/d": "deeper", "/ab/c": "unknown_route",
    }.items():  # fmt: skip
        assert names(made.match("GET", path)) == found, path
    assert faults({"routes": [PLAIN | {"path": "/a/{rest...}/b"}]})
    assert faults({"routes": [PLAIN | {"path": "/a/{x...}"}, PLAIN | {"name": "b", "path": "/a/{y...}"}]})


@pytest.mark.parametrize("order", [1, -1])
def test_the_more_literal_route_comes_first_wherever_it_stands(order: int) -> None:
    """A wide route above a narrow one would hide it, and with it what it asks for."""
    made = table(*[
        {"name": "wide", "path": "/a/{x}/{y}", "methods": ["GET"], "access": "public"},
        {"name": "narrow", "path": "/a/admin/{y}", "methods": ["GET"], "scope": "admin"},
        {"name": "late", "path": "/{z}/admin/b", "methods": ["GET"]},
    ][::order])  # fmt: skip
    assert names(made.match("GET", "/a/admin/b")) == "narrow"
    assert names(made.match("GET", "/a/other/b")) == "wide"
    assert names(made.match("GET", "/c/admin/b")) == "late"


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.times(),
        st.sampled_from(["GET", "public", "closed", "raw", "/a", "/a/{id}", "a", "default", ["GET"], ["PUT", "POST"]]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=4,
)  # fmt: skip
_keys = st.one_of(st.sampled_from([field.name for field in dataclasses.fields(Route)]), st.text(max_size=5))
_good = st.fixed_dictionaries({
    "name": st.from_regex(r"[a-z]{1,3}", fullmatch=True),
    "path": st.lists(st.sampled_from(["a", "b", "{x}", "{y}", "c:d"]), max_size=3).map(lambda s: "/" + "/".join(s)),
    "methods": st.lists(st.sampled_from(METHODS), min_size=1, max_size=3),
})  # fmt: skip
_entries = st.one_of(
    _good, st.builds(lambda good, more: good | more, _good, st.dictionaries(_keys, _values, max_size=2)),
    st.dictionaries(_keys, _values, max_size=4), _values,
)  # fmt: skip
_tables = st.one_of(
    st.fixed_dictionaries({"routes": st.lists(_entries, max_size=4)}),
    st.fixed_dictionaries({"routes": st.lists(_good, max_size=4)}),
    st.dictionaries(st.sampled_from(["routes", "route", "x"]), _values, max_size=2),
)


@given(data=_tables)
def test_any_data_is_a_sound_table_or_a_list_of_faults(data: dict[str, Any]) -> None:
    """Nothing but RoutesInvalid is ever raised; and what compiles, matches."""
    try:
        made = RouteTable.compile(data)
    except RoutesInvalid as error:
        made, told = None, error.faults
    if made is None:
        assert all(told)
        assert told
        return
    for route in made.routes:
        for method in route.methods:
            question = re.sub(r"\{[a-z_]+\}", "unlikely", route.path)
            assert made.match(method, question) is route
        assert is_plain_path(question)
        assert 0 < route.idle_s <= LONGEST_S
        assert 0 < route.first_byte_s <= LONGEST_S
        assert type(route.max_body) is int


_paths = st.text(st.sampled_from("/abcdx:%3A"), max_size=10).map("/".__add__)


@given(data=_tables, method=st.sampled_from(METHODS), path=_paths)
def test_what_is_matched_was_named(data: dict[str, Any], method: str, path: str) -> None:
    """Default deny: a route is found only where some route's path says so, segment by segment."""
    try:
        made = RouteTable.compile(data)
    except RoutesInvalid:
        return
    found = made.match(method, path)
    if isinstance(found, Route):
        assert method in found.methods
        mine, asked = found.path.split("/"), path.split("/")
        assert len(mine) == len(asked)
        assert all(a == m or (m.startswith("{") and a) for m, a in zip(mine, asked, strict=True))


MAKES = {"name": "m", "path": "/m", "methods": ["POST"], "job": "job.id", "job_kind": "k"}
READS = {"name": "r", "path": "/m/{id}", "methods": ["GET"], "owned": "id", "job_kind": "k"}

JOB_FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no kind": ({"job_kind": None}, {}, "job_kind goes with"),
    "a kind alone": ({"job": None}, {}, "job_kind goes with"),
    "both": ({}, {"job": "id"}, "not both"),
    "no such parameter": ({}, {"owned": "task"}, "has no {task}"),
    "a parameter for the rest": ({}, {"path": "/m/{id...}"}, "has no {id}"),
    "public": ({}, {"access": "public"}, "access is credential"),
    "optional": ({"access": "optional"}, {}, "access is credential"),
    "a stream": ({"websocket": True, "methods": ["GET"]}, {}, "a stream has no answer"),
    "no state": ({}, {"job_audio": "audio"}, "go together"),
    "no seconds": ({}, {"job_done": "status=done"}, "go together"),
    "a failure of something else": (
        {},
        {"job_done": "status=done", "job_audio": "a", "job_failed": "state=error"},
        "both name the same value",
    ),
    "a state without a value": ({}, {"job_done": "status", "job_audio": "a"}, "status=completed"),
    "a pointer": ({"job": "/job/id"}, {}, "such as"),
    "settled where it is made": ({"job_settled": True}, {}, "routes with owned"),
    "nobody makes them": ({}, {"job_kind": "other"}, "no route with job makes any"),
    "another upstream": ({}, {"upstream": "b"}, "those of one upstream"),
    "no days": ({"job_days": 0}, {}, "above 0"),
}


@pytest.mark.parametrize("case", JOB_FAULTS)
def test_jobs_that_could_not_be_kept_apart_do_not_compile(case: str) -> None:
    made, read, sentence = JOB_FAULTS[case]
    entries = [{key: value for key, value in one.items() if value is not None} for one in (MAKES | made, READS | read)]
    assert any(sentence in fault for fault in faults({"routes": entries}))
    assert len(table(MAKES, READS).routes) == 2

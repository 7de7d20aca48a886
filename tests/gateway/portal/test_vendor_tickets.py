"""Calls of stock SDKs for temporary tokens: tickets in the shapes of the services, and never more than was asked."""

import json
from typing import Any

import pytest

from policies.http.tickets import LIFE_S, LONGEST_S, is_reusable, is_ticket
from tests.gateway.portal.conftest import Client, Town
from tests.gateway.portal.test_tickets import DIGEST, key, person, taken

DEEPGRAM, OPENAI = ("POST", "/v1/auth/grant"), ("POST", "/v1/realtime/client_secrets")
ELEVENLABS = ("POST", "/v1/single-use-token/realtime_scribe")
ASSEMBLYAI = ("GET", "/v3/token?expires_in_seconds=60")
SPEECHMATICS = ("POST", "/v1/api_keys?type=rt")
CALLS = {
    "deepgram": (DEEPGRAM, "access_token", ("deepgram.stream", "deepgram.flux", "deepgram.listen"), 30),
    "openai": (OPENAI, "value", ("openai.realtime",), 600),
    "elevenlabs": (ELEVENLABS, "token", ("elevenlabs.realtime",), 600),
    "assemblyai": (ASSEMBLYAI, "token", ("assemblyai.stream",), 60),
    "speechmatics": (SPEECHMATICS, "key_value", ("speechmatics.stream", "speechmatics.agent"), 60),
}
REUSABLE = {"deepgram", "openai"}


async def ask(
    portal: Client, call: tuple[str, str], headers: dict[str, str], body: object = None, status: int = 200
) -> Any:
    """What is answered; nothing of it may be kept by a cache, and none of it is a page."""
    async with portal.request(*call, headers=headers, json=body) as answer:
        assert answer.status == status, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.content_type == "application/json"
        assert not {"Content-Security-Policy", "X-Frame-Options", "Permissions-Policy"} & answer.headers.keys()
        return await answer.json()


async def life(town: Town) -> int:
    """How long the one ticket that there is may still be redeemed."""
    (kept,) = await town.parts.redis.keys("platform:tickets:*")
    return int(await town.parts.redis.ttl(kept))


@pytest.mark.parametrize("service", CALLS)
async def test_a_key_gets_a_ticket_that_stands_for_it(portal: Client, town: Town, service: str) -> None:
    """For the streams of that service alone; good once where it will stand in a URL."""
    call, field, routes, life_s = CALLS[service]
    answer = await ask(portal, call, await key(town))
    text = answer[field]
    assert is_ticket(text.encode())
    assert is_reusable(text.encode()) is (service in REUSABLE)
    assert life_s - 5 < await life(town) <= life_s
    ticket = await taken(town, text)
    assert (ticket.tenant_id, ticket.key, ticket.routes, ticket.first) == (town.tenant.id, DIGEST, routes, "")


@pytest.mark.parametrize(
    ("call", "body", "life_s", "said"),
    [
        (DEEPGRAM, {"ttl_seconds": 45.9}, 45, {"expires_in": 45}),
        (DEEPGRAM, {"ttl_seconds": 3_600}, LONGEST_S, {"expires_in": LONGEST_S}),
        (OPENAI, {"expires_after": {"anchor": "created_at", "seconds": 10}}, 10, {}),
        (OPENAI, {"expires_after": {"seconds": 7_200}}, LONGEST_S, {}),
        (("GET", "/v3/token?expires_in_seconds=1"), None, 1, {"expires_in_seconds": 1}),
        (SPEECHMATICS, {"ttl": 86_400, "region": "eu"}, LONGEST_S, {"apikey_id": None}),
    ],
)
async def test_it_lasts_as_long_as_was_asked_and_no_longer_than_ten_minutes(
    portal: Client, town: Town, call: tuple[str, str], body: object, life_s: int, said: dict[str, object]
) -> None:
    answer = await ask(portal, call, await key(town), body)
    assert answer | said == answer
    assert 0 <= life_s - await life(town) < 5


async def test_openais_says_when_it_ends_and_what_session_it_is_of(portal: Client, town: Town) -> None:
    before = int(town.parts.now().timestamp())
    said = {"session": {"type": "transcription", "model": "whisper-1"}, "expires_after": {"seconds": 60}}
    answer = await ask(portal, OPENAI, await key(town), said)
    assert 60 <= answer["expires_at"] - before < 65
    assert answer["session"].pop("id").startswith("sess_")
    assert answer["session"] == {
        "object": "realtime.transcription_session", "type": "transcription", "model": "whisper-1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("session", "first"),
    [
        ({"type": "realtime", "model": "gpt-realtime"}, None),
        ({"type": "transcription"}, {"type": "transcription"}),
        ({"model": "m", "instructions": "be \u00fc", "tools": []},
         {"type": "realtime", "instructions": "be \u00fc", "tools": []}),
        ({"type": "transcription", "audio": {"input": {"turn_detection": None}}},
         {"type": "transcription", "audio": {"input": {"turn_detection": None}}}),
    ],
)  # fmt: skip
async def test_a_session_that_openais_call_configures_is_what_its_streams_begin_with(
    portal: Client, town: Town, session: dict[str, Any], first: dict[str, Any] | None
) -> None:
    """All of it but the model, which stands in the address and may not be changed."""
    answer = await ask(portal, OPENAI, await key(town), {"session": session})
    assert answer["session"] | session == answer["session"]
    said = (await taken(town, answer["value"])).first
    assert (json.loads(said) if said else None) == (first and {"type": "session.update", "session": first})


async def test_assemblyais_bounds_the_stream(portal: Client, town: Town) -> None:
    call = ("GET", "/v3/token?expires_in_seconds=60&max_session_duration_seconds=90")
    answer = await ask(portal, call, await key(town))
    assert (await taken(town, answer["token"])).longest_s == 90


@pytest.mark.parametrize(
    ("call", "body", "field"),
    [
        (DEEPGRAM, {"ttl_seconds": 0}, "ttl_seconds"),
        (DEEPGRAM, {"ttl_seconds": 3_601}, "ttl_seconds"),
        (DEEPGRAM, {"ttl_seconds": 30, "scopes": ["admin"]}, "scopes"),
        (DEEPGRAM, [], "an object"),
        (OPENAI, {"session": {"type": "other"}}, "session.type"),
        (OPENAI, {"session": {"instructions": "x" * 8_192}}, "sends a session.update itself"),
        (OPENAI, {"expires_after": {"anchor": "now", "seconds": 60}}, "expires_after.anchor"),
        (("GET", "/v3/token"), None, "expires_in_seconds"),
        (("GET", "/v3/token?expires_in_seconds=601"), None, "expires_in_seconds"),
        (("GET", "/v3/token?expires_in_seconds=60&expires_in_seconds=1"), None, "more than once"),
        (("GET", "/v3/token?expires_in_seconds=60&max_session_duration_seconds=1"), None, "max_session_duration"),
        (("POST", "/v1/api_keys?type=batch"), None, "type"),
        (("POST", "/v1/api_keys"), {"ttl": 60}, "type"),
        (SPEECHMATICS, {"type": "rt"}, "more than once"),
    ],
)
async def test_what_cannot_be_kept_is_refused_in_the_shape_of_the_service(
    portal: Client, town: Town, call: tuple[str, str], body: object, field: str
) -> None:
    answer = await ask(portal, call, await key(town), body, status=422)
    error = answer.get("error", answer)
    said = error if isinstance(error, dict) else answer
    assert "invalid_input" in (said.get("code"), answer.get("code"), answer.get("reason"))
    assert field in str(answer)
    assert await town.parts.redis.keys("platform:tickets:*") == []


async def test_a_refusal_is_no_longer_than_it_helps(portal: Client, town: Town) -> None:
    """However many names nobody knows, and however long: every answer says it three times over."""
    headers = await key(town)
    for body in ({f"name{i}": 1 for i in range(5_000)}, {"n" * 60_000: 1}):
        assert len(str(await ask(portal, DEEPGRAM, headers, body, status=422))) < 2_000


async def test_speechmatics_sdk_has_a_message_to_show(portal: Client, town: Town) -> None:
    """@speechmatics/auth 0.1.0 makes its error of ``message`` where the status is 422."""
    answer = await ask(portal, ("POST", "/v1/api_keys?type=batch"), await key(town), status=422)
    assert "type: Input should be 'rt'. (request id" in answer["message"]
    assert answer["error"] == "Unprocessable Entity"


async def test_a_body_is_json_and_says_nothing_twice(portal: Client, town: Town) -> None:
    headers = await key(town)
    async with portal.post(DEEPGRAM[1], data=b"ttl_seconds=3600", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (415, "not_json")
    headers |= {"Content-Type": "application/json"}
    for body in (b'{"ttl_seconds": 1, "ttl_seconds": 3600}', b"{", b"\xff", b'{"\\ud800": 1}'):
        async with portal.post(DEEPGRAM[1], data=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("service", CALLS)
async def test_nobody_gets_none_nor_who_may_not(portal: Client, town: Town, service: str) -> None:
    """A page of another site may ask with a credential; what a browser adds of itself is none."""
    call, *_ = CALLS[service]
    await ask(portal, call, {}, status=401)
    await ask(portal, call, {"Cookie": "tahoe_session=x"}, status=401)
    await ask(portal, call, await key(town, "usage:read"), status=403)
    await ask(portal, call, await person(portal, town, "usage:read"), status=403)
    await ask(portal, call, {**(await person(portal, town)), "X-User-ID": "corp:17"}, status=403)
    gone = {"X-Tenant-ID": town.tenant.id, "X-API-Key-ID": "key_x", "X-Auth-Scopes": "transcribe"}
    await ask(portal, call, gone, status=401)
    await ask(
        portal, call, {**(await person(portal, town)), "Origin": "https://app.test", "Sec-Fetch-Site": "cross-site"}
    )


async def test_a_persons_lasts_no_longer_than_the_token_that_asked(portal: Client, town: Town) -> None:
    """Or a minute, as every ticket; what stands behind it is for this one scope."""
    for life_s, expected in ((300, 300), (5, LIFE_S)):
        headers = await person(portal, town, life_s=life_s)
        answer = await ask(portal, DEEPGRAM, headers, {"ttl_seconds": 3_600})
        assert 0 <= expected - answer["expires_in"] < 5
        behind = (await taken(town, answer["access_token"])).token
        assert behind is not None
        assert (behind.subject, behind.scopes) == (town.user.id, {"transcribe"})
        assert 0 <= behind.expires_s - behind.issued_s - expected < 5

"""The shipped files on a real nginx, Caddy, Envoy and Traefik: one gateway behind each, the same promises through all.

Each proxy is started once: the tests of this module share it, the gateway behind it and the wire between the two.
What only one of them does is in a module of its own.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from policies.http.credentials import mint_key
from policies.http.headers import CREDENTIALS, IDENTITY
from policies.http.verdict import Refusal
from policies.identity.principals import Standing
from policies.limits.rates import Rate
from tests.deploy import proxies
from tests.deploy.tap import SOURCE, tapped
from tests.e2e.site import Site
from tests.gateway.harness import Answer, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(proxies.NAMES))
async def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Site.built(request.param, tmp_path_factory.mktemp(request.param)) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(built: Site) -> AsyncIterator[Site]:
    yield built
    built.forget()


def heard(site: Site, seen: Seen, name: str) -> list[str]:
    """What the transcriber learns by a header. To clear it, nginx leaves it out, and the others may leave it empty."""
    return [value for value in seen.all(name) if value or site.name == "nginx"]


# --- allowed ----------------------------------------------------------------------------------------------------------


async def test_the_transcriber_learns_who_is_asking_and_not_with_which_key(site: Site) -> None:
    """Identity is there exactly once, the target byte for byte, every form of credential is gone.

    Also the address of the page that asks, which may have one in it and is sent without anybody's meaning to.
    """
    others = [name for name in CREDENTIALS if name not in ("Authorization", "X-API-Key")]
    page = f"https://app.test/listen?api_key={site.gateway.key}"
    answer = await site.edge.ask("GET", "/v1/models?a=%20b&c", [("Referer", page), *((name, "x") for name in others)])
    assert (answer.status, answer.body) == (200, b'{"text":"hello"}')
    (seen,) = site.seen
    assert (seen.method, seen.target, seen.all("Host")) == ("GET", "/v1/models?a=%20b&c", ["gateway.test"])
    assert {name: heard(site, seen, name) for name in IDENTITY} == {
        "X-Tenant-ID": ["ten_a"], "X-User-ID": ["usr_a"], "X-API-Key-ID": ["key_1"], "X-Auth-Scopes": ["transcribe"],
        "X-Auth-Roles": ["member"], "X-Gateway-Assertion": [],
    }  # fmt: skip
    assert seen.all("X-Request-ID") == [site.gateway.lines[-1]["request_id"]]
    assert answer.all("x-request-id") == ([] if site.name in ("caddy", "traefik") else seen.all("X-Request-ID"))
    assert not {"referer", *(name.lower() for name in CREDENTIALS)} & seen.names()


TARGETS = (
    "/v1/models?x=%2f%2e%2e%2f&y=//a/../b", "/v1/models/ft%3Awhisper", "/v1/models/a%20b?", "/v1/models/ft:whisper@1",
    "/v1/models/%E4%B8%AD", "/v1/models/a%2520b", "/v1/models/Systran/faster-whisper?a=b?c=d&e=%zz"[:-3],
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_the_target_judged_is_the_target_received(site: Site, target: str) -> None:
    """P-15, with a proxy between: an empty query may lose its question mark, and nothing else changes."""
    answer = await site.edge.ask("GET", target)
    assert answer.status == 200
    assert site.seen[0].target.removesuffix("?") == target.removesuffix("?")
    assert site.gateway.lines[-1]["path"] == target.partition("?")[0]


AMBIGUOUS = (
    "/v1/../v1/models", "/v1/./models", "//v1/models", "/v1//models", "/v1/%2e%2e/v1/models", "/v1/%2E/models",
    "/v1%2fmodels", "/v1/%6dodels", "/v1/models;x=1", "/v1\\models", "/v1/models#x", "/v1/models%00", "/v1/models%",
    "/v1/models/..;/x", "/v1/models/%5c..%5cx",
)  # fmt: skip


@pytest.mark.parametrize("target", AMBIGUOUS)
async def test_a_path_with_two_readings_is_refused(site: Site, target: str) -> None:
    """By the proxy or by the gateway, with a 4xx. Traefik reads some itself, and then there is one reading for all."""
    answer = await site.edge.ask("GET", target)
    if site.name == "traefik" and answer.status == 200:
        assert [site.gateway.lines[-1]["path"], *(seen.target for seen in site.seen)] == ["/v1/models"] * 2
        return
    assert 400 <= answer.status < 500
    assert not site.seen


SPELLINGS = (
    "X-Tenant-ID", "x-tenant-id", "X-TENANT-ID", "X_Tenant_ID", "X-Tenant_ID", "X.Tenant.ID", "X-User-ID", "x_user_id",
    "X-API-Key-ID", "X-Auth-Scopes", "X_Auth_Roles", "X-Auth-Status", "X-Gateway-Assertion", "X-Gateway_Assertion",
    "X-Auth-Request-User", "X-Internal-Admin", "Remote-User", "X-Forwarded-User", "X-Webauth-User", "Proxy",
)  # fmt: skip


async def test_no_spelling_of_an_identity_header_lets_a_client_say_who_it_is(site: Site) -> None:
    """H-02, H-04: also twice, and named in Connection; what arrives is the gateway's word or nothing."""
    # nginx removes by name, not by family: its file says so.
    spellings = [name for name in SPELLINGS if site.name != "nginx" or name != "X-Internal-Admin"]
    forged = [(name, "forged") for name in spellings * 2]
    key = site.gateway.add_key(user_id="", roles=())
    for named in ("close", "X-Tenant-ID, X-User-ID"):
        answer = await site.edge.ask("GET", "/v1/models", [*forged, ("Connection", named)], key=key)
        assert answer.status in (200, 400)  # a Connection header twice is refused by some
    assert site.seen
    for seen in site.seen:
        assert b"forged" not in seen.head
        assert seen.all("X-Tenant-ID") == ["ten_a"]
        assert heard(site, seen, "X-User-ID") == heard(site, seen, "X-Auth-Roles") == []


CLAIMS = (
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Real-IP", "X-Original-URL", "X-Original-URI", "X-Original-Method",
    "X-Rewrite-URL", "X-HTTP-Method-Override",
)  # fmt: skip


async def test_what_only_a_proxy_may_claim_is_never_the_clients_word(site: Site) -> None:
    """H-08: neither the gateway nor the transcriber hears a client on where it comes from or what it asks for."""
    forged = [(name, "/v1/models") for name in CLAIMS]
    refused = await site.edge.ask("POST", "/load", forged)
    assert (refused.status, refused.code) == (404, "unknown_route")
    admitted = await site.edge.ask("GET", "/v1/models?real", forged)
    assert admitted.status == 200
    (seen,) = site.seen
    assert [name for name in CLAIMS if "/v1/models" in seen.all(name)] == []
    silent = {"forwarded", "x-original-url", "x-rewrite-url", "x-forwarded-prefix"}
    assert not (silent if site.name == "traefik" else {*silent, "x-real-ip"}) & seen.names()
    (origin,) = seen.all("X-Forwarded-For")  # to Envoy a client on loopback is the machine's own address
    assert str(ipaddress.ip_address(origin)) == site.gateway.lines[-1]["remote_ip"] != SOURCE


FRAMING = (b"content-length", b"transfer-encoding")
EMPTY = {b"content-length: 0"}


async def test_an_upload_reaches_the_transcriber_whole_and_the_gateway_not_at_all(site: Site) -> None:
    """Byte for byte, with a length and in chunks; on the wire to the gateway there is no byte of it."""
    body = b"AUDIO" * 600_000
    answer = await site.edge.ask("POST", "/v1/audio/transcriptions", [("Content-Type", "audio/wav")], body)
    assert answer.status == 200
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:70_000], body[70_000:])) + b"0\r\n\r\n"
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n"
        f"Authorization: Bearer {site.edge.key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    assert Answer.parse(await site.edge.raw(head + chunked)).status == 200
    assert [(seen.method, seen.body == body) for seen in site.seen] == [("POST", True), ("POST", True)]
    assert all(seen.head.startswith(b"POST /v1/audio/transcriptions HTTP/1.1\r\n") for seen in site.seen)
    assert b"AUDIO" not in site.tap.sent
    assert {line for line in bytes(site.tap.sent).lower().split(b"\r\n") if line.startswith(FRAMING)} <= EMPTY


async def test_an_upload_is_passed_on_while_it_arrives(site: Site) -> None:
    """The transcriber has the first half while the client still holds the second: nothing waits on nginx's disk."""
    half_there = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        assert await reader.readexactly(100_000) == b"1" * 100_000
        half_there.set()
        assert await reader.readexactly(100_000) == b"2" * 100_000
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    site.gateway.upstream.early = take
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: 200000\r\n\r\n" % site.edge.key.encode() + b"1" * 100_000
    )
    async with asyncio.timeout(30):
        await half_there.wait()
        writer.write(b"2" * 100_000)
        assert Answer.parse(await reader.read()).status == 204
    writer.close()


async def test_an_answer_is_passed_on_while_it_is_made(site: Site) -> None:
    """Server-sent events: the client reads the first one before the transcriber has written the second."""
    first_read = asyncio.Event()

    async def two_events(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        await first_read.wait()
        writer.write(b"data: 2\n\n")
        writer.close()

    site.gateway.upstream.respond = two_events
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    request = "GET /v1/models HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n"
    writer.write(f"{request}Authorization: Bearer {site.edge.key}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        await reader.readuntil(b"data: 1\n\n")
        first_read.set()
        assert b"data: 2\n\n" in await reader.read()
    writer.close()


async def test_a_principal_with_many_scopes_passes_whole(site: Site) -> None:
    """The gateway's answer may be larger than nginx's default room for a header, which would make a 500 of it."""
    scopes = frozenset({"transcribe", *(f"team:{number}:read" for number in range(400))})
    answer = await site.edge.ask(key=site.gateway.add_key(scopes=scopes))
    assert answer.status == 200
    assert set(site.seen[0].all("X-Auth-Scopes")[0].split()) == scopes


async def test_a_websocket_passes_and_no_other_upgrade_does(site: Site) -> None:
    """h2c would be a tunnel that nobody looks into."""

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if b"upgrade: websocket" not in head.lower():
            return False
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        writer.write(b"echo " + await reader.readexactly(5))
        await writer.drain()
        writer.close()
        return True

    site.gateway.upstream.early = switch
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    request = (
        "GET /v1/realtime HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    writer.write(f"{request}Authorization: Bearer {site.edge.key}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.write(b"hello")
        assert await reader.readexactly(10) == b"echo hello"
    writer.close()
    h2c = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")]
    plain = await site.edge.ask("GET", "/v1/models", h2c)
    assert plain.status == 200
    assert not [seen for seen in site.seen if {"upgrade", "http2-settings", "connection"} & seen.names()]


async def test_fifty_questions_travel_on_few_connections(site: Site) -> None:
    """Yes or no, the proxy keeps its connection to the gateway."""
    before = site.tap.connections
    kinds: list[dict[str, object]] = [{}, {"key": None}, {"target": "/nope"}, {"target": "/v1/models;x"}]
    answers = [await site.edge.ask(**kinds[number % 4]) for number in range(48)]
    assert [answer.status for answer in answers[:4]] == [200, 401, 404, 400]
    assert site.tap.connections - before <= (1 if site.name == "nginx" else 16)


OWN = ["/auth/login?next=/v1", "/account", "/account/keys", "/admin/users", "/platform/v1/me", "/.well-known/jwks.json"]


@pytest.mark.parametrize("target", OWN)
async def test_the_gateways_own_pages_are_reached_without_a_question(site: Site, target: str) -> None:
    """With the client's cookie, at the gateway and by its first door; nothing of it is the transcriber's."""
    answer = await site.edge.ask("GET", target, [("Cookie", "__Host-x=1"), ("X-Forwarded-For", "6.6.6.6")], key=None)
    line = site.gateway.lines[-1]
    assert (answer.status, line["door"], str(line["route"]).partition(".")[0]) == (200, "proxy", "portal")
    assert str(line["remote_ip"]) not in ("6.6.6.6", SOURCE)
    assert site.seen[-1].target == target
    assert site.seen[-1].all("Cookie") == ["__Host-x=1"]


async def test_a_browsers_key_among_the_subprotocols_stays_behind(site: Site) -> None:
    """The transcriber is offered what is left, and never the key; a stream without any is offered nothing."""
    upgrade = [
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]  # fmt: skip
    offers = [("Sec-WebSocket-Protocol", f"token, {site.edge.key}")]
    lines = ["GET /v1/realtime HTTP/1.1", "Host: gateway.test", *(": ".join(field) for field in [*upgrade, *offers])]
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    (seen,) = site.seen
    assert seen.all("Sec-WebSocket-Protocol") == ["token"]
    assert site.edge.key.encode() not in seen.head
    assert site.gateway.lines[-1]["status"] in (200, 202)


# --- refused: the client gets the gateway's own answer, the transcriber nothing ---------------------------------------


async def test_without_a_good_key_the_answer_is_the_gateways(site: Site) -> None:
    """401 with its challenge, whole: status, code, request id."""
    missing, bad = await site.edge.ask(key=None), await site.edge.ask(key="thk_live_bad")
    assert [(a.status, a.code) for a in (missing, bad)] == [(401, "missing_credential"), (401, "invalid_api_key")]
    assert [a["x-request-id"] for a in (missing, bad)] == [line["request_id"] for line in site.gateway.lines[-2:]]
    assert [a["cache-control"] for a in (missing, bad)] == ["no-store"] * 2
    assert missing["www-authenticate"] == 'Bearer realm="tahoe-gateway"'
    assert bad["www-authenticate"].startswith('Bearer realm="tahoe-gateway", error="invalid_token"')
    assert not site.seen


async def test_every_form_of_a_key_gets_through_to_the_gateway(site: Site) -> None:
    """A form that the proxy keeps from the gateway would be a client without a key."""
    key = site.edge.key
    forms = [("Authorization", f"Token {key}"), ("Authorization", key), ("X-API-Key", key), ("api-key", key),
             ("apikey", key), ("xi-api-key", key), ("x-gladia-key", key)]  # fmt: skip
    assert [(await site.edge.ask(headers=[form], key=None)).status for form in forms] == [200] * 7


NO = [
    ({"scopes": frozenset({"other"})}, "GET", "/v1/models", 403, "insufficient_scope"),
    ({"standing": Standing.TENANT_SUSPENDED}, "GET", "/v1/models", 403, "tenant_suspended"),
    ({"standing": Standing.REVOKED}, "GET", "/v1/models", 401, "api_key_revoked"),
    ({}, "GET", "/", 404, "unknown_route"),
    ({}, "POST", "/load", 404, "unknown_route"),
    ({}, "DELETE", "/v1/models", 405, "method_not_allowed"),
    ({}, "GET", "/auth/verify", 404, "unknown_route"),
    ({}, "GET", "/auth/verify/envoy/v1/models", 404, "unknown_route"),
    ({}, "GET", "/auth/verify/caddy", 404, "unknown_route"),
    ({}, "GET", "/auth/verify/traefik?x=/auth/login", 404, "unknown_route"),
    ({}, "GET", "/adminx", 404, "unknown_route"),
    ({}, "GET", f"/v1/models?api_key={mint_key(bytes(17))}", 400, "credential_in_query"),
]


@pytest.mark.parametrize(("changes", "method", "target", "status", "code"), NO)
async def test_a_refusal_has_its_true_status_and_code(
    site: Site, changes: dict[str, object], method: str, target: str, status: int, code: str
) -> None:
    """Default deny holds behind a proxy too, and the gateway's own paths are not to be had through it."""
    answer = await site.edge.ask(method, target, key=site.gateway.add_key(**changes))
    assert (answer.status, answer.code) == (status, code)
    (said,) = {refusal.message for refusal in Refusal if refusal.code == code}
    assert said in orjson.loads(answer.body)["error"]["message"]
    assert not site.seen


async def test_a_scope_that_is_missing_is_403_with_its_name(site: Site) -> None:
    """That nginx copies the challenge of a 401 alone is made good by the shipped file."""
    answer = await site.edge.ask(key=site.gateway.add_key(scopes=frozenset({"other"})))
    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert 'scope="transcribe"' in answer["www-authenticate"]
    assert not site.seen


async def test_past_the_limit_the_client_gets_429_and_learns_when_to_come_back(site: Site) -> None:
    key = site.gateway.add_key(key_rate=Rate(2, 60_000))
    answers = [await site.edge.ask(key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2]["ratelimit-policy"] == '"key-requests";q=2;w=60'
    assert answers[2]["ratelimit"].startswith('"key-requests";r=0;t=')
    assert 25 <= int(answers[2]["retry-after"]) <= 30
    assert orjson.loads(answers[2].body)["error"]["type"] == "rate_limit_exceeded"
    assert len(site.seen) == 2


async def test_a_refused_method_names_the_ones_allowed(site: Site) -> None:
    assert (await site.edge.ask("DELETE", "/v1/models"))["allow"] == "GET, HEAD"


async def test_a_browser_is_sent_to_the_login_page(site: Site) -> None:
    """And comes back from there; a program gets the 401, and so does a browser's own script."""
    html = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), ("Sec-Fetch-Mode", "navigate")]
    answer = await site.edge.ask("GET", "/v1/models?a=b&c", html, key=None)
    assert (answer.status, answer["location"]) == (302, "https://users.test/auth/login?next=/v1/models%3Fa%3Db%26c")
    assert (await site.edge.ask("GET", "/v1/models", html, key="thk_live_bad")).status == 401
    assert (await site.edge.ask("GET", "/v1/models", [html[0], ("Sec-Fetch-Mode", "cors")], key=None)).status == 401
    assert (await site.edge.ask("GET", "/v1/models", [("Accept", "*/*")], key=None)).status == 401
    assert not site.seen


async def test_a_peer_that_is_not_the_proxy_gets_no_decision(site: Site) -> None:
    """Asked directly, by somebody who also forges the proxy's headers."""
    forged = [("X-Forwarded-Uri", "/v1/models"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-For", SOURCE)]
    for path in ("/auth/verify/traefik", "/auth/verify/caddy", "/auth/verify/envoy/v1/models"):
        answer = await site.gateway.ask("GET", path, forged)
        assert (answer.status, answer.code) == (403, "untrusted_proxy")
        assert not any(answer.all(name) for name in IDENTITY)


async def test_an_upload_is_refused_before_it_is_sent(site: Site) -> None:
    """The client that holds its body back learns the refusal without sending a byte of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    request = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: gateway.test\r\n"
    writer.write(f"{request}Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):  # Envoy says it by itself
            head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert Answer.parse(head).status == 401
    assert not site.seen


async def test_stores_that_cannot_be_asked_are_503_and_never_401(site: Site) -> None:
    """Clients throw a key away on 401."""
    site.gateway.keys.down = True
    answer = await site.edge.ask(key=site.gateway.add_key())
    assert answer.status == 503
    assert site.name == "envoy" or answer.code == "registry_unavailable"  # Envoy keeps the body of a 5xx to itself
    assert not site.seen


# --- the gateway itself is in trouble: nothing passes -----------------------------------------------------------------

TROUBLE = {
    "hangs up": b"",
    "talks nonsense": b"SSH-2.0-OpenSSH_9.2\r\n",
    "breaks off in the header": b"HTTP/1.1 200 OK\r\nX-Tenant-",
    "fails": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("said", TROUBLE.values(), ids=TROUBLE.keys())
async def test_a_gateway_that_answers_anything_else_lets_nothing_pass(site: Site, said: bytes) -> None:
    """No answer, half an answer, a failure, and a redirect, which is an answer that refuses."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    site.tap.instead = say
    site.tap.hang_up()
    answer = await site.edge.ask()
    assert answer.status == 500 if site.name == "nginx" else 302 if b"302" in said else answer.status >= 500
    assert not site.seen


async def test_a_gateway_that_is_down_lets_nothing_pass(site: Site, tmp_path: Path) -> None:
    """The connection is refused: the client gets a 5xx."""
    async with tapped(site.gateway.port) as gone:
        closed = gone.port
    async with proxies.running(site.name, tmp_path, gateway=closed, transcriber=site.gateway.upstream.port) as port:
        answer = await replace(site.gateway, port=port).ask()
    assert answer.status >= 500
    assert not site.seen


async def test_a_gateway_that_does_not_trust_the_proxy_lets_nothing_pass(site: Site, tmp_path: Path) -> None:
    """A forgotten GATEWAY_TRUSTED_PROXIES closes the door and says why."""
    async with proxies.running(
        site.name, tmp_path, gateway=site.gateway.port, transcriber=site.gateway.upstream.port
    ) as port:
        answer = await replace(site.gateway, port=port).ask()
    assert (answer.status, answer.code) == (403, "untrusted_proxy")
    assert not site.seen

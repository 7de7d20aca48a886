"""The shipped ``forward-auth.conf`` on a real nginx, between a client, the gateway and a recording transcriber."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from gateway.forward_auth import Manners
from policies.headers import IDENTITY
from policies.limits import Rate
from tests.deploy import nginx
from tests.deploy.tap import SOURCE, Instead, Tap, tapped
from tests.gateway.harness import Answer, Gateway, Options, Seen, running


@dataclass(frozen=True, slots=True)
class Site:
    """``edge`` is the gateway as seen through nginx; ``tap`` is the wire between the two."""

    edge: Gateway
    gateway: Gateway
    tap: Tap

    @property
    def seen(self) -> list[Seen]:
        """What the transcriber got."""
        return self.gateway.upstream.seen


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    trusts_nginx = Options(trusted=(ipaddress.ip_network(SOURCE),))
    async with (
        running(trusts_nginx) as gateway,
        tapped(gateway.port) as tap,
        nginx.running(tmp_path, "forward-auth.conf", gateway=tap.port, transcriber=gateway.upstream.port) as port,
    ):
        yield Site(replace(gateway, port=port), gateway, tap)


# --- allowed ----------------------------------------------------------------------------------------------------------


async def test_the_transcriber_learns_who_is_asking_and_not_with_which_key(site: Site) -> None:
    """Identity and origin are there exactly once, the target byte for byte, every credential is gone."""
    answer = await site.edge.ask("GET", "/v1/models?a=%20b&c", [("Cookie", "session=1"), ("Api-Key", "x")])
    assert (answer.status, answer.body) == (200, b'{"text":"hello"}')
    (seen,) = site.seen
    assert (seen.method, seen.target, seen.all("Host")) == ("GET", "/v1/models?a=%20b&c", ["gateway.test"])
    assert {name: seen.all(name) for name in IDENTITY} == {
        "X-Tenant-ID": ["ten_a"],
        "X-User-ID": ["usr_a"],
        "X-API-Key-ID": ["key_1"],
        "X-Auth-Scopes": ["transcribe"],
        "X-Auth-Roles": ["member"],
        "X-Gateway-Assertion": [],
    }
    assert seen.all("X-Request-ID") == [answer["x-request-id"]] == [site.gateway.lines[0]["request_id"]]
    assert not {"authorization", "x-api-key", "api-key", "apikey", "cookie"} & seen.names()


SPELLINGS = (
    "X-Tenant-ID", "x-tenant-id", "X-TENANT-ID", "X_Tenant_ID", "X-Tenant_ID", "X.Tenant.ID", "X-User-ID", "x_user_id",
    "X-API-Key-ID", "X-Auth-Scopes", "X_Auth_Roles", "X-Auth-Status", "X-Gateway-Assertion", "X-Gateway_Assertion",
)  # fmt: skip


async def test_no_spelling_of_an_identity_header_lets_a_client_say_who_it_is(site: Site) -> None:
    """Also twice, and named in Connection (Traefik CVE-2024-45410): what arrives is the gateway's word or nothing."""
    forged = [(name, "forged") for name in SPELLINGS * 2]
    answer = await site.edge.ask("GET", "/v1/models", [*forged, ("Connection", "X-Tenant-ID, X-User-ID")])
    assert answer.status == 200
    (seen,) = site.seen
    assert b"forged" not in seen.head
    assert seen.all("X-Tenant-ID") == ["ten_a"]


async def test_an_identity_header_without_a_value_is_absent_and_not_the_clients(site: Site) -> None:
    """A key that belongs to no user and has no role: the gateway's empty values clear the client's copies."""
    key = site.gateway.add_key(user_id="", roles=())
    await site.edge.ask("GET", "/v1/models", [("X-User-ID", "forged"), ("X-Auth-Roles", "admin")], key=key)
    (seen,) = site.seen
    assert seen.all("X-User-ID") == seen.all("X-Auth-Roles") == []
    assert seen.all("X-Tenant-ID") == ["ten_a"]


CLAIMS = (
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Real-IP", "X-Original-URL", "X-Original-URI", "X-Original-Method",
    "X-Rewrite-URL", "X-HTTP-Method-Override",
)  # fmt: skip


async def test_what_only_a_proxy_may_claim_is_overwritten_on_both_sides(site: Site) -> None:
    """Neither the gateway nor the transcriber hears a client's word on where it comes from or what it asks for."""
    forged = [(name, "/v1/models") for name in CLAIMS]
    refused = await site.edge.ask("POST", "/load", forged)
    assert (refused.status, refused.code) == (404, "unknown_route")
    admitted = await site.edge.ask("GET", "/v1/models?real", forged)
    assert admitted.status == 200
    (seen,) = site.seen
    assert [seen.all(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")] == [
        ["127.0.0.1"],
        ["http"],
        ["gateway.test"],
    ]
    assert not {claim.lower() for claim in CLAIMS[4:]} & seen.names()
    assert site.gateway.lines[-1]["remote_ip"] == "127.0.0.1"
    heard = [
        tuple(line.split(": ")) for line in site.tap.sent.decode().split("\r\n") if line.startswith("X-Forwarded-")
    ]
    for name, said in (("For", "127.0.0.1"), ("Proto", "http"), ("Host", "gateway.test")):
        assert [value for header, value in heard if header == f"X-Forwarded-{name}"] == [said, said]


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
    assert b"content-length" not in site.tap.sent.lower()
    assert b"transfer-encoding" not in site.tap.sent.lower()


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
    async with asyncio.timeout(10):
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
    request = f"GET /v1/models HTTP/1.0\r\nHost: gateway.test\r\nAuthorization: Bearer {site.edge.key}\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"data: 1\n\n")).startswith(b"HTTP/1.1 200")
        first_read.set()
        assert await reader.read() == b"data: 2\n\n"
    writer.close()


async def test_a_principal_with_many_scopes_passes_whole(site: Site) -> None:
    """The gateway's answer may be larger than nginx's default room for a header, which would make a 500 of it."""
    scopes = frozenset({"transcribe", *(f"team:{number}:read" for number in range(400))})
    answer = await site.edge.ask(key=site.gateway.add_key(scopes=scopes))
    assert answer.status == 200
    assert set(site.seen[0].all("X-Auth-Scopes")[0].split()) == scopes


async def test_the_transcriber_gives_nginx_no_orders_and_the_client_no_identity(site: Site) -> None:
    """X-Accel-Redirect would have nginx answer with another location; who is asking is none of the client's news."""

    async def order(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /elsewhere\r\nX-Tenant-ID: ten_a\r\nX-Request-ID: theirs\r\n"
        )
        writer.write(b"Content-Length: 2\r\n\r\nhi")

    site.gateway.upstream.respond = order
    answer = await site.edge.ask()
    assert (answer.status, answer.body) == (200, b"hi")
    assert answer["x-request-id"] == site.gateway.lines[0]["request_id"]
    assert not answer.all("x-tenant-id")
    assert len(site.seen) == 1


async def test_fifty_questions_travel_on_one_connection(site: Site) -> None:
    """Yes or no, nginx keeps the connection to the gateway."""
    limited = site.gateway.add_key(key_rate=Rate(1, 86_400_000))
    kinds = [{}, {"key": None}, {"target": "/nope"}, {"target": "/v1/../x"}, {"key": limited}]
    answers = [await site.edge.ask(**kinds[number % 5]) for number in range(50)]
    assert [answer.status for answer in answers[:10]] == [200, 401, 404, 400, 200, 200, 401, 404, 400, 429]
    assert site.tap.connections == 1


async def test_a_websocket_passes_and_no_other_upgrade_does(site: Site) -> None:
    """h2c would be a tunnel that nobody looks into; it goes on as the plain request it also is."""

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if not {b"Upgrade: websocket", b"Connection: upgrade"} <= set(head.split(b"\r\n")):
            return False
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        writer.write(b"echo " + await reader.readexactly(5))
        writer.close()
        return True

    site.gateway.upstream.early = switch
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    request = "GET /v1/realtime HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    writer.write(f"{request}Authorization: Bearer {site.edge.key}\r\n\r\nhello".encode())
    async with asyncio.timeout(10):
        assert (await reader.read()).endswith(b"\r\n\r\necho hello")
    writer.close()
    plain = await site.edge.ask(
        "GET",
        "/v1/models",
        [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")],
    )
    assert plain.status == 200
    assert not {"upgrade", "http2-settings", "connection"} & site.seen[-1].names()


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
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    (seen,) = site.seen
    assert seen.all("Sec-WebSocket-Protocol") == ["token"]
    assert site.edge.key.encode() not in seen.head
    assert site.gateway.lines[-1]["status"] in (200, 202)


# --- refused: the client gets the true status, the transcriber gets nothing -------------------------------------------


async def test_without_a_good_key_the_answer_is_401_with_the_gateways_challenge(site: Site) -> None:
    """RFC 6750 section 3.1: no error code where no credential was sent."""
    missing, bad = await site.edge.ask(key=None), await site.edge.ask(key="thk_live_bad")
    assert [(a.status, a.code) for a in (missing, bad)] == [(401, "missing_credential"), (401, "invalid_api_key")]
    assert [a["x-request-id"] for a in (missing, bad)] == [line["request_id"] for line in site.gateway.lines]
    assert [a["cache-control"] for a in (missing, bad)] == ["no-store"] * 2
    assert missing["www-authenticate"] == 'Bearer realm="tahoe-gateway"'
    assert bad["www-authenticate"].startswith('Bearer realm="tahoe-gateway", error="invalid_token"')
    assert not site.seen


async def test_a_scope_that_is_missing_is_403_with_its_name(site: Site) -> None:
    """That nginx copies the challenge of a 401 alone is made good by the shipped file."""
    answer = await site.edge.ask(key=site.gateway.add_key(scopes=frozenset({"other"})))
    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert 'scope="transcribe"' in answer["www-authenticate"]
    assert not site.seen


async def test_past_the_limit_the_client_gets_429_and_learns_when_to_come_back(site: Site) -> None:
    """auth_request knows no 429; the true status comes back with Retry-After and the RateLimit fields."""
    key = site.gateway.add_key(key_rate=Rate(2, 60_000))
    answers = [await site.edge.ask(key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer["ratelimit-policy"] for answer in answers] == ['"key-requests";q=2;w=60'] * 3
    assert answers[0]["ratelimit"].startswith('"key-requests";r=1;t=')
    assert answers[2]["ratelimit"].startswith('"key-requests";r=0;t=')
    assert 25 <= int(answers[2]["retry-after"]) <= 30
    assert orjson.loads(answers[2].body)["error"]["type"] == "rate_limit_exceeded"
    assert len(site.seen) == 2


async def test_a_refused_method_names_the_ones_allowed(site: Site) -> None:
    assert (await site.edge.ask("DELETE", "/v1/models"))["allow"] == "GET, HEAD"


async def test_a_browser_is_sent_to_the_login_page(tmp_path: Path) -> None:
    """auth_request knows no redirect; the 401's Location becomes one."""
    options = Options(trusted=(ipaddress.ip_network("127.0.0.1"),), manners=Manners(login_base="https://users.test"))
    async with (
        running(options) as gateway,
        nginx.running(tmp_path, "forward-auth.conf", gateway=gateway.port, transcriber=gateway.upstream.port) as port,
    ):
        edge = replace(gateway, port=port)
        answer = await edge.ask("GET", "/v1/models?a=b", [("Accept", "text/html")], key=None)
        assert (answer.status, answer["location"]) == (302, "https://users.test/auth/login?next=/v1/models%3Fa%3Db")
        program = await edge.ask("GET", "/v1/models", [("Accept", "*/*")], key=None)
        assert (program.status, program.code) == (401, "missing_credential")
        assert not gateway.upstream.seen


CLOSED = [
    ("GET", "/", 404, "unknown_route"),
    ("POST", "/load", 404, "unknown_route"),
    ("GET", "/auth/verify", 404, "unknown_route"),
    ("DELETE", "/v1/models", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "target", "status", "code"), CLOSED)
async def test_what_no_route_names_is_closed_even_to_a_good_key(
    site: Site, method: str, target: str, status: int, code: str
) -> None:
    """Default deny holds behind nginx too, and the gateway's own paths are not to be had through it."""
    answer = await site.edge.ask(method, target)
    assert (answer.status, answer.code) == (status, code)
    assert not site.seen


OWN = ["/auth/login?next=/v1", "/account", "/account/keys", "/admin/users", "/platform/v1/me", "/.well-known/jwks.json"]


async def test_the_gateways_own_pages_are_reached_without_a_question(site: Site) -> None:
    """With the client's cookie, at the gateway and by its first door; nothing of it is the transcriber's."""
    for target in OWN:
        fields = [("Cookie", "__Host-x=1"), ("X-Forwarded-For", "6.6.6.6")]
        answer = await site.edge.ask("GET", target, fields, key=None)
        line = site.gateway.lines[-1]
        assert (answer.status, line["door"], str(line["route"]).partition(".")[0]) == (200, "proxy", "portal")
        assert line["remote_ip"] == "127.0.0.1"
        assert (site.seen[-1].target, site.seen[-1].all("Cookie")) == (target, ["__Host-x=1"])


@pytest.mark.parametrize(
    "target", ["/auth/verify", "/auth/verify/caddy", "/auth/./verify", "/x/../auth/verify", "/auth%2fverify", "/adminx"]
)
async def test_where_nginx_asks_no_client_can(site: Site, target: str) -> None:
    """P-12: through nginx he would be a trusted peer, and could have his own question answered."""
    forged = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET"), ("X-Forwarded-Uri", "/v1/models")]
    answer = await site.edge.ask("GET", target, [*forged, ("X-Forwarded-Method", "GET")])
    assert answer.status in (400, 404)
    assert not site.seen


AMBIGUOUS = (
    "/v1/../v1/models", "/v1/./models", "//v1/models", "/v1//models", "/v1/%2e%2e/v1/models", "/v1/%2E/models",
    "/v1%2fmodels", "/v1/%6dodels", "/v1/models;x=1", "/v1\\models", "/v1/models#x", "/v1/models%00", "/v1/models%",
)  # fmt: skip


@pytest.mark.parametrize("target", AMBIGUOUS)
async def test_a_path_with_two_readings_is_refused_although_nginx_would_normalise_it(site: Site, target: str) -> None:
    """The gateway judges what the client sent, not what nginx makes of it."""
    answer = await site.edge.ask("GET", target)
    assert 400 <= answer.status < 500
    assert not site.seen


@pytest.mark.parametrize("target", ["/_tahoe/verify", "/x/../_tahoe/verify", "/%5ftahoe/verify"])
async def test_the_question_itself_cannot_be_asked_from_outside(site: Site, target: str) -> None:
    """The location is internal, whatever the spelling of the path that leads there."""
    answer = await site.edge.ask("GET", target)
    assert answer.status == 404
    assert not site.seen


async def test_a_peer_that_is_not_the_proxy_gets_no_decision(site: Site) -> None:
    """Asked directly, by somebody who also forges nginx's headers: 403, and the key is not even looked at."""
    forged = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET"), ("X-Forwarded-For", SOURCE)]
    answer = await site.gateway.ask("GET", "/auth/verify", forged)
    assert (answer.status, answer["x-auth-code"]) == (403, "untrusted_proxy")
    assert not any(answer.all(name) for name in IDENTITY)
    assert site.gateway.keys.asked == 0


async def test_an_upload_is_refused_before_it_is_sent(site: Site) -> None:
    """The client that holds its body back learns the refusal without sending a byte of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.edge.port)
    request = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: gateway.test\r\n"
    writer.write(f"{request}Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):
            head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert Answer.parse(head).status == 401
    assert not site.seen


async def test_an_upload_that_is_under_way_is_refused_with_an_answer(site: Site) -> None:
    """Megabytes that nobody will read do not turn the 401 into a broken connection."""
    answer = await site.edge.ask("POST", "/v1/audio/transcriptions", body=b"x" * 4_000_000, key=None)
    assert answer.status == 401
    assert not site.seen


async def test_stores_that_cannot_be_asked_are_503_and_never_401(site: Site) -> None:
    """Clients throw a key away on 401."""
    site.gateway.keys.down = True
    answer = await site.edge.ask()
    assert (answer.status, answer.code) == (503, "registry_unavailable")
    assert not site.seen


# --- the gateway itself is in trouble: nothing passes -----------------------------------------------------------------


def _says(answer: bytes) -> Instead:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    return say


TROUBLE = {
    "hangs up": b"",
    "talks nonsense": b"SSH-2.0-OpenSSH_9.2\r\n",
    "breaks off in the header": b"HTTP/1.1 200 OK\r\nX-Tenant-",
    "fails": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("said", TROUBLE.values(), ids=TROUBLE.keys())
async def test_a_gateway_that_answers_anything_else_lets_nothing_pass(site: Site, said: bytes) -> None:
    """No answer, half an answer and a wrong answer are all a 500 at the client."""
    site.tap.instead = _says(said)
    answer = await site.edge.ask()
    assert answer.status == 500
    assert not site.seen


async def test_a_gateway_that_is_down_lets_nothing_pass(tmp_path: Path) -> None:
    """The connection is refused: 500 at the client."""
    async with running() as gateway:
        async with tapped(gateway.port) as gone:
            closed = gone.port
        async with nginx.running(
            tmp_path, "forward-auth.conf", gateway=closed, transcriber=gateway.upstream.port
        ) as port:
            answer = await replace(gateway, port=port).ask()
        assert answer.status == 500
        assert not gateway.upstream.seen


async def test_a_gateway_that_does_not_trust_nginx_lets_nothing_pass(tmp_path: Path) -> None:
    """A forgotten GATEWAY_TRUSTED_PROXIES closes the door and says why."""
    async with (
        running() as gateway,
        nginx.running(tmp_path, "forward-auth.conf", gateway=gateway.port, transcriber=gateway.upstream.port) as port,
    ):
        answer = await replace(gateway, port=port).ask()
        assert (answer.status, answer.code) == (403, "untrusted_proxy")
        assert not gateway.upstream.seen

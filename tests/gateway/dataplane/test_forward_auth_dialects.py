"""The dialects of Traefik, Caddy and Envoy at the second door, and the manners that an operator may choose."""

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from gateway.dataplane.forward_auth import Manners
from policies.http.headers import CREDENTIALS, IDENTITY
from policies.identity.principals import Method, Standing
from policies.limits.rates import Rate
from tests.gateway.harness import PRINCIPAL, Answer, Gateway, Options, running

HERE = ipaddress.ip_network("127.0.0.0/8")
PAGE = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")]
DIALECTS = ["traefik", "caddy", "envoy"]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(trusted=(HERE,), manners=Manners(login_base="https://users.test"))) as made:
        yield made


async def verify(
    gateway: Gateway, dialect: str, target: str = "/v1/models", method: str = "GET", *extra: tuple[str, str],
    key: str | None = "",
) -> Answer:  # fmt: skip
    """Ask as the proxy of that name does."""
    if dialect == "envoy":
        answer = await gateway.ask(method, f"/auth/verify/envoy{target}", extra, key=key)
    else:
        fields = [("X-Forwarded-Method", method), ("X-Forwarded-Uri", target), ("X-Forwarded-Host", "api.test"), *extra]
        answer = await gateway.ask("GET", f"/auth/verify/{dialect}", fields, key=key)
    assert answer["x-request-id"] == gateway.lines[-1]["request_id"]
    assert answer["cache-control"] == "no-store"
    assert gateway.lines[-1]["door"] == "forward_auth"
    assert not gateway.upstream.seen
    return answer


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_yes_is_200_without_a_body_and_with_every_identity_header(gateway: Gateway, dialect: str) -> None:
    """Empty where there is no value: a header that is absent lets the client's copy through (Caddy CVE-2026-30851)."""
    key = gateway.add_key(user_id="", roles=())
    answer = await verify(gateway, dialect, "/v1/models?a=b", "GET", ("X-User-ID", "forged"), key=key)
    assert (answer.status, answer.body) == (200, b"")
    assert {name: answer[name] for name in IDENTITY} == {
        "X-Tenant-ID": "ten_a", "X-User-ID": "", "X-API-Key-ID": "key_2", "X-Auth-Scopes": "transcribe",
        "X-Auth-Roles": "", "X-Gateway-Assertion": "",
    }  # fmt: skip
    line = gateway.lines[-1]
    assert (line["method"], line["path"], line["route"], line["status"]) == ("GET", "/v1/models", "openai.models", 200)


async def test_envoy_is_told_to_take_the_credentials_away(gateway: Gateway) -> None:
    """The other proxies have no such header, and are not sent it."""
    named = (await verify(gateway, "envoy"))["x-envoy-auth-headers-to-remove"]
    assert named.split(", ") == list(CREDENTIALS)
    assert not (await verify(gateway, "caddy")).all("x-envoy-auth-headers-to-remove")


NO = [
    ({"standing": Standing.REVOKED}, "/v1/models", "GET", 401, "api_key_revoked"),
    ({"standing": Standing.USER_DISABLED}, "/v1/models", "GET", 403, "user_disabled"),
    ({"scopes": frozenset()}, "/v1/models", "GET", 403, "insufficient_scope"),
    ({}, "/load", "POST", 404, "unknown_route"),
    ({}, "/v1/models", "DELETE", 405, "method_not_allowed"),
    ({}, "/v1/audio/transcriptions", "GET", 405, "method_not_allowed"),
    ({}, "/v1/models;x", "GET", 400, "ambiguous_target"),
    ({}, "/v1/%2e%2e/v1/models", "GET", 400, "ambiguous_target"),
    ({}, "//v1/models", "GET", 400, "ambiguous_target"),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("changes", "target", "method", "status", "code"), NO)
async def test_no_is_the_answer_that_the_first_door_would_give(
    gateway: Gateway, dialect: str, changes: dict[str, object], target: str, method: str, status: int, code: str
) -> None:
    """These proxies hand it on whole: status, body, challenge, Allow."""
    key = gateway.add_key(**changes)
    answer = await verify(gateway, dialect, target, method, key=key)
    assert (answer.status, answer.code) == (status, code)
    direct = await gateway.ask(method, target, key=key)
    assert (direct.status, direct.code) == (status, code)
    for name in ("www-authenticate", "allow", "content-type"):
        assert answer.all(name) == direct.all(name)
    assert not {name.lower() for name in IDENTITY} & {name for name, _ in answer.headers}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_person_before_a_browser_gets_a_page(gateway: Gateway, dialect: str) -> None:
    """Which the proxy hands on: its links lead to our own host, and a program's refusal stays what it was."""
    key = gateway.add_key(scopes=frozenset())
    page = await verify(gateway, dialect, "/v1/models", "GET", *PAGE, key=key)
    assert (page.status, page["content-type"]) == (403, "text/html; charset=utf-8")
    assert 'href="https://users.test/account"' in page.body.decode()
    assert "default-src 'none'" in page["content-security-policy"]
    assert (await verify(gateway, dialect, "/v1/models", "GET", key=key)).code == "insufficient_scope"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_limit_is_429_and_a_store_that_is_down_503(gateway: Gateway, dialect: str) -> None:
    key = gateway.add_key(key_rate=Rate(1, 60_000))
    first, second = [await verify(gateway, dialect, key=key) for _ in range(2)]
    assert (first.status, first["ratelimit-policy"]) == (200, '"key-requests";q=1;w=60')
    assert (second.status, second.code) == (429, "rate_limit_exceeded")
    assert 0 < int(second["retry-after"]) <= 60
    gateway.keys.down = True
    down = await verify(gateway, dialect, key=gateway.add_key())
    assert (down.status, down.code, down["retry-after"]) == (503, "registry_unavailable", "2")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_browser_without_a_credential_is_sent_to_sign_in(gateway: Gateway, dialect: str) -> None:
    answer = await verify(gateway, dialect, "/v1/models?a=b", "GET", *PAGE, key=None)
    assert (answer.status, answer["location"]) == (302, "https://users.test/auth/login?next=/v1/models%3Fa%3Db")
    assert (answer.body, gateway.lines[-1]["status"], gateway.lines[-1]["code"]) == (b"", 302, "missing_credential")
    for key, target, method in ((None, "/v1/audio/transcriptions", "POST"), ("bad", "/v1/models", "GET")):
        assert (await verify(gateway, dialect, target, method, *PAGE, key=key)).status == 401
    assert (await verify(gateway, dialect, "/nowhere", "GET", *PAGE, key=None)).status == 404


async def test_nginx_learns_where_to_send_a_browser_beside_its_401(gateway: Gateway) -> None:
    """It would make a 500 of a redirect."""
    fields = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]
    answer = await gateway.ask("GET", "/auth/verify", [*fields, *PAGE], key=None)
    assert (answer.status, answer["location"]) == (401, "https://users.test/auth/login?next=/v1/models")
    assert not (await gateway.ask("GET", "/auth/verify", fields, key=None)).all("location")
    wrong = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "DELETE")]
    refused = await gateway.ask("GET", "/auth/verify", wrong)
    assert (refused.status, refused["x-auth-status"], refused["allow"]) == (403, "405", "GET, HEAD")


@pytest.mark.parametrize(("status", "said"), [(200, [200, 200, 200, 200]), (202, [202, 202, 202, 200])])
async def test_the_status_of_a_yes_is_a_setting_except_to_envoy(status: int, said: list[int]) -> None:
    """oauth2-proxy says 202; Envoy takes that for a refusal."""
    async with running(Options(trusted=(HERE,), manners=Manners(status=status))) as gateway:
        fields = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]
        answers = [await gateway.ask("GET", "/auth/verify", fields)]
        answers += [await verify(gateway, dialect) for dialect in DIALECTS]
        assert [answer.status for answer in answers] == said
        assert [line["status"] for line in gateway.lines] == said
        assert (await gateway.ask("GET", "/auth/verify", fields, key=None)).status == 401


async def test_the_headers_of_oauth2_proxy_are_a_setting() -> None:
    """Always all of them, so that none of the client's survives; the groups are the roles, with commas."""
    names = ("User", "Email", "Groups", "Preferred-Username")
    async with running(Options(trusted=(HERE,), manners=Manners(oauth2_proxy=True))) as gateway:
        answer = await verify(gateway, "caddy", key=gateway.add_key(roles=("owner", "member")))
        values = [answer[f"X-Auth-Request-{name}"] for name in names]
        assert values == ["usr_a", "", "owner,member", "usr_a"]
        machine = await verify(gateway, "caddy", key=gateway.add_key(user_id="", roles=()))
        assert [machine[f"X-Auth-Request-{name}"] for name in names] == ["key_3", "", "", "key_3"]
    async with running(Options(trusted=(HERE,))) as gateway:
        assert not (await verify(gateway, "caddy")).all("X-Auth-Request-User")


TRAEFIK_ASKS = """\
GET /auth/verify/traefik HTTP/1.1
Host: 127.0.0.1:9200
User-Agent: OpenAI/Python 3.57.0
Accept: application/json
Accept-Encoding: gzip, deflate
Authorization: Bearer {key}
Content-Type: multipart/form-data; boundary=d1
Expect: 100-continue
X-Forwarded-For: 192.0.2.7
X-Forwarded-Host: api.test
X-Forwarded-Method: POST
X-Forwarded-Port: 443
X-Forwarded-Proto: https
X-Forwarded-Server: edge-1
X-Forwarded-Uri: /v1/audio/transcriptions?x=%2F
X-Real-Ip: 192.0.2.7
X-Stainless-Retry-Count: 0

"""
ENVOY_ASKS = """\
POST /auth/verify/envoy/v1/audio/transcriptions?x=%2F HTTP/1.1
host: api.test
content-length: 0
authorization: Bearer {key}
x-forwarded-for: 192.0.2.7
x-forwarded-proto: https
x-envoy-internal: true
x-envoy-expected-rq-timeout-ms: 10000
user-agent: OpenAI/Python 3.57.0

"""
CADDY_ASKS = """\
GET /auth/verify/caddy HTTP/1.1
Host: api.test
User-Agent: OpenAI/Python 3.57.0
Authorization: Bearer {key}
Content-Type: multipart/form-data; boundary=d1
Via: 1.1 Caddy
X-Forwarded-For: 192.0.2.7
X-Forwarded-Host: api.test
X-Forwarded-Method: POST
X-Forwarded-Proto: https
X-Forwarded-Uri: /v1/audio/transcriptions?x=%2F
Accept-Encoding: gzip

"""


@pytest.mark.parametrize("recorded", [TRAEFIK_ASKS, ENVOY_ASKS, CADDY_ASKS], ids=["traefik", "envoy", "caddy"])
async def test_what_each_proxy_puts_on_the_wire_is_understood(gateway: Gateway, recorded: str) -> None:
    """As recorded, byte for byte; the connection is kept for the next question."""
    data = recorded.format(key=gateway.key).replace("\n", "\r\n").encode()
    answers = []
    rest = await gateway.raw(data * 2 + b"GET /auth/verify HTTP/1.0\r\n\r\n")
    while rest:
        answers.append(Answer.parse(rest))
        rest = answers[-1].rest
    assert [answer.status for answer in answers] == [200, 200, 403]
    assert [answer["x-tenant-id"] for answer in answers[:2]] == ["ten_a"] * 2
    line = gateway.lines[0]
    assert (line["method"], line["path"], line["remote_ip"], line["bytes_in"]) == (
        "POST", "/v1/audio/transcriptions", "192.0.2.7", 0,
    )  # fmt: skip


async def test_a_question_about_head_gets_no_body_from_where_it_is_asked_with_head(gateway: Gateway) -> None:
    """Envoy asks with the request's own method, the others with GET."""
    by_head = await verify(gateway, "envoy", "/nowhere", "HEAD")
    assert (by_head.status, by_head.body) == (404, b"")
    assert int(by_head["content-length"]) > 0
    by_get = await verify(gateway, "traefik", "/nowhere", "HEAD")
    assert orjson.loads(by_get.body)["error"]["code"] == "unknown_route"


async def test_an_upgrade_is_a_question_like_any_other(gateway: Gateway) -> None:
    """Should a proxy repeat the client's Upgrade, the answer ends the connection: nobody reads two protocols on it."""
    upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
    answer = await verify(gateway, "caddy", "/v1/realtime", "GET", *upgrade)
    assert (answer.status, answer["connection"]) == (200, "close")


OFFERS = [
    ("token, {key}", "token"),
    ("realtime, openai-insecure-api-key.{key}", "realtime"),
    ("bearer, {key}, x-session, 7", "bearer, x-session, 7"),
    ("xai-client-secret.{key}", ""),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("offered", "left"), OFFERS)
async def test_a_key_among_the_subprotocols_is_taken_out_for_the_proxy_to_send_on(
    gateway: Gateway, dialect: str, offered: str, left: str
) -> None:
    """The proxy carries the stream, and would send a browser's key on to the transcriber."""
    fields = ("Sec-WebSocket-Protocol", offered.format(key=gateway.key))
    answer = await verify(gateway, dialect, "/v1/realtime", "GET", fields, key=None)
    assert (answer.status, answer["sec-websocket-protocol"]) == (200, left)
    assert not (await verify(gateway, dialect, "/v1/realtime")).all("sec-websocket-protocol")


SESSION = "s" * 43
STREAM, POST = ("/v1/realtime", "GET"), ("/v1/audio/transcriptions", "POST")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("asked", "extra", "status"),
    [
        (("/v1/models", "GET"), (), 200),
        (("/v1/models", "GET"), (("Origin", "https://evil.test"),), 200),
        (STREAM, (("Origin", "https://users.test"),), 200),
        (STREAM, (("Origin", "https://evil.test"),), 403),
        (STREAM, (("Origin", "null"),), 403),
        (STREAM, (), 403),
        (POST, (("Origin", "https://evil.test"),), 403),
        (POST, (), 403),
    ],
)
async def test_a_session_opens_what_its_own_pages_ask_for(
    dialect: str, asked: tuple[str, str], extra: tuple[tuple[str, str], ...], status: int
) -> None:
    """C-01, W-01 (Eclipse Che CVE-2020-14368): here as at the first door, though proxies say nothing of the upgrade."""
    options = Options(trusted=(HERE,), manners=Manners(login_base="https://users.test"))
    async with running(options) as gateway:
        person = replace(PRINCIPAL, method=Method.SESSION, key_id="", user_id="usr_ada")
        gateway.sessions.by_secret[SESSION.encode()] = person
        cookie = ("Cookie", f"tahoe_session={SESSION}")
        answer = await verify(gateway, dialect, *asked, cookie, *extra, key=None)
        assert answer.status == status
        if status == 200:
            assert (answer["x-user-id"], answer["x-api-key-id"]) == ("usr_ada", "")
        else:
            assert answer.code in ("origin_not_allowed", "cross_site_request")


PATHS = ["/auth/verify/", "/auth/verify/nginx", "/auth/verify/traefik/x", "/auth/verify/Caddy", "/auth/verify/envoyx",
         "/auth/verifyx", "/auth/verify/envoy;/v1/models", "/auth/verify/envoy//v1/models"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_like_a_dialects_path_is_one(gateway: Gateway, path: str) -> None:
    """An unknown or an ambiguous path; never a yes, and nothing to trouble the portal with."""
    fields = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/v1/models"), ("X-Original-URI", "/v1/models")]
    answer = await gateway.ask("GET", path, [*fields, ("X-Original-Method", "GET")])
    assert answer.status in (400, 404)
    assert not gateway.upstream.seen


OWN = ["/auth/login", "/auth/verify", "/account", "/account/keys", "/admin", "/admin/users", "/platform/v1/me",
       "/.well-known/jwks.json", "/v3/token"]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", OWN)
async def test_the_gateways_own_pages_are_closed_to_what_stands_behind_a_proxy(
    gateway: Gateway, dialect: str, target: str
) -> None:
    """They are open in the gateway, which looks after them; a service's own /admin is another thing altogether."""
    for key in ("", None):
        answer = await verify(gateway, dialect, target, key=key)
        assert (answer.status, gateway.lines[-1]["code"]) == (404, "unknown_route")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stranger_gets_no_answer(dialect: str) -> None:
    """P-12: whatever he asks about, and before his key is looked at."""
    async with running() as gateway:
        for target, extra in (("/v1/models", ()), ("/nowhere", ()), ("/v1/models", PAGE)):
            answer = await verify(gateway, dialect, target, "GET", *extra, key=None if extra else "")
            assert (answer.status, answer.code) == (403, "untrusted_proxy")
        assert gateway.keys.asked == 0


async def test_while_draining_questions_are_still_answered(gateway: Gateway) -> None:
    """The proxy's own traffic goes on until the proxy asks somebody else."""
    gateway.proxy.draining = True
    assert [(await verify(gateway, dialect)).status for dialect in DIALECTS] == [200] * 3

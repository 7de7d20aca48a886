"""The second door: what a proxy is told, in the nginx dialect, and that nothing unreadable is ever let through."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dataplane.forward_auth import Manners
from policies.http.headers import IDENTITY
from policies.http.tickets import TICKET_BYTES, Ticket, mint_ticket
from policies.identity.principals import Standing
from policies.limits.rates import Rate
from policies.routing.route_table import RouteTable
from tests.gateway.harness import PEPPER, Answer, Gateway, Options, digest, running

HERE = ipaddress.ip_network("127.0.0.0/8")
ELSEWHERE = ipaddress.ip_network("10.0.0.0/8")
MODELS = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET")]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway that trusts the test to be a proxy."""
    async with running(Options(trusted=(HERE,))) as made:
        yield made


async def verify(
    gateway: Gateway, headers: Sequence[tuple[str, str]], *, key: str | None = "", method: str = "GET"
) -> Answer:
    """Ask as nginx does; the answer is checked for what every answer of this door has in common."""
    answer = await gateway.ask(method, "/auth/verify", headers, key=key)
    assert answer.status in (200, 401, 403)
    assert (answer["content-length"], answer.body) == ("0", b"")  # a body ends nginx's keep-alive to us
    assert answer["cache-control"] == "no-store"
    assert answer["x-request-id"] == gateway.lines[-1]["request_id"]
    assert gateway.lines[-1]["door"] == "forward_auth"
    if answer.status != 200:
        assert int(answer["x-auth-status"]) >= 400
        assert not {name.lower() for name in IDENTITY} & {name for name, _ in answer.headers}
    assert not gateway.upstream.seen
    return answer


async def test_yes_carries_the_whole_identity(gateway: Gateway) -> None:
    """Every managed header, present whatever its value; the proxy copies them over whatever the client sent."""
    answer = await verify(gateway, MODELS)
    assert answer.status == 200
    assert {name: answer[name] for name in IDENTITY} == {
        "X-Tenant-ID": "ten_a", "X-User-ID": "usr_a", "X-API-Key-ID": "key_1", "X-Auth-Scopes": "transcribe",
        "X-Auth-Roles": "member", "X-Gateway-Assertion": "",
    }  # fmt: skip


async def test_what_a_principal_lacks_is_said_empty(gateway: Gateway) -> None:
    """H-03, H-11 (Caddy CVE-2026-30851): a header that is absent would let the client's own copy through."""
    key = gateway.add_key(user_id="", roles=())
    answer = await verify(gateway, [*MODELS, ("X-User-ID", "forged"), ("X-Auth-Roles", "admin")], key=key)
    assert (answer["X-User-ID"], answer["X-Auth-Roles"], answer["X-Gateway-Assertion"]) == ("", "", "")


async def test_a_public_route_is_anonymous() -> None:
    """Everything empty, with a good key or without any."""
    table = {"routes": [{"name": "open", "path": "/open", "methods": ["GET"], "access": "public"}]}
    async with running(Options(routes=RouteTable.compile(table), trusted=(HERE,))) as gateway:
        for key in (None, ""):
            answer = await verify(gateway, [("X-Original-URI", "/open"), ("X-Original-Method", "GET")], key=key)
            assert answer.status == 200
            assert [answer[name] for name in IDENTITY] == [""] * len(IDENTITY)


@pytest.mark.parametrize(
    "connection", ["X-Tenant-ID", "close, x-tenant-id", "X-Auth-Roles, X-User-ID", "X-Original-URI"]
)
async def test_connection_cannot_name_the_identity_away(gateway: Gateway, connection: str) -> None:
    """H-04: neither the answer's headers nor the question's."""
    answer = await verify(gateway, [*MODELS, ("Connection", connection)])
    assert (answer.status, answer["x-tenant-id"], answer["x-user-id"]) == (200, "ten_a", "usr_a")
    assert answer.all("connection") == ["close"]


NO = [
    ({"standing": Standing.REVOKED}, 401, 401, "api_key_revoked"),
    ({"expires_ms": 1}, 401, 401, "api_key_expired"),
    ({"standing": Standing.TENANT_SUSPENDED}, 403, 403, "tenant_suspended"),
    ({"standing": Standing.USER_DISABLED}, 403, 403, "user_disabled"),
    ({"scopes": frozenset()}, 403, 403, "insufficient_scope"),
    ({"denied_routes": frozenset({"openai.models"})}, 403, 403, "route_denied"),
]


@pytest.mark.parametrize(("changes", "status", "true", "code"), NO, ids=[code for *_, code in NO])
async def test_no_says_why(gateway: Gateway, changes: dict[str, object], status: int, true: int, code: str) -> None:
    """401 or 403, the true status and the stable code beside it; a 401 challenges."""
    answer = await verify(gateway, MODELS, key=gateway.add_key(**changes))
    assert (answer.status, answer["x-auth-status"], answer["x-auth-code"]) == (status, str(true), code)
    assert bool(answer.all("www-authenticate")) == (status == 401 or code == "insufficient_scope")


async def test_no_credential_is_401_and_a_bad_one_too(gateway: Gateway) -> None:
    for key, code in ((None, "missing_credential"), ("nonsense", "invalid_api_key")):
        answer = await verify(gateway, MODELS, key=key)
        assert (answer.status, answer["x-auth-code"]) == (401, code)
        assert answer["www-authenticate"].startswith("Bearer realm=")


async def test_two_credentials_are_403(gateway: Gateway) -> None:
    answer = await verify(gateway, [*MODELS, ("X-API-Key", "other")])
    assert (answer.status, answer["x-auth-status"]) == (403, "400")


async def test_a_limit_is_403_with_its_true_status(gateway: Gateway) -> None:
    """Nginx would make a bare 500 of a 429; ``error_page`` restores it from what is said beside it."""
    key = gateway.add_key(key_rate=Rate(1, 60_000))
    allowed = await verify(gateway, MODELS, key=key)
    assert (allowed.status, allowed["ratelimit-policy"]) == (200, '"key-requests";q=1;w=60')
    answer = await verify(gateway, MODELS, key=key)
    assert (answer.status, answer["x-auth-status"], answer["x-auth-code"]) == (403, "429", "rate_limit_exceeded")
    assert 0 < int(answer["retry-after"]) <= 60
    assert answer["ratelimit"].startswith('"key-requests";r=0')


async def test_our_own_failure_is_403_and_never_200(gateway: Gateway) -> None:
    """With 503 beside it: stores down, journal full."""
    gateway.keys.down = True
    answer = await verify(gateway, MODELS)
    assert (answer.status, answer["x-auth-status"], answer["x-auth-code"]) == (403, "503", "registry_unavailable")
    gateway.keys.down = False
    gateway.journal.full = True
    answer = await verify(gateway, MODELS)
    assert (answer.status, answer["x-auth-status"]) == (403, "503")


async def test_what_no_route_names_is_403(gateway: Gateway) -> None:
    """404 and 405 beside it; HEAD obeys its route."""
    for target, method, true in (
        ("/load", "GET", "404"), ("/v1/models", "DELETE", "405"), ("/v1/audio/transcriptions", "HEAD", "405"),
        ("/v1/models", "get", "405"), ("/v1/models", "CONNECT", "405"), ("/auth/verify", "GET", "404"),
    ):  # fmt: skip
        answer = await verify(gateway, [("X-Original-URI", target), ("X-Original-Method", method)])
        assert (answer.status, answer["x-auth-status"]) == (403, true), (target, method)
    assert (await verify(gateway, [("X-Original-URI", "/v1/models"), ("X-Original-Method", "HEAD")])).status == 200


UNREADABLE: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "no method": [("X-Original-URI", "/v1/models")],
    "no target": [("X-Original-Method", "GET")],
    "empty target": [("X-Original-URI", ""), ("X-Original-Method", "GET")],
    "blank target": [("X-Original-URI", " \t "), ("X-Original-Method", "GET")],
    "empty method": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "")],
    "target twice": [("X-Original-URI", "/v1/models"), *MODELS],
    "targets differ": [("X-Original-URI", "/open"), *MODELS],
    "target twice, other case": [("x-original-uri", "/v1/models"), *MODELS],
    "method twice": [("X-Original-Method", "GET"), *MODELS],
    "target list": [("X-Original-URI", "/v1/models, /v1/models"), ("X-Original-Method", "GET")],
    "method list": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET, GET")],
    "method of words": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET /v1/models HTTP/1.1")],
    "method with a tab": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GE\tT")],
    "method not ASCII": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "G\xc9T")],
    "method too long": [("X-Original-URI", "/v1/models"), ("X-Original-Method", "G" * 200)],
    "relative": [("X-Original-URI", "v1/models"), ("X-Original-Method", "GET")],
    "absolute": [("X-Original-URI", "http://gateway.test/v1/models"), ("X-Original-Method", "GET")],
    "authority": [("X-Original-URI", "//gateway.test/v1/models"), ("X-Original-Method", "GET")],
    "star": [("X-Original-URI", "*"), ("X-Original-Method", "OPTIONS")],
    "dots": [("X-Original-URI", "/v1/../v1/models"), ("X-Original-Method", "GET")],
    "escaped dots": [("X-Original-URI", "/v1/%2e%2e/v1/models"), ("X-Original-Method", "GET")],
    "needless escape": [("X-Original-URI", "/v1/%6dodels"), ("X-Original-Method", "GET")],
    "bad escape": [("X-Original-URI", "/v1/models/%zz"), ("X-Original-Method", "GET")],
    "cut escape": [("X-Original-URI", "/v1/models/%"), ("X-Original-Method", "GET")],
    "backslash": [("X-Original-URI", "/v1\\models"), ("X-Original-Method", "GET")],
    "parameter": [("X-Original-URI", "/v1/models;x=1"), ("X-Original-Method", "GET")],
    "fragment": [("X-Original-URI", "/v1/models#x"), ("X-Original-Method", "GET")],
    "not ASCII": [("X-Original-URI", "/v1/models/\xe9"), ("X-Original-Method", "GET")],
    "space": [("X-Original-URI", "/v1/models x"), ("X-Original-Method", "GET")],
    "query not ASCII": [("X-Original-URI", "/v1/models?\xe9"), ("X-Original-Method", "GET")],
    "other sources": [
        ("X-Forwarded-Uri", "/v1/models"), ("X-Original-URL", "http://a/v1/models"), ("X-Forwarded-Method", "GET"),
    ],
    "underscores": [("X_Original_URI", "/v1/models"), ("X_Original_Method", "GET")],
    "dots in names": [("X.Original.URI", "/v1/models"), ("X-Original-Method", "GET")],
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
async def test_an_unreadable_question_is_never_200(gateway: Gateway, case: str) -> None:
    """P-11 (Authelia CVE-2021-32637): 403 with 400 beside it, though the key is good."""
    answer = await verify(gateway, UNREADABLE[case])
    assert (answer.status, answer["x-auth-status"]) == (403, "400")


@pytest.mark.parametrize("fields", [[("X-Long", "a" * 65_536)], [(f"X-{n}", "x") for n in range(200)]])
async def test_a_header_larger_than_any_is_refused_as_a_question(
    gateway: Gateway, fields: list[tuple[str, str]]
) -> None:
    """P-11: nginx repeats a client's header, and takes larger ones; of 431 it would make a 500."""
    answer = await verify(gateway, [*MODELS, *fields])
    assert (answer.status, answer["x-auth-status"], answer["x-auth-code"]) == (403, "431", "request_headers_too_large")


@pytest.mark.parametrize("trusted", [(), (ELSEWHERE,)], ids=["nobody", "others"])
async def test_a_stranger_gets_no_answer(trusted: tuple[ipaddress.IPv4Network, ...]) -> None:
    """P-12 (oauth2-proxy CVE-2026-76835): a client that asks this door itself is told nothing about its key."""
    async with running(Options(trusted=trusted)) as gateway:
        forged = [("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")]
        for key in ("", None, "nonsense", gateway.add_key(standing=Standing.REVOKED)):
            answer = await verify(gateway, [*MODELS, *forged], key=key)
            assert (answer.status, answer["x-auth-status"], answer["x-auth-code"]) == (403, "403", "untrusted_proxy")
        assert gateway.keys.asked == 0


SOURCES = {
    "x-original-uri": [("X-Original-URI", "/v1/models?a=1"), ("X-Original-Method", "GET")],
    "x-original-url": [("X-Original-URL", "https://api.test/v1/models?a=1"), ("X-Original-Method", "GET")],
    "x-forwarded-uri": [("X-Forwarded-Uri", "/v1/models?a=1"), ("X-Forwarded-Method", "GET")],
}


@pytest.mark.parametrize("source", SOURCES)
async def test_exactly_one_source_is_believed(source: str) -> None:
    """GHSA-7x63-xv5r-3p2x: the others are the client's to forge, beside it or instead of it."""
    async with running(Options(trusted=(HERE,), manners=Manners(source=source))) as gateway:
        assert (await verify(gateway, SOURCES[source])).status == 200
        for other, fields in SOURCES.items():
            if other != source:
                assert (await verify(gateway, fields)).status == 403
                lie = [
                    (name, "/nowhere" if name.lower() not in dict(SOURCES[source]) else value) for name, value in fields
                ]
                shared = {name for name, _ in SOURCES[source]}
                lies = [(name, value) for name, value in lie if name not in shared]
                assert (await verify(gateway, [*SOURCES[source], *lies])).status == 200


URLS = [
    ("https://api.test/v1/models", 200), ("http://api.test:8443/v1/models?x=http://y/z", 200),
    ("https://[::1]/v1/models", 200),
    ("https://user:pw@api.test/v1/models", 403), ("https://api.test", 403), ("https://api.test?x=/v1/models", 403),
    ("https://api.test#/v1/models", 403), ("https:///v1/models", 403), ("ftp://api.test/v1/models", 403),
    ("//api.test/v1/models", 403),
    ("/v1/models", 403), ("https:/v1/models", 403), ("https:\\\\api.test/v1/models", 403),
    ("https://api.test\\v1/models", 403),
    ("https://api.test/v1/../v1/models", 403), ("https://api.test//v1/models", 403),
    ("HTTPS://api.test/v1/models", 403),
    ("https://a/v1/models,https://b/v1/models", 403), ("javascript://x/v1/models", 403),
]  # fmt: skip


@pytest.mark.parametrize(("url", "status"), URLS, ids=[url for url, _ in URLS])
async def test_a_whole_url_is_cut_never_decoded(url: str, status: int) -> None:
    """P-11: what a URL parser and a cutter would read differently is refused, or names the same path to both."""
    async with running(Options(trusted=(HERE,), manners=Manners(source="x-original-url"))) as gateway:
        answer = await verify(gateway, [("X-Original-URL", url), ("X-Original-Method", "GET")])
        assert answer.status == status


_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30)


@given(target=st.one_of(_text, _text.map(lambda text: "/v1/models" + text)), method=st.one_of(st.just("GET"), _text))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_the_question_says_yes_means_one_readable_path(
    gateway: Gateway, target: str, method: str
) -> None:
    """P-11, P-15: 200 only for a plain target below a route, spelt as it came; everything else 400, 401 or 403."""
    answer = await gateway.ask("GET", "/auth/verify", [("X-Original-URI", target), ("X-Original-Method", method)])
    assert answer.status in (200, 400, 401, 403)
    if answer.status == 200:
        path = target.strip(" \t").partition("?")[0]
        assert path == "/v1/models" or path.startswith("/v1/models/")
        assert ".." not in path
        assert method.strip(" \t") == "GET"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_any_method_may_ask(gateway: Gateway, method: str) -> None:
    """Contract: ANY /auth/verify; what counts is the method of the question."""
    assert (await verify(gateway, MODELS, method=method)).status == 200
    assert (
        await verify(gateway, [("X-Original-URI", "/v1/models"), ("X-Original-Method", "POST")], method=method)
    ).status == 403


async def test_the_question_is_not_asked_by_the_targets_own_query(gateway: Gateway) -> None:
    """A query on the endpoint itself is ignored."""
    answer = await gateway.ask("GET", "/auth/verify?uri=/v1/models&method=GET", [("X-Original-Method", "GET")])
    assert answer.status == 403
    assert (await gateway.ask("GET", "/auth/verify?uri=/nowhere", MODELS)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/auth/verify/",
        "/auth/verify/x",
        "/AUTH/verify",
        "/auth//verify",
        "/auth/./verify",
        "/auth/verify;x",
        "/auth/%76erify",
    ],
)
async def test_the_door_has_one_name(gateway: Gateway, target: str) -> None:
    """Anything like it is an unknown or ambiguous path of the other door."""
    assert (await gateway.ask("GET", target, MODELS)).status in (400, 404)


FAULTY = {
    "odd host": b"GET /auth/verify HTTP/1.1\r\nHost: a b\r\n%b\r\n",
    "host with a user": b"GET /auth/verify?x HTTP/1.1\r\nHost: user@evil\r\n%b\r\n",
    "chunks in HTTP/1.0": (b"GET /auth/verify HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%b\r\n0\r\n\r\n"),
    "query that is none": b"GET /auth/verify?%%zz HTTP/1.1\r\nHost: a\r\n%b\r\n",
    "two hosts": b"GET /auth/verify HTTP/1.1\r\nHost: a\r\nHost: b\r\n%b\r\n",
    "NUL": b"GET /auth/verify HTTP/1.1\r\nHost: a\r\nX: \0\r\n%b\r\n",
}


@pytest.mark.parametrize("case", FAULTY)
async def test_a_faulty_subrequest_is_never_200(gateway: Gateway, case: str) -> None:
    """Though all it asks is allowed: 403 with 400 beside it, where the parser itself gave up as well."""
    good = (
        b"".join(f"{n}: {v}\r\n".encode() for n, v in MODELS)
        + b"Authorization: Bearer "
        + gateway.key.encode()
        + b"\r\n"
    )
    answer = Answer.parse(await gateway.raw(FAULTY[case] % good))
    assert (answer.status, answer["connection"], answer["x-auth-status"]) == (403, "close", "400")


async def test_a_body_does_not_become_the_next_question(gateway: Gateway) -> None:
    """Nginx may forget ``proxy_pass_request_body off``: the connection ends, or the body was read as one."""
    inner = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + gateway.key.encode() + b"\r\n\r\n"
    head = b"POST /auth/verify HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(inner) + 10)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head)
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(inner)
    writer.write_eof()
    assert first.startswith(b"HTTP/1.1 403 ")
    assert await reader.read() == b""
    writer.close()
    assert not gateway.upstream.seen


async def test_one_connection_carries_many_questions(gateway: Gateway) -> None:
    """Yes, no and unreadable keep it: nginx's keep-alive is most of this door's speed. Each is judged by itself."""
    key = b"Authorization: Bearer " + gateway.key.encode() + b"\r\n"
    asked = b"GET /auth/verify HTTP/1.1\r\nHost: a\r\n%b%b\r\n"
    yes = b"X-Original-URI: /v1/models\r\nX-Original-Method: GET\r\n"
    no = b"X-Original-URI: /load\r\nX-Original-Method: GET\r\n"
    data = (
        asked % (yes, key)
        + asked % (no, key)
        + asked % (b"", key)
        + asked % (yes, b"")
        + asked % (yes, key + b"Connection: close\r\n")
    )
    rest, statuses = await gateway.raw(data), []
    while rest:
        answer = Answer.parse(rest)
        statuses.append(answer.status)
        rest = answer.rest
    assert statuses == [200, 403, 403, 401, 200]


async def test_both_doors_decide_alike_and_settle_alike(gateway: Gateway) -> None:
    """The same key, path and limits; the account and the figures hear of both."""
    key = gateway.add_key(key_rate=Rate(2, 60_000))
    assert (await gateway.ask(key=key)).status == 200
    gateway.upstream.seen.clear()
    assert (await verify(gateway, MODELS, key=key)).status == 200
    assert (await gateway.ask(key=key)).status == 429
    assert [(line["door"], line["route"], line["path"], line["status"]) for line in gateway.lines] == [
        ("proxy", "openai.models", "/v1/models", 200),
        ("forward_auth", "openai.models", "/v1/models", 200),
        ("proxy", "openai.models", "/v1/models", 429),
    ]


@pytest.mark.parametrize(
    "where",
    [
        "policies.routing.route_table.RouteTable.match",
        "gateway.identity.snapshot.Snapshot.known",
        "gateway.identity.snapshot.Snapshot.identify",
        "gateway.dataplane.gatekeeper.authorise",
        "gateway.dataplane.gatekeeper.conclude",
        "gateway.dataplane.gatekeeper.Gatekeeper.decide",
        "gateway.dataplane.forward_auth.ForwardAuth._question",
        "gateway.dataplane.forward_auth.ForwardAuth._decide",
        "gateway.dataplane.forward_auth.algebra.identity",
        "gateway.dataplane.settlement._common",
        "gateway.dataplane.settlement.Settlement._record",
        "gateway.dataplane.inquiries.Reader.read",
    ],
)
async def test_a_bug_is_never_yes(gateway: Gateway, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-12: 500, which nginx answers with a 500 of its own."""

    def broken(*_: object, **__: object) -> object:
        raise RuntimeError("a bug")

    log = Mock()
    monkeypatch.setattr("gateway.dataplane.proxy._log", log)
    monkeypatch.setattr(where, broken)
    key = gateway.add_key(key_rate=Rate(9, 60_000))
    answer = await gateway.ask("GET", "/auth/verify", MODELS, key=key)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert log.exception.called
    assert gateway.metrics.inflight == 0


@pytest.mark.parametrize("reusable", [False, True])
async def test_a_ticket_is_good_here_as_often_as_at_the_first_door(gateway: Gateway, *, reusable: bool) -> None:
    """Also where the question comes again byte for byte: the ticket is asked for, and not what stood behind it."""
    text = mint_ticket(bytes(TICKET_BYTES), reusable=reusable)
    gateway.tickets.kept[text.encode()] = Ticket(
        tenant_id="ten_a", key=digest(PEPPER, gateway.key.encode()), routes=("openai.realtime",), longest_s=60
    )
    asking = [("X-Original-URI", "/v1/realtime"), ("X-Original-Method", "GET")]
    said = [(await verify(gateway, asking, key=text)).status for _ in range(5)]
    assert said == [200] * 5 if reusable else [200, 401, 401, 401, 401]


async def test_a_ticket_that_configures_its_streams_is_none_here(gateway: Gateway) -> None:
    """They do not go through the gateway, which could tell the service nothing."""
    text = mint_ticket(bytes(TICKET_BYTES), reusable=True)
    gateway.tickets.kept[text.encode()] = Ticket(
        tenant_id="ten_a",
        key=digest(PEPPER, gateway.key.encode()),
        routes=("openai.realtime",),
        longest_s=60,
        first="x",
    )
    answer = await verify(gateway, [("X-Original-URI", "/v1/realtime"), ("X-Original-Method", "GET")], key=text)
    assert (answer.status, answer["x-auth-code"]) == (401, "invalid_ticket")
    assert "configures its streams" in answer["x-auth-message"]

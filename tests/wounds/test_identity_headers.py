"""Wound: the client supplies the identity header (Caddy GHSA-7r4p-vjf4-gxv4, oauth2-proxy GHSA-vjrc-mh2v-45x6).

The upstream believes ``X-Tenant-ID`` and its kin without a question: each of them comes from the gateway or not at all.
"""

import asyncio
import re

import pytest

from policies.http.headers import IDENTITY
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Gateway, Options, Seen, running
from tests.wounds.wire import Send, answers, request, sent_both_ways, whole

OURS = {
    "x-tenant-id": ["ten_a"],
    "x-user-id": ["usr_a"],
    "x-api-key-id": ["key_1"],
    "x-auth-scopes": ["transcribe"],
    "x-auth-roles": ["member"],
}
MANAGED = (*IDENTITY, "X-Request-ID", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")
MARKS = "!#$%&'*+^`|~"
"""What else a name may hold; lighttpd and old CGI read an underscore in each."""


def spellings(name: str) -> list[str]:
    """The ways in which WSGI, CGI, PHP and people write one name."""
    return [
        name,
        name.lower(),
        name.upper(),
        name.replace("-", "_"),
        name.replace("-", "_").lower(),
        name.replace("-", "_").upper(),
        name.replace("-", "_", 1),
        name.replace("-", "."),
        name[::-1].replace("-", ".", 1)[::-1],
        *(name.replace("-", mark) for mark in MARKS),
    ]


def folded(seen: Seen) -> dict[str, list[str]]:
    """What the upstream was told, by the name that a careless server makes of each spelling."""
    found: dict[str, list[str]] = {}
    for name, value in seen.headers:
        key = re.sub("[^a-z0-9]", "-", name.decode("latin-1").lower())
        found.setdefault(key, []).append(value.decode("latin-1"))
    return found


def assert_identity_is_ours(seen: Seen) -> None:
    """Each identity header once, with our value, and no other spelling of it."""
    told = folded(seen)
    assert {name: told.get(name) for name in OURS} == OURS
    assert "x-gateway-assertion" not in told


@pytest.mark.parametrize("name", MANAGED)
async def test_no_spelling_of_a_managed_header_reaches_the_upstream(gateway: Gateway, name: str) -> None:
    """H-01, H-02, H-03: alone, twice, before Host and after it, in upper and lower case, with every mark there is."""
    for spelling in spellings(name):
        line = f"{spelling}: forged".encode()
        head = b"\r\n".join(
            [
                b"GET /v1/models HTTP/1.1",
                line,
                b"Host: gateway.test",
                line,
                b"Authorization: Bearer " + gateway.key.encode(),
                line.swapcase(),
                b"Connection: close",
                b"",
                b"",
            ]
        )
        (answer,) = answers(await gateway.raw(head))
        assert answer.status == 200, spelling
    for seen in gateway.upstream.seen:
        assert_identity_is_ours(seen)
        values = folded(seen).get(name.lower(), [])
        assert len(values) <= 1
        # X-Request-ID is the one that a client may choose, in its own spelling, because it only names the request.
        assert values != ["forged"] or name == "X-Request-ID"
    assert len(gateway.upstream.seen) == len(spellings(name))


@sent_both_ways
@pytest.mark.parametrize(
    "line",
    [
        b"X-Tenant-ID : ten_b",
        b"X-Tenant-ID\t: ten_b",
        b" X-Tenant-ID: ten_b",
        b"X-Tenant-ID\xa0: ten_b",
        b"\xa0X-Tenant-ID: ten_b",
        b"X-Tenant\xc2\xa0ID: ten_b",
        b"X Tenant ID: ten_b",
        b"X-Tenant-ID\x00: ten_b",
        b"X-Tenant-ID\x0b: ten_b",
        b"X-T\xe9nant-ID: ten_b",
        b": ten_b",
    ],
)
async def test_a_name_that_is_no_token_is_refused(gateway: Gateway, send: Send, line: bytes) -> None:
    """H-02: a space before the colon, a no-break space, a control character: 400, and nothing goes on."""
    got = answers(await send(gateway, request(gateway.key, b"GET /v1/models HTTP/1.1", b"Accept: a/b", line)))
    assert [answer.status for answer in got] == [400]
    assert not gateway.upstream.seen


@sent_both_ways
async def test_an_identity_in_a_trailer_is_dropped(gateway: Gateway, send: Send) -> None:
    """H-01: trailers of an upload end at the gateway."""
    body = b"5\r\nhello\r\n0\r\nX-Tenant-ID: ten_b\r\nX-User-ID: usr_b\r\n\r\n"
    fields = (b"Transfer-Encoding: chunked", b"Trailer: X-Tenant-ID", b"Connection: close")
    await send(gateway, request(gateway.key, b"POST /v1/listen HTTP/1.1", *fields, body=body))
    (seen,) = gateway.upstream.seen
    assert seen.body == b"hello"
    assert_identity_is_ours(seen)


async def test_what_a_principal_lacks_stays_deleted(gateway: Gateway) -> None:
    """H-03: a key without user, roles or scopes does not let the client fill the gaps."""
    key = gateway.add_key(user_id="", roles=(), scopes=frozenset({"transcribe"}))
    forged = [(name, "forged") for name in IDENTITY]
    assert (await gateway.ask(headers=forged, key=key)).status == 200
    told = folded(gateway.upstream.seen[0])
    assert told["x-tenant-id"] == ["ten_a"]
    assert not {"x-user-id", "x-auth-roles", "x-gateway-assertion"} & set(told)


async def test_on_a_public_route_nobody_is_anybody() -> None:
    """H-03: no identity at all, with a good key or without one, whatever the client says."""
    table = {"routes": [{"name": "open", "path": "/open", "methods": ["GET"], "access": "public"}]}
    async with running(Options(routes=RouteTable.compile(table))) as gateway:
        for name in IDENTITY:
            forged = [(spelling, "forged") for spelling in spellings(name)]
            for key in (None, gateway.key, "thk_live_nonsense"):
                assert (await gateway.ask("GET", "/open", forged, key=key)).status == 200
        for seen in gateway.upstream.seen:
            assert not {name.lower() for name in IDENTITY} & set(folded(seen))


@pytest.mark.parametrize(
    "connection",
    [
        ["X-Tenant-ID"],
        ["close, x-tenant-id"],
        ["X-Auth-Roles, Authorization, X-Forwarded-For, X-Tenant-ID, X-User-ID, X-API-Key-ID, X-Auth-Scopes"],
        ["x-TENANT-id", "X-user-ID"],
        [",,x-tenant-id ,", ", ,"],
        ["keep-alive", "X_Tenant_ID"],
        ["Host, Content-Length, Transfer-Encoding, X-Request-ID"],
    ],
)
async def test_connection_cannot_name_our_headers_away(gateway: Gateway, connection: list[str]) -> None:
    """H-04, H-05 (Traefik CVE-2024-45410 and its bypasses): our lines are added after the client's list was obeyed."""
    fields = [("Connection", value) for value in connection] + [("X-Tenant-ID", "ten_b"), ("X-Mine", "1")]
    assert (await gateway.ask("POST", "/v1/listen", fields, b"audio")).status == 200
    (seen,) = gateway.upstream.seen
    assert_identity_is_ours(seen)
    assert not {"connection", "authorization"} & seen.names()
    assert seen.all("x-forwarded-for") == ["127.0.0.1"]
    assert len(seen.all("host")) == len(seen.all("content-length")) == len(seen.all("x-request-id")) == 1
    assert seen.body == b"audio"


async def test_connection_names_the_clients_own_headers_away(gateway: Gateway) -> None:
    """RFC 9110 section 7.6.1: what the list names was meant for us alone."""
    await gateway.ask(
        headers=[("Connection", "X-Secret, x-OTHER"), ("X-Secret", "1"), ("X-Other", "1"), ("X-Kept", "1")]
    )
    (seen,) = gateway.upstream.seen
    assert not {"x-secret", "x-other"} & seen.names()
    assert seen.all("x-kept") == ["1"]


async def test_hop_by_hop_fields_end_here_in_both_directions(gateway: Gateway) -> None:
    """H-06: neither those of RFC 9110 section 7.6.1 nor what ``Connection`` names is carried on."""
    names = ["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade", "HTTP2-Settings"]
    names += ["Proxy-Authenticate", "X-Listed"]

    async def back(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        lines = "".join(f"{name}: trailers\r\n" for name in names)
        writer.write(
            f"HTTP/1.1 200 OK\r\nConnection: X-Listed\r\n{lines}X-Kept: 1\r\nContent-Length: 0\r\n\r\n".encode()
        )

    gateway.upstream.respond = back
    answer = await gateway.ask(headers=[("Connection", "X-Listed"), *((name, "trailers") for name in names)])
    (seen,) = gateway.upstream.seen
    assert not {name.lower() for name in names} & seen.names()
    assert not {name.lower() for name in names} & {name for name, _ in answer.headers}
    assert answer["x-kept"] == "1"
    assert answer.all("connection") == ["close"]


async def test_an_upstream_sets_neither_identity_nor_our_session(gateway: Gateway) -> None:
    """H-07: what the answer says of identity, and cookies of our own kind, are dropped; its other cookies pass."""
    forged = [name for header in (*IDENTITY, "X-Auth-Status", "X-Internal-Trace") for name in spellings(header)]
    cookies = ["__Host-sid=1", "__HOST-sid=1", " __host-sid=1", "=__Host-sid=1", "== __Host-sid=1", "theirs=1; Path=/"]

    async def back(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        lines = [f"{name}: forged" for name in forged] + [f"Set-Cookie: {cookie}" for cookie in cookies]
        writer.write("\r\n".join(["HTTP/1.1 200 OK", *lines, "Content-Length: 0", "", ""]).encode())

    gateway.upstream.respond = back
    answer = await gateway.ask()
    assert answer.status == 200
    names = {name.replace("_", "-").replace(".", "-") for name, _ in answer.headers}
    assert not {name.lower() for name in (*IDENTITY, "X-Auth-Status", "X-Internal-Trace")} & names
    assert answer.all("set-cookie") == ["theirs=1; Path=/"]


@pytest.mark.parametrize("name", ["X-Auth-User", "X-Auth-Request-Email", "X-Internal-Admin", "X-Envoy-Peer-Metadata"])
async def test_families_that_neighbours_trust_are_the_clients_to_send_but_not_to_be_heard(
    gateway: Gateway, name: str
) -> None:
    """H-08, H-11: whole families of names are dropped, in every spelling."""
    await gateway.ask(headers=[(spelling, "forged") for spelling in spellings(name)])
    assert name.lower() not in folded(gateway.upstream.seen[0])


async def test_credentials_stay_here(gateway: Gateway) -> None:
    """The upstream gets neither the key nor any other credential or cookie of the client, in no spelling."""
    names = ["X-API-Key", "x_api_key", "X-Api.Key", "Cookie", "COOKIE", "Api-Key", "ApiKey", "Authorization", "Api_Key"]
    data = request(
        gateway.key, b"GET /v1/models HTTP/1.1", *(f"{n}: {gateway.key}".encode() for n in names), b"Connection: close"
    )
    (answer,) = answers(await whole(gateway, data))
    assert answer.status == 200
    assert gateway.key.encode() not in gateway.upstream.seen[0].head

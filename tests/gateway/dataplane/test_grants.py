"""Routes with ``grants``: what the gateway answers itself goes to the portal, judged as any request of the table is."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import pytest

from policies.http.tickets import TICKET_BYTES, Ticket, mint_ticket
from policies.routing.routes import Route
from tests.gateway.harness import PEPPER, Gateway, Options, digest, running, shipped_routes

CALLS = [
    ("POST", "/v1/auth/grant"),
    ("POST", "/v1/realtime/client_secrets"),
    ("POST", "/v1/single-use-token/realtime_scribe"),
    ("GET", "/v3/token?expires_in_seconds=60"),
    ("POST", "/v1/api_keys?type=rt"),
]
APP = "https://app.example.com"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(trusted=(ipaddress.ip_network("127.0.0.1"),), cors_origins=(APP,))) as made:
        yield made


@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_it_goes_to_the_portal_with_the_identity(gateway: Gateway, method: str, target: str) -> None:
    """And with the credential, by which the portal finds a token's log-in; other sites' pages may read the answer."""
    answer = await gateway.ask(method, target, [("Origin", APP), ("X-Tenant-ID", "ten_b")])
    assert (answer.status, answer["access-control-allow-origin"]) == (200, APP)
    (seen,) = gateway.upstream.seen
    assert seen.all("x-tenant-id") == ["ten_a"]
    assert seen.all("x-api-key-id") == ["key_1"]
    assert seen.all("authorization") == [f"Bearer {gateway.key}"]


async def test_the_portal_sees_the_credential_also_in_a_keys_header(gateway: Gateway) -> None:
    """A token may stand there as well, and the ticket is to end with its log-in. No upstream sees it."""
    headers = [("X-API-Key", gateway.key)]
    for method, target in (("POST", "/v1/auth/grant"), ("GET", "/v1/models")):
        assert (await gateway.ask(method, target, headers, key=None)).status == 200
    of_portal, of_upstream = gateway.upstream.seen
    assert of_portal.all("x-api-key") == [gateway.key]
    assert of_upstream.all("x-api-key") == []


@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_nobody_else_gets_that_far(gateway: Gateway, method: str, target: str) -> None:
    """A cookie is no credential here, and a key has no place in the address."""
    mark, bound = "&" if "?" in target else "?", frozenset({"deepgram.stream"})
    for key, headers, more, status in (
        (None, [], "", 401),
        (None, [("Cookie", "tahoe_session=secret")], "", 401),
        ("thk_live_wrong", [], "", 401),
        (gateway.add_key(scopes=frozenset({"usage:read"})), [], "", 403),
        (gateway.add_key(only_routes=bound), [], "", 403),
        (gateway.add_key(plan_routes=bound), [], "", 403),
        ("", [], f"{mark}token={gateway.key}", 400),
    ):
        answer = await gateway.ask(method, target + more, headers, key=key)
        assert answer.status == status, (key, headers, more)
    assert gateway.upstream.seen == []


@pytest.mark.parametrize(("method", "target"), CALLS)
async def test_a_proxy_that_asks_is_told_no(gateway: Gateway, method: str, target: str) -> None:
    """Behind it stands the service itself, which would give out a token of its own."""
    asking = [("X-Original-URI", target), ("X-Original-Method", method)]
    answer = await gateway.ask("GET", "/auth/verify", asking)
    assert (answer.status, answer["x-auth-code"]) == (403, "unknown_route")


async def test_deepgrams_ticket_is_for_uploads_too(gateway: Gateway) -> None:
    """As its documentation has it: each asks for the ticket anew, also on one connection; and for no other route."""
    text = mint_ticket(bytes(TICKET_BYTES), reusable=True)
    granting = shipped_routes().match("POST", "/v1/auth/grant")
    assert isinstance(granting, Route)
    gateway.tickets.kept[text.encode()] = Ticket(
        tenant_id="ten_a", key=digest(PEPPER, gateway.key.encode()), routes=granting.grants, longest_s=60
    )
    upload = f"POST /v1/listen HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {text}\r\nContent-Length: 4\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        for expected in (b"200", b"200", b"401"):
            writer.write(upload.encode() + b"\r\nRIFF")
            async with asyncio.timeout(30):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
            assert head.split(b" ")[1] == expected
            if len(gateway.upstream.seen) == 2:
                gateway.tickets.kept.clear()
    finally:
        writer.close()
    assert {seen.all("x-api-key-id")[0] for seen in gateway.upstream.seen} == {"key_1"}
    assert text not in str([(seen.target, seen.headers) for seen in gateway.upstream.seen])
    assert text not in str(gateway.lines)


async def test_a_body_is_no_longer_than_a_question(gateway: Gateway) -> None:
    answer = await gateway.ask("POST", "/v1/auth/grant", [("Content-Length", "65537")])
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert gateway.upstream.seen == []

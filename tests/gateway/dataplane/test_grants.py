"""Routes with ``grants``: what the gateway answers itself goes to the portal, judged as any request of the table is."""

import ipaddress
from collections.abc import AsyncIterator

import pytest

from tests.gateway.harness import Gateway, Options, running

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


async def test_a_body_is_no_longer_than_a_question(gateway: Gateway) -> None:
    answer = await gateway.ask("POST", "/v1/auth/grant", [("Content-Length", "65537")])
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert gateway.upstream.seen == []

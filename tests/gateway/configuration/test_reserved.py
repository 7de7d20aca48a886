"""The gateway's own paths lead to the portal and nowhere else, with what only the portal may see and set."""

import asyncio

import pytest

from tests.gateway.harness import Gateway, Seen

COOKIE = ("Cookie", "__Host-tahoe_session=abc")


@pytest.mark.parametrize(
    "path", ["/auth/login", "/account", "/account/", "/account/x", "/admin", "/platform/v1/me", "/.well-known/a"]
)
async def test_the_portal_gets_credentials_and_the_clients_address(gateway: Gateway, path: str) -> None:
    """It knows sessions and OAuth clients itself; the address is the one that the gateway worked out."""
    sent = [COOKIE, ("Authorization", "Basic YTpi"), ("X-Client-IP", "203.0.113.9"), ("X-Tenant-ID", "ten_other")]
    if path.startswith("/platform"):
        sent.pop(1)
    await gateway.ask("GET", path, sent, key=None)
    (seen,) = gateway.upstream.seen
    assert seen.all("cookie") == ["__Host-tahoe_session=abc"]
    assert seen.all("authorization") == ([] if path.startswith("/platform") else ["Basic YTpi"])
    assert seen.all("x-client-ip") == ["127.0.0.1"]
    assert seen.all("x-tenant-id") == []


async def test_no_other_upstream_does(gateway: Gateway) -> None:
    await gateway.ask("GET", "/v1/models", [COOKIE, ("X-Client-IP", "203.0.113.9")])
    (seen,) = gateway.upstream.seen
    assert not seen.names() & {"cookie", "authorization", "x-client-ip"}


async def test_the_api_identifies_who_presents_a_key_and_refuses_a_bad_one(gateway: Gateway) -> None:
    """Nobody is nobody there: the portal decides what that may see."""
    await gateway.ask("GET", "/platform/v1/me")
    await gateway.ask("GET", "/platform/v1/me", key=None)
    assert (await gateway.ask("GET", "/platform/v1/me", key="thk_live_nonsense")).status == 401
    known, nobody = gateway.upstream.seen
    assert known.all("x-tenant-id") == ["ten_a"]
    assert nobody.all("x-tenant-id") == []


@pytest.mark.parametrize(("path", "kept"), [("/auth/login", 2), ("/v1/models", 1)])
async def test_only_the_portal_sets_our_cookies(gateway: Gateway, path: str, kept: int) -> None:
    """An upstream that could set a session would sign people in as whom it likes."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
            b"Set-Cookie: __Host-tahoe_session=evil\r\nSet-Cookie: a=b\r\n\r\nok"
        )

    gateway.upstream.respond = say
    answer = await gateway.ask("GET", path, key=gateway.key if path == "/v1/models" else None)
    assert len(answer.all("set-cookie")) == kept


async def test_what_is_beside_them_is_closed(gateway: Gateway) -> None:
    for path in ("/auth", "/auth/", "/platform/v2/me", "/accounts", "/admin%2fx", "/authx/y", "/platform/v1"):
        assert (await gateway.ask("GET", path, key=None)).status in (400, 404), path
    assert not gateway.upstream.seen

"""Attacks on log-ins, sessions and pages that the catalogue names, one sharp test each; others are by their subject."""

import asyncio
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from aiohttp import ClientError
from aiohttp.test_utils import TestClient, TestServer

from gateway.configuration.settings import Settings
from gateway.portal.api.service import OPERATIONS
from gateway.portal.application import MODULES, application
from gateway.portal.entry.identity import IDENTITY
from gateway.portal.parts import Parts
from gateway.tasks import Tasks
from gateway.usage.export import FORMATS
from policies.identity.permissions import Permission
from policies.people import safe_next
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, SAME_ORIGIN, Client, Town, fill, log_in
from tests.gateway.portal.test_recovery import NEW, asked
from tests.storage.usage_samples import NOON_MS, record

EVIL = ["evilgw.test", "gw.test.evil", "gw.test@evil", "gw.test:81", "\N{FULLWIDTH FULL STOP}evil"]


@pytest.mark.parametrize("host", EVIL)
@pytest.mark.parametrize("scheme", ["", "//", "http://", "https:", "javascript:", "data:", "user:pw@"])
def test_no_look_alike_of_our_host_is_a_goal(host: str, scheme: str) -> None:
    """R-03, R-04."""
    assert safe_next(f"{scheme}{host}", "/account") == "/account"


async def test_no_secret_is_in_the_address_that_a_log_in_leads_to(portal: Client, town: Town) -> None:
    """R-07: neither the session's nor that of half a log-in."""
    answer = await fill(portal, "/auth/login?next=/v1/models", email=EMAIL, password=PASSWORD)
    (session,) = [cookie.value for cookie in portal.session.cookie_jar if cookie.key == "tahoe_session"]
    assert answer.headers["Location"] == "/v1/models"
    assert session not in answer.headers["Location"] + await answer.text()


@pytest.mark.parametrize(
    "path",
    ["/auth/login/", "/account//security", "/account//", "/account/security//", "/account//evil.test/", "/ACCOUNT"],
)
async def test_nothing_is_normalised_into_a_page(portal: Client, town: Town, path: str) -> None:
    """R-08 (PYSEC-2021-76): no redirect to what the path could have meant."""
    answer = await portal.get(path, headers=PAGE, allow_redirects=False)
    assert answer.status == 404
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "line", [b"Referer: http://[::1", b"Origin: http://[", b"Cookie: tahoe_form=\xff", b"X-CSRF-Token: \xff"]
)
async def test_what_is_no_address_and_no_text_is_refused_as_any_other(portal: Client, line: bytes) -> None:
    """It was a fault of ours (500), and past our own handlers, without the headers that every answer has."""
    cookie = b"X-Other: none" if line.startswith(b"Cookie") else b"Cookie: tahoe_form=x"
    lines = b"\r\n".join((line, cookie, b"Host: gw.test", b"Accept: text/html", b""))
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\ncsrf=x"
    reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
    for begins, rest in (
        (b"GET /auth/login", b"\r\n"), (b"POST /auth/login", form), (b"POST /auth/logout", b"\r\n"),
        (b"GET /platform/v1/keys", b"\r\n"), (b"GET /auth/nowhere", b"\r\n"),
    ):  # fmt: skip
        writer.write(begins + b" HTTP/1.1\r\n" + lines + rest)
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head.split()[1]) in (200, 401, 403, 404, 405)
        assert b"Content-Security-Policy: " in head
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()


async def test_a_log_in_under_a_name_that_is_no_text_is_one_like_any_other(portal: Client, town: Town) -> None:
    """And in the audit trail: a wrong password was a fault of ours (500) under such a ``User-Agent``, and left none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
    for word, status in ((PASSWORD, 200), ("another one", 401)):
        body = orjson.dumps({"email": EMAIL, "password": word})
        lines = b"Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\nUser-Agent: curl\xff"
        writer.write(b"POST /auth/login HTTP/1.1\r\nHost: gw.test\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (
            lines, len(body), body,
        ))  # fmt: skip
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()
    trail = await town.parts.pool.read("SELECT agent FROM platform.audit_entries WHERE action = 'login.failed'")
    assert [row["agent"] for row in trail] == ["curl\ufffd"]


@pytest.mark.parametrize("field", [{}, {"csrf": ""}, {"csrf": "made-up"}])
async def test_nobody_is_signed_in_by_a_form_of_another_page(portal: Client, town: Town, field: dict[str, str]) -> None:
    """C-03: without the token of the log-in page that this browser opened, the right password signs nobody in."""
    await portal.get("/auth/login", headers=PAGE)
    answer = await portal.post("/auth/login", data={"email": EMAIL, "password": PASSWORD} | field, headers=PAGE)
    assert answer.status == 403
    assert not [cookie for cookie in portal.session.cookie_jar if cookie.key == "tahoe_session"]


async def test_over_https_the_cookie_is_the_hosts_alone(parts: Parts, town: Town) -> None:
    """C-04: ``__Host-``, Secure, HttpOnly, SameSite, Path, and no Domain."""
    settings: Settings = parts.settings.model_copy(update={"public_url": "https://gw.test"})
    async with TestClient(TestServer(application(replace(parts, settings=settings)))) as client:
        answer = await log_in(client)
        (line,) = [line for line in answer.headers.getall("Set-Cookie") if "session" in line]
    name, _, attributes = line.partition(";")
    assert name.startswith("__Host-tahoe_session=")
    assert {part.strip() for part in attributes.split(";")} == {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}


async def test_a_session_ends_when_it_is_idle_and_in_any_case(portal: Client, town: Town) -> None:
    """C-06: use puts off the one end, never the other."""
    await log_in(portal)
    (key,) = [key async for key in town.parts.redis.scan_iter("*session:*")]
    before = await town.parts.redis.pttl(key)
    assert 0 < before <= town.parts.settings.session_idle * 1_000
    await town.parts.pool.read("UPDATE platform.sessions SET expires_at = now() - interval '1 second'")
    await town.parts.redis.delete(key)
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303


async def test_nothing_of_an_account_is_kept_by_a_browser(portal: Client, town: Town) -> None:
    """C-10: every answer of the pages and the API says so, and signing out empties what is kept all the same."""
    await log_in(portal)
    for path in ("/account", "/account/security", "/account/data/export.json", "/account/tokens", "/platform/v1/me"):
        answer = await portal.get(path, headers=PAGE)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store"), path
    out = await portal.post("/auth/logout", headers=SAME_ORIGIN)
    assert out.headers["Clear-Site-Data"] == '"cache"'


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://gw.test.evil"])
@pytest.mark.parametrize("path", ["/auth/login", "/auth/token", "/platform/v1/me", "/.well-known/jwks.json"])
async def test_no_other_origin_may_read_what_belongs_to_somebody(portal: Client, origin: str, path: str) -> None:
    """C-11: no origin is reflected, and none with credentials, before a request or with it."""
    for method in ("OPTIONS", "GET"):
        answer = await portal.request(method, path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert answer.headers.get("Access-Control-Allow-Origin", "*") == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_during_a_wait_no_password_is_hashed(portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-06: the limiter stands before bcrypt."""
    checked: list[str] = []

    async def check(password: str, _: str | None) -> bool:
        checked.append(password)
        return False

    monkeypatch.setattr(portal.server.app[IDENTITY].hashing, "check", check)
    statuses = [(await log_in(portal)).status for _ in range(9)]
    assert statuses.count(429) == 9 - len(checked)
    assert 0 < len(checked) < 9


@pytest.mark.parametrize("address", ["", "unknown", "fe80::1%eth0", "192.0.2.1:99", "x" * 4_000, "1.2.3.4, 5.6.7.8"])
async def test_an_address_that_cannot_be_read_skips_no_password(portal: Client, town: Town, address: str) -> None:
    """L-12 (authentik CVE-2024-47070)."""
    headers = {"X-Client-IP": address}
    assert (await log_in(portal, password="wrong", headers=headers)).status == 401
    assert (await log_in(portal, headers=headers)).status == 200


async def test_a_link_for_a_new_password_ends_with_the_password_it_was_for(portal: Client, town: Town) -> None:
    """Who had access to the mail once must not undo what the owner has changed since."""
    link = await asked(portal, town)
    await log_in(portal)
    form = {"current": PASSWORD, "password": NEW, "again": NEW}
    assert (await fill(portal, "/account/security", "/account/password", **form)).status == 303
    assert (await portal.get(link, headers=PAGE)).status == 410
    assert (await log_in(portal, password=NEW)).status == 200


async def test_a_link_for_a_new_password_ends_with_the_address_that_it_was_sent_to(portal: Client, town: Town) -> None:
    """Whose mail was taken over moves the account to another address, and the old letters are worth nothing."""
    link = await asked(portal, town)
    people = PostgresPeople(town.parts.pool, town.parts.trail)
    async with town.parts.pool.operator() as connection:
        await people.set_email(connection, town.user.id, "ada@new.example.com")
    assert (await portal.get(link, headers=PAGE)).status == 410


async def test_who_tries_from_elsewhere_without_end_keeps_nobody_out(portal: Client, town: Town) -> None:
    """L-04: where the owner has signed in before, tries of others do not count, nor once signed in; its own do."""
    elsewhere, home = {"X-Client-IP": "198.51.100.1"}, {"X-Client-IP": "2001:db8:0:1::1"}
    near = {"X-Client-IP": "2001:db8:0:1::2"}
    assert (await log_in(portal, headers=home)).status == 200
    for _ in range(6):
        shut = await log_in(portal, password="wrong", headers=elsewhere)
        asked = await fill(portal, "/auth/forgot", email=EMAIL)
    assert (shut.status, asked.status) == (429, 429)
    assert (await log_in(portal, headers=near)).status == 200
    again = {"current": PASSWORD, "password": NEW, "again": NEW}
    assert (await fill(portal, "/account/security", "/account/password", **again)).status == 303
    statuses = [(await log_in(portal, password="wrong", headers=near)).status for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    attempts = portal.server.app[IDENTITY].attempts
    assert await attempts.forgive_account(EMAIL)
    assert (await log_in(portal, password=NEW, headers=near)).status == 200
    assert (await log_in(portal, password=NEW, headers=elsewhere)).status == 200


@pytest.mark.parametrize("field", ["since", "until"])
@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"],
)
async def test_the_ends_of_time_are_no_fault_of_ours(houses: Houses, moment: str, field: str) -> None:
    """Wherever a moment is asked for: reckoned with in another zone, they are before or after all that there is."""
    owner = await houses.person()
    for operation in (each for each in OPERATIONS if field in each.query.model_fields):
        path = operation.path.removeprefix("/platform/v1")
        if operation.permission is Permission.PLATFORM_READ:
            continue
        problem = await owner.ask("GET", f"{path}?{urlencode({field: moment})}", status=422)
        assert problem["errors"][0]["field"] == field
    await owner.ask("POST", "/keys", {"name": "k", "expires_at": moment}, status=422)


async def test_no_tenant_keeps_others_from_their_exports_and_statements(
    houses: Houses, parts: Parts, portal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads slowly keeps its own tenant waiting alone, and who takes nothing is cut off."""
    slow, other = await houses.person(), await houses.person()
    with monkeypatch.context() as patched:
        patched.setattr("gateway.portal.turns._PATIENCE_S", 0.01)
        async with parts.long_reads.ledger(slow.tenant.id):
            problem = await slow.ask("GET", "/usage/export", status=429)
            assert problem["code"] == "concurrency_limit_exceeded"
            await other.ask("GET", "/usage/export")
        async with parts.long_reads.records(slow.tenant.id), parts.long_reads.records(slow.tenant.id):
            for path in ("/usage", "/usage/events", "/usage/latency", "/audit?action=key"):
                await slow.ask("GET", path, status=429)
                await other.ask("GET", path)
    rows = [encode(record(tenant_id=slow.tenant.id, ended_ms=NOON_MS)) for _ in range(30)]
    await PostgresLedger(parts.pool).ship("0" * 32, 0, 1, rows)
    monkeypatch.setattr("gateway.portal.api.streaming._SLOWEST_S", 0.05)
    monkeypatch.setattr("gateway.portal.api.usage.LINES", 1)
    monkeypatch.setitem(FORMATS, "jsonl", ("", lambda _: "x" * 1_000_000))
    query = "?since=2026-11-26T00:00:00Z&until=2026-11-27T00:00:00Z"
    async with portal.get(f"/platform/v1/usage/export{query}", headers=slow.headers) as answer:
        async with parts.long_reads.ledger(slow.tenant.id):
            assert answer.status == 200
        with pytest.raises(ClientError):
            await answer.read()


@pytest.mark.parametrize("connections", [10], indirect=True)
async def test_no_tenant_that_changes_much_keeps_others_waiting(houses: Houses, parts: Parts) -> None:
    """Changes of one tenant wait for each other: not with all connections in their hands (noisy neighbour)."""
    busy, other, tasks = await houses.person(), await houses.person(), Tasks()
    async with parts.pool.operator() as connection:
        await connection.execute("SELECT FROM platform.tenants WHERE id = $1 FOR UPDATE", busy.tenant.id)
        changes = [tasks.start(busy.ask("POST", "/keys", {"name": f"k{n}"}, status=201), "a key") for n in range(20)]
        for n in range(10):
            await other.ask("POST", "/keys", {"name": f"k{n}"}, status=201)
            await busy.ask("GET", "/keys")
        assert not any(change.done() for change in changes)
    await asyncio.gather(*changes)


OPEN = {
    "/auth/login", "/auth/logout", "/auth/forgot", "/auth/reset/{secret}", "/auth/invite/{secret}", "/auth/mfa",
    "/auth/mfa/setup", "/auth/static/{name}",
    "/.well-known/change-password", "/auth/token", "/auth/strength", "/auth/grant", "/auth/revoke",
    "/auth/connect", "/auth/passkey", "/auth/passkey/options", "/auth/email/{secret}",
    "/auth/oidc/{name}", "/auth/oidc/{name}/callback", "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server", "/platform/docs", "/platform/v1/openapi.json",
}  # fmt: skip
"""What somebody who is nobody may ask: ways in, what is public, and what looks at its parameters before the caller."""


async def test_every_other_handler_asks_who_it_is(portal: Client) -> None:
    """T-03: from the router itself, so that a new page is closed until somebody opens it here; HEAD and OPTIONS too."""
    assert MODULES
    passed = set()
    for route in portal.server.app.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        if path in OPEN:
            continue
        target, method = re.sub(r"\{[^}]+\}", "x", path), "POST" if route.method == "*" else route.method
        form = {"token": "x", "audience": "x"}
        body: Any = {"json": form} if path.startswith("/platform/") else {"data": form}  # or it is refused for its kind
        answer = await portal.request(method, target, **body, headers=SAME_ORIGIN, allow_redirects=False)
        if answer.status not in (401, 403):
            passed.add((method, path, answer.status))
    assert not passed


def test_the_open_paths_are_paths(portal: Client) -> None:
    """Or the list above would hide a page that was renamed."""
    known: set[Any] = {route.resource.canonical for route in portal.server.app.router.routes() if route.resource}
    assert known >= OPEN

"""Signing in and out: one answer for every failure, a new session every time, and nothing left of an old one."""

import asyncio
import io
import statistics
import time
from collections import Counter

import orjson
import pytest
from redis.asyncio import ConnectionPool

from gateway.identity.browser_sessions import PURPOSE, BrowserSessions
from gateway.identity.passwords import hash_password
from gateway.portal.entry.hashing import Hashing
from gateway.portal.entry.identity import IDENTITY
from gateway.portal.parts import Parts
from policies.identity.tenants import Role, TenantStatus, UserStatus
from storage.ports import Invalidation
from storage.postgres.people.sessions import PostgresSessions
from storage.postgres.subjects import PostgresSubjects
from storage.redis.bus import RedisBus
from storage.sessions import Sessions
from tests.gateway.portal.conftest import (
    EMAIL,
    PAGE,
    PASSWORD,
    SAME_ORIGIN,
    Client,
    Town,
    actions,
    fill,
    form_of,
    log_in,
)
from tests.gateway.portal.test_recovery import asked

COOKIE = "tahoe_session"


def cookie(portal: Client) -> str:
    """The session's secret that the browser holds now; empty without."""
    return next((morsel.value for morsel in portal.session.cookie_jar if morsel.key == COOKIE), "")


async def signed_in(portal: Client, secret: str | None = None) -> bool:
    """Whether the log-in page sends whoever has this cookie on."""
    headers = PAGE if secret is None else PAGE | {"Cookie": f"{COOKIE}={secret}"}
    if secret is not None:
        portal.session.cookie_jar.clear()
    return (await portal.get("/auth/login", headers=headers, allow_redirects=False)).status == 303


async def test_a_program_signs_in_and_out(portal: Client, town: Town) -> None:
    answer = await log_in(portal)
    assert answer.status == 200
    said = await answer.json()
    assert said["user"] == {"id": town.user.id, "email": EMAIL, "name": "Ada"}
    assert said["tenant"] == {"id": town.tenant.id, "slug": "acme", "role": "owner"}
    secret = cookie(portal)
    assert await signed_in(portal)
    assert (await portal.post("/auth/logout", headers=SAME_ORIGIN)).status == 204
    assert not cookie(portal)
    assert not await signed_in(portal, secret)
    assert (await actions(town.parts))[-2:] == ["session.started", "session.ended"]


async def test_a_browser_signs_in_and_comes_back_to_where_it_was(portal: Client, town: Town) -> None:
    """Without a script: page, form, redirect."""
    answer = await fill(portal, "/auth/login?next=/v1/models%3Fa=b", email=EMAIL, password=PASSWORD)
    assert answer.status == 303
    assert answer.headers["Location"] == "/v1/models?a=b"
    assert await signed_in(portal)
    left = await portal.post("/auth/logout", headers=PAGE, allow_redirects=False)
    assert left.headers["Location"] == "/auth/login?said=out"


async def test_a_wrong_password_shows_the_form_again(portal: Client, town: Town) -> None:
    """With the address, without the password, and escaped."""
    answer = await fill(portal, "/auth/login", email="<script>alert(1)</script>@x", password="<b>secret</b>")
    text = await answer.text()
    assert answer.status == 401
    assert "do not belong together" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert "secret" not in text


@pytest.mark.parametrize("case", ["unknown", "wrong", "disabled", "suspended", "no password", "nowhere"])
async def test_every_failure_is_the_same_answer(portal: Client, town: Town, case: str) -> None:
    """Whoever tries learns nothing of who exists (L-01): status, body, headers, cookies are one."""
    email, password = EMAIL, PASSWORD
    match case:
        case "unknown":
            email = "nobody@example.com"
        case "wrong":
            password = PASSWORD + "!"
        case "disabled":
            await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
        case "suspended":
            await town.directory.set_tenant_status("acme", TenantStatus.SUSPENDED)
        case "no password":
            await town.directory.create_user(town.tenant.id, "new@example.com", "New", Role.MEMBER, None)
            email = "new@example.com"
        case "nowhere":
            pass
    more = {"tenant": "other"} if case == "nowhere" else {}
    answer = await log_in(portal, email, password, headers={"X-Request-ID": "req-1"}, **more)
    assert answer.status == 401
    assert await answer.json(content_type=None) == {
        "type": "urn:tahoe-gateway:problem:invalid_login",
        "title": "Please sign in",
        "status": 401,
        "detail": "This e-mail address and password do not belong together. Check both, or ask for a new password.",
        "code": "invalid_login",
        "request_id": "req-1",
    }
    assert not list(portal.session.cookie_jar)
    assert (await actions(town.parts))[-1] == "login.failed"


async def test_checking_nobodys_password_takes_as_long_as_anybodys() -> None:
    """L-02: medians of interleaved tries; a stored hash that cannot be used counts as nobody's."""
    pepper = b"p" * 32
    hashing = Hashing(pepper, 10, 1)
    stored = hash_password(PASSWORD, pepper, cost=10)
    took: dict[str | None, list[float]] = {stored: [], None: [], "$2b$31$broken": []}
    for _ in range(7):
        for kind, times in took.items():
            started = time.process_time()
            assert not await hashing.check("a wrong password", kind)
            times.append(time.process_time() - started)
    hashing.close()
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.5 * min(medians), medians


async def test_each_log_in_is_a_session_of_its_own_and_kills_the_one_presented(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-02: a session that somebody planted is worth nothing after the log-in, and workers are told."""
    told = []

    async def publish(_: RedisBus, change: Invalidation) -> None:
        told.append(change)

    monkeypatch.setattr(RedisBus, "publish", publish)
    portal.session.cookie_jar.update_cookies({COOKIE: "planted-by-somebody"}, response_url=portal.make_url("/"))
    await log_in(portal)
    first = cookie(portal)
    assert first
    assert first != "planted-by-somebody"
    await log_in(portal)
    second = cookie(portal)
    assert second != first
    assert await signed_in(portal, second)
    assert not await signed_in(portal, first)
    assert told == [Invalidation(user_id=town.user.id)]


async def test_a_dead_cookie_is_taken_away_by_the_log_in_page(portal: Client, town: Town) -> None:
    """C-07: else the browser would send it for ever."""
    answer = await portal.get("/auth/login", headers=PAGE | {"Cookie": f"{COOKIE}=dead"})
    assert any(line.startswith(f'{COOKIE}="";') and "Max-Age=0" in line for line in answer.headers.getall("Set-Cookie"))


async def test_the_log_in_page_says_why_one_is_there(portal: Client, town: Town) -> None:
    """Signed out, a session that has ended, a second step that took too long; and nothing that an address made up."""
    await log_in(portal)
    out = await fill(portal, "/account", "/auth/logout")
    for path, words in (
        (out.headers["Location"], "You are signed out."),
        ((await portal.get("/auth/mfa", headers=PAGE, allow_redirects=False)).headers["Location"], "took too long"),
        ("/auth/login?said=<b>", 'value="/account">'),
    ):
        page = await (await portal.get(path, headers=PAGE)).text()
        assert words in page
        assert ('role="status"' in page) == ("said=<b>" not in path)
    dead = await portal.get("/auth/login?said=out", headers=PAGE | {"Cookie": f"{COOKIE}=dead"})
    assert "Your session has ended." in await dead.text()


async def test_the_session_is_stored_as_a_digest_alone(portal: Client, town: Town) -> None:
    """C-08: who reads Redis or PostgreSQL can sign in as nobody."""
    await log_in(portal)
    secret = cookie(portal)
    assert len(secret) >= 43
    keys = [key async for key in town.parts.redis.scan_iter()]
    values = [await town.parts.redis.get(key) for key in keys if await town.parts.redis.type(key) == b"string"]
    rows = await town.parts.pool.read("SELECT s::text AS all FROM platform.sessions s")
    assert not any(secret.encode() in text for text in [*keys, *values])
    assert not any(secret in row["all"] for row in rows)


async def test_who_is_disabled_is_out_at_once(portal: Client, town: Town) -> None:
    """By the status alone, before anybody has ended the session."""
    await log_in(portal)
    await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
    assert not await signed_in(portal)


async def test_redis_that_lost_its_data_lets_nobody_in(portal: Client, town: Town) -> None:
    """Logged out; and what PostgreSQL has ended stays ended though Redis has it again."""
    await log_in(portal)
    secret = cookie(portal)
    kept = {key: await town.parts.redis.get(key) async for key in town.parts.redis.scan_iter("session:*")}
    await town.parts.redis.flushdb()
    assert not await signed_in(portal, secret)
    await portal.post("/auth/logout", headers=SAME_ORIGIN)
    for key, value in kept.items():
        await town.parts.redis.set(key, value)
    assert await signed_in(portal, secret)
    await town.parts.pool.read("UPDATE platform.sessions SET ended_at = now(), ended_by = 'revoked'")
    assert not await signed_in(portal, secret)


async def test_the_gateway_knows_the_session_as_the_registry_has_it_now(portal: Client, town: Town) -> None:
    """The worker's side: role and scopes of this moment, until the session's end; none after it."""
    await log_in(portal)
    parts = town.parts
    identity = portal.server.app[IDENTITY]
    known = BrowserSessions(
        Sessions(PostgresSessions(parts.pool, parts.trail), identity.living),
        PostgresSubjects(parts.pool),
        parts.secret_for(PURPOSE),
    )
    secret = cookie(portal).encode()
    principal = await known.identify(secret)
    assert principal is not None
    assert (principal.method, principal.user_id, principal.tenant_id) == ("session", town.user.id, town.tenant.id)
    assert (principal.roles, principal.key_id) == (("owner",), "")
    assert "transcribe" in principal.scopes
    assert principal.expires_ms is not None
    await parts.pool.read("UPDATE platform.memberships SET role = 'viewer'")
    assert "transcribe" not in (await known.identify(secret)).scopes
    await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)
    assert await known.identify(secret) is None
    assert await known.identify(b"") is None


# --- how many tries ---------------------------------------------------------------------------------------------------


async def test_tries_are_counted_and_then_cost_a_wait(portal: Client, town: Town) -> None:
    """L-03, L-05, L-07: atomically, under one name for all spellings; the right password does not help meanwhile."""
    spellings = [EMAIL, "ADA@example.com", " ada@example.com ", "ada+x@example.com", "ada@example.com."]
    spellings.append("\uff41da@example.com")
    answers = await asyncio.gather(*(log_in(portal, spelling, "wrong") for spelling in spellings * 4))
    assert Counter(answer.status for answer in answers) == {401: 5, 429: 19}
    refused = await log_in(portal)
    assert refused.status == 429
    assert 20 <= int(refused.headers["Retry-After"]) <= 31
    assert (await log_in(portal, headers={"X-Client-IP": "198.51.100.1"})).status == 429
    await town.add("bob@example.com")
    assert (await log_in(portal, "bob@example.com")).status == 200


async def test_a_lock_out_is_in_the_audit_trail(portal: Client, town: Town) -> None:
    """With the try that locks, and so as seldom: who goes on trying writes no more of it."""
    for _ in range(8):
        await log_in(portal, password="wrong")
    rows = await town.parts.pool.read("SELECT action, after FROM platform.audit_entries ORDER BY sequence DESC LIMIT 5")
    assert [orjson.loads(row["after"] or "null") for row in rows] == [{"locked_s": 30}, None, None, None, None]
    assert {row["action"] for row in rows} == {"login.failed"}


async def test_a_wait_says_nothing_of_who_exists(portal: Client, town: Town) -> None:
    for email in (EMAIL, "nobody@example.com"):
        statuses = [(await log_in(portal, email, "wrong", headers={"X-Client-IP": ""})).status for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2


async def test_one_address_is_counted_over_all_accounts(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-04: one password at a thousand people. Of IPv6 it is the customer's network; good tries do not count."""
    monkeypatch.setattr("gateway.portal.entry.proving.FREE_BY_ADDRESS", 6)
    for number in range(6):
        headers = {"X-Client-IP": f"2001:db8:0:1::{number:x}"}
        assert (await log_in(portal, f"user{number}@example.com", "wrong", headers=headers)).status == 401
        if number < 5:
            assert (await log_in(portal, headers=headers)).status == 200
    assert (
        await log_in(portal, "more@example.com", "wrong", headers={"X-Client-IP": "2001:db8:0:1::ff"})
    ).status == 429
    assert (await log_in(portal, headers={"X-Client-IP": "2001:db8:0:2::1"})).status == 200


async def test_a_success_forgives_the_account(portal: Client, town: Town) -> None:
    for _ in range(3):
        for _ in range(4):
            assert (await log_in(portal, password="wrong")).status == 401
        assert (await log_in(portal)).status == 200


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [*("x" * size for size in (0, 1, 72, 73, 1_024, 1_025, 8_192)), "\0" * 20, "a\0b", "🦊" * 300, "\ud800x", "  "],
    ids=lambda password: f"{len(password)}",
)
async def test_any_text_is_a_wrong_password_and_no_error(portal: Client, town: Town, password: str) -> None:
    """L-08, L-09: of 0, 72, 73, 1 024, 1 025 characters, with NUL, emoji, half a surrogate pair."""
    answer = await log_in(portal, password=password)
    assert answer.status in ({401} if "\ud800" not in password else {401, 422})


async def test_what_is_far_too_long_is_told_so(portal: Client, town: Town) -> None:
    assert (await log_in(portal, password="x" * 8_193)).status == 422
    body = io.BytesIO(orjson.dumps({"email": EMAIL, "password": "x" * 1_100_000}))
    assert (await portal.post("/auth/login", data=body, headers={"Content-Type": "application/json"})).status == 413


async def test_a_hash_of_another_cost_is_made_anew_at_the_log_in(portal: Client, town: Town, parts: Parts) -> None:
    """L-10; and one that is none is a wrong password."""
    old = hash_password(PASSWORD, parts.secret_for("passwords"), cost=11)
    await parts.pool.read("UPDATE platform.users SET password_hash = $1", old)
    assert (await log_in(portal)).status == 200
    (row,) = await parts.pool.read("SELECT password_hash FROM platform.users")
    assert row["password_hash"].startswith("$hmac-sha256-bcrypt$2b$10$")
    assert (await log_in(portal)).status == 200
    for broken in ("", "$2y$10$short", "$hmac-sha256-bcrypt$2b$31$" + "a" * 53):
        await parts.pool.read("UPDATE platform.users SET password_hash = $1", broken)
        await parts.redis.flushdb()
        assert (await log_in(portal)).status == 401


async def test_too_many_passwords_at_once_are_503(portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never an endless queue; who is sent away comes back at a time of their own, and has not used up a try (L-03)."""
    monkeypatch.setattr(portal.server.app[IDENTITY].hashing, "_most_waiting", 0)
    refused = [await log_in(portal) for _ in range(30)]
    assert {answer.status for answer in refused} == {503}
    assert (await refused[0].json())["code"] == "too_many_logins"
    assert len({answer.headers["Retry-After"] for answer in refused}) > 3
    grant = {"grant_type": "password", "email": EMAIL, "password": PASSWORD}
    token = await portal.post("/auth/token", data=grant)
    assert (token.status, (await token.json())["error"]) == (503, "temporarily_unavailable")
    monkeypatch.undo()
    assert (await log_in(portal)).status == 200


async def test_who_is_sent_away_for_a_while_keeps_the_page(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was typed, and where it was to go, is still there: nobody begins anew because others sign in."""
    hashing = portal.server.app[IDENTITY].hashing
    monkeypatch.setattr(hashing, "_most_waiting", 0)
    answer = await fill(portal, "/auth/login?next=/v1/models", email=EMAIL, password=PASSWORD)
    page = await answer.text()
    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert all(kept in page for kept in (f'value="{EMAIL}"', 'value="/v1/models"', 'action="/auth/login"'))
    assert f"Wait {answer.headers['Retry-After']} seconds, then try again." in page
    link = await asked(portal, town)
    answer = await fill(portal, link, password=PASSWORD, again=PASSWORD)
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert f'action="{link}"' in await answer.text()
    monkeypatch.undo()
    await log_in(portal)
    monkeypatch.setattr(hashing, "_most_waiting", 0)
    answer = await fill(portal, "/account/security", "/account/password", current=PASSWORD, password="x", again="x")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert 'action="/account/password"' in await answer.text()


@pytest.mark.parametrize(
    "body", [[], {}, {"email": 1}, {"email": EMAIL, "password": None}, {"email": "x" * 513, "password": "p"}]
)
async def test_a_body_that_is_no_log_in_is_422(portal: Client, town: Town, body: object) -> None:
    assert (await portal.post("/auth/login", json=body)).status == 422


async def test_a_store_that_is_away_closes_the_log_in(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never let in, never told that the password is wrong."""
    nowhere = ConnectionPool(host="127.0.0.1", port=1)
    monkeypatch.setattr(portal.server.app[IDENTITY].parts.redis, "connection_pool", nowhere)
    assert (await log_in(portal)).status == 503
    page = await portal.get("/auth/login", headers=PAGE | {"Cookie": f"{COOKIE}=x"}, allow_redirects=False)
    assert page.status == 503


async def test_a_program_that_sends_the_form_gets_json(portal: Client, town: Town) -> None:
    """A problem, as everywhere, and the session where it is right; whoever sends JSON is no browser with a form."""
    target, hidden = await form_of(portal, "/auth/login", None)
    for password, status, kind in (
        (PASSWORD + "x", 401, "application/problem+json"),
        (PASSWORD, 200, "application/json"),
    ):
        sent = hidden | {"email": EMAIL, "password": password}
        answer = await portal.post(target, data=sent, headers={"Accept": "application/json"}, allow_redirects=False)
        assert (answer.status, answer.content_type) == (status, kind)
    assert (await answer.json())["user"]["email"] == EMAIL
    answer = await portal.post(target, data={"email": EMAIL, "password": PASSWORD})
    assert "A program sends JSON" in (await answer.json(content_type=None))["detail"]
    answer = await portal.post(target, json={"email": EMAIL, "password": "wrong"}, headers=PAGE | SAME_ORIGIN)
    assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "invalid_login")

"""Who comes with the address of an account here: connected when its owner consents, by the account's own means."""

import asyncio
import html
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pyotp
import pytest
from aiohttp import ClientResponse

from policies.identity.tenants import UserStatus
from storage.postgres.people.identities import PostgresIdentities
from storage.sealed import seal, unseal
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, actions, fill
from tests.gateway.portal.oidc_world import SUBJECT, FakeProvider, portal_with, provider, set_out, sign_in, table
from tests.gateway.portal.test_recovery import letters
from tests.gateway.portal.test_second_factor import ask_for, code, secret_on
from tests.storage.waiting import until

CONNECT = "/auth/connect"


@pytest.fixture
async def idp() -> AsyncIterator[FakeProvider]:
    async with provider() as made:
        made.said = {"email": EMAIL}
        yield made


@pytest.fixture
async def client(town: Town, idp: FakeProvider, tmp_path: Path) -> AsyncIterator[Client]:
    """Accounts may be connected by address; whose tenant is told joins it."""
    settings = table(idp, link_by_email=True, make_people=True, tenant="globex")
    await town.directory.create_tenant("globex", "Globex")
    async with portal_with(town.parts, tmp_path, corp=settings) as made:
        yield made


async def come(client: Client, idp: FakeProvider) -> None:
    """From the provider, to the page that asks."""
    answer = await sign_in(client, idp, query="?next=/v1/models")
    assert (answer.status, answer.headers["Location"]) == (303, CONNECT), await answer.text()


async def agree(client: Client, password: str = PASSWORD) -> ClientResponse:
    return await fill(client, CONNECT, CONNECT, password=password)


async def linked(town: Town) -> list[str]:
    """Whose accounts are connected."""
    rows = await town.parts.pool.read("SELECT user_id FROM platform.identities")
    return [row["user_id"] for row in rows]


async def signed_in(client: Client) -> bool:
    return (await client.get("/account", headers=PAGE, allow_redirects=False)).status == 200


async def test_nothing_is_connected_before_the_person_has_proved_that_the_account_is_theirs(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """Looking and a wrong password change nothing; the right one connects, signs in and tells the owner."""
    await come(client, idp)
    for _ in range(2):
        text = html.unescape(await (await client.get(CONNECT, headers=PAGE)).text())
        assert all(shown in text for shown in (f"<b>{EMAIL}</b>", "<b>corp</b>", idp.url))
    wrong = await agree(client, "not the password at all")
    assert (wrong.status, await linked(town), await signed_in(client)) == (401, [], False)
    answer = await agree(client)
    assert (answer.status, answer.headers["Location"]) == (303, "/v1/models")
    assert (await linked(town), await signed_in(client)) == ([town.user.id], True)
    assert (await actions(town.parts))[-3:] == ["session.started", "member.joined", "identity.linked"]
    rows = await town.parts.pool.read("SELECT actor_id FROM platform.audit_entries WHERE action = 'identity.linked'")
    assert rows[0]["actor_id"] == town.user.id
    rows = await town.parts.pool.read("SELECT 1 FROM platform.outbox WHERE type = 'identity.linked'")
    assert len(rows) == 1
    await until(lambda: any("new way to sign in" in subject for subject, _ in letters(town.parts)))
    client.session.cookie_jar.clear()
    assert (await sign_in(client, idp, query="?next=/v1/models")).headers["Location"] == "/v1/models"


async def test_who_says_no_is_at_the_log_in_page_and_nothing_is_connected(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    await come(client, idp)
    answer = await fill(client, CONNECT, f"{CONNECT}/refuse")
    assert answer.headers["Location"] == "/auth/login?next=%2Fv1%2Fmodels"
    gone = await client.get(CONNECT, headers=PAGE, allow_redirects=False)
    assert gone.headers["Location"] == "/auth/login?said=over"
    assert (await linked(town), await signed_in(client)) == ([], False)
    assert (await actions(town.parts))[-1] == "identity.declined"


async def test_consent_is_both_factors_where_the_account_has_two(client: Client, idp: FakeProvider, town: Town) -> None:
    """One that must be set up first, and one that is there: connected with the session and not before."""
    await ask_for(town, "owner")
    await come(client, idp)
    assert (await agree(client)).headers["Location"] == "/auth/mfa/setup"
    assert await linked(town) == []
    page = await (await client.get("/auth/mfa/setup", headers=PAGE)).text()
    secret = await secret_on(page)
    token = html.unescape(page.partition('name="csrf" value="')[2].partition('"')[0])
    await client.post("/auth/mfa/setup", data={"csrf": token, "code": code(secret)}, headers=PAGE)
    assert (await linked(town), await signed_in(client)) == ([town.user.id], True)
    async with town.parts.pool.operator() as connection:
        await connection.execute("DELETE FROM platform.identities")
    client.session.cookie_jar.clear()
    await come(client, idp)
    assert (await agree(client)).headers["Location"] == "/auth/mfa"
    assert (await fill(client, "/auth/mfa", code="000000")).status == 401
    assert await linked(town) == []
    answer = await fill(client, "/auth/mfa", code=pyotp.TOTP(secret).at(int(town.parts.now().timestamp()) + 30))
    assert answer.headers["Location"] == "/v1/models"
    assert await linked(town) == [town.user.id]


async def test_no_factor_is_set_up_for_a_connection_that_it_is_too_late_for(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """It would be there without a log-in, and its recovery codes seen by nobody."""
    await ask_for(town, "owner")
    await come(client, idp)
    await agree(client)
    page = await (await client.get("/auth/mfa/setup", headers=PAGE)).text()
    token = html.unescape(page.partition('name="csrf" value="')[2].partition('"')[0])
    (half,) = [key async for key in town.parts.redis.scan_iter("platform:halfway:*")]
    await rewrite(town, half, lambda kept: kept | {"connects": kept["connects"] | {"until_s": 0}})
    given = {"csrf": token, "code": code(await secret_on(page))}
    answer = await client.post("/auth/mfa/setup", data=given, headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/auth/login?said=over"
    assert "second_factor.enabled" not in await actions(town.parts)


async def rewrite(town: Town, key: bytes, change: Callable[[Any], Any]) -> None:
    """Change what is kept of a browser."""
    secret, name = town.parts.secret_for("slips"), key.decode()
    kept = orjson.loads(unseal(secret, await town.parts.redis.get(key), name))
    await town.parts.redis.set(key, seal(secret, orjson.dumps(change(kept)), name))


async def test_what_waits_is_good_once_and_in_its_own_browser(client: Client, idp: FakeProvider, town: Town) -> None:
    """Of two who consent at once one is in; another browser has nothing to consent to; it is gone in ten minutes."""
    await come(client, idp)
    (waits,) = [key async for key in town.parts.redis.scan_iter("platform:oidc-consent:*")]
    assert 0 < await town.parts.redis.pttl(waits) <= 600_000
    cookies = {cookie.key: cookie.value for cookie in client.session.cookie_jar}
    client.session.cookie_jar.clear()
    gone = await client.get(CONNECT, headers=PAGE, allow_redirects=False)
    assert gone.headers["Location"] == "/auth/login?said=over"
    client.session.cookie_jar.update_cookies(cookies, response_url=client.make_url("/"))
    answers = await asyncio.gather(agree(client), agree(client))
    assert sum(answer.headers.get("Location") == "/v1/models" for answer in answers) == 1
    assert (await actions(town.parts)).count("identity.linked") == 1
    assert await town.parts.redis.exists(waits) == 0


async def test_consent_is_to_what_the_page_showed_and_comes_from_our_own_page(
    client: Client, idp: FakeProvider, town: Town
) -> None:
    """Neither another site's form nor the form of what waited before counts."""
    await come(client, idp)
    page = await (await client.get(CONNECT, headers=PAGE)).text()
    csrf, old = (page.partition(f'name="{name}" value="')[2].partition('"')[0] for name in ("csrf", "connection"))
    await come(client, idp)
    sent = {"csrf": csrf, "password": PASSWORD, "connection": old}
    for path in (CONNECT, f"{CONNECT}/refuse"):
        for headers in (PAGE, PAGE | {"Sec-Fetch-Site": "cross-site"}):
            answer = await client.post(path, data=sent, headers=headers, allow_redirects=False)
            assert answer.status == 403
    no_token = await client.post(CONNECT, data={"password": PASSWORD, "connection": old}, headers=PAGE)
    assert (no_token.status, await linked(town)) == (403, [])
    assert (await agree(client)).status == 303


async def moved(town: Town, _: FakeProvider) -> None:
    """The account has another address."""
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET email = 'other@example.com'")


async def taken(town: Town, idp: FakeProvider) -> None:
    """The provider's account is connected to somebody else."""
    other = await town.add("bob@example.com")
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "INSERT INTO platform.identities (issuer, subject, user_id, provider, email) VALUES ($1, $2, $3, 'x', '')",
            idp.url, SUBJECT, other.id,
        )  # fmt: skip


async def disabled(town: Town, _: FakeProvider) -> None:
    """The person is shut out."""
    await town.directory.set_user_status(town.tenant.id, EMAIL, UserStatus.DISABLED)


async def late(town: Town, _: FakeProvider) -> None:
    """Ten minutes pass while a second factor is looked for."""
    (waits,) = [key async for key in town.parts.redis.scan_iter("platform:oidc-consent:*")]
    await rewrite(town, waits, lambda kept: kept | {"until_s": 0})


@pytest.mark.parametrize(("happens", "status"), [(moved, 401), (taken, 409), (disabled, 303), (late, 401)])
async def test_what_happens_in_between_counts(
    client: Client, idp: FakeProvider, town: Town, happens: Callable[[Town, FakeProvider], Awaitable[None]], status: int
) -> None:
    """Link and session are made together, or neither is."""
    await come(client, idp)
    await happens(town, idp)
    page = await client.get(CONNECT, headers=PAGE, allow_redirects=False)
    answer = await agree(client) if page.status == 200 else page
    assert answer.status == status
    assert town.user.id not in await linked(town)
    assert not await signed_in(client)
    assert "session.started" not in await actions(town.parts)


async def test_an_account_without_means_of_its_own_is_told_what_to_do(
    client: Client, idp: FakeProvider, town: Town, tmp_path: Path
) -> None:
    """One that another provider has brought: sign in with that, then connect on the security page."""
    async with provider() as other:
        tables = {"lab": table(other, make_people=True, tenant="acme"), "corp": table(idp, link_by_email=True)}
        async with portal_with(town.parts, tmp_path, **tables) as both:
            assert (await sign_in(both, other, "lab")).status == 303
            both.session.cookie_jar.clear()
            idp.said = {"email": "new@example.com", "sub": "another"}
            answer = await sign_in(both, idp, "corp")
            assert answer.headers["Location"] == CONNECT
            text = await (await both.get(CONNECT, headers=PAGE)).text()
            assert "no password and no passkey" in text
            assert "connect corp under <b>Password and security</b>" in text
            assert 'href="/auth/oidc/lab?next=/account/security"' in text
            assert 'name="password"' not in text
            assert await set_out(both, "lab", "?next=/account/security")


async def test_what_the_operator_takes_back_connects_nobody(
    client: Client, idp: FakeProvider, town: Town, tmp_path: Path
) -> None:
    """A page that was open while the setting was turned off, over the same stores."""
    await come(client, idp)
    async with portal_with(town.parts, tmp_path, corp=table(idp)) as later:
        later.session.cookie_jar.update_cookies(
            {cookie.key: cookie.value for cookie in client.session.cookie_jar}, response_url=later.make_url("/")
        )
        answer = await later.get(CONNECT, headers=PAGE, allow_redirects=False)
        assert answer.headers["Location"] == "/auth/login?said=over"
    assert await PostgresIdentities(town.parts.pool, town.parts.trail).of(town.user.id) == []

"""Where two parts of the portal meet, and one of them gave more than the other had."""

import asyncio
import re
from datetime import timedelta
from urllib.parse import quote

import pytest

from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import Parts
from policies.identity.permissions import ROLES
from policies.identity.tenants import Role, UserStatus
from policies.identity.tokens import AccessToken
from storage.postgres.people.accounts import PostgresPeople
from storage.postgres.people.users import PostgresUsers
from storage.postgres.tokens.families import PostgresRevocations
from tests.gateway.portal.api import Caller, Houses
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, SAME_ORIGIN, Client, Town, fill, log_in
from tests.gateway.portal.test_joining import invited
from tests.gateway.portal.test_recovery import NEW, asked, letters, link_in
from tests.gateway.portal.test_second_factor import ask_for, code, first_half, set_up
from tests.gateway.portal.test_tickets import taken


async def stale(town: Town) -> None:
    """Let an hour pass since the password was given, and a day of the session's week."""
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.sessions SET authenticated_at = authenticated_at - interval '1 hour',"
            " expires_at = expires_at - interval '1 day'"
        )


async def is_asked_for_the_password(portal: Client) -> bool:
    answer = await portal.get("/account/email", headers=PAGE, allow_redirects=False)
    return answer.headers.get("Location", "").startswith("/account/confirm")


async def session_end(town: Town) -> object:
    rows = await town.parts.pool.read("SELECT expires_at FROM platform.sessions WHERE ended_at IS NULL")
    return rows[0]["expires_at"]


async def test_a_change_of_tenant_is_no_proof_of_a_password(portal: Client, town: Town) -> None:
    """The new session is no fresher than the one before it, and ends no later (K-04)."""
    await log_in(portal)
    await stale(town)
    assert await is_asked_for_the_password(portal)
    before = await session_end(town)
    token = re.search(r'name="csrf" value="([^"]+)"', await (await portal.get("/account", headers=PAGE)).text())[1]
    sent = {"csrf": token, "tenant": town.tenant.id}
    assert (await portal.post("/account/tenant", data=sent, headers=PAGE, allow_redirects=False)).status == 303
    assert await is_asked_for_the_password(portal)
    assert await session_end(town) == before


async def test_an_invitation_is_no_proof_of_a_password(portal: Client, town: Town) -> None:
    other = await town.directory.create_tenant("globex", "Globex")
    await town.add("bob@example.com", Role.OWNER, tenant=other.id)
    await log_in(portal)
    await stale(town)
    link = await invited(portal, Town(town.parts, town.directory, other, await _owner(town, other.id)), EMAIL)
    assert (await fill(portal, link)).status == 303
    assert await is_asked_for_the_password(portal)


async def _owner(town: Town, tenant_id: str) -> object:
    return next(user for user, _ in await town.directory.users(tenant_id))


async def test_a_new_password_ends_what_the_old_one_had_begun(portal: Client, town: Town) -> None:
    """Half a log-in, and the trust in a browser: whoever knew the old password may have made them."""
    await ask_for(town, "owner")
    secret = await set_up(portal)
    portal.session.cookie_jar.clear()
    assert (await first_half(portal)).headers["Location"] == "/auth/mfa"
    assert (await fill(portal, "/auth/mfa", code=code(secret, 1), trust="on")).status == 303
    kept = {c.key: c.value for c in portal.session.cookie_jar if c.key == "tahoe_trusted"}
    portal.session.cookie_jar.clear()
    await first_half(portal)
    half = {c.key: c.value for c in portal.session.cookie_jar if c.key == "tahoe_challenge"}
    portal.session.cookie_jar.clear()
    assert (await fill(portal, await asked(portal, town), password=NEW, again=NEW)).status == 200
    portal.session.cookie_jar.update_cookies(half)
    answer = await portal.get("/auth/mfa", headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/auth/login?said=over"
    portal.session.cookie_jar.clear()
    portal.session.cookie_jar.update_cookies(kept)
    answer = await fill(portal, "/auth/login", email=EMAIL, password=NEW)
    assert answer.headers["Location"] == "/auth/mfa"


async def behind_a_ticket(portal: Client, town: Town, headers: dict[str, str]) -> AccessToken:
    async with portal.post("/auth/grant", json={"route": "openai.realtime"}, headers=headers) as answer:
        assert answer.status == 200
        ticket = await taken(town, (await answer.json())["ticket"])
    assert ticket.token is not None
    return ticket.token


async def test_a_ticket_ends_with_the_session_that_asked_for_it(portal: Client, town: Town) -> None:
    """SECURITY.md, 11: so does the stream that it opened."""
    await log_in(portal)
    found = await behind_a_ticket(portal, town, SAME_ORIGIN)
    bearers = portal.app[OAUTH].tokens.bearers  # type: ignore[union-attr]
    assert not bearers.is_revoked(found)
    assert (await portal.post("/auth/logout", headers=SAME_ORIGIN)).status == 204
    assert bearers.is_revoked(found)


@pytest.mark.parametrize("place", ["Authorization: Bearer {}", "Authorization: Token {}", "X-API-Key: {}"])
async def test_a_ticket_ends_with_the_log_in_that_asked_for_it(portal: Client, town: Town, place: str) -> None:
    """Wherever its token stood: from a key's header it had no log-in, and ended with none."""
    form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
    tokens = await (await portal.post("/auth/token", data=form, headers={"X-Client-IP": "192.0.2.1"})).json()
    name, _, value = place.format(tokens["access_token"]).partition(": ")
    asking = {
        "X-Tenant-ID": town.tenant.id, "X-User-ID": town.user.id, "X-Auth-Scopes": tokens["scope"], name: value,
    }  # fmt: skip
    found = await behind_a_ticket(portal, town, asking)
    assert (await portal.post("/auth/revoke", data={"token": tokens["refresh_token"]})).status == 200
    assert portal.app[OAUTH].tokens.bearers.is_revoked(found)  # type: ignore[union-attr]


async def test_a_token_that_is_nowhere_to_be_seen_gets_no_ticket(portal: Client, town: Town) -> None:
    asking = {"X-Tenant-ID": town.tenant.id, "X-User-ID": town.user.id, "X-Auth-Scopes": "transcribe"}
    async with portal.post("/auth/grant", json={"route": "openai.realtime"}, headers=asking) as answer:
        assert (answer.status, (await answer.json())["code"]) == (401, "invalid_token")


async def test_a_ticket_lasts_no_longer_than_the_session(portal: Client, town: Town) -> None:
    await log_in(portal)
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.sessions SET expires_at = now() + $1", timedelta(seconds=90))
    async with portal.post("/auth/grant", json={"route": "openai.realtime"}, headers=SAME_ORIGIN) as answer:
        assert 0 < (await answer.json())["max_session_seconds"] <= 90


async def test_a_bound_key_is_not_let_loose_by_whoever_holds_less(houses: Houses) -> None:
    """An admin cannot set limits; so neither where a key that can may be used."""
    tenant = await houses.tenant()
    owner, admin = await houses.person(tenant), await houses.person(tenant, Role.ADMIN)
    wish = {"name": "k", "scopes": ["limits:write"], "networks": ["192.0.2.0/24"], "routes": ["openai.models"]}
    path = f"/keys/{(await owner.ask('POST', '/keys', wish, status=201))['id']}"
    for wider in (
        {"networks": []},
        {"networks": ["192.0.2.0/23"]},
        {"networks": ["192.0.2.1", "10.0.0.1"]},
        {"networks": ["2001:db8::/32"]},
        {"routes": []},
        {"routes": ["openai.models", "openai.model"]},
    ):
        refused = await admin.ask("PATCH", path, wider, status=403)
        assert refused["code"] == "exceeds_own_permissions"
        assert (await owner.ask("GET", path))["networks"] == ["192.0.2.0/24"]
    await admin.ask("PATCH", path, {"networks": ["192.0.2.7"], "routes": ["openai.models"]})
    await owner.ask("PATCH", path, {"networks": [], "routes": []})


@pytest.mark.parametrize("sent", ["\0", "a\0@b.example"])
async def test_nul_is_refused_and_no_fault_of_ours(portal: Client, houses: Houses, town: Town, sent: str) -> None:
    """PostgreSQL keeps no NUL: it is said, and not 500 with a traceback."""
    caller = await houses.person(operator=True)
    for path in ("/users?email=", "/sessions?user_id=", "/keys?user_id=", "/audit?actor=", "/usage/events?key="):
        assert (await caller.ask("GET", path + quote(sent), status=422))["code"] == "invalid_input"
    await caller.ask("POST", "/keys", {"name": "k", "user_id": sent}, status=422)
    assert (await log_in(portal, sent)).status == 422
    forms = (
        ("/auth/token", {"grant_type": "password", "username": sent, "password": "x"}),
        ("/auth/token", {"grant_type": "client_credentials", "client_id": sent, "client_secret": "x"}),
        ("/auth/introspect", {"token": "x", "client_id": sent, "client_secret": "x"}),
    )
    answers = await asyncio.gather(*(portal.post(path, data=form) for path, form in forms))
    assert [(answer.status, (await answer.json())["error"]) for answer in answers] == [(400, "invalid_request")] * 3


async def test_a_program_invites_for_as_long_as_it_may(portal: Client, houses: Houses, town: Town) -> None:
    """T-15: a service account's works until it is disabled; a key's until it or its successor has ended."""
    owner = await houses.person(town.tenant)
    scopes = ["users:write", *ROLES[Role.VIEWER]]
    account = await owner.ask("POST", "/service-accounts", {"name": "crm", "scopes": scopes}, status=201)
    key = await owner.ask("POST", "/keys", {"name": "crm", "scopes": scopes}, status=201)
    vouched = {"X-Tenant-ID": town.tenant.id, "X-Auth-Scopes": " ".join(scopes), **SAME_ORIGIN}
    programs = (
        (vouched | {"X-User-ID": account["id"]}, f"/service-accounts/{account['id']}"),
        (vouched | {"X-API-Key-ID": key["id"]}, f"/keys/{key['id']}"),
    )
    for number, (headers, ending) in enumerate(programs):
        program, links = Caller(portal, town.tenant, headers), []
        for address in (f"a{number}@example.com", f"b{number}@example.com"):
            await program.ask("POST", "/invitations", {"email": address, "role": "viewer"}, status=201)
            links.append(link_in(letters(town.parts, address)[-1][1]))
        assert (await fill(portal, links[0], name="A", password=NEW, again=NEW)).status == 303
        portal.session.cookie_jar.clear()  # who is new is signed in by it
        if number == 1:
            made = await owner.ask("POST", f"{ending}/rotate", {"overlap_s": 0}, status=201)
        await owner.ask("DELETE", ending if number == 0 else f"/keys/{made['id']}", status=204)
        assert (await fill(portal, links[1], name="B", password=NEW, again=NEW)).status == 410
    guest = Caller(portal, town.tenant, vouched | {"X-User-ID": "corp:bob"})
    refused = await guest.ask("POST", "/invitations", {"email": "c@example.com", "role": "viewer"}, status=403)
    assert refused["code"] == "insufficient_permission"


async def test_no_session_outlives_its_password_whoever_is_killed_meanwhile(portal: Client, town: Town) -> None:
    """The password is changed in one transaction, and sessions end in another: between them the portal may die."""
    await log_in(portal)
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 200
    async with town.parts.pool.operator() as connection:
        await people(town.parts).set_password_in(connection, town.user.id, "$2b$10$" + "x" * 53, "password.reset")
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303


@pytest.mark.parametrize("change", ["password", "status"])
async def test_no_log_in_comes_back_whoever_is_killed_meanwhile(portal: Client, town: Town, change: str) -> None:
    """All of them end in the transaction that changes the password, or disables the person, though it is enabled then.

    What the portal does afterwards it may not live to do: tell the others.
    """
    await log_in(portal)
    token = {"grant_type": "password", "email": EMAIL, "password": PASSWORD}
    made = await (await portal.post("/auth/token", data=token)).json()
    users = PostgresUsers(town.parts.pool, town.parts.trail)
    if change == "password":
        await people(town.parts).set_password(town.user.id, "$2b$10$" + "x" * 53)
    else:
        await users.set_status(town.user.id, UserStatus.DISABLED)
    await users.set_status(town.user.id, UserStatus.ACTIVE)
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303
    again = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    assert (await portal.post("/auth/token", data=again)).status in (400, 401)
    revoked = await PostgresRevocations(town.parts.pool, town.parts.trail).since(None)
    assert len([each for each in revoked if each.what.startswith("family:")]) == 2


async def test_a_log_in_that_crossed_a_ban_does_not_outlive_it(portal: Client, town: Town) -> None:
    """It was checked before and written after: while the person is disabled it opens nothing, and then it is over."""
    await log_in(portal)
    users = PostgresUsers(town.parts.pool, town.parts.trail)
    await users.set_status(town.user.id, UserStatus.DISABLED)
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.sessions SET ended_at = NULL, ended_by = NULL")
    await users.set_status(town.user.id, UserStatus.ACTIVE)
    assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303


def people(parts: Parts) -> PostgresPeople:
    return PostgresPeople(parts.pool, parts.trail)

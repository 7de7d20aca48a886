"""A second factor that a tenant asks for, set up before anything else; and browsers in which it is not asked again."""

import html
import re
import time
from datetime import timedelta

import pyotp
import pytest
from aiohttp import ClientResponse

from policies.identity.permissions import ROLES
from policies.identity.tenants import Role
from storage.postgres.tenants.members import PostgresMembers
from storage.postgres.tenants.roles import PostgresRoles
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, Client, Town, actions, fill, log_in


async def ask_for(town: Town, roles: str) -> None:
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.tenants SET second_factor_for = $1", roles.split())


async def is_signed_in(portal: Client) -> bool:
    return (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 200


async def secret_on(page: str) -> str:
    """The key that the page shows beside the picture."""
    return html.unescape(re.search(r"<code>([A-Z2-7 ]+)</code>", page)[1]).replace(" ", "")


def code(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * steps)


async def first_half(portal: Client) -> ClientResponse:
    return await fill(portal, "/auth/login?next=/v1/models", email=EMAIL, password=PASSWORD)


async def set_up(portal: Client) -> str:
    """Log in, be led to set it up, do so; the secret."""
    assert (await first_half(portal)).headers["Location"] == "/auth/mfa/setup"
    page = await (await portal.get("/auth/mfa/setup", headers=PAGE)).text()
    secret = await secret_on(page)
    token = re.search(r'name="csrf" value="([^"]+)"', page)[1]
    answer = await portal.post("/auth/mfa/setup", data={"csrf": token, "code": code(secret)}, headers=PAGE)
    assert answer.status == 200
    text = await answer.text()
    codes = re.findall(r"<code>([a-z0-9]{5}-[a-z0-9]{5})</code>", text)
    assert len(codes) == 10
    assert f'href="data:text/plain,{"%0A".join(codes)}"' in text
    assert 'href="/v1/models"' in text
    return secret


async def test_who_has_none_sets_one_up_and_can_do_nothing_else(portal: Client, town: Town) -> None:
    await ask_for(town, "owner")
    assert (await first_half(portal)).headers["Location"] == "/auth/mfa/setup"
    assert not await is_signed_in(portal)
    assert not [c for c in portal.session.cookie_jar if c.key == "tahoe_session"]
    skip = await portal.get("/auth/mfa", headers=PAGE, allow_redirects=False)
    assert skip.headers["Location"] == "/auth/mfa/setup"
    secret = await set_up(portal)
    assert await is_signed_in(portal)
    portal.session.cookie_jar.clear()
    assert (await first_half(portal)).headers["Location"] == "/auth/mfa"
    answer = await fill(portal, "/auth/mfa", code=code(secret, 1))
    assert answer.headers["Location"] == "/v1/models"
    refused = await fill(portal, "/account/security", action="/account/second-factor/remove")
    assert refused.status == 403
    assert "<title>Error: Password and security" in await refused.text()
    assert {"second_factor.enabled", "session.started"} <= set(await actions(town.parts))


async def test_who_takes_long_to_set_it_up_goes_on_or_is_told_that_the_key_is_a_new_one(
    portal: Client, town: Town
) -> None:
    """Half an hour after the proof, on the account's page as between password and session."""

    async def proved(minutes: int) -> None:
        async with town.parts.pool.operator() as connection:
            ago = timedelta(minutes=minutes)
            await connection.execute("UPDATE platform.sessions SET authenticated_at = now() - $1::interval", ago)

    path, new = "/account/second-factor", "This is a new key"
    await log_in(portal)
    first = await (await portal.get(path, headers=PAGE)).text()
    again = await (await portal.get(path, headers=PAGE)).text()
    assert (new in first, new in again) == (False, True)
    confirming = {
        "csrf": re.search(r'name="csrf" value="([^"]+)"', again)[1], "code": code(await secret_on(again))
    }  # fmt: skip
    await proved(31)
    late = await portal.post(path, data=confirming, headers=PAGE, allow_redirects=False)
    assert (late.status, late.headers["Location"].partition("?")[0]) == (303, "/account/confirm")
    await proved(29)
    assert "Recovery codes" in await (await portal.post(path, data=confirming, headers=PAGE)).text()
    await ask_for(town, "member")
    await town.add("bob@example.com")
    portal.session.cookie_jar.clear()
    half = await fill(portal, "/auth/login", email="bob@example.com", password=PASSWORD)
    assert half.cookies["tahoe_challenge"]["max-age"] == "1800"
    shown = [await (await portal.get("/auth/mfa/setup", headers=PAGE)).text() for _ in range(2)]
    assert [new in page for page in shown] == [False, True]


async def test_to_start_again_is_not_to_forget_where_to(portal: Client, town: Town) -> None:
    await ask_for(town, "owner")
    await first_half(portal)
    page = await (await portal.get("/auth/mfa/setup", headers=PAGE)).text()
    assert 'href="/auth/login?next=/v1/models">Start again' in page


async def test_the_last_recovery_codes_are_said_to_be_the_last(portal: Client, town: Town) -> None:
    await ask_for(town, "owner")
    await set_up(portal)
    few = "make new ones, so that you can sign in without your phone"
    for left, words in (
        (10, "10 recovery codes are left"),
        (1, "1 recovery code is left"),
        (0, "No recovery codes are"),
    ):
        await town.parts.pool.read(
            "UPDATE platform.recovery_codes SET used_at = now() WHERE digest IN "
            "(SELECT digest FROM platform.recovery_codes WHERE used_at IS NULL OFFSET $1)",
            left,
        )
        page = await (await portal.get("/account/security", headers=PAGE)).text()
        assert words in page
        assert (few in page) == (left < 3)


async def test_a_wrong_code_sets_nothing_up(portal: Client, town: Town) -> None:
    await ask_for(town, "owner")
    await first_half(portal)
    answer = await fill(portal, "/auth/mfa/setup", code="000000")
    assert answer.status == 401
    page = await answer.text()
    assert "QR code" in page
    assert page.count("This code is not right") == 2, "above the form, and at the field that is below the picture"
    assert 'aria-describedby="code-fault"' in page
    assert not await is_signed_in(portal)


async def test_only_the_roles_that_are_named_are_asked(portal: Client, town: Town) -> None:
    await ask_for(town, "admin member")
    await town.add("bob@example.com", Role.MEMBER)
    assert (await log_in(portal)).status == 200
    refused = await log_in(portal, "bob@example.com")
    assert (refused.status, (await refused.json(content_type=None))["code"]) == (403, "second_factor_missing")


async def test_a_custom_role_is_no_way_around_the_second_factor(portal: Client, town: Town) -> None:
    """An administrator who is asked could put all that administrators may into a role, and that on a viewer."""
    await ask_for(town, "admin")
    bob = await town.add("bob@example.com", Role.ADMIN)
    members = PostgresMembers(town.parts.pool, town.parts.trail)
    await PostgresRoles(town.parts.pool, town.parts.trail).create(
        town.tenant.id, "deputy", "", sorted(ROLES[Role.ADMIN])
    )
    await members.set_role(town.tenant.id, bob.id, Role.VIEWER, "deputy")
    assert (await log_in(portal, "bob@example.com")).status == 403


async def test_no_other_door_has_fewer_locks(portal: Client, town: Town) -> None:
    """Neither the token endpoint nor a change of tenant."""
    other = await town.directory.create_tenant("globex", "Globex")
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'owner')",
            other.id,
            town.user.id,
        )
        await connection.execute("UPDATE platform.tenants SET second_factor_for = '{owner}' WHERE slug = 'globex'")
    await log_in(portal)
    answer = await portal.get("/account", headers=PAGE)
    token = re.search(r'name="csrf" value="([^"]+)"', await answer.text())[1]
    answer = await portal.post("/account/tenant", data={"csrf": token, "tenant": other.id}, headers=PAGE)
    assert answer.status == 403
    assert "asks for a second factor" in await answer.text()
    await ask_for(town, "owner")
    form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
    answer = await portal.post("/auth/token", data=form, headers={"X-Client-IP": "192.0.2.1"})
    assert (answer.status, (await answer.json())["error"]) == (403, "mfa_required")


async def test_turning_it_on_signs_out_who_is_in_without(portal: Client, town: Town) -> None:
    """By the API; only those who are asked, and the trail says it."""
    await town.add("bob@example.com", Role.MEMBER)
    await log_in(portal, "bob@example.com")
    bob = {"Cookie": "; ".join(f"{m.key}={m.value}" for m in portal.session.cookie_jar)}
    portal.session.cookie_jar.clear()
    await log_in(portal)
    headers = {"Sec-Fetch-Site": "same-origin"}
    url = "/platform/v1/tenant/second-factor"
    assert await (await portal.get(url)).json() == {"roles": []}
    refused = await portal.put(url, json={"roles": ["service"]}, headers=headers)
    assert refused.status == 422
    answer = await portal.put(url, json={"roles": ["viewer", "member"]}, headers=headers)
    assert (answer.status, await answer.json()) == (200, {"roles": ["member", "viewer"]})
    assert await is_signed_in(portal)
    assert "tenant.second_factor_changed" in await actions(town.parts)
    portal.session.cookie_jar.clear()
    assert (await portal.get("/account", headers=PAGE | bob, allow_redirects=False)).status == 303


async def test_a_trusted_browser_is_not_asked_until_it_is_not_trusted(portal: Client, town: Town) -> None:
    """Its cookie is that person's alone, and worth nothing without the password."""
    await ask_for(town, "owner member")
    secret = await set_up(portal)
    await portal.post("/auth/logout", headers=PAGE)
    await first_half(portal)
    assert (await fill(portal, "/auth/mfa", code=code(secret, 1), trust="yes")).status == 303
    (trusted,) = [c for c in portal.session.cookie_jar if c.key == "tahoe_trusted"]
    assert trusted["max-age"] == str(30 * 86_400)
    assert trusted["httponly"]
    await portal.post("/auth/logout", headers=PAGE)
    assert (await first_half(portal)).headers["Location"] == "/v1/models"
    await portal.post("/auth/logout", headers=PAGE)
    await town.add("eve@example.com")
    answer = await fill(portal, "/auth/login", email="eve@example.com", password=PASSWORD)
    assert answer.headers["Location"] == "/auth/mfa/setup"
    await first_half(portal)
    page = await (await portal.get("/account/security", headers=PAGE)).text()
    assert "In 1 browser it is not asked for" in page
    answer = await fill(portal, "/account/security", action="/account/trusted-browsers/forget")
    assert answer.headers["Location"] == "/account/security?done=distrusted"
    await portal.post("/auth/logout", headers=PAGE)
    assert (await first_half(portal)).headers["Location"] == "/auth/mfa"


@pytest.mark.parametrize("path", ["/auth/mfa", "/auth/mfa/setup"])
async def test_without_a_first_half_there_is_no_second(portal: Client, town: Town, path: str) -> None:
    for cookie in ("", "made-up"):
        headers = PAGE | ({"Cookie": f"tahoe_challenge={cookie}"} if cookie else {})
        answer = await portal.get(path, headers=headers, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/auth/login?said=over")


async def test_half_a_log_in_ends_with_the_person(portal: Client, town: Town) -> None:
    """Who is disabled between the two steps does not get in."""
    await ask_for(town, "owner")
    await first_half(portal)
    async with town.parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET status = 'disabled'")
    answer = await portal.get("/auth/mfa/setup", headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/auth/login?said=over"


async def test_a_new_password_is_asked_for_the_second_factor_everywhere(portal: Client, town: Town) -> None:
    """Whoever changes it, in whatever way: no browser is trusted any more."""
    await ask_for(town, "owner")
    secret = await set_up(portal)
    await portal.post("/auth/logout", headers=PAGE)
    await first_half(portal)
    await fill(portal, "/auth/mfa", code=code(secret, 1), trust="yes")
    new = "another unrelated battery horse"
    fields = {"current": PASSWORD, "password": new, "again": new}
    answer = await fill(portal, "/account/security", action="/account/password", **fields)
    assert answer.headers["Location"] == "/account/security?done=password"
    await portal.post("/auth/logout", headers=PAGE)
    answer = await fill(portal, "/auth/login", email=EMAIL, password=new)
    assert answer.headers["Location"] == "/auth/mfa"


async def test_a_stronger_role_asks_for_what_the_old_one_did_not(portal: Client, town: Town) -> None:
    """Whoever becomes one of those who are asked is signed out with one factor; nobody else is."""
    await ask_for(town, "admin")
    bob, eve = await town.add("bob@example.com"), await town.add("eve@example.com")
    cookies = {}
    for one in (bob, eve):
        portal.session.cookie_jar.clear()
        await log_in(portal, one.email)
        cookies[one.id] = {"Cookie": "; ".join(f"{m.key}={m.value}" for m in portal.session.cookie_jar)}
    portal.session.cookie_jar.clear()
    await log_in(portal)
    url = f"/platform/v1/memberships/{bob.id}"
    answer = await portal.patch(url, json={"role": "admin"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 200, await answer.text()
    portal.session.cookie_jar.clear()
    for one, status in ((bob, 303), (eve, 200)):
        page = await portal.get("/account", headers=PAGE | cookies[one.id], allow_redirects=False)
        assert page.status == status

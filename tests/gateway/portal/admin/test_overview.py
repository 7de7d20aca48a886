"""The administrators' first page: figures of the tenant that one is in, for whoever may see them."""

import re

import pytest
from yarl import URL

from gateway.portal.parts import Parts
from policies.identity.tenants import Role
from policies.limits.allowances import Allowance, What
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.tenants.roles import PostgresRoles
from tests.gateway.portal.admin.busy import use
from tests.gateway.portal.admin.reading import read
from tests.gateway.portal.conftest import PAGE, Client, Town, fill, log_in

pytestmark = pytest.mark.usefixtures("one_instant")


async def test_it_says_what_was_used_refused_and_failed(portal: Client, town: Town) -> None:
    """The same sums as the API's, for each of the three periods."""
    await use(town, town.parts.now())
    await log_in(portal)
    for period in ("24h", "7d", "30d"):
        said = await read(portal, f"/admin?period={period}")
        for figure in ("Requests 12", "Audio, minutes 7.5", "Refused 3", "Errors 6"):
            assert f"{figure} previously" in said, (period, figure)
    page = await (await portal.get("/admin", headers=PAGE)).text()
    assert len(re.findall(r'<rect class="series-0" x=', page)) == 3
    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son\w+=", page)


async def test_who_has_just_begun_is_told_what_comes_next(portal: Client, town: Town) -> None:
    await log_in(portal)
    said = await read(portal, "/admin")
    assert "Make an API key" in said
    assert 'curl http://gw.test/v1/models -H "Authorization: Bearer $KEY"' in said


async def test_it_says_how_much_of_the_limits_is_in_use(portal: Client, town: Town) -> None:
    """The audio of this month comes from the account, as for the API."""
    limits = [Allowance.parse(What.AUDIO, "100h/month"), Allowance.parse(What.CONCURRENCY, "10")]
    await PostgresLimitBook(town.parts.pool, town.parts.trail).set_limits(town.tenant.id, granted=limits)
    await use(town, town.parts.now(), hours=1)
    await log_in(portal)
    said = await read(portal, "/admin")
    assert "2.5 min of 6,000.0 min in use" in said
    assert "10 requests at one time 0 of 10 in use" in said


async def test_nobody_sees_what_another_tenant_used(portal: Client, town: Town) -> None:
    other = await town.directory.create_tenant("other", "Other")
    await use(town, town.parts.now(), tenant_id=other.id)
    await log_in(portal)
    assert "Nothing was asked" in await read(portal, "/admin?tenant=other")


@pytest.mark.parametrize(
    ("role", "goes_to"), [(Role.MEMBER, 200), (Role.VIEWER, 200), (Role.ADMIN, 200), (Role.SERVICE, 403)]
)
async def test_a_role_sees_the_pages_that_it_may(portal: Client, town: Town, role: Role, goes_to: int) -> None:
    await town.add("bob@example.com", role)
    await log_in(portal, "bob@example.com")
    await read(portal, "/admin", goes_to)
    assert ("Administration" in await read(portal, "/account")) is (goes_to == 200)


async def test_the_switcher_leads_on_to_the_other_tenants_overview(portal: Client, town: Town, parts: Parts) -> None:
    """As on the account page, with a new session; nobody gets where they do not belong."""
    other = await town.directory.create_tenant("other", "Other & Sons")
    third = await town.directory.create_tenant("third", "Third")
    async with parts.pool.operator() as connection:
        await connection.execute(
            "INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'member')",
            other.id,
            town.user.id,
        )
    await log_in(portal)
    before = portal.session.cookie_jar.filter_cookies(URL("http://127.0.0.1"))["tahoe_session"].value
    answer = await fill(portal, "/admin", "/account/tenant", tenant=other.id)
    assert answer.headers["Location"] == "/admin?done=tenant"
    page = await (await portal.get("/admin", headers=PAGE)).text()
    assert f'<option value="{other.id}" selected>Other &amp; Sons</option>' in page
    assert portal.session.cookie_jar.filter_cookies(URL("http://127.0.0.1"))["tahoe_session"].value != before
    assert (await fill(portal, "/admin", "/account/tenant", tenant=third.id)).status == 404


@pytest.mark.parametrize(
    ("permission", "goes_to"), [("audit:read", "/admin/audit"), ("keys:read", "/admin/keys"), ("webhooks:read", "")]
)
async def test_a_custom_role_begins_with_the_first_page_that_it_may_see(
    portal: Client, town: Town, parts: Parts, permission: str, goes_to: str
) -> None:
    """And its navigation has no other; without any page there is no way in."""
    bob = await town.add("bob@example.com")
    await PostgresRoles(parts.pool, parts.trail).create(town.tenant.id, "clerk", "", [permission])
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.memberships SET custom_role = 'clerk' WHERE user_id = $1", bob.id)
    await log_in(portal, "bob@example.com")
    answer = await portal.get("/admin", headers=PAGE, allow_redirects=False)
    assert (answer.status, answer.headers.get("Location", "")) == (303 if goes_to else 403, goes_to)
    if goes_to:
        page = await (await portal.get(goes_to, headers=PAGE)).text()
        assert re.findall(r'<a href="(/admin/\w+)"(?: aria-current="page")?>', page) == [goes_to]


async def test_who_is_not_signed_in_comes_back_after_the_log_in(portal: Client, town: Town) -> None:
    answer = await portal.get("/admin?period=7d", headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/auth/login?next=/admin?period%3D7d"
    await log_in(portal)
    answer = await portal.get("/admin/", headers=PAGE, allow_redirects=False)
    assert answer.headers["Location"] == "/admin"

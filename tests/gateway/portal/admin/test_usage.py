"""The page of usage: the API's sums for a time that people choose by their own calendar."""

import re
from datetime import timedelta

import pytest

from policies.identity.tenants import Role
from storage.ports import NewKey
from storage.postgres.keys.registry import PostgresKeyRegistry
from tests.gateway.portal.admin.busy import use
from tests.gateway.portal.admin.reading import raw, read, text_of
from tests.gateway.portal.conftest import Client, Town, log_in

pytestmark = pytest.mark.usefixtures("one_instant")


async def test_it_is_broken_down_and_adds_up(portal: Client, town: Town) -> None:
    """A line for each key by its name, and the total; the same by everything else that there is."""
    key = await PostgresKeyRegistry(town.parts.pool, town.parts.trail).create_key(
        town.tenant.id, NewKey(name="Crawler", digest=b"x" * 32, last4="last", scopes=frozenset())
    )
    await use(town, town.parts.now(), hours=2, key_id=key.id)
    await use(town, town.parts.now(), hours=1, key_id="")
    await log_in(portal)
    page = await raw(portal, "/admin/usage")
    for line in ("Crawler 8 2 4 5.0", "without a key 4 1 2 2.5", "Total 12 3 6 7.5"):
        assert line in text_of(page)
    assert f'<a href="/admin/keys/{key.id}">Crawler</a>' in page
    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son\w+=", page)
    for by, line in (("model", "whisper-1 12 3"), ("route", "openai.transcriptions 12 3"), ("outcome", "ok 6 0")):
        assert line in await read(portal, f"/admin/usage?by={by}&period=7d"), by


async def test_days_are_the_persons_own_and_both_whole(portal: Client, town: Town) -> None:
    """Tokyo's today begins at 15:00 UTC of the day before."""
    await town.parts.pool.read("UPDATE platform.users SET time_zone = 'Asia/Tokyo'")
    tokyo = town.parts.now() + timedelta(hours=9)
    midnight = town.parts.now() - timedelta(
        hours=tokyo.hour, minutes=tokyo.minute, seconds=tokyo.second, microseconds=tokyo.microsecond
    )
    await use(town, midnight - timedelta(minutes=1), hours=1)
    await use(town, town.parts.now(), hours=1, key_id="key_y")
    await log_in(portal)
    today, yesterday = tokyo.date(), (tokyo - timedelta(days=1)).date()
    for query, requests in (
        (f"since={today}", 4), (f"since={yesterday}&until={yesterday}", 4), (f"since={yesterday}&until={today}", 8),
    ):  # fmt: skip
        said = await read(portal, f"/admin/usage?{query}&bucket=1h")
        assert f"Requests {requests} previously" in said, query
    begun = town.parts.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert re.search(
        rf'"{re.escape(begun.isoformat())}"[^>]*>{begun.day} {begun:%b %Y}</time>', await raw(portal, "/admin/usage")
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-11-20&until=2026-11-01", "since"),
        ("since=yesterday", "since"),
        ("until=2026-02-30", "until"),
        ("since=2001-01-01", "since"),
        ("since=1970-01-01&until=1970-02-01", "since"),
        ("since=0001-01-01&until=0001-01-02", "since"),
        ("since=2026-01-01&until=2026-06-01&bucket=1h", "since"),
        ("by=colour", "by"),
        ("bucket=1s", "bucket"),
        ("period=year", "period"),
    ],
)
async def test_what_cannot_be_shown_is_said_at_its_field(portal: Client, town: Town, query: str, field: str) -> None:
    """And the page is there with what can."""
    await log_in(portal)
    page = await raw(portal, f"/admin/usage?{query}", 422)
    assert f'href="#{field}"' in page
    assert "Nothing was used in this time" in page


async def test_more_lines_than_a_table_can_have_leave_the_rest_of_the_page(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models are what clients call them: one that makes names up must not take the page away."""
    monkeypatch.setattr("gateway.portal.api.usage._MOST_GROUPS", 3)
    for number in range(4):
        await use(town, town.parts.now(), hours=1, key_id=f"key_{number}")
    await log_in(portal)
    page = await raw(portal, "/admin/usage?by=key", 422)
    assert 'href="#by"' in page
    assert "This would be more than 3 sums" in page
    assert "Total" in await read(portal, "/admin/usage?by=outcome")


async def test_the_csv_is_of_the_time_that_is_shown(portal: Client, town: Town) -> None:
    await use(town, town.parts.now(), hours=2)
    await use(town, town.parts.now() - timedelta(days=10), hours=1, key_id="key_old")
    await log_in(portal)
    link = re.search(r'href="(/platform/v1/usage/export[^"]*)"', await raw(portal, "/admin/usage?period=7d"))[1]
    async with portal.get(link.replace("&amp;", "&")) as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert len((await answer.text()).splitlines()) == 9


async def test_who_may_not_see_the_usage_sees_none(portal: Client, town: Town) -> None:
    """Nor anybody another tenant's."""
    other = await town.directory.create_tenant("other", "Other")
    await use(town, town.parts.now(), tenant_id=other.id)
    await log_in(portal)
    assert "Nothing was used" in await read(portal, "/admin/usage?tenant=other")
    await town.add("bob@example.com", Role.SERVICE)
    await log_in(portal, "bob@example.com")
    await read(portal, "/admin/usage", 403)

"""The page of the audit trail: what the API tells of it, for whoever may; and all of it as a file."""

import csv
import io
import json
import re

import pytest

from policies.identity.tenants import Role
from tests.gateway.portal.admin.reading import raw, read
from tests.gateway.portal.conftest import SAME_ORIGIN, Client, Town, log_in

API = "/platform/v1"


async def a_key(portal: Client, **wish: object) -> str:
    """The id of a new one, made by the person who is signed in."""
    async with portal.post(f"{API}/keys", json={"name": "Crawler", **wish}, headers=SAME_ORIGIN) as answer:
        return (await answer.json())["id"]


async def test_it_says_who_did_what_before_and_after(portal: Client, town: Town) -> None:
    await log_in(portal)
    key_id = await a_key(portal)
    await portal.patch(f"{API}/keys/{key_id}", json={"name": "Robot", "enabled": False}, headers=SAME_ORIGIN)
    said = await read(portal, "/admin/audit?action=key")
    assert "key.changed Robot" in said
    assert "· ada@example.com More" in said
    assert "enabled yes → no name Crawler → Robot" in said
    assert said.index("key.changed") < said.index("key.created")


async def test_what_has_no_name_in_the_trail_has_that_which_it_has_now(portal: Client, town: Town) -> None:
    """Limits are those of an id; people know the key by its name."""
    await log_in(portal)
    key_id = await a_key(portal)
    wish = {"key_id": key_id, "requests": ["5/m"]}
    assert (await portal.put(f"{API}/limits", json=wish, headers=SAME_ORIGIN)).status == 200
    assert f'<a href="/admin/audit?target={key_id}">Crawler</a>' in await raw(portal, "/admin/audit?action=limits")


async def test_filters_show_what_they_name(portal: Client, town: Town) -> None:
    await log_in(portal)
    first, second = await a_key(portal), await a_key(portal)
    await town.parts.pool.read("UPDATE platform.users SET time_zone = 'Asia/Tokyo'")
    for query, count in (
        ("action=key", 2),
        ("action=key.created", 2),
        ("action=key.revoked", 0),
        (f"target={first}", 1),
        (f"actor={town.user.id}&action=key", 2),
        (f"actor={second}", 0),
        ("action=key&until=2001-01-01", 0),
        ("action=key&since=2001-01-01&until=2999-12-31", 2),
    ):
        assert (await raw(portal, f"/admin/audit?{query}")).count("<b>key.created</b>") == count, query
    assert "Nothing like that was done." in await read(portal, "/admin/audit?action=key.revoked")


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=today", "since"), ("until=2026-02-30", "until"), ("since=2026-02-02&cursor=x", "cursor")],
)
async def test_what_cannot_be_sought_is_said(portal: Client, town: Town, query: str, field: str) -> None:
    await log_in(portal)
    assert f'href="#{field}"' in await raw(portal, f"/admin/audit?{query}", 422)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_what_cannot_be_sought_is_no_broken_file(portal: Client, town: Town, form: str) -> None:
    """It is told while there still is an answer to tell it with; a trail that has nothing of it is a whole file."""
    await log_in(portal)
    async with portal.get(f"{API}/audit/export?format={form}&action=%00") as answer:
        assert answer.status == 422
    async with portal.get(f"{API}/audit/export?format={form}&action=none") as answer:
        assert answer.status == 200
        assert len((await answer.text()).splitlines()) == (form == "csv")


async def test_pages_are_turned_by_the_apis_cursors(portal: Client, town: Town) -> None:
    await log_in(portal)
    for _ in range(26):
        key_id = await a_key(portal)
        await portal.delete(f"{API}/keys/{key_id}", headers=SAME_ORIGIN)
    first = await raw(portal, "/admin/audit?action=key")
    following = re.search(r'rel="next" href="([^"]*)"', first)[1].replace("&amp;", "&")
    later = await raw(portal, following)
    numbers = [int(number) for page in (first, later) for number in re.findall(r"<dt>Entry</dt><dd>(\d+)", page)]
    assert len(numbers) == 52
    assert numbers == sorted(numbers, reverse=True)


async def test_the_whole_trail_is_to_be_had_as_a_file(portal: Client, town: Town) -> None:
    """What the list says of each entry, the oldest first; in a spreadsheet nothing is a formula (CWE-1236)."""
    await log_in(portal)
    await a_key(portal, metadata={"note": "x"})
    await portal.patch(f"{API}/keys/{await a_key(portal)}", json={"name": "=1+1"}, headers=SAME_ORIGIN)
    listed = (await (await portal.get(f"{API}/audit?action=key&sort=created")).json())["data"]
    async with portal.get(f"{API}/audit/export?action=key") as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="audit-acme.jsonl"'
        assert [json.loads(line) for line in (await answer.text()).splitlines()] == listed
    link = re.search(r'href="(/platform/v1/audit/export[^"]*)"', await raw(portal, "/admin/audit?action=key"))[1]
    async with portal.get(link.replace("&amp;", "&")) as answer:
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["action"] for row in rows] == ["key.created", "key.created", "key.changed"]
    assert [row["actor_id"] for row in rows] == [town.user.id] * 3
    assert rows[2]["target_name"] == "'=1+1"
    assert json.loads(rows[2]["after"]) == {"name": "=1+1"}


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_who_may_not_read_the_trail_sees_nothing_of_it(portal: Client, town: Town, role: Role) -> None:
    await town.add("eve@example.com", role)
    await log_in(portal, "eve@example.com")
    await read(portal, "/admin/audit", 403)
    assert (await portal.get(f"{API}/audit/export")).status == 403
    assert "/admin/audit" not in await raw(portal, "/admin")


async def test_another_tenants_trail_is_not_there(portal: Client, town: Town) -> None:
    """T-01: not by its actors and targets either."""
    other = await town.directory.create_tenant("other", "Other")
    await town.add("zoe@example.com", Role.OWNER, tenant=other.id)
    await log_in(portal, "zoe@example.com")
    theirs = await a_key(portal)
    await log_in(portal)
    for query in ("", f"?target={theirs}", "?tenant=other"):
        assert theirs not in (await raw(portal, f"/admin/audit{query}")).replace(f'value="{theirs}"', "")
    async with portal.get(f"{API}/audit/export") as answer:
        assert theirs not in await answer.text()
    assert (await portal.get(f"{API}/audit/export?tenant=other")).status == 404

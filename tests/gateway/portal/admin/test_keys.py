"""API keys on pages: what the API does, in the same function, for whoever may; nothing of another tenant's."""

import json
import re
from unittest.mock import AsyncMock

import pytest

from gateway.portal.admin import new_keys
from gateway.portal.api.idempotency import Repeatable
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.tenants import Role
from storage.ports import NewKey, NotFound
from storage.postgres.keys.registry import PostgresKeyRegistry
from tests.gateway.portal.admin.reading import entries, forget_the_password, raw, read, text_of
from tests.gateway.portal.conftest import PAGE, SAME_ORIGIN, Client, Town, fill, form_of, log_in

NEW = "/admin/keys/new"
GOOD = {"name": "Crawler", "scope-transcribe": "on", "life": "30"}


def registry(town: Town) -> PostgresKeyRegistry:
    return PostgresKeyRegistry(town.parts.pool, town.parts.trail)


async def made(portal: Client, **fields: str) -> tuple[int, str]:
    """Make one by the form; the status and the page."""
    answer = await fill(portal, NEW, NEW, **(GOOD | fields))
    return answer.status, await answer.text()


async def a_key(portal: Client, town: Town, **fields: str) -> str:
    """The id of a new one."""
    assert (await made(portal, **fields))[0] == 200
    return (await registry(town).keys(town.tenant.id))[0].id


async def test_a_key_is_made_with_its_limits_and_shown_once(portal: Client, town: Town) -> None:
    """The page that answers has it, with a command that works; no other page has."""
    await log_in(portal)
    status, page = await made(
        portal, requests="600/m, 5000/day", audio="100h/month", networks="192.0.2.0/24", user_id=town.user.id
    )
    assert status == 200
    (secret,) = set(re.findall(r"thk_live_\w+", page))
    assert f'curl http://gw.test/v1/models -H "Authorization: Bearer {secret}"' in text_of(page)
    (key,) = await registry(town).keys(town.tenant.id)
    assert (key.name, key.last4, key.scopes, key.user_id) == ("Crawler", secret[-4:], {"transcribe"}, town.user.id)
    assert key.networks == ("192.0.2.0/24",)
    looked = await read(portal, f"/admin/keys/{key.id}")
    for told in ("600/m", "5000/day", "100h/month", "192.0.2.0/24", "ada@example.com"):
        assert told in looked
    for path in ("/admin/keys", f"/admin/keys/{key.id}"):
        assert secret not in await raw(portal, path)


async def test_the_command_is_one_that_the_key_may(portal: Client, town: Town) -> None:
    """A key that may not use the service asks the gateway who it is."""
    await log_in(portal)
    _, page = await made(portal, **{"scope-transcribe": "", "scope-usage:read": "on"})
    assert "curl http://gw.test/platform/v1/me -H" in text_of(page)


async def test_the_trail_has_what_it_has_of_the_api(portal: Client, town: Town) -> None:
    """The same action, actor and facts, whichever door was taken."""
    await log_in(portal)
    await a_key(portal, town, life="", requests="5/m")
    body = {"name": "Crawler", "scopes": ["transcribe"]}
    sent = {"headers": SAME_ORIGIN | {"X-Client-IP": "192.0.2.1"}}
    answer = await (await portal.post("/platform/v1/keys", json=body, **sent)).json()
    wish = {"key_id": answer["id"], "requests": ["5/m"]}
    assert (await portal.put("/platform/v1/limits", json=wish, **sent)).status == 200
    for action in ("key.created", "limits.changed"):
        by_page, by_api = await entries(town, action)
        for entry in (by_page, by_api):
            facts = json.loads(entry["after"])
            facts.pop("last4", None)
            entry["after"] = facts
        assert by_page == by_api, action
        assert by_page["actor_id"] == town.user.id


async def test_a_form_that_is_sent_twice_makes_one_key(portal: Client, town: Town) -> None:
    """And shows it both times: whoever pressed twice has not lost it."""
    await log_in(portal)
    page = await raw(portal, NEW)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition("narrow")[2]))
    secrets = []
    for _ in range(2):
        answer = await portal.post(NEW, data=hidden | GOOD, headers=PAGE)
        secrets += re.findall(r"Bearer (thk_live_\w+)", await answer.text())
    assert len(secrets) == 2
    assert len(set(secrets)) == 1
    assert len(await registry(town).keys(town.tenant.id)) == 1


async def test_a_page_that_is_loaded_again_undoes_no_limits(portal: Client, town: Town) -> None:
    """Browsers send a form again when they restore a tab: hours later the limits may be others."""
    await log_in(portal)
    _, hidden = await form_of(portal, NEW, NEW)
    for limit in ("5/m", "3/m"):
        assert (await portal.post(NEW, data=hidden | GOOD | {"requests": "7/m"}, headers=PAGE)).status == 200
        (key,) = await registry(town).keys(town.tenant.id)
        path = f"/admin/keys/{key.id}"
        assert (limit == "5/m") is ("7/m" in await read(portal, path))
        assert (await fill(portal, path, f"{path}/limits", requests=limit)).status == 303
        assert limit in await read(portal, path)


async def test_who_presses_again_while_it_is_being_made_is_shown_it(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page that tells of it has the same key of repetition: once more makes no second one."""
    await log_in(portal)
    _, first = await form_of(portal, NEW, NEW)
    with monkeypatch.context() as patch:
        running = Problem(Refusal.IDEMPOTENT_REQUEST_RUNNING)
        patch.setattr(Repeatable, "begin", AsyncMock(side_effect=running))
        answer = await portal.post(NEW, data=first | GOOD, headers=PAGE)
        assert answer.status == 409
    assert f'name="once" value="{first["once"]}"' in await answer.text()
    wrong = await (await portal.post(NEW, data=first | GOOD | {"life": "9999"}, headers=PAGE)).text()
    assert first["once"] not in wrong


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"life": "9999"}, "life"),
        ({"scope-transcribe": ""}, "scopes"),
        ({"networks": "everywhere"}, "networks"),
        ({"requests": "many"}, "requests"),
        ({"audio": "1h/day, 2h/day"}, "audio"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(
    portal: Client, town: Town, fields: dict[str, str], field: str
) -> None:
    await log_in(portal)
    status, page = await made(portal, **fields)
    assert status == 422
    assert f'href="#{field}"' in page
    assert f'id="{field}-fault"' in page
    assert 'value="Crawler"' in page or field == "name"
    assert await registry(town).keys(town.tenant.id) == []


async def test_filters_show_what_they_name(portal: Client, town: Town) -> None:
    await log_in(portal)
    for name in ("one", "two", "three", "four"):
        await a_key(portal, town, name=name, life="30")
    four, three, two, _ = await registry(town).keys(town.tenant.id)
    await fill(portal, f"/admin/keys/{two.id}", f"/admin/keys/{two.id}/disable")
    await fill(portal, f"/admin/keys/{three.id}", f"/admin/keys/{three.id}/revoke")
    async with town.parts.pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.api_keys SET created_at = now() - interval '40 days',"
            " expires_at = now() - interval '1 day' WHERE id = $1",
            four.id,
        )
    for query, shown in (
        ("", {"one", "two", "three", "four"}),
        ("?status=active", {"one"}),
        ("?status=disabled", {"two"}),
        ("?status=revoked", {"three"}),
        ("?status=expired", {"four"}),
        ("?unused_days=30&status=", {"four"}),
        ("?ending_days=7", set()),
        ("?name=TWO&status=", {"two"}),
        ("?name=" + three.last4, {"three"}),
    ):
        page = await raw(portal, f"/admin/keys{query}")
        assert set(re.findall(r'<a href="/admin/keys/key_\w+">(\w+)</a>', page)) == shown, query
    assert "No key is like that" in await read(portal, "/admin/keys?ending_days=7")
    await read(portal, "/admin/keys?status=good", 422)


async def test_a_key_is_made_for_a_member_whom_the_form_has_no_room_for(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way is the member's own page; what somebody else's id is changes nothing."""
    bob = await town.add("bob@example.com")
    monkeypatch.setattr(new_keys, "LONGEST", 1)
    await log_in(portal)
    assert f'value="{bob.id}"' not in await raw(portal, NEW)
    path = f"{NEW}?user_id={bob.id}"
    assert f'href="{path}"' in await raw(portal, f"/admin/members/{bob.id}")
    form = await raw(portal, path)
    assert f'value="{bob.id}" selected' in form
    assert re.search(r'name="scope-transcribe" type="checkbox" checked', form)
    assert (
        " selected" not in (await raw(portal, f"{NEW}?user_id=usr_x")).partition('id="user_id"')[2].partition("</s")[0]
    )


async def test_pages_are_turned_by_the_apis_cursors(
    portal: Client, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log_in(portal)
    for number in range(51):
        await registry(town).create_key(
            town.tenant.id, NewKey(name=f"k{number}", digest=bytes([number]) * 32, last4="last", scopes=frozenset())
        )
    first = await raw(portal, "/admin/keys?status=active")
    following = re.search(r'rel="next" href="([^"]*)"', first)[1].replace("&amp;", "&")
    later = await raw(portal, following)
    names = [re.findall(r'<a href="/admin/keys/key_\w+">(\w+)</a>', page) for page in (first, later)]
    rows = await town.parts.pool.read("SELECT name FROM platform.api_keys ORDER BY id DESC")  # to the millisecond
    assert names[0] + names[1] == [row["name"] for row in rows]
    assert "First page" in later
    assert 'rel="next"' not in later


async def test_a_key_is_disabled_enabled_renamed_replaced_and_revoked(portal: Client, town: Town) -> None:
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town)}"
    key_id = path.rpartition("/")[2]
    for verb, status in (("disable", "disabled"), ("enable", "active")):
        assert (await fill(portal, path, f"{path}/{verb}")).headers["Location"] == f"{path}?done=key-{verb}d"
        assert (await registry(town).key(town.tenant.id, key_id)).status(town.parts.now()) == status
    assert (await fill(portal, path, f"{path}/name", name=" ")).status == 422
    assert (await fill(portal, path, f"{path}/name", name="Reader")).headers["Location"] == f"{path}?done=key-renamed"
    assert (await registry(town).key(town.tenant.id, key_id)).name == "Reader"
    answer = await fill(portal, f"{path}/rotate", f"{path}/rotate", overlap_s="3600")
    (secret,) = set(re.findall(r"thk_live_\w+", await answer.text()))
    successor, old = await registry(town).keys(town.tenant.id)
    assert (successor.last4, old.id) == (secret[-4:], key_id)
    assert 0 < (old.expires_at - town.parts.now()).total_seconds() <= 3_600
    again = await fill(portal, f"{path}/rotate", f"{path}/rotate", overlap_s="3600")
    assert again.status == 409
    assert "rotate its successor instead" in await again.text()
    assert (await fill(portal, path, f"{path}/revoke")).headers["Location"] == f"{path}?done=key-revoked"
    assert "/revoke" not in await raw(portal, path)
    recorded = await town.parts.pool.read("SELECT action FROM platform.audit_entries WHERE action LIKE 'key.%'")
    assert {row["action"] for row in recorded} == {
        "key.created", "key.disabled", "key.enabled", "key.changed", "key.rotated", "key.revoked"
    }  # fmt: skip


async def test_a_change_is_for_the_key_that_was_seen(portal: Client, town: Town) -> None:
    """T-11: another administrator has changed it meanwhile."""
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town)}"
    seen = await raw(portal, path)
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', seen))
    await fill(portal, path, f"{path}/disable")
    answer = await portal.post(f"{path}/revoke", data=hidden, headers=PAGE, allow_redirects=False)
    assert answer.status == 412
    assert (await registry(town).key(town.tenant.id, path.rpartition("/")[2])).revoked_at is None


async def test_limits_are_set_and_lifted_by_owners_alone(portal: Client, town: Town) -> None:
    """An administrator without the permission neither sees the fields nor is heard."""
    await town.add("bob@example.com", Role.ADMIN)
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town, requests='5/m')}"
    assert (await fill(portal, path, f"{path}/limits", audio="1h/d", requests="")).status == 303
    looked = await read(portal, path)
    assert "1h/d of audio" in looked
    assert "5/m" not in looked
    assert (await fill(portal, path, f"{path}/limits", streams="none")).status == 422
    await log_in(portal, "bob@example.com")
    assert f"{path}/limits" not in await raw(portal, path)
    assert 'name="audio"' not in await raw(portal, NEW)
    assert (await fill(portal, path, f"{path}/disable", audio="9h/d")).status == 303
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', await raw(portal, path)))
    assert (await portal.post(f"{path}/limits", data=hidden | {"audio": ""}, headers=PAGE)).status == 403
    await made(portal, audio="1h/d")
    assert len(await town.parts.pool.read("SELECT FROM platform.limits")) == 1


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
async def test_who_may_only_look_sees_no_form_and_has_none(portal: Client, town: Town, role: Role) -> None:
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town)}"
    await town.add("eve@example.com", role)
    await log_in(portal, "eve@example.com")
    listed, looked = await raw(portal, "/admin/keys"), await raw(portal, path)
    assert "Crawler" in listed
    for page in (listed, looked):
        assert not re.search(
            r'(?:href|action)="/admin/keys[^"]*/(?:new|name|rotate|disable|enable|revoke|limits)', page
        )
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', looked))
    for target in (NEW, *(f"{path}/{verb}" for verb in ("name", "rotate", "disable", "enable", "revoke", "limits"))):
        assert (await portal.post(target, data=hidden | GOOD | {"in": town.tenant.id}, headers=PAGE)).status == 403, (
            target
        )
    await read(portal, NEW, 403)
    assert len(await entries(town, "key.created")) == 1
    assert (await registry(town).keys(town.tenant.id))[0].status(town.parts.now()) == "active"


async def test_nobody_gives_a_key_more_than_they_hold(portal: Client, town: Town) -> None:
    """A-08: what an administrator does not hold is no field, and refused where it is sent all the same."""
    await town.add("bob@example.com", Role.ADMIN)
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town, **{'scope-limits:write': 'on'})}"
    await log_in(portal, "bob@example.com")
    assert "scope-limits:write" not in await raw(portal, NEW)
    assert (await made(portal, **{"scope-transcribe": "", "scope-limits:write": "on"}))[0] == 422
    refused = await fill(portal, f"{path}/rotate", f"{path}/rotate", overlap_s="0")
    assert refused.status == 403
    assert "limits:write" in await refused.text()
    assert len(await registry(town).keys(town.tenant.id)) == 1


async def test_a_key_of_another_tenant_is_not_there(portal: Client, town: Town) -> None:
    """T-01: neither to look at nor to change, whatever the form says."""
    other = await town.directory.create_tenant("other", "Other")
    theirs = await registry(town).create_key(
        other.id, NewKey(name="theirs", digest=b"x" * 32, last4="last", scopes=frozenset({"transcribe"}))
    )
    await log_in(portal)
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', await raw(portal, NEW)))
    for key_id in (theirs.id, "key_none", "new2"):
        path = f"/admin/keys/{key_id}"
        await read(portal, path, 404)
        await read(portal, f"{path}/rotate", 404)
        for verb in ("rotate", "disable", "enable", "revoke", "limits"):
            sent = hidden | {"overlap_s": "0", "requests": "1/m"}
            assert (await portal.post(f"{path}/{verb}", data=sent, headers=PAGE)).status == 404, path
    assert "theirs" not in await read(portal, "/admin/keys")
    assert (await registry(town).key(other.id, theirs.id)).status(town.parts.now()) == "active"
    with pytest.raises(NotFound):
        await registry(town).key(town.tenant.id, theirs.id)


async def test_what_outlives_the_session_asks_for_the_password(portal: Client, town: Town) -> None:
    """Making, replacing and enabling one; where a form was sent meanwhile, its page comes next."""
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town)}"
    hidden = dict(re.findall(r'name="(csrf|in)" value="([^"]*)"', await raw(portal, path)))
    await forget_the_password(town)
    for target, goal in ((NEW, NEW), (f"{path}/rotate", f"{path}/rotate"), (f"{path}/enable", path)):
        sent_from = PAGE | {"Referer": f"http://gw.test{goal}"}
        answer = await portal.post(target, data=hidden | GOOD, headers=sent_from, allow_redirects=False)
        assert answer.headers["Location"] == f"/account/confirm?next={goal}?done%3Dconfirmed"
    assert (await portal.get(NEW, headers=PAGE, allow_redirects=False)).status == 303
    assert (await fill(portal, path, f"{path}/disable")).status == 303
    assert len(await registry(town).keys(town.tenant.id)) == 1


async def test_another_sites_form_changes_nothing(portal: Client, town: Town) -> None:
    """C-01: without the token, or from elsewhere."""
    await log_in(portal)
    path = f"/admin/keys/{await a_key(portal, town)}"
    for headers in (PAGE, PAGE | {"Sec-Fetch-Site": "cross-site"}):
        assert (await portal.post(f"{path}/revoke", data={"csrf": "x"}, headers=headers)).status == 403
    assert (await registry(town).key(town.tenant.id, path.rpartition("/")[2])).revoked_at is None

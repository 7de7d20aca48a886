"""What operators do to tenants, plans and people by the API, and how a member leaves."""

import asyncio
from typing import Any

import pytest

from gateway.portal.mail.sending import MAILER
from gateway.portal.parts import Parts
from gateway.portal.purging import purge
from policies.identity.tenants import Role
from storage.postgres.tenants.members import permissions_in
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import EMAIL, PAGE, PASSWORD, SAME_ORIGIN, Client, Town, actions, log_in

PLAN = {"name": "gold", "limits": {"requests": ["600/m"], "audio": ["100h/month"]}, "rating": "contract"}


# Onboarding


async def test_one_call_makes_a_tenant_that_can_begin(houses: Houses, portal: Client, parts: Parts) -> None:
    """The owner has a mail with a link that works, the key is a key, the plan holds."""
    operator = await houses.person(operator=True)
    await operator.ask("POST", "/plans", PLAN, status=201)
    body = {"slug": "acme", "owner": "New@Example.com", "plan": "gold", "key": {"name": "first"}}
    done = await operator.ask("POST", "/onboarding", body, status=201)
    assert (done["tenant"]["name"], done["tenant"]["plan"], done["tenant"]["status"]) == ("acme", "gold", "active")
    assert done["key"]["key"].startswith("thk_live_")
    assert (done["invitation"]["email"], done["invitation"]["mailed"]) == ("new@example.com", True)
    assert done["invitation"]["link"] is None
    (mail,) = (parts.settings.state_dir / "mail").iterdir()
    assert "http://gw.test/auth/invite/" in mail.read_text()
    keys = (await operator.ask("GET", "/keys?tenant=acme"))["data"]
    assert [key["id"] for key in keys] == [done["key"]["id"]]


async def test_without_mail_the_link_is_in_the_answer(houses: Houses, portal: Client) -> None:
    """And it opens the page that it is for."""
    operator = await houses.person(operator=True)
    object.__setattr__(portal.app[MAILER], "url", "")
    done = await operator.ask("POST", "/onboarding", {"slug": "acme", "owner": "o@example.com"}, status=201)
    assert done["key"] is None
    link = done["invitation"]["link"].removeprefix("http://gw.test")
    page = await portal.get(link, headers={"Accept": "text/html"})
    assert page.status == 200
    assert "acme" in await page.text()


async def test_onboarding_is_done_once_and_whole(houses: Houses) -> None:
    """Repeated with its Idempotency-Key it is the same answer, key included; a fault leaves nothing behind."""
    operator = await houses.person(operator=True)
    body = {"slug": "acme", "owner": "o@example.com", "plan": "silver", "key": {}}
    once = {"Idempotency-Key": "one"}
    problem = await operator.ask("POST", "/onboarding", body, status=404, headers=once)
    assert "no plan 'silver'" in problem["detail"]
    await operator.ask("GET", "/tenants/acme", status=404)
    await operator.ask("POST", "/plans", {"name": "silver"}, status=201)
    first = await operator.ask("POST", "/onboarding", body, status=201, headers=once)
    assert await operator.ask("POST", "/onboarding", body, status=201, headers=once) == first
    await operator.ask("POST", "/onboarding", body, status=409)
    assert len((await operator.ask("GET", "/keys?tenant=acme"))["data"]) == 1


# Plans


async def test_a_plan_is_made_changed_given_and_ended(houses: Houses, parts: Parts) -> None:
    operator, tenant = await houses.person(operator=True), await houses.person()
    made = await operator.ask("POST", "/plans", PLAN, status=201)
    assert made | PLAN == made
    assert (await operator.ask("GET", "/plans"))["data"] == [made]
    given = await operator.ask("PATCH", f"/tenants/{tenant.tenant.slug}", {"plan": "gold"})
    assert (given["plan"], given["name"]) == ("gold", "House")
    (month,) = await parts.redis.keys(f"limit:{{{tenant.tenant.id}}}::audio:*")
    assert await parts.redis.hget(month, "used") == b"0", "as the account has it"
    shown = {limit["limit"]: limit["plan"] for limit in (await tenant.ask("GET", "/limits"))["data"]}
    assert shown == {"600/m": "gold", "100h/month": "gold"}
    changed = await operator.ask("PATCH", "/plans/gold", {"limits": {}, "note": "empty"})
    assert (changed["limits"], changed["note"], changed["rating"]) == ({}, "empty", "contract")
    assert (await operator.ask("DELETE", "/plans/gold", status=409))["code"] == "in_use"
    assert (await operator.ask("PATCH", f"/tenants/{tenant.tenant.slug}", {"name": "New"}))["plan"] == "gold"
    assert (await operator.ask("PATCH", f"/tenants/{tenant.tenant.slug}", {"plan": None}))["plan"] is None
    await operator.ask("DELETE", "/plans/gold", status=204)
    await operator.ask("GET", "/plans/gold", status=404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limits": {"requests": ["many"]}}, "limits"),
        ({"limits": {"requests": ["600/m", "10/s"]}}, "limits"),
        ({"limits": {"pages": ["1/m"]}}, "limits"),
        ({"routes": ["no.such.route"]}, "routes"),
        ({"limit": {}}, "limit"),
    ],
)
async def test_a_plan_that_means_nothing_is_refused(houses: Houses, body: dict[str, object], field: str) -> None:
    operator = await houses.person(operator=True)
    problem = await operator.ask("POST", "/plans", {"name": "gold", **body}, status=422)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} == {field}


async def test_every_faulty_field_is_named_at_once(houses: Houses) -> None:
    """Also what only the gateway knows: routes that are not there, a moment that has passed, a limit that is none."""
    operator, tenant = await houses.person(operator=True), await houses.person()
    wish = {"name": "", "routes": ["x"], "expires_at": "2020-01-01T00:00:00Z", "networks": ["10.0.0.0/33"], "y": 1}
    key = await operator.ask("POST", f"/keys?tenant={tenant.tenant.slug}", wish, status=422)
    assert [each["field"] for each in key["errors"]] == ["name", "expires_at", "networks.0", "routes", "y"]
    limits = {"key_id": "x", "requests": ["600"], "audio": ["5/s"], "streams": ["1"]}
    refused = await operator.ask("PUT", f"/limits?tenant={tenant.tenant.slug}", limits, status=422)
    assert {each["field"] for each in refused["errors"]} == {"requests", "audio"}
    plan = {"name": "?", "routes": ["x"], "limits": {"requests": ["many"]}, "most": {"dogs": 1}}
    refused = await operator.ask("POST", "/plans", plan, status=422)
    assert {each["field"] for each in refused["errors"]} == {"name", "routes", "limits", "most.dogs"}


async def test_a_change_is_made_to_the_version_that_was_seen(houses: Houses) -> None:
    operator, tenant = await houses.person(operator=True), await houses.person()
    await operator.ask("POST", "/plans", PLAN, status=201)
    stale = {"If-Match": '"00000000000000000000000000000000"'}
    for path, body in (("/plans/gold", {"note": "x"}), (f"/tenants/{tenant.tenant.slug}", {"plan": "gold"})):
        await operator.ask("PATCH", path, body, status=412, headers=stale)
        await operator.ask("DELETE", path, status=412, headers=stale)
    shown = await operator.ask("GET", f"/tenants/{tenant.tenant.slug}")
    assert (shown["plan"], shown["status"]) == (None, "active")
    await operator.ask("GET", "/plans/gold")


@pytest.mark.parametrize(
    ("what", "path", "wish"),
    [
        ("keys", "/keys", {"name": "{n}"}),
        ("service_accounts", "/service-accounts", {"name": "{n}"}),
        ("webhooks", "/webhooks", {"url": "https://example.com/{n}", "events": ["operator.*"]}),
        ("invitations", "/invitations", {"email": "n{n}@example.com"}),
        ("roles", "/roles", {"name": "r{n}", "permissions": []}),
    ],
)
async def test_nothing_is_made_without_end(houses: Houses, what: str, path: str, wish: dict[str, object]) -> None:
    """Of five at once two are made, as many as the plan says; what is ended makes room; all else is not counted."""
    operator, owner = await houses.person(operator=True), await houses.person()
    await operator.ask("POST", "/plans", {"name": "tight", "most": {what: 2}}, status=201)
    await operator.ask("PATCH", f"/tenants/{owner.tenant.slug}", {"plan": "tight"})

    async def make(n: int) -> tuple[int, dict[str, Any]]:
        body = {name: text.format(n=n) if isinstance(text, str) else text for name, text in wish.items()}
        async with owner.client.post(f"/platform/v1{path}", json=body, headers=dict(owner.headers)) as answer:
            return answer.status, await answer.json(content_type=None)

    answers = await asyncio.gather(*(make(n) for n in range(5)))
    assert sorted(status for status, _ in answers) == [201, 201, 409, 409, 409], answers
    assert {each["code"] for status, each in answers if status == 409} == {"maximum_reached"}
    made = next(each for status, each in answers if status == 201)
    await owner.ask("DELETE", f"{path}/{made.get('id') or made['name']}", status=204)
    assert (await make(7))[0] == 201
    for other in ("/keys", "/roles"):
        if other != path:
            await owner.ask(
                "POST", other, {"name": "x", **({"permissions": []} if other == "/roles" else {})}, status=201
            )


async def test_a_tenant_that_is_full_can_rotate_its_keys(houses: Houses) -> None:
    """Once for each: the old ones go on for a while, and another rotation waits for their end."""
    operator, owner = await houses.person(operator=True), await houses.person()
    await operator.ask("POST", "/plans", {"name": "tight", "most": {"keys": 1}}, status=201)
    await operator.ask("PATCH", f"/tenants/{owner.tenant.slug}", {"plan": "tight"})
    key = await owner.ask("POST", "/keys", {"name": "k"}, status=201)
    successor = await owner.ask("POST", f"/keys/{key['id']}/rotate", {}, status=201)
    assert (await owner.ask("POST", f"/keys/{successor['id']}/rotate", {}, status=409))["code"] == "maximum_reached"
    await owner.ask("DELETE", f"/keys/{key['id']}", status=204)
    await owner.ask("POST", f"/keys/{successor['id']}/rotate", {}, status=201)


# Tenants that leave


async def test_a_tenant_leaves_and_comes_back_in_time(houses: Houses, parts: Parts) -> None:
    operator, other = await houses.person(operator=True), await houses.person()
    path = f"/tenants/{other.tenant.slug}"
    left = await operator.ask("DELETE", path)
    assert left["status"] == "deleting"
    assert left["delete_after"] > left["created_at"]
    assert (await operator.ask("POST", f"{path}/resume", status=409))["code"] == "in_use"
    assert [each["slug"] for each in (await operator.ask("GET", "/tenants?status=deleting"))["data"]] == [left["slug"]]
    back = await operator.ask("POST", f"{path}/restore")
    assert (back["status"], back["delete_after"]) == ("active", None)
    await operator.ask("DELETE", f"{path}?grace_days=0")
    await purge(parts)
    await operator.ask("POST", f"{path}/restore", status=404)
    assert (await operator.ask("DELETE", f"/tenants/{operator.tenant.slug}", status=409))["code"] == "in_use"


# People


async def test_operators_see_everybody_and_disable_whom_they_must(houses: Houses, parts: Parts) -> None:
    operator, other = await houses.person(operator=True), await houses.person()
    assert other.user is not None
    assert operator.user is not None
    found = (await operator.ask("GET", f"/users?email={other.user.email.upper()}"))["data"]
    assert [(each["id"], each["tenants"], each["operator"]) for each in found] == [
        (other.user.id, [other.tenant.slug], False)
    ]
    disabled = await operator.ask("POST", f"/users/{other.user.id}/disable")
    assert disabled["status"] == "disabled"
    assert await permissions_in(parts.pool, other.tenant.id, other.user.id) == frozenset()
    assert [each["id"] for each in (await operator.ask("GET", "/users?status=disabled"))["data"]] == [other.user.id]
    assert (await operator.ask("POST", f"/users/{other.user.id}/enable"))["status"] == "active"
    assert (await operator.ask("POST", f"/users/{operator.user.id}/disable", status=409))["code"] == "in_use"
    await operator.ask("GET", "/users/nobody", status=404)
    pages = (await operator.ask("GET", "/users?limit=1"))["next_cursor"]
    assert len((await operator.ask("GET", f"/users?limit=1&cursor={pages}"))["data"]) == 1
    await operator.ask("GET", f"/users?status=active&cursor={pages}", status=422)


async def test_who_was_disabled_and_is_enabled_signs_in_anew(houses: Houses, portal: Client, town: Town) -> None:
    """C-05, T-09: a log-in that somebody has stolen does not come back with its person; keys do."""
    operator = await houses.person(operator=True)
    await log_in(portal)
    token = {"grant_type": "password", "email": EMAIL, "password": PASSWORD}
    made = await (await portal.post("/auth/token", data=token)).json()
    for change in ("disable", "enable"):
        await operator.ask("POST", f"/users/{town.user.id}/{change}", headers=SAME_ORIGIN)
        assert (await portal.get("/account", headers=PAGE, allow_redirects=False)).status == 303
    again = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    assert (await portal.post("/auth/token", data=again)).status in (400, 401)
    assert (await log_in(portal)).status == 200


async def test_somebody_who_has_an_account_becomes_a_member_without_an_invitation(houses: Houses, parts: Parts) -> None:
    """Operators add anybody, others whom they look after elsewhere; nobody gives what they do not hold."""
    owner, stranger = await houses.person(), await houses.person()
    admin = await houses.person(owner.tenant, Role.ADMIN)
    wish = {"user_id": stranger.user.id, "role": "viewer"}
    for who in (owner, admin, await houses.machine(owner.tenant)):  # nor do they learn that there is such a person
        there = await who.ask("POST", "/memberships", wish, status=404)
        nowhere = await who.ask("POST", "/memberships", wish | {"user_id": "usr_" + "0" * 20}, status=404)
        assert there["detail"].replace(stranger.user.id, "") == nowhere["detail"].replace("usr_" + "0" * 20, "")

    await houses.directory.create_user(stranger.tenant.id, admin.user.email, "", Role.VIEWER)
    await admin.ask("POST", "/memberships", wish, status=404)  # a colleague there, and no more
    await houses.directory.create_user(stranger.tenant.id, owner.user.email, "", Role.ADMIN)
    made = await owner.ask("POST", "/memberships", wish, status=201)
    assert (made["user_id"], made["role"], made["email"]) == (stranger.user.id, "viewer", stranger.user.email)
    await owner.ask("POST", "/memberships", wish, status=409)
    assert (await actions(parts))[-1] == "membership.created"

    operator = await houses.person(operator=True)
    other = await houses.person()
    at = f"/memberships?tenant={owner.tenant.slug}"
    await operator.ask("POST", at, {"user_id": other.user.id, "role": "owner"}, status=201)
    await operator.ask("POST", at, {"user_id": "usr_" + "0" * 20, "role": "owner"}, status=404)
    await operator.ask("POST", at, {"user_id": other.user.id, "role": "viewer", "custom_role": "none-such"}, status=404)
    gone = await houses.person()
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET status = 'deleted' WHERE id = $1", gone.user.id)
    await operator.ask("POST", at, {"user_id": gone.user.id, "role": "viewer"}, status=404)


async def test_an_admin_makes_nobody_an_owner(houses: Houses) -> None:
    admin = await houses.person(role=Role.ADMIN)
    problem = await admin.ask("POST", "/memberships", {"user_id": "usr_x", "role": "owner"}, status=403)
    assert problem["code"] == "exceeds_own_permissions"


async def test_a_member_that_is_removed_leaves_nothing_that_works(houses: Houses, parts: Parts) -> None:
    """Keys here are revoked, those elsewhere stay; the trail says both."""
    owner = await houses.person()
    member = await houses.person(owner.tenant, Role.MEMBER)
    assert member.user is not None
    elsewhere = await houses.tenant()
    await houses.directory.create_user(elsewhere.id, member.user.email, "P", Role.MEMBER)
    made = await owner.ask("POST", "/keys", {"name": "k", "user_id": member.user.id}, status=201)
    await owner.ask("DELETE", f"/memberships/{member.user.id}", status=204)
    await owner.ask("GET", f"/memberships/{member.user.id}", status=404)
    key = await owner.ask("GET", f"/keys/{made['id']}")
    assert (key["status"], key["user_id"]) == ("revoked", None)
    assert await permissions_in(parts.pool, owner.tenant.id, member.user.id) == frozenset()
    assert await permissions_in(parts.pool, elsewhere.id, member.user.id)
    trail = [entry["action"] for entry in (await owner.ask("GET", "/audit"))["data"]]
    assert trail[:2] == ["membership.deleted", "key.revoked"]


async def test_a_removed_members_browser_is_signed_out(houses: Houses, portal: Client, town: Town) -> None:
    """At once, though its cookie is as good as before; in another tenant the same person is still welcome."""
    member = await town.add("bob@example.com")
    elsewhere = await houses.tenant()
    await town.add("bob@example.com", tenant=elsewhere.id)
    await log_in(portal, "bob@example.com", tenant=town.tenant.slug)
    assert (await portal.get("/platform/v1/me")).status == 200
    owner = await houses.person(town.tenant)
    await owner.ask("DELETE", f"/memberships/{member.id}", status=204, headers=SAME_ORIGIN)
    assert (await portal.get("/platform/v1/me")).status == 401
    refused = await log_in(portal, "bob@example.com", tenant=town.tenant.slug)
    assert refused.status in (401, 403)
    welcome = await log_in(portal, "bob@example.com", tenant=elsewhere.slug)
    assert welcome.status == 200


async def test_who_removes_holds_as_much_and_an_owner_stays(houses: Houses) -> None:
    owner = await houses.person()
    admin = await houses.person(owner.tenant, Role.ADMIN)
    assert owner.user is not None
    assert admin.user is not None
    refused = await admin.ask("DELETE", f"/memberships/{owner.user.id}", status=403)
    assert refused["code"] == "exceeds_own_permissions"
    assert (await owner.ask("DELETE", f"/memberships/{owner.user.id}", status=409))["code"] == "last_owner"
    await admin.ask("DELETE", f"/memberships/{admin.user.id}", status=204)


async def test_what_has_ended_takes_a_place_when_it_begins_again(houses: Houses, parts: Parts) -> None:
    """Else a key that lapses at once, and an invitation that nobody answers, would be a way around the maximum."""
    operator, owner = await houses.person(operator=True), await houses.person()
    await operator.ask("POST", "/plans", {"name": "tight", "most": {"keys": 1, "invitations": 1}}, status=201)
    await operator.ask("PATCH", f"/tenants/{owner.tenant.slug}", {"plan": "tight"})
    key = await owner.ask("POST", "/keys", {"name": "a"}, status=201)
    invited = await owner.ask("POST", "/invitations", {"email": "a@example.com"}, status=201)
    async with parts.pool.operator() as connection:
        for table, ended in (("api_keys", key), ("invitations", invited)):
            await connection.execute(f"UPDATE platform.{table} SET expires_at = now() WHERE id = $1", ended["id"])
    other = await owner.ask("POST", "/keys", {"name": "b"}, status=201)
    await owner.ask("POST", "/invitations", {"email": "b@example.com"}, status=201)
    later = {"expires_at": "2099-01-01T00:00:00Z"}
    for method, path, body in (
        ("PATCH", f"/keys/{key['id']}", later),
        ("POST", f"/invitations/{invited['id']}/send", None),
    ):
        assert (await owner.ask(method, path, body, status=409))["code"] == "maximum_reached"
    await owner.ask("PATCH", f"/keys/{key['id']}", {"name": "renamed"})
    await owner.ask("DELETE", f"/keys/{other['id']}", status=204)
    await owner.ask("PATCH", f"/keys/{key['id']}", later)

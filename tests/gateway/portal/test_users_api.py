"""People as operators make, change and forget them by the API; and that nobody else does."""

import json
from datetime import datetime, timedelta

import pytest

from gateway.identity.digests import digest
from gateway.portal.entry.proving import RECOVERY_PURPOSE
from gateway.portal.mail.sending import MAILER
from gateway.portal.parts import Parts
from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from storage.postgres.people.accounts import PostgresPeople
from tests.gateway.portal.api import EVERYTHING, Caller, Houses
from tests.gateway.portal.conftest import PASSWORD, SAME_ORIGIN, Client, Town, fill, log_in
from tests.gateway.portal.test_recovery import letters, link_in

NEW = {"email": "New@Example.com", "name": "New One", "language": "de", "time_zone": "Europe/Berlin"}


async def trail(parts: Parts, target: str) -> list[tuple[str, object, object]]:
    """What the platform's own chain says of somebody, oldest first."""
    rows = await parts.pool.read(
        "SELECT action, before, after FROM platform.audit_entries"
        " WHERE target = $1 AND tenant_id = '' ORDER BY sequence",
        target,
    )
    return [(row["action"], json.loads(row["before"] or "null"), json.loads(row["after"] or "null")) for row in rows]


async def events(parts: Parts, target: str) -> list[str]:
    """The types of the events about somebody."""
    rows = await parts.pool.read("SELECT type FROM platform.outbox WHERE subject = $1 ORDER BY id", target)
    return [row["type"] for row in rows]


async def test_a_person_is_made_chooses_a_password_and_signs_in(houses: Houses, portal: Client, parts: Parts) -> None:
    operator = await houses.person(operator=True)
    made = await operator.ask("POST", "/users", NEW, status=201)
    assert made.items() >= {
        **NEW, "email": "new@example.com", "status": "active", "has_password": False, "operator": False, "tenants": [],
        "mailed": True, "link": None,
    }.items()  # fmt: skip
    assert not {"password", "password_hash"} & made.keys()
    after = {name: NEW[name] for name in ("name", "language", "time_zone")}
    assert await trail(parts, made["id"]) == [("user.created", None, after)]
    assert await events(parts, made["id"]) == ["user.created"]
    tenant = await houses.tenant()
    wish = {"user_id": made["id"], "role": "viewer"}
    await operator.ask("POST", f"/memberships?tenant={tenant.slug}", wish, status=201)
    link = link_in(letters(parts, "new@example.com")[-1][1])
    assert (await fill(portal, link, password=PASSWORD)).status == 200
    assert (await log_in(portal, "new@example.com")).status == 200
    assert (await operator.ask("GET", f"/users/{made['id']}", headers=SAME_ORIGIN))["has_password"]


async def test_without_mail_the_link_is_in_the_answer_and_without_a_wish_there_is_none(
    houses: Houses, portal: Client, parts: Parts
) -> None:
    operator = await houses.person(operator=True)
    quiet = await operator.ask("POST", "/users", {**NEW, "send_link": False}, status=201)
    assert (quiet["mailed"], quiet["link"], letters(parts, "new@example.com")) == (False, None, [])
    object.__setattr__(portal.app[MAILER], "url", "")
    told = await operator.ask("POST", "/users", {"email": "other@example.com"}, status=201)
    assert (told["mailed"], told["name"], told["language"], told["time_zone"]) == (False, "other", "en", "UTC")
    assert (await portal.get(told["link"].removeprefix("http://gw.test"))).status == 200


async def test_an_operator_makes_a_new_link_to_choose_a_password(houses: Houses, portal: Client, parts: Parts) -> None:
    """The one before works no more; for whoever is disabled there is none."""
    operator = await houses.person(operator=True)
    made = await operator.ask("POST", "/users", {**NEW, "send_link": False}, status=201)
    path = f"/users/{made['id']}/password-link"
    told = await operator.ask("POST", path, status=201)
    assert (told["email"], told["mailed"], told["link"]) == ("new@example.com", True, None)
    mailed = link_in(letters(parts, "new@example.com")[-1][1])
    object.__setattr__(portal.app[MAILER], "url", "")
    link = (await operator.ask("POST", path, status=201))["link"].removeprefix("http://gw.test")
    assert (await portal.get(mailed)).status == 410
    assert (await fill(portal, link, password=PASSWORD)).status == 200
    await operator.ask("POST", f"/users/{made['id']}/disable", headers=SAME_ORIGIN)
    assert (await operator.ask("POST", path, status=422, headers=SAME_ORIGIN))["code"] == "invalid_input"


async def test_a_link_beside_another_way_in_works_as_long_as_one_that_its_owner_asks_for(
    houses: Houses, portal: Client, parts: Parts
) -> None:
    """Seven days are for who has no way in yet: a link that lies in a mailbox is one more."""
    operator = await houses.person(operator=True)
    made = await operator.ask("POST", "/users", {**NEW, "send_link": False}, status=201)
    path, ways = f"/users/{made['id']}/password-link", []
    for _ in range(2):
        told = await operator.ask("POST", path, status=201)
        left = datetime.fromisoformat(told["expires_at"]) - parts.now()
        ways.append((left < timedelta(minutes=31), letters(parts, "new@example.com")[-1][0]))
        async with parts.pool.operator() as connection:
            await connection.execute(
                "INSERT INTO platform.identities (issuer, subject, user_id, provider, email)"
                " VALUES ('https://idp.test', '1', $1, 'corp', '') ON CONFLICT DO NOTHING",
                made["id"],
            )
    assert ways == [(False, "You have an account"), (True, "Choose a new password")]


async def test_a_creation_is_done_once(houses: Houses, parts: Parts) -> None:
    """One account for an address however it is written; repeated with its key one letter."""
    operator = await houses.person(operator=True)
    once = {"Idempotency-Key": "one"}
    first = await operator.ask("POST", "/users", NEW, status=201, headers=once)
    assert await operator.ask("POST", "/users", NEW, status=201, headers=once) == first
    assert len(letters(parts, "new@example.com")) == 1
    await operator.ask("POST", "/users", {"email": "NEW@example.com"}, status=409)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"email": "nobody", "name": " ", "language": "tlh", "time_zone": "Mars/Olympus"},
         {"email", "name", "language", "time_zone"}),
        ({"password": PASSWORD, "password_hash": "x", "operator": True, "status": "active", "id": "usr_1"},
         {"password", "password_hash", "operator", "status", "id"}),
        ({"tenants": ["acme"], "memberships": [], "created_at": "2026-01-01T00:00:00Z", "has_password": True},
         {"tenants", "memberships", "created_at", "has_password"}),
        ({"send_link": 1, "name": "a\nb"}, {"send_link", "name"}),
    ],
)  # fmt: skip
async def test_no_field_but_the_declared_ones_is_taken(
    houses: Houses, parts: Parts, body: dict[str, object], fields: set[str]
) -> None:
    """T-04: every faulty field is named, at the creation and at a change; nobody is made and nothing changes."""
    operator, other = await houses.person(operator=True), await houses.person()
    problem = await operator.ask("POST", "/users", {"email": "x@example.com", **body}, status=422)
    assert {error["field"] for error in problem["errors"]} == fields
    before = await operator.ask("GET", f"/users/{other.user.id}")
    changing = {name: value for name, value in body.items() if name != "send_link"}
    problem = await operator.ask("PATCH", f"/users/{other.user.id}", changing, status=422)
    assert {error["field"] for error in problem["errors"]} == fields - {"send_link"}
    assert await operator.ask("GET", f"/users/{other.user.id}") == before
    assert (await operator.ask("GET", "/users?email=x@"))["data"] == []


async def those_who_may_not(houses: Houses, parts: Parts) -> list[Caller]:
    """Owners and admins, programs with every scope, and an operator's key that is for reading."""
    owner = await houses.person()
    disabled = await houses.person(operator=True)
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET status = 'disabled' WHERE id = $1", disabled.user.id)
    return [
        owner,
        await houses.person(owner.tenant, Role.ADMIN),
        await houses.machine(owner.tenant, EVERYTHING),
        await houses.person(operator=True, scopes=EVERYTHING.replace(Permission.PLATFORM_WRITE, "")),
        disabled,
    ]


async def test_only_operators_make_change_and_forget_people(houses: Houses, parts: Parts) -> None:
    """T-01, T-05: not the people of another tenant, nor those of one's own; and nobody learns who has an account."""
    callers = await those_who_may_not(houses, parts)
    stranger = await houses.person()
    colleague = await houses.person(callers[0].tenant, Role.MEMBER)
    await houses.directory.create_user(stranger.tenant.id, colleague.user.email, "", Role.MEMBER)
    rows = "SELECT u::text AS it FROM platform.users u ORDER BY id"
    before = await parts.pool.read(rows)
    for caller in callers:
        known = await caller.ask("POST", "/users", {"email": stranger.user.email}, status=403)
        unknown = await caller.ask("POST", "/users", {"email": "nobody@example.com"}, status=403)
        assert {**known, "request_id": ""} == {**unknown, "request_id": ""}
        for user_id in (stranger.user.id, colleague.user.id, "usr_" + "0" * 20):
            for method, rest, body in (
                ("PATCH", "", {"name": "Mallory"}),
                ("DELETE", "", None),
                ("POST", "/unban", None),
                ("POST", "/password-link", None),
            ):
                refused = await caller.ask(method, f"/users/{user_id}{rest}", body, status=403)
                assert refused["code"] == "insufficient_permission"
    assert await parts.pool.read(rows) == before


async def test_a_change_is_made_to_the_version_that_was_seen_and_told(houses: Houses, parts: Parts) -> None:
    """T-11: of two operators who change a person at once one is refused; the trail says what was before."""
    operator, other = await houses.person(operator=True), await houses.person()
    path = f"/users/{other.user.id}"
    async with operator.client.get(f"/platform/v1{path}", headers=dict(operator.headers)) as answer:
        version = {"If-Match": answer.headers["ETag"]}
    changed = await operator.ask("PATCH", path, {"name": "Bee", "time_zone": "Asia/Tokyo"}, headers=version)
    assert (changed["name"], changed["time_zone"], changed["language"]) == ("Bee", "Asia/Tokyo", "en")
    await operator.ask("PATCH", path, {"name": "Cee"}, headers=version, status=412)
    await operator.ask("DELETE", path, headers=version, status=412)
    assert await operator.ask("PATCH", path, {"name": "Bee"}) == changed
    assert (await trail(parts, other.user.id))[1:] == [
        ("profile.changed", {"name": "P", "time_zone": "UTC"}, {"name": "Bee", "time_zone": "Asia/Tokyo"})
    ]
    assert (await events(parts, other.user.id)).count("profile.changed") == 1
    await operator.ask("PATCH", "/users/usr_" + "0" * 20, {"name": "Bee"}, status=404)


async def test_a_person_is_forgotten_everywhere(houses: Houses, portal: Client, town: Town) -> None:
    """Keys end, browsers are signed out, the address is free; what it did keeps an id that names nobody."""
    operator, owner = await houses.person(operator=True), await houses.person(town.tenant)
    bob = await town.add("bob@example.com")
    key = await owner.ask("POST", "/keys", {"name": "k", "user_id": bob.id}, status=201)
    await log_in(portal, "bob@example.com")
    await operator.ask("DELETE", f"/users/{bob.id}", status=204, headers=SAME_ORIGIN)
    assert (await portal.get("/platform/v1/me")).status == 401
    portal.session.cookie_jar.clear()
    assert (await owner.ask("GET", f"/keys/{key['id']}"))["status"] == "revoked"
    await operator.ask("GET", f"/users/{bob.id}", status=404)
    await operator.ask("DELETE", f"/users/{bob.id}", status=404)
    assert (await operator.ask("POST", "/users", {"email": "bob@example.com"}, status=201))["id"] != bob.id
    assert [action for action, _, _ in await trail(town.parts, bob.id)][-1] == "user.erased"


async def test_who_tried_too_often_is_let_try_again_by_an_operator(houses: Houses, portal: Client, town: Town) -> None:
    """L-06: wrong passwords and wrong codes alike; it is in the audit trail, and so is not what changed nothing."""
    operator, bob = await houses.person(operator=True), await town.add("bob@example.com")
    people = PostgresPeople(town.parts.pool, town.parts.trail)
    await people.offer_second_factor(bob.id, b"sealed")
    await people.confirm_second_factor(
        bob.id, [digest(town.parts.secret_for(RECOVERY_PURPOSE), f"{bob.id}:abc".encode())]
    )
    for wrong in ({"password": "a wrong password"}, {"password": PASSWORD, "code": "xyz"}):
        while (await log_in(portal, bob.email, **wrong)).status != 429:
            pass
        assert (await log_in(portal, bob.email, code="abc")).status == 429
        await operator.ask("POST", f"/users/{bob.id}/unban", status=204)
        assert (await log_in(portal, bob.email, **wrong)).status == 401
    assert (await log_in(portal, bob.email, code="abc")).status == 200
    await operator.ask("POST", f"/users/{bob.id}/unban", status=204, headers=SAME_ORIGIN)
    assert [action for action, _, _ in await trail(town.parts, bob.id)].count("login.unbanned") == 2
    await operator.ask("POST", "/users/usr_" + "0" * 20 + "/unban", status=404, headers=SAME_ORIGIN)


async def test_a_last_owner_and_oneself_stay(houses: Houses) -> None:
    operator, owner = await houses.person(operator=True), await houses.person()
    await houses.person(owner.tenant, Role.MEMBER)
    refused = await operator.ask("DELETE", f"/users/{owner.user.id}", status=409)
    assert (refused["code"], owner.tenant.slug in refused["detail"]) == ("last_owner", True)
    assert (await operator.ask("DELETE", f"/users/{operator.user.id}", status=409))["code"] == "in_use"

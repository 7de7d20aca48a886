"""What every operation of the platform API keeps to, and the resources one by one."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.identity.digests import digest
from gateway.portal.api.openapi import document
from gateway.portal.api.service import OPERATIONS
from gateway.portal.parts import Parts
from policies.audit import SYSTEM
from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from storage.ports import Invalidation
from storage.postgres.audit import AuditTrail
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.keys.uses import KeyUse, PostgresKeyUses
from storage.postgres.usage.care import UsageCare
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import encode
from tests.gateway.portal.api import Houses
from tests.gateway.portal.conftest import SAME_ORIGIN, Client, Town, log_in
from tests.storage.usage_samples import record

STRANGER = {
    "account_id": "svc_00000000000000000000", "webhook_id": "whk_00000000000000000000", "delivery_id": "1",
    "invitation_id": "inv_00000000000000000000", "session_id": "ses_00000000000000000000",
    "key_id": "key_00000000000000000000", "user_id": "usr_00000000000000000000", "slug": "nobody", "name": "nobody",
    "kid": "0" * 43,
}  # fmt: skip


# Every operation


async def test_nobody_is_told_to_say_who_they_are(portal: Client) -> None:
    for operation in OPERATIONS:
        answer = await portal.request(operation.method, operation.path.format(**STRANGER))
        assert answer.status == 401, operation.name
        assert (await answer.json(content_type=None))["code"] == "missing_credential", operation.name
        assert "Bearer" in answer.headers["WWW-Authenticate"], operation.name


async def test_every_operation_wants_its_permission(houses: Houses) -> None:
    """With all permissions but the one that is needed, each is refused and says which."""
    tenant = await houses.tenant()
    for operation in OPERATIONS:
        if operation.permission is None:
            continue
        scopes = " ".join(set(Permission) - {operation.permission})
        caller = await houses.person(tenant, scopes=scopes, operator=True)
        path = operation.path.format(**STRANGER).removeprefix("/platform/v1")
        problem = await caller.ask(operation.method, path, status=403)
        assert problem["code"] == "insufficient_permission"
        assert operation.permission in problem["detail"]


async def test_what_nobody_declared_is_not_taken(houses: Houses) -> None:
    """A misspelt field is told; a field that would change more than one may is not slipped in (T-04)."""
    caller = await houses.person()
    problem = await caller.ask("POST", "/keys", {"name": "k", "tenant_id": "ten_x", "digest": ""}, status=422)
    assert {error["field"] for error in problem["errors"]} == {"tenant_id", "digest"}
    problem = await caller.ask("GET", "/keys?limt=5&limit=0", status=422)
    assert {error["field"] for error in problem["errors"]} == {"limt", "limit"}
    assert (await caller.ask("GET", "/keys?limit=1&limit=2", status=422))["code"] == "invalid_input"
    assert (await caller.ask("GET", "/keys?limit=1000000000", status=422))["code"] == "invalid_input"


async def test_every_faulty_field_is_named_at_once(houses: Houses) -> None:
    caller = await houses.person()
    body = {"name": "", "scopes": ["a b"], "expires_at": "soon", "test": "perhaps"}
    problem = await caller.ask("POST", "/keys", body, status=422)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} == set(body)
    said = [(e["field"], e["message"]) for e in (await caller.ask("POST", "/keys", {"nme": "k"}, status=422))["errors"]]
    assert said == [("name", "This field is missing."), ("nme", "There is no such field here.")]


async def test_another_tenants_things_are_not_there(houses: Houses) -> None:
    """By id, by slug, by cursor (T-01, T-06)."""
    mine, other = await houses.person(), await houses.person()
    theirs = await other.ask("POST", "/keys", {"name": "theirs"}, status=201)
    for method, path, body in (
        ("GET", f"/keys/{theirs['id']}", None),
        ("PATCH", f"/keys/{theirs['id']}", {"name": "mine"}),
        ("POST", f"/keys/{theirs['id']}/rotate", {}),
        ("DELETE", f"/keys/{theirs['id']}", None),
        ("GET", f"/keys?tenant={other.tenant.slug}", None),
        ("GET", f"/memberships?tenant={other.tenant.slug}", None),
        ("GET", f"/memberships/{other.user.id}", None),
        ("PATCH", f"/memberships/{other.user.id}", {"role": "viewer"}),
        ("POST", f"/keys?tenant={other.tenant.slug}", {"name": "k"}),
        ("POST", "/keys", {"name": "k", "user_id": other.user.id}),
    ):
        problem = await mine.ask(method, path, body, status=404)
        assert problem["code"] == "not_found", (method, path)
    for name in ("a", "b"):
        await other.ask("POST", "/keys", {"name": name}, status=201)
    cursor = (await other.ask("GET", "/keys?limit=1"))["next_cursor"]
    await mine.ask("GET", f"/keys?cursor={cursor}", status=422)
    assert [key["name"] for key in (await other.ask("GET", "/keys"))["data"]] == ["b", "a", "theirs"]


async def test_an_operator_acts_in_the_tenant_that_is_named(houses: Houses) -> None:
    operator, other = await houses.person(operator=True), await houses.person()
    made = await operator.ask("POST", f"/keys?tenant={other.tenant.slug}", {"name": "by operator"}, status=201)
    assert [key["id"] for key in (await other.ask("GET", "/keys"))["data"]] == [made["id"]]
    (entry, *_) = (await other.ask("GET", "/audit"))["data"]
    assert (entry["action"], entry["actor"]["id"]) == ("key.created", operator.headers["X-API-Key-ID"])
    assert (entry["address"], entry["request_id"]) == ("192.0.2.9", operator.headers["X-Request-ID"])


async def test_a_browsers_session_is_a_caller_with_its_persons_permissions(portal: Client, town: Town) -> None:
    """From our own pages; another site's request changes nothing (CSRF)."""
    await log_in(portal)
    me = await (await portal.get("/platform/v1/me")).json()
    assert (me["user_id"], me["tenant_id"], me["key_id"]) == (town.user.id, town.tenant.id, "")
    assert "keys:write" in me["permissions"]
    made = await portal.post("/platform/v1/keys", json={"name": "k"}, headers=SAME_ORIGIN)
    assert made.status == 201
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        refused = await portal.post("/platform/v1/keys", json={"name": "k"}, headers=headers)
        assert (await refused.json(content_type=None))["code"] == "cross_site_request", headers
    await portal.post("/auth/logout", headers=SAME_ORIGIN)
    assert (await portal.get("/platform/v1/me")).status == 401


# Cursors, versions, repetition


@pytest.mark.parametrize("sort", ["-created", "created"])
async def test_pages_together_are_the_list(houses: Houses, sort: str) -> None:
    """In either order; a cursor of the one is none of the other."""
    caller = await houses.person()
    made = [(await caller.ask("POST", "/keys", {"name": str(n)}, status=201))["id"] for n in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = await caller.ask("GET", f"/keys?limit=2&sort={sort}&cursor={cursor}")
        seen += [key["id"] for key in page["data"]]
        other, cursor = cursor, page["next_cursor"]
    assert seen == (made if sort == "created" else made[::-1])
    await caller.ask("GET", f"/keys?sort={'created' if sort == '-created' else '-created'}&cursor={other}", status=422)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "A" * 1024, "%00", "Zm9v.Zm9v", "é"])
async def test_a_cursor_that_was_not_given_is_refused(houses: Houses, cursor: str) -> None:
    caller = await houses.person()
    assert (await caller.ask("GET", f"/keys?cursor={cursor}", status=422))["errors"][0]["field"] == "cursor"


async def test_a_change_of_another_version_is_refused(houses: Houses) -> None:
    """Two who change one thing at once do not undo each other (T-11)."""
    caller = await houses.person()
    key = await caller.ask("POST", "/keys", {"name": "first"}, status=201)
    async with caller.client.get(f"/platform/v1/keys/{key['id']}", headers=caller.headers) as answer:
        tag = answer.headers["ETag"]
    async with caller.client.get("/platform/v1/tenant", headers=caller.headers) as answer:
        await caller.ask("GET", "/tenant", status=304, headers={"If-None-Match": answer.headers["ETag"]})
    await caller.ask("PATCH", f"/keys/{key['id']}", {"name": "second"}, headers={"If-Match": tag})
    problem = await caller.ask("PATCH", f"/keys/{key['id']}", {"name": "third"}, status=412, headers={"If-Match": tag})
    assert problem["code"] == "stale_version"
    assert (await caller.ask("GET", f"/keys/{key['id']}"))["name"] == "second"


async def test_what_is_ended_or_set_anew_is_what_was_seen(houses: Houses) -> None:
    """T-11: an ETag that is not the current one keeps a key, a role, a webhook, an account, an invitation, limits."""
    owner = await houses.person(operator=True)
    key = await owner.ask("POST", "/keys", {"name": "k"}, status=201)
    account = await owner.ask("POST", "/service-accounts", {"name": "a"}, status=201)
    hook = await owner.ask("POST", "/webhooks", {"url": "https://example.com/", "events": ["key.*"]}, status=201)
    invitation = await owner.ask("POST", "/invitations", {"email": "i@example.com"}, status=201)
    await owner.ask("POST", "/roles", {"name": "clerk", "permissions": []}, status=201)
    things = (
        f"/keys/{key['id']}", f"/service-accounts/{account['id']}", f"/webhooks/{hook['id']}",
        f"/invitations/{invitation['id']}", "/roles/clerk",
    )  # fmt: skip
    for path in things:
        await owner.ask("DELETE", path, status=412, headers={"If-Match": '"stale"'})
        seen = await owner.client.get(f"/platform/v1{path}", headers=dict(owner.headers))
        await owner.ask("DELETE", path, status=204, headers={"If-Match": seen.headers["ETag"]})
    wish = {"requests": ["5/m"]}
    empty = await owner.client.get("/platform/v1/limits", headers=dict(owner.headers))
    await owner.ask("PUT", "/limits", wish, headers={"If-Match": empty.headers["ETag"]})
    await owner.ask("PUT", "/limits", wish, status=412, headers={"If-Match": empty.headers["ETag"]})


async def test_a_creation_that_is_repeated_is_done_once(houses: Houses) -> None:
    caller = await houses.person()
    once = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    first = await caller.ask("POST", "/keys", {"name": "k"}, status=201, headers=once)
    again = await caller.ask("POST", "/keys", {"name": "k"}, status=201, headers=once)
    assert again == first
    assert len((await caller.ask("GET", "/keys"))["data"]) == 1
    other = await caller.ask("POST", "/keys", {"name": "other"}, status=422, headers=once)
    assert other["code"] == "idempotency_key_reused"
    neighbour = await houses.person(caller.tenant)
    await neighbour.ask("POST", "/keys", {"name": "k"}, status=201, headers=once)  # each caller has its own keys
    assert len((await caller.ask("GET", "/keys"))["data"]) == 2


async def test_repetitions_at_once_make_one_thing(houses: Houses) -> None:
    caller = await houses.person()

    async def make() -> int:
        headers = {**caller.headers, "Idempotency-Key": "k-1"}
        async with caller.client.post("/platform/v1/keys", json={"name": "k"}, headers=headers) as answer:
            return answer.status

    assert set(await asyncio.gather(*(make() for _ in range(8)))) <= {201, 409}
    assert len((await caller.ask("GET", "/keys"))["data"]) == 1


async def test_what_was_refused_may_be_sent_again(houses: Houses) -> None:
    caller = await houses.person()
    once = {"Idempotency-Key": "k-1"}
    await caller.ask("POST", "/keys", {"name": ""}, status=422, headers=once)
    await caller.ask("POST", "/keys", {"name": "k"}, status=201, headers=once)


async def test_an_answer_that_is_kept_holds_no_secret_that_can_be_read(houses: Houses, parts: Parts) -> None:
    caller = await houses.person()
    made = await caller.ask("POST", "/keys", {"name": "k"}, status=201, headers={"Idempotency-Key": "k-1"})
    (row,) = await parts.pool.read("SELECT body FROM platform.idempotency")
    assert made["key"].encode() not in row["body"]


# Keys


async def test_a_key_is_shown_once_and_works(houses: Houses, parts: Parts) -> None:
    caller = await houses.person()
    made = await caller.ask("POST", "/keys", {"name": "ci", "scopes": ["transcribe", "usage:read"]}, status=201)
    shown = await caller.ask("GET", f"/keys/{made['id']}")
    assert made["key"].startswith("thk_live_")
    assert made["key"] not in str(shown)
    assert {**shown, "key": made["key"]} == made
    registry = PostgresKeyRegistry(parts.pool, AuditTrail(bytes, SYSTEM))
    principal = await registry.identify_key(digest(parts.secret_for("api-keys"), made["key"].encode()))
    assert principal is not None
    assert principal.scopes == {"transcribe", "usage:read"}


async def test_nobody_gives_a_key_what_they_do_not_hold(houses: Houses) -> None:
    """At its making, and at its rotation, which shows the successor (A-08, T-05)."""
    owner = await houses.person()
    strong = await owner.ask("POST", "/keys", {"name": "k", "scopes": ["audit:read", "limits:write"]}, status=201)
    admin = await houses.person(owner.tenant, Role.ADMIN)
    for method, path, body in (
        ("POST", "/keys", {"name": "k", "scopes": ["limits:write"]}),
        ("POST", "/keys", {"name": "k", "scopes": ["platform:write"]}),
        ("POST", f"/keys/{strong['id']}/rotate", {}),
    ):
        assert (await admin.ask(method, path, body, status=403))["code"] == "exceeds_own_permissions"
    await admin.ask("DELETE", f"/keys/{strong['id']}", status=204)


async def test_a_key_is_never_given_more_than_its_owner_holds(houses: Houses) -> None:
    """At its making, at a change of its scopes, and at its rotation: the field is named, and nothing is made."""
    owner = await houses.person()
    member = await houses.person(owner.tenant, Role.MEMBER)
    assert member.user is not None
    theirs = {"name": "k", "user_id": member.user.id}
    fits = await owner.ask("POST", "/keys", theirs | {"scopes": ["transcribe", "keys:read"]}, status=201)
    path = f"/keys/{fits['id']}"
    for method, where, body in (
        ("POST", "/keys", theirs | {"scopes": ["transcribe", "keys:write"]}),
        ("PATCH", path, {"scopes": ["keys:write"]}),
    ):
        problem = await owner.ask(method, where, body, status=422)
        sentence = "The owner of this key does not hold keys:write: give it fewer scopes."
        assert problem["errors"] == [{"field": "scopes", "message": sentence}]
    await owner.ask("PATCH", f"/memberships/{member.user.id}", {"role": "service"})
    assert [fault["field"] for fault in (await owner.ask("POST", f"{path}/rotate", {}, status=422))["errors"]] == [
        "scopes"
    ]
    await owner.ask("PATCH", path, {"name": "renamed"})
    await owner.ask("PATCH", path, {"scopes": ["transcribe"]})
    await owner.ask("POST", f"{path}/rotate", {}, status=201)
    assert len((await owner.ask("GET", "/keys"))["data"]) == 2


async def test_a_scope_that_opens_nothing_is_refused_with_those_that_there_are(houses: Houses) -> None:
    """Of keys and service accounts, made or changed; what an operator names is one."""
    owner = await houses.person()
    key = (await owner.ask("POST", "/keys", {"name": "k", "scopes": ["of-the-house"]}, status=201))["id"]
    account = (await owner.ask("POST", "/service-accounts", {"name": "w", "scopes": ["introspect"]}, status=201))["id"]
    for method, path, body in (
        ("POST", "/keys", {"name": "k"}),
        ("PATCH", f"/keys/{key}", {}),
        ("POST", "/service-accounts", {"name": "v"}),
        ("PATCH", f"/service-accounts/{account}", {}),
    ):
        problem = await owner.ask(method, path, body | {"scopes": ["transcribe", "nonsense"]}, status=422)
        (error,) = problem["errors"]
        assert error["field"] == "scopes"
        assert "no scope 'nonsense'; there are audit:read," in error["message"]
        assert "of-the-house" in error["message"]


async def test_a_key_is_a_service_accounts(houses: Houses) -> None:
    """Found by it, shown with it, and within it; a disabled one gets no more."""
    owner = await houses.person()
    account = (await owner.ask("POST", "/service-accounts", {"name": "w"}, status=201))["id"]
    wish = {"name": "k", "service_account_id": account}
    made = await owner.ask("POST", "/keys", wish, status=201)
    await owner.ask("POST", "/keys", {"name": "the tenant's"}, status=201)
    assert (made["user_id"], made["service_account_id"]) == (None, account)
    found = await owner.ask("GET", f"/keys?service_account_id={account}")
    assert [(key["id"], key["service_account_id"]) for key in found["data"]] == [(made["id"], account)]
    (entry,) = (await owner.ask("GET", f"/audit?target={made['id']}"))["data"]
    assert entry["after"]["service_account"] == account
    assert owner.user is not None
    for method, path, body, field in (
        ("POST", "/keys", wish | {"scopes": ["transcribe", "keys:read"]}, "scopes"),
        ("POST", "/keys", wish | {"scopes": ["of-the-house"]}, "scopes"),
        ("PATCH", f"/keys/{made['id']}", {"scopes": ["keys:read"]}, "scopes"),
        ("POST", "/keys", wish | {"user_id": owner.user.id}, "service_account_id"),
    ):
        problem = await owner.ask(method, path, body, status=422)
        assert [fault["field"] for fault in problem["errors"]] == [field]
    successor = await owner.ask("POST", f"/keys/{made['id']}/rotate", {}, status=201)
    assert successor["service_account_id"] == account
    await owner.ask("DELETE", f"/service-accounts/{account}", status=204)
    for path, body in (
        ("/keys", wish),
        ("/keys", wish | {"service_account_id": "svc_x"}),
        (f"/keys/{successor['id']}/rotate", {}),
    ):
        await owner.ask("POST", path, body, status=404)


async def test_a_person_who_is_demoted_has_less_at_once_with_every_key(houses: Houses) -> None:
    owner = await houses.person()
    admin = await houses.person(owner.tenant, Role.ADMIN)
    await admin.ask("POST", "/keys", {"name": "k"}, status=201)
    await owner.ask("PATCH", f"/memberships/{admin.user.id}", {"role": "viewer"})
    await admin.ask("POST", "/keys", {"name": "k"}, status=403)
    await admin.ask("GET", "/keys")


async def test_rotation_keeps_the_old_key_for_as_long_as_was_said(houses: Houses) -> None:
    caller = await houses.machine()
    old = await caller.ask("POST", "/keys", {"name": "k"}, status=201)
    new = await caller.ask("POST", f"/keys/{old['id']}/rotate", {"overlap_s": 60}, status=201)
    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    ends = datetime.fromisoformat((await caller.ask("GET", f"/keys/{old['id']}"))["expires_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=30)
    again = await caller.ask("POST", f"/keys/{old['id']}/rotate", {}, status=409)
    assert again["code"] == "already_exists"


async def test_a_revoked_key_says_so(houses: Houses) -> None:
    caller = await houses.machine()
    made = await caller.ask("POST", "/keys", {"name": "k"}, status=201)
    await caller.ask("DELETE", f"/keys/{made['id']}", status=204)
    assert (await caller.ask("GET", f"/keys/{made['id']}"))["status"] == "revoked"


async def test_a_key_rests_and_is_bound_and_its_change_is_told(houses: Houses, parts: Parts) -> None:
    """What is left out of a change stays; the trail says what changed, by name."""
    caller = await houses.machine()
    made = await caller.ask(
        "POST",
        "/keys",
        {"name": "k", "networks": ["192.0.2.0/24", "::ffff:10.1.2.3"], "metadata": {"team": "a"}},
        status=201,
    )
    assert made["networks"] == ["10.1.2.3/32", "192.0.2.0/24"]
    path = f"/keys/{made['id']}"
    assert (await caller.ask("PATCH", path, {"enabled": False}))["status"] == "disabled"
    changed = await caller.ask("PATCH", path, {"enabled": True, "routes": ["openai.models"], "networks": []})
    assert (changed["status"], changed["routes"], changed["networks"]) == ("active", ["openai.models"], [])
    assert changed["metadata"] == {"team": "a"}
    entries = (await caller.ask("GET", f"/audit?target={made['id']}"))["data"]
    assert [entry["action"] for entry in entries] == ["key.changed", "key.disabled", "key.created"]
    assert entries[0]["after"] == {"enabled": True, "networks": [], "routes": ["openai.models"]}
    registry = PostgresKeyRegistry(parts.pool, AuditTrail(bytes, SYSTEM))
    principal = await registry.identify_key(digest(parts.secret_for("api-keys"), made["key"].encode()))
    assert principal is not None
    assert principal.only_routes == {"openai.models"}
    for wrong in ({"networks": ["300.1.1.1"]}, {"routes": ["nowhere"]}, {"metadata": {"": "x"}}, {"enabled": "no"}):
        await caller.ask("PATCH", path, wrong, status=422)


async def test_a_key_is_not_made_stronger_by_whoever_holds_less(houses: Houses) -> None:
    """To rename it, disable it or bind it takes nothing from anybody."""
    owner = await houses.person()
    strong = await owner.ask("POST", "/keys", {"name": "k", "scopes": ["limits:write"]}, status=201)
    admin = await houses.person(owner.tenant, Role.ADMIN)
    path = f"/keys/{strong['id']}"
    await admin.ask("PATCH", path, {"name": "renamed", "enabled": False, "networks": ["192.0.2.1"]})
    for stronger in ({"enabled": True}, {"expires_at": "2100-01-01T00:00:00Z"}, {"scopes": ["limits:write"]}):
        assert (await admin.ask("PATCH", path, stronger, status=403))["code"] == "exceeds_own_permissions"


async def test_unused_and_ending_keys_are_found(houses: Houses, parts: Parts) -> None:
    caller = await houses.machine()
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    ending = await caller.ask("POST", "/keys", {"name": "ending", "expires_at": soon}, status=201)
    used = await caller.ask("POST", "/keys", {"name": "used"}, status=201)
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.api_keys SET created_at = now() - interval '100 days'")
    now = datetime.now(UTC)
    use = KeyUse(key_id=used["id"], tenant_id=caller.tenant.id, used_at=now, address="192.0.2.1", agent="curl/8")
    gone = KeyUse(key_id="key_gone", tenant_id=caller.tenant.id, used_at=now, address="", agent="")
    await PostgresKeyUses(parts.pool).note([use, gone])
    older = replace(use, used_at=now - timedelta(hours=1), address="", agent="")
    await PostgresKeyUses(parts.pool).note([older])
    shown = await caller.ask("GET", f"/keys/{used['id']}")
    assert (shown["last_used"]["address"], shown["last_used"]["agent"]) == ("192.0.2.1", "curl/8")
    assert [key["name"] for key in (await caller.ask("GET", "/keys?unused_days=90"))["data"]] == ["ending"]
    assert [key["id"] for key in (await caller.ask("GET", "/keys?ending_days=7"))["data"]] == [ending["id"]]
    assert (await caller.ask("GET", "/keys?ending_days=1"))["data"] == []


async def test_keys_are_found_by_the_status_that_they_show(houses: Houses, parts: Parts) -> None:
    """Whatever has ended or rests for several reasons has one status, in the list as in the answer."""
    owner = await houses.person()
    member = await houses.person(owner.tenant, Role.MEMBER)
    assert member.user is not None
    account = await owner.ask("POST", "/service-accounts", {"name": "a", "scopes": ["transcribe"]}, status=201)
    wishes = ({}, {}, {}, {}, {"user_id": member.user.id}, {"service_account_id": account["id"]}, {})
    ids = [(await owner.ask("POST", "/keys", {"name": "k", **wish}, status=201))["id"] for wish in wishes]
    await owner.ask("DELETE", f"/service-accounts/{account['id']}", status=204)
    await owner.ask("PATCH", f"/keys/{ids[0]}", {"enabled": False})
    await owner.ask("PATCH", f"/keys/{ids[1]}", {"enabled": False})
    await owner.ask("DELETE", f"/keys/{ids[1]}", status=204)
    async with parts.pool.operator() as connection:
        past = "UPDATE platform.api_keys SET expires_at = now() - interval '1 day' WHERE id = ANY($1)"
        await connection.execute(past, [ids[1], ids[2], ids[4]])
        await connection.execute("UPDATE platform.users SET status = 'disabled' WHERE id = $1", member.user.id)
    shown = {key["id"]: key["status"] for key in (await owner.ask("GET", "/keys"))["data"]}
    assert [shown[each] for each in ids] == [
        "disabled", "revoked", "expired", "active", "user_disabled", "revoked", "active"
    ]  # fmt: skip
    for status in {*shown.values()}:
        found = [key["id"] for key in (await owner.ask("GET", f"/keys?status={status}"))["data"]]
        assert sorted(found) == sorted(each for each in ids if shown[each] == status)


# People and roles


async def test_a_tenant_keeps_an_owner(houses: Houses) -> None:
    owner = await houses.person()
    problem = await owner.ask("PATCH", f"/memberships/{owner.user.id}", {"role": "admin"}, status=409)
    assert problem["code"] == "last_owner"
    second = await houses.person(owner.tenant)
    ends = await asyncio.gather(
        *(
            caller.client.patch(
                f"/platform/v1/memberships/{caller.user.id}", json={"role": "admin"}, headers=caller.headers
            )
            for caller in (owner, second)
        )
    )
    assert sorted(end.status for end in ends) == [200, 409]


async def test_an_admin_makes_nobody_an_owner_and_touches_no_owner(houses: Houses) -> None:
    owner = await houses.person()
    admin = await houses.person(owner.tenant, Role.ADMIN)
    for path, role in ((admin.user.id, "owner"), (owner.user.id, "member")):
        problem = await admin.ask("PATCH", f"/memberships/{path}", {"role": role}, status=403)
        assert problem["code"] == "exceeds_own_permissions"


async def test_a_role_of_the_tenants_own(houses: Houses) -> None:
    owner = await houses.person()
    clerk = await houses.person(owner.tenant, Role.MEMBER)
    wish = {"name": "accountant", "description": "Reads bills", "permissions": ["usage:read", "audit:read"]}
    made = await owner.ask("POST", "/roles", wish, status=201)
    assert made["permissions"] == ["audit:read", "usage:read"]
    await clerk.ask("GET", "/audit", status=403)
    changed = await owner.ask("PATCH", f"/memberships/{clerk.user.id}", {"role": "member", "custom_role": "accountant"})
    assert changed["permissions"] == ["audit:read", "usage:read"]
    await clerk.ask("GET", "/audit")
    await clerk.ask("GET", "/keys", status=403)
    assert (await owner.ask("DELETE", "/roles/accountant", status=409))["code"] == "in_use"
    await owner.ask("PATCH", "/roles/accountant", {"permissions": ["usage:read"]})
    await clerk.ask("GET", "/audit", status=403)
    await owner.ask("PATCH", f"/memberships/{clerk.user.id}", {"role": "member"})
    await owner.ask("DELETE", "/roles/accountant", status=204)
    assert [role["name"] for role in (await owner.ask("GET", "/roles"))["data"]] == list(Role)


async def test_roles_are_no_way_around_ones_own_permissions(houses: Houses) -> None:
    owner = await houses.person()
    wish = {"name": "limiter", "permissions": ["limits:write"]}
    admin = await houses.person(owner.tenant, Role.ADMIN)
    await admin.ask("POST", "/roles", wish, status=403)
    await owner.ask("POST", "/roles", wish, status=201)
    await admin.ask("PATCH", f"/memberships/{admin.user.id}", {"role": "admin", "custom_role": "limiter"}, status=403)
    await admin.ask("PATCH", "/roles/limiter", {"permissions": ["usage:read"]}, status=403)
    for permissions in (["platform:write"], ["everything"]):
        await owner.ask("POST", "/roles", {"name": "x", "permissions": permissions}, status=422)
    await owner.ask("POST", "/roles", {"name": "owner", "permissions": []}, status=409)


# Limits, service accounts, signing keys, usage


async def test_a_tenant_limits_its_keys_and_not_itself(houses: Houses) -> None:
    owner, operator = await houses.person(), await houses.person(operator=True)
    key = await owner.ask("POST", "/keys", {"name": "k"}, status=201)
    set_ = await owner.ask(
        "PUT", "/limits", {"key_id": key["id"], "requests": ["60/m"], "audio": ["1h/d", "10h/month"]}
    )
    assert {(each["what"], each["limit"]) for each in set_["data"]} == {
        ("requests", "60/m"), ("audio", "1h/d"), ("audio", "10h/month"),
    }  # fmt: skip
    assert (await owner.ask("PUT", "/limits", {"requests": []}, status=403))["code"] == "insufficient_permission"
    slug = owner.tenant.slug
    await operator.ask("PUT", f"/limits?tenant={slug}", {"requests": ["600/m"], "concurrency": ["10"], "shadow": True})
    assert len((await owner.ask("GET", "/limits"))["data"]) == 5
    assert len((await owner.ask("GET", f"/limits?key_id={key['id']}"))["data"]) == 3
    assert (await owner.ask("GET", "/limits?user_id=usr_x"))["data"] == []
    lifted = await owner.ask("PUT", "/limits", {"key_id": key["id"], "requests": [], "audio": []})
    assert {each["key_id"] for each in lifted["data"]} == {None}
    for wrong, field in (
        ({"key_id": key["id"], "requests": ["many"]}, "requests"),
        ({"key_id": key["id"], "requests": ["1/m"], "route": "nowhere"}, "route"),
        ({"key_id": key["id"], "streams": ["2"], "route": "deepgram.listen"}, "streams"),
    ):
        assert (await owner.ask("PUT", "/limits", wrong, status=422))["errors"][0]["field"] == field
    await owner.ask("PUT", "/limits", {"key_id": STRANGER["key_id"], "requests": ["1/m"]}, status=404)


async def test_a_service_account_and_its_secrets(houses: Houses) -> None:
    owner, other = await houses.person(), await houses.person()
    made = await owner.ask("POST", "/service-accounts", {"name": "worker", "audiences": ["billing"]}, status=201)
    shown = await owner.ask("GET", f"/service-accounts/{made['id']}")
    assert {**shown, "client_secret": made["client_secret"]} == made
    again = await owner.ask("POST", f"/service-accounts/{made['id']}/secret", {"overlap_s": 0})
    assert again["client_secret"] != made["client_secret"]
    for _ in range(9):  # the old ones work for an hour
        await owner.ask("POST", f"/service-accounts/{made['id']}/secret", {})
    refused = await owner.ask("POST", f"/service-accounts/{made['id']}/secret", {}, status=409)
    assert refused["code"] == "maximum_reached"
    admin = await houses.person(owner.tenant, Role.ADMIN)
    await admin.ask("POST", "/service-accounts", {"name": "x", "scopes": ["limits:write"]}, status=403)
    for method, path in (("GET", ""), ("POST", "/secret"), ("DELETE", "")):
        body = {} if method == "POST" else None
        await other.ask(method, f"/service-accounts/{made['id']}{path}", body, status=404)
    await owner.ask("DELETE", f"/service-accounts/{made['id']}", status=204)
    (listed,) = (await owner.ask("GET", "/service-accounts"))["data"]
    assert listed["disabled_at"]


async def test_a_service_account_is_changed_by_whoever_holds_as_much(houses: Houses) -> None:
    """Name, scopes, audiences; of the version that was seen; in the trail as it was and is; not when it is disabled."""
    owner = await houses.person()
    made = await owner.ask("POST", "/service-accounts", {"name": "a", "scopes": ["limits:write"]}, status=201)
    await owner.ask("POST", "/service-accounts", {"name": "b"}, status=201)
    path = f"/service-accounts/{made['id']}"
    admin = await houses.person(owner.tenant, Role.ADMIN)
    for body in ({"scopes": ["transcribe"]}, {"audiences": ["billing"]}, {"scopes": ["tenant:write"]}):
        assert (await admin.ask("PATCH", path, body, status=403))["code"] == "exceeds_own_permissions", body
    await admin.ask("PATCH", path, {"name": "b"}, status=409)
    assert (await admin.ask("PATCH", path, {"name": "c"}))["name"] == "c"
    changed = await owner.ask("PATCH", path, {"scopes": ["usage:read"], "audiences": ["billing"]})
    assert (changed["name"], changed["scopes"], changed["audiences"]) == ("c", ["usage:read"], ["billing"])
    assert await owner.ask("PATCH", path, {}) == changed
    entry, *_ = (await owner.ask("GET", f"/audit?target={made['id']}"))["data"]
    assert (entry["action"], entry["target_name"]) == ("service_account.changed", "c")
    assert entry["before"] == {"scopes": ["limits:write"], "audiences": []}
    assert entry["after"] == {"scopes": ["usage:read"], "audiences": ["billing"]}
    await owner.ask("DELETE", path, status=204)
    await owner.ask("PATCH", path, {"name": "d"}, status=404)


async def test_operators_rotate_signing_keys(houses: Houses) -> None:
    operator = await houses.person(operator=True)
    await houses.first_signing_key()
    before = (await operator.ask("GET", "/signing-keys"))["data"]
    made = await operator.ask("POST", "/signing-keys", status=201)
    after = (await operator.ask("GET", "/signing-keys"))["data"]
    assert {key["id"] for key in after} == {key["id"] for key in before} | {made["id"]}
    assert "sealed" not in str(after)
    await (await houses.person()).ask("GET", "/signing-keys", status=403)


async def test_operators_revoke_a_signing_key_and_another_signs(houses: Houses) -> None:
    """X-05: of the version that was seen, told to every gateway, on record, and never without one that signs."""
    operator = await houses.person(operator=True)
    await houses.first_signing_key()
    (first,) = (await operator.ask("GET", "/signing-keys"))["data"]
    path = f"/signing-keys/{first['id']}"
    assert await operator.ask("GET", path) == first
    await operator.ask("DELETE", path, status=412, headers={"If-Match": '"stale"'})
    async with aclosing(houses.parts.bus.listen()) as changes, asyncio.timeout(30):
        await anext(changes)  # subscribed
        await operator.ask("DELETE", path, status=204)
        assert await anext(changes) == Invalidation()
    gone, heir = (await operator.ask("GET", "/signing-keys"))["data"]
    assert (gone["id"], gone["stage"]) == (first["id"], "gone")
    assert (heir["algorithm"], heir["stage"]) == (first["algorithm"], "active")
    await operator.ask("DELETE", path, status=204)  # once is enough
    async with houses.parts.pool.operator() as connection:
        noted = await connection.fetch("SELECT action, target FROM platform.audit_entries WHERE action LIKE 'signing%'")
    assert {(row["action"], row["target"]) for row in noted} == {
        ("signing_key.created", first["id"]), ("signing_key.ended", first["id"]), ("signing_key.created", heir["id"]),
    }  # fmt: skip
    assert len(noted) == 3
    await operator.ask("DELETE", f"/signing-keys/{'0' * 43}", status=404)
    await (await houses.person()).ask("DELETE", path, status=403)


async def test_usage_is_summed_and_broken_down(houses: Houses, parts: Parts) -> None:
    owner, other = await houses.person(), await houses.person()
    ended = int(datetime(2026, 11, 3, 10, 30, tzinfo=UTC).timestamp() * 1000)
    rows = [encode(record(tenant_id=owner.tenant.id, route="a", ended_ms=ended, status=200)) for _ in range(3)]
    rows.append(encode(record(tenant_id=owner.tenant.id, route="b", ended_ms=ended + 86_400_000, status=500)))
    await PostgresLedger(parts.pool).ship("0" * 32, 0, 1, rows)
    query = "/usage?since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"
    shown = await owner.ask("GET", f"{query}&by=day")
    assert (shown["total"]["requests"], shown["total"]["errors"]) == (4, 1)
    assert [(group["label"], group["requests"]) for group in shown["groups"]] == [("2026-11-03", 3), ("2026-11-04", 1)]
    assert (await other.ask("GET", query))["total"]["requests"] == 0
    for wrong in (
        "since=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z",
        "by=colour",
        "since=2026-11-01",
        "since=0.5",
    ):
        await owner.ask("GET", f"/usage?{wrong}", status=422)


async def test_single_requests_are_found_and_exported(houses: Houses, parts: Parts) -> None:
    owner, other = await houses.person(), await houses.person()
    start = int(datetime(2026, 11, 3, 10, 30, tzinfo=UTC).timestamp() * 1000)
    rows = [
        encode(record(tenant_id=owner.tenant.id, event_id=f"e{n}", request_id=f"=r{n}", ended_ms=start + n // 2))
        for n in range(5)
    ]
    await PostgresLedger(parts.pool).ship("0" * 32, 0, 1, rows)
    time = "since=2026-11-03T00:00:00Z&until=2026-11-04T00:00:00Z"
    seen, cursor = [], ""
    while cursor is not None:
        page = await owner.ask("GET", f"/usage/events?{time}&limit=2&cursor={cursor}")
        seen += [event["event_id"] for event in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ["e4", "e3", "e2", "e1", "e0"]
    (one,) = (await owner.ask("GET", f"/usage/events?{time}&request_id==r3"))["data"]
    assert one["event_id"] == "e3"
    assert (await owner.ask("GET", f"/usage/events?{time}&outcome=denied"))["data"] == []
    assert (await other.ask("GET", f"/usage/events?{time}"))["data"] == []
    latency = await owner.ask("GET", f"/usage/latency?{time}")
    assert latency["requests"] == 5
    assert latency["duration_us"]["p99"] > 0
    assert (await other.ask("GET", f"/usage/latency?{time}"))["duration_us"] is None
    for form, lines in (("jsonl", 5), ("csv", 6)):
        url = f"/platform/v1/usage/export?{time}&format={form}"
        async with owner.client.get(url, headers=owner.headers) as answer:
            text = await answer.text()
        assert len(text.splitlines()) == lines
        assert ("'=r0" in text) is (form == "csv")
    await UsageCare(parts.pool).remove_raw(datetime(2026, 11, 4, tzinfo=UTC))
    refused = await owner.ask("GET", f"/usage/export?{time}", status=422)
    assert "2026-11-04" in str(refused)  # from where on there are records


# Tenants


async def test_operators_make_suspend_and_resume_tenants(houses: Houses) -> None:
    operator = await houses.person(operator=True)
    await operator.ask("POST", "/tenants", {"slug": "acme", "name": "Acme"}, status=201)
    clash = await operator.ask("POST", "/tenants", {"slug": "acme", "name": "A"}, status=409)
    assert clash["code"] == "already_exists"
    assert clash["detail"].endswith("There is a tenant acme already. See GET /platform/v1/tenants.")
    await operator.ask("POST", "/tenants", {"slug": "Not One", "name": "A"}, status=422)
    assert (await operator.ask("POST", "/tenants/acme/suspend"))["status"] == "suspended"
    listed = await operator.ask("GET", "/tenants?status=suspended")
    assert [tenant["slug"] for tenant in listed["data"]] == ["acme"]
    assert (await operator.ask("POST", "/tenants/acme/resume"))["status"] == "active"


async def test_a_tenant_names_itself(houses: Houses) -> None:
    owner = await houses.person()
    assert (await owner.ask("PATCH", "/tenant", {"name": "New"}))["name"] == "New"
    assert (await owner.ask("GET", "/tenant"))["name"] == "New"
    (entry, *_) = (await owner.ask("GET", "/audit?action=tenant"))["data"]
    assert (entry["before"], entry["after"]) == ({"name": "House"}, {"name": "New"})


async def test_the_document_describes_what_is_served(portal: Client) -> None:
    document = await (await portal.get("/platform/v1/openapi.json")).json()
    served = {(operation.method.lower(), operation.path) for operation in OPERATIONS}
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == served
    assert document["openapi"].startswith("3.1")
    assert "ApiKey" not in document["components"]["schemas"]


def test_the_document_counts_the_items_of_lists() -> None:
    """A list's ``minLength`` would say nothing: JSON Schema has it for texts alone."""

    def lists(part: object) -> Iterator[dict[str, object]]:
        if isinstance(part, dict):
            if part.get("type") == "array":
                yield part
            for each in part.values():
                yield from lists(each)
        elif isinstance(part, list):
            for each in part:
                yield from lists(each)

    found = document(OPERATIONS)
    assert not [each for each in lists(found) if each.keys() & {"minLength", "maxLength"}]
    algorithms = found["components"]["schemas"]["IssuerWish"]["properties"]["algorithms"]
    assert (algorithms["minItems"], algorithms["maxItems"]) == (1, 3)


async def test_the_document_can_be_read_in_a_browser_with_nothing_from_elsewhere(portal: Client) -> None:
    page = await portal.get("/platform/docs")
    text = await page.text()
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name in re.findall(r'(?:src|href)="(/auth/static/[^"]+)"', text):
        assert (await portal.get(name)).status == 200
    assert "http" not in text

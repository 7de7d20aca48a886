"""A change that says for which version it is meant is made to that one, whoever changes it meanwhile (T-11)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.portal.api.service import OPERATIONS
from gateway.portal.parts import Parts
from storage.postgres.keys.uses import KeyUse, PostgresKeyUses
from storage.postgres.people.sessions import PostgresSessions
from tests.gateway.portal.api import Caller, Houses
from tests.gateway.portal.test_isolation import MARK, body_of, furnished, tried
from tests.gateway.portal.test_issuers_api import CORP

PREFIX = "/platform/v1"
VERSIONED = [operation for operation in OPERATIONS if operation.method in ("PATCH", "PUT", "DELETE")]
LIMITS = "SELECT FROM platform.tenants WHERE id = '{tenant}' FOR NO KEY UPDATE"
"""What whoever sets limits holds."""
MEANWHILE = {
    "/keys/{key_id}": "UPDATE platform.api_keys SET name = 'x' WHERE id = '{key_id}'",
    "/memberships/{user_id}": "UPDATE platform.memberships SET role = 'admin' WHERE user_id = '{user_id}'",
    "/roles/{name}": "UPDATE platform.roles SET description = 'x' WHERE name = '{name}'",
    "/service-accounts/{account_id}": "UPDATE platform.service_accounts SET name = 'x' WHERE id = '{account_id}'",
    "/webhooks/{webhook_id}": "UPDATE platform.webhooks SET enabled = false WHERE id = '{webhook_id}'",
    "/invitations/{invitation_id}": "UPDATE platform.invitations SET sent_at = '2020-01-01' WHERE email LIKE '{name}%'",
    "/limits": "UPDATE platform.limits SET count = count + 1",
    "/plans/{name}": "UPDATE platform.plans SET note = 'x' WHERE name = '{name}'",
    "/issuers/{name}": "UPDATE platform.issuers SET enabled = NOT enabled WHERE name = '{name}'",
    "/signing-keys/{kid}": "UPDATE platform.signing_keys SET retiring_at = now() WHERE id = '{kid}'",
    "/tenants/{slug}": "UPDATE platform.tenants SET name = 'x' WHERE slug = '{slug}'",
    "/users/{user_id}": "UPDATE platform.users SET name = 'x' WHERE id = '{user_id}'",
    "/tenant": "UPDATE platform.tenants SET name = 'x' WHERE id = '{tenant}'",
    "/tenant/second-factor": "UPDATE platform.tenants SET second_factor_for = '{{owner}}' WHERE id = '{tenant}'",
}
"""A change of what each path names (add yours), made while another one waits."""
NEVER_CHANGE = {"/sessions/{session_id}"}


async def version_of(caller: Caller, path: str) -> str:
    async with caller.client.get(PREFIX + path, headers=dict(caller.headers)) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"]


@asynccontextmanager
async def held_up(parts: Parts, *statements: str, waiting: int = 1) -> AsyncIterator[None]:
    """A transaction with these statements, which is committed when so many wait for a lock."""
    is_open = asyncio.Event()

    async def hold() -> None:
        async with parts.pool.operator() as connection:
            for statement in statements:
                await connection.execute(statement)
            is_open.set()
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while await connection.fetchval(blocked) < waiting:
                await connection.execute("SELECT pg_stat_clear_snapshot()")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(hold())
        await is_open.wait()
        yield


@pytest.mark.parametrize("operation", VERSIONED, ids=lambda operation: operation.name)
async def test_a_change_that_waited_for_another_one_sees_it(houses: Houses, parts: Parts, operation: object) -> None:
    """The version is compared when the thing is held, and not when the request came."""
    path = operation.path.removeprefix(PREFIX)
    if path in NEVER_CHANGE:
        return
    owner = await houses.person(operator=True)
    ids = {**await furnished(houses, parts, owner), "tenant": owner.tenant.id}
    if "{slug}" in path:
        ids["slug"] = (await houses.tenant()).slug
    if path.startswith("/issuers"):
        await owner.ask("POST", "/issuers", CORP | {"name": MARK}, status=201)
    if path.startswith("/plans"):
        await owner.ask("POST", "/plans", {"name": MARK}, status=201)
    body = body_of(operation)
    if path == "/limits":
        body = {"key_id": ids["key_id"], "requests": ["7/m"]}
    path, statement = path.format_map(ids), MEANWHILE[path].format_map(ids)
    tag = await version_of(owner, path)
    late = Caller(owner.client, owner.tenant, {**owner.headers, "If-Match": tag})
    async with held_up(parts, LIMITS.format_map(ids), statement):
        status, text = await tried(late, operation, PREFIX + path, body)
    assert status == 412, text
    await owner.ask("GET", path)


async def test_of_two_who_set_limits_at_once_one_is_told(houses: Houses, parts: Parts) -> None:
    """Both saw the same; exactly one of them is refused, and nothing of the other is lost."""
    owner = await houses.person(operator=True)
    tag = await version_of(owner, "/limits")
    late = Caller(owner.client, owner.tenant, {**owner.headers, "If-Match": tag})
    (operation,) = [each for each in OPERATIONS if each.name == "set_limits"]
    async with held_up(parts, LIMITS.format(tenant=owner.tenant.id), waiting=2):
        wishes = [{"requests": ["1/m"]}, {"bytes": ["1MB/h"]}]
        answers = await asyncio.gather(*(tried(late, operation, operation.path, wish) for wish in wishes))
    assert sorted(status for status, _ in answers) == [200, 412]
    assert len((await owner.ask("GET", "/limits"))["data"]) == 1


async def test_use_is_no_change(houses: Houses, parts: Parts) -> None:
    """When a key was used, a browser seen or a person signed in, whoever saw them before can still change them."""
    owner = await houses.person(operator=True)
    ids = await furnished(houses, parts, owner)
    paths = [f"/keys/{ids['key_id']}", f"/sessions/{ids['session_id']}", f"/users/{ids['user_id']}"]
    before = {path: (await version_of(owner, path), await owner.ask("GET", path)) for path in paths}
    await PostgresKeyUses(parts.pool).note(
        [
            KeyUse(
                key_id=ids["key_id"], tenant_id=owner.tenant.id, used_at=parts.now(), address="192.0.2.1", agent="curl"
            )
        ]
    )
    await PostgresSessions(parts.pool, parts.trail).seen(ids["session_id"])
    async with parts.pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET last_login_at = now()")
    for path, (tag, shown) in before.items():
        assert await owner.ask("GET", path, headers={"If-None-Match": tag}) != shown, "who asks again sees the use"
        assert await version_of(owner, path) == tag
    await owner.ask("PATCH", paths[0], {"name": "n"}, headers={"If-Match": before[paths[0]][0]})
    await owner.ask("DELETE", paths[1], status=204, headers={"If-Match": before[paths[1]][0]})


def test_what_use_changes_is_known() -> None:
    """Whatever is shown by one GET alone and named like that is not part of the version."""
    models = {operation.answer for operation in OPERATIONS if operation.method == "GET" and "{" in operation.path}
    for model in models - {None}:
        named = {
            name for name in model.model_fields if (name.startswith("last_") and name != "last4") or name == "seen_at"
        }
        assert named == getattr(model, "by_use", set()), model

"""One tenant walks every operation with what is another's: nothing is there, and nothing happens (T-01, T-06)."""

import re
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.portal.api.operations import Operation
from gateway.portal.api.service import OPERATIONS
from gateway.portal.parts import Parts
from policies.identity.tenants import Role
from storage.postgres.people.sessions import NewSession, PostgresSessions
from storage.postgres.tokens.signing_keys import PostgresSigningKeys
from tests.gateway.portal.api import Caller, Houses
from tests.storage.world import a_digest

MARK = "of-a-alone"
"""In the name of everything that the other tenant has."""

_SLUG = {"name": "new-one", "permissions": []}
BODIES: dict[str, dict[str, object]] = {
    "RoleChange": {"role": "viewer"},
    "MemberWish": {"role": "viewer", "user_id": "usr_x"},
    "RoleWish": _SLUG,
    "InvitationWish": {"email": "new@example.com"},
    "KeyWish": {"name": "new"},
    "ServiceAccountWish": {"name": "new"},
    "TenantChange": {"name": "new"},
    "SecondFactorWish": {"roles": []},
    "Intended": {"route": "openai.transcriptions"},
    "WebhookWish": {"url": "https://example.com/", "events": ["operator.*"]},
    "WebhookChange": {"url": "https://example.com/", "events": ["*"], "enabled": False},
    "TenantWish": {"slug": "new", "name": "new"},
    "OnboardingWish": {"slug": "new", "owner": "new@example.com"},
    "PlanWish": {"name": "new"},
}
"""What each body needs at least (add yours): it must be the other's id, and nothing else, that is refused."""


async def furnished(houses: Houses, parts: Parts, owner: Caller) -> dict[str, str]:
    """One thing of every kind that a path can name; by the part of the path."""
    tenant = owner.tenant
    member = await houses.person(tenant, Role.MEMBER)
    assert member.user is not None
    key = await owner.ask("POST", "/keys", {"name": MARK, "user_id": member.user.id}, status=201)
    await owner.ask("PUT", "/limits", {"key_id": key["id"], "requests": ["9/m"]})
    await owner.ask("POST", "/roles", {"name": MARK, "permissions": ["keys:read"]}, status=201)
    account = await owner.ask("POST", "/service-accounts", {"name": MARK}, status=201)
    invitation = await owner.ask("POST", "/invitations", {"email": f"{MARK}@example.com"}, status=201)
    hook = {"url": f"https://example.com/{MARK}", "events": ["operator.*"], "description": MARK}
    webhook = await owner.ask("POST", "/webhooks", hook, status=201)
    session, _ = await PostgresSessions(parts.pool, parts.trail).begin(
        NewSession(
            digest=a_digest(), tenant_id=tenant.id, user_id=member.user.id, email=f"{MARK}@example.com",
            methods=("pwd",), address="192.0.2.7", agent=MARK, life=timedelta(hours=1),
        )
    )  # fmt: skip
    await houses.first_signing_key()
    async with parts.pool.operator() as connection:
        delivery = await connection.fetchval(
            "INSERT INTO platform.deliveries (tenant_id, webhook_id, event_id, type, body, state)"
            " VALUES ($1, $2, 'evt', 'key.created', '{}', 'dead') RETURNING id",
            tenant.id,
            webhook["id"],
        )
    return {
        "key_id": key["id"],
        "user_id": member.user.id,
        "name": MARK,
        "account_id": account["id"],
        "invitation_id": invitation["id"],
        "webhook_id": webhook["id"],
        "session_id": session.id,
        "delivery_id": str(delivery),
        "slug": tenant.slug,
        "kid": (await PostgresSigningKeys(parts.pool, parts.trail).keys())[0].id,
    }


async def rows_of(parts: Parts, tenant_id: str) -> dict[str, list[str]]:
    """Everything that the database holds of a tenant, and the people in it."""
    tables = await parts.pool.read(
        "SELECT table_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'platform' AND column_name = 'tenant_id'"
    )
    found = {}
    for name in [row["name"] for row in tables]:
        what = "event_id" if name == "outbox" else "t::text"  # events are being published meanwhile
        rows = await parts.pool.read(
            f"SELECT {what} AS it FROM platform.{name} t WHERE tenant_id = $1 ORDER BY 1", tenant_id
        )
        found[name] = [row["it"] for row in rows]
    people = await parts.pool.read(
        "SELECT u::text AS it FROM platform.users u JOIN platform.memberships m ON m.user_id = u.id"
        " WHERE m.tenant_id = $1 ORDER BY 1",
        tenant_id,
    )
    found["users"] = [row["it"] for row in people]
    found["tenants"] = [
        row["it"]
        for row in await parts.pool.read("SELECT t::text AS it FROM platform.tenants t WHERE id = $1", tenant_id)
    ]
    return found


def body_of(operation: Operation) -> dict[str, object] | None:
    return None if operation.body is None else BODIES.get(operation.body.__name__, {})


async def tried(caller: Caller, operation: Operation, path: str, body: object, **query: str) -> tuple[int, str]:
    """The status and the text of the answer."""
    sent: dict[str, Any] = {} if body is None else {"json": body}
    async with caller.client.request(
        operation.method, path, headers=dict(caller.headers), params=query, **sent
    ) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("kind", ["person", "machine"])
async def test_every_operation_with_the_ids_of_another_tenant(houses: Houses, parts: Parts, kind: str) -> None:
    """T-01, T-02, J-13: 404 for what is another's, 403 for what is the operator's; every row stays as it was."""
    owner = await houses.person()
    theirs = await furnished(houses, parts, owner)
    intruder = await (houses.person() if kind == "person" else houses.machine())
    before = await rows_of(parts, owner.tenant.id)
    assert {name for name, rows in before.items() if rows} >= {
        "api_keys", "memberships", "roles", "limits", "service_accounts", "service_secrets", "invitations", "webhooks",
        "deliveries", "sessions", "audit_entries",
    }  # fmt: skip
    for operation in OPERATIONS:
        names = re.findall(r"{(\w+)}", operation.path)
        path, body = operation.path.format(**theirs), body_of(operation)
        is_platform = operation.permission is not None and operation.permission.startswith("platform:")
        if names:
            status, text = await tried(intruder, operation, path, body)
            assert status == (403 if is_platform else 404), (operation.name, status, text)
            assert is_platform or "not_found" in text, (operation.name, text)
        if operation.is_in_tenant:  # by the slug as well
            status, text = await tried(intruder, operation, path, body, tenant=owner.tenant.slug)
            assert status == (403 if is_platform else 404), (operation.name, status, text)
    assert await rows_of(parts, owner.tenant.id) == before


async def test_who_tries_another_tenant_is_in_the_log(houses: Houses) -> None:
    """O-04: the one who asks sees a tenant that is not there; the operator sees who asked, and by which request."""
    owner, intruder = await houses.person(), await houses.person()
    with capture_logs() as log:
        await intruder.ask("GET", f"/keys?tenant={owner.tenant.slug}", status=404)
        await intruder.ask("GET", "/keys?tenant=nobody", status=404)
    (line,) = [line for line in log if line["event"] == "another tenant was asked for"]
    assert (line["tenant_id"], line["wanted"]) == (intruder.tenant.id, owner.tenant.id)
    assert (line["operation"], line["request_id"]) == ("list_keys", intruder.headers["X-Request-ID"])


async def test_no_list_shows_what_is_anothers(houses: Houses, parts: Parts) -> None:
    """Whatever it is filtered by: the other's key, its member, its target in the trail."""
    owner = await houses.person()
    theirs = await furnished(houses, parts, owner)
    intruder = await houses.person()
    ids = [value for name, value in theirs.items() if name.endswith("_id") and name != "delivery_id"]
    for operation in OPERATIONS:
        if operation.method != "GET" or "{" in operation.path or not operation.is_in_tenant:
            continue
        filters = [name for name in operation.query.model_fields if name.endswith("_id") or name in ("target", "actor")]
        for query in ({}, *({name: value} for name in filters for value in ids)):
            status, text = await tried(intruder, operation, operation.path, None, **query)
            assert status in (200, 404, 422), (operation.name, query, text)
            assert MARK not in text, (operation.name, query)
            assert status != 200 or not any(each in text for each in ids), (operation.name, query, text)


async def test_what_a_body_names_is_looked_for_in_ones_own_tenant(houses: Houses, parts: Parts) -> None:
    """A key for another's member, a limit on another's key, a role that only another has (T-02, T-05)."""
    owner = await houses.person()
    theirs = await furnished(houses, parts, owner)
    intruder = await houses.person()
    assert intruder.user is not None
    before = await rows_of(parts, owner.tenant.id)
    for method, path, body in (
        ("POST", "/keys", {"name": "k", "user_id": theirs["user_id"]}),
        ("POST", "/keys", {"name": "k", "service_account_id": theirs["account_id"]}),
        ("POST", "/memberships", {"user_id": theirs["user_id"], "role": "viewer"}),
        ("PUT", "/limits", {"key_id": theirs["key_id"], "requests": ["1/m"]}),
        ("PUT", "/limits", {"user_id": theirs["user_id"], "requests": ["1/m"]}),
        ("PATCH", f"/memberships/{intruder.user.id}", {"role": "owner", "custom_role": MARK}),
    ):
        await intruder.ask(method, path, body, status=404)
    assert await rows_of(parts, owner.tenant.id) == before

"""The trail in PostgreSQL: no change without its entry, one chain a tenant, and tampering that shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from policies.audit import OPERATOR, Actor, ActorKind, Change
from policies.identity.tenants import RouteOverride, TenantStatus, UserStatus
from storage.ports import NotFound, Sought, StorageError
from storage.postgres.audit import AuditTrail, PostgresAuditLog
from tests.storage.world import CHAIN_KEY, World, world

ANY = Sought()
ADA = Actor(kind=ActorKind.USER, id="usr_ada", name="Ada", address="192.0.2.7", agent="curl", request_id="req-1")


@pytest.fixture
async def w(migrated_url: str) -> AsyncIterator[World]:
    """In a database of its own: the schema is changed here."""
    async with world(migrated_url) as opened:
        yield opened


@pytest.fixture
def log(w: World) -> PostgresAuditLog:
    return PostgresAuditLog(w.pool, lambda: CHAIN_KEY)


async def actions(log: PostgresAuditLog, tenant_id: str) -> list[str]:
    return [entry.change.action for entry in reversed(await log.entries(tenant_id, ANY, 1_000))]


async def test_every_change_of_the_registry_leaves_an_entry_and_an_event(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    user = await w.user(tenant)
    key = await w.key(tenant)
    ends = datetime.now(UTC) + timedelta(hours=1)
    new = await w.registry.rotate_key(tenant.id, key.id, digest=b"d" * 32, last4="WXYZ", old_ends_at=ends)
    await w.registry.revoke_key(tenant.id, new.id)
    await w.directory.set_user_status(tenant.id, user.email, UserStatus.DISABLED)
    await w.directory.set_user_status(tenant.id, user.email, UserStatus.ACTIVE)
    await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route="r", allowed=False))
    await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route="r", allowed=True))
    await w.directory.set_tenant_status(tenant.slug, TenantStatus.SUSPENDED)
    await w.directory.set_tenant_status(tenant.slug, TenantStatus.ACTIVE)
    told = [
        "tenant.created", "membership.created", "key.created", "key.rotated", "key.revoked", "user.disabled",
        "user.enabled", "route.denied", "route.allowed", "tenant.suspended", "tenant.resumed",
    ]  # fmt: skip
    assert await actions(log, tenant.id) == told
    events = await w.pool.read(
        "SELECT type, subject, data FROM platform.outbox WHERE tenant_id = $1 ORDER BY id", tenant.id
    )
    assert [event["type"] for event in events] == told
    assert json.loads(events[3]["data"])["before"]["id"] == key.id


async def test_what_changes_nothing_leaves_nothing(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    key = await w.key(tenant)
    await w.registry.revoke_key(tenant.id, key.id)
    before = await actions(log, tenant.id)
    await w.registry.revoke_key(tenant.id, key.id)
    await w.directory.set_tenant_status(tenant.slug, TenantStatus.ACTIVE)
    await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route="r", allowed=True))
    with pytest.raises(NotFound):
        await w.registry.revoke_key(tenant.id, "key_00000000000000000000")
    assert await actions(log, tenant.id) == before


async def test_a_change_that_cannot_be_recorded_does_not_happen(w: World) -> None:
    tenant = await w.tenant()
    key = await w.key(tenant)
    async with w.pool.operator() as connection:
        await connection.execute("ALTER TABLE platform.audit_entries ADD CHECK (action <> 'key.revoked') NOT VALID")
    with pytest.raises(StorageError):
        await w.registry.revoke_key(tenant.id, key.id)
    (found,) = await w.registry.keys(tenant.id)
    assert found.revoked_at is None


async def test_an_entry_says_who_and_from_where(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    trail = AuditTrail(lambda: CHAIN_KEY, OPERATOR).by(ADA)
    change = Change(
        tenant_id=tenant.id, action="x.done", target="t", target_name="T", before={"a": 1}, after={"a": None}
    )
    async with w.pool.tenant(tenant.id) as connection:
        await trail.record(connection, change)
    newest, first = await log.entries(tenant.id, ANY, 10)
    assert (newest.actor, newest.change) == (ADA, change)
    assert first.actor == OPERATOR
    (data,) = [row["data"] for row in await w.pool.read("SELECT data FROM platform.outbox WHERE type = 'x.done'")]
    assert "192.0.2.7" not in data


async def test_entries_are_found_by_what_one_looks_for(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    keys = [await w.key(tenant) for _ in range(3)]
    await w.registry.revoke_key(tenant.id, keys[0].id)
    now = datetime.now(UTC)

    async def found(sought: Sought, limit: int = 100) -> list[int]:
        return [entry.sequence for entry in await log.entries(tenant.id, sought, limit)]

    assert await found(Sought(action="key")) == [5, 4, 3, 2]
    assert await found(Sought(action="key.created")) == [4, 3, 2]
    assert await found(Sought(action="ke")) == []
    assert await found(Sought(target=keys[0].id)) == [5, 2]
    assert await found(Sought(actor_id="nobody")) == []
    assert await found(Sought(until=now - timedelta(hours=1))) == []
    assert await found(Sought(since=now - timedelta(hours=1)), 2) == [5, 4]
    assert await found(Sought(beyond=4), 2) == [3, 2]
    assert await found(Sought(beyond=3, sort="created"), 2) == [4, 5]


async def test_parallel_changes_of_one_tenant_make_one_chain(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    await asyncio.gather(*(w.key(tenant) for _ in range(30)))
    verdict = await log.verify(tenant.id)
    assert (verdict.fault, verdict.entries, verdict.head.sequence) == (None, 31, 31)


TAMPERING = {
    "changed": "UPDATE platform.audit_entries SET target_name = 'y' WHERE sequence = 2",
    "kind that nobody knows": "UPDATE platform.audit_entries SET actor_kind = 'god' WHERE sequence = 2",
    "not JSON": "UPDATE platform.audit_entries SET after = '[' WHERE sequence = 2",
    "removed": "DELETE FROM platform.audit_entries WHERE sequence = 2",
    "last removed": "DELETE FROM platform.audit_entries WHERE sequence = 4",
    "all removed": "DELETE FROM platform.audit_entries",
    "exchanged": "UPDATE platform.audit_entries SET sequence = 10 - sequence WHERE sequence IN (2, 3);"
    "UPDATE platform.audit_entries SET sequence = 10 - sequence + CASE sequence WHEN 8 THEN 1 ELSE -1 END"
    " WHERE sequence > 6",
    "head removed": "DELETE FROM platform.audit_heads",
    "cut without a seal": "DELETE FROM platform.audit_entries WHERE sequence = 1; UPDATE platform.audit_heads h"
    " SET start_sequence = 1, start_link = (SELECT link FROM platform.audit_entries LIMIT 1)",
}


@pytest.mark.parametrize("how", TAMPERING)
async def test_tampering_shows(w: World, log: PostgresAuditLog, how: str) -> None:
    tenant = await w.tenant()
    for _ in range(3):
        await w.key(tenant)
    assert (await log.verify(tenant.id)).fault is None
    async with w.pool.operator() as connection:
        await connection.execute(TAMPERING[how])
    assert tenant.id in await log.chains()
    assert (await log.verify(tenant.id)).fault is not None


async def test_a_long_chain_is_walked_in_batches(
    w: World, log: PostgresAuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres.audit._BATCH", 2)
    tenant = await w.tenant()
    for _ in range(3):
        await w.key(tenant)
    verdict = await log.verify(tenant.id)
    assert (verdict.fault, verdict.entries) == (None, 4)
    async with w.pool.operator() as connection:
        await connection.execute("DELETE FROM platform.audit_entries WHERE sequence = 3")
    fault = (await log.verify(tenant.id)).fault
    assert fault is not None
    assert fault.sequence == 3


async def test_what_retention_leaves_can_still_be_verified(w: World, log: PostgresAuditLog) -> None:
    tenant = await w.tenant()
    for _ in range(3):
        await w.key(tenant)
    third = next(entry for entry in await log.entries(tenant.id, ANY, 10) if entry.sequence == 3)
    assert await log.prune(tenant.id, third.at) == 2
    assert await log.prune(tenant.id, third.at) == 0
    verdict = await log.verify(tenant.id)
    assert (verdict.fault, verdict.entries) == (None, 2)
    await w.key(tenant)
    assert (await log.verify(tenant.id)).fault is None
    assert await log.prune(tenant.id, datetime.now(UTC)) == 3
    await w.key(tenant)
    verdict = await log.verify(tenant.id)
    assert (verdict.fault, verdict.entries, verdict.head.sequence) == (None, 1, 6)


async def test_a_tenants_scope_can_add_to_its_trail_and_not_change_it(w: World) -> None:
    mine, other = await w.tenant(), await w.tenant()
    for sql in (
        "UPDATE platform.audit_entries SET target_name = 'y'",
        "DELETE FROM platform.audit_entries",
        "UPDATE platform.audit_heads SET start_sequence = 1",
        "SELECT data FROM platform.outbox",
    ):
        with pytest.raises(StorageError) as refused:
            async with w.pool.tenant(mine.id) as connection:
                await connection.execute(sql)
        assert isinstance(refused.value.__cause__, asyncpg.InsufficientPrivilegeError)
    trail = AuditTrail(lambda: CHAIN_KEY, ADA)
    for tenant_id in (other.id, ""):
        with pytest.raises(StorageError):
            async with w.pool.tenant(mine.id) as connection:
                await trail.record(connection, Change(tenant_id=tenant_id, action="x.done"))

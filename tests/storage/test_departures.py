"""Tenants that leave: refused at once, restored in time, and nothing of them comes back (T-07)."""

from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.principals import Standing
from policies.identity.tenants import Role, RouteOverride, Tenant, TenantStatus
from policies.limits.rates import Rate
from storage.ports import NewKey, NotFound
from storage.postgres.people.sessions import NewSession, PostgresSessions
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tenants.departures import PostgresDepartures
from storage.postgres.tenants.directory import Leaving
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts
from tests.storage.world import TRAIL, World, a_digest

AT_ONCE = timedelta()


@pytest.fixture
def departures(w: World) -> PostgresDepartures:
    return PostgresDepartures(w.pool, TRAIL)


async def furnished(w: World, digest: bytes) -> Tenant:
    """A tenant with rows in many tables, some of which point at each other."""
    tenant = await w.tenant()
    user = await w.user(tenant, Role.OWNER)
    key = await w.key(tenant, user=user, digest=digest)
    account = await PostgresServiceAccounts(w.pool, TRAIL).create(
        tenant.id, name="w", scopes=frozenset(), audiences=frozenset(), digest=a_digest()
    )
    await w.registry.create_key(
        tenant.id, NewKey(name="w", digest=a_digest(), last4="WXYZ", scopes=frozenset(), service_account_id=account.id)
    )
    later = datetime.now(UTC) + timedelta(days=1)
    await w.registry.rotate_key(tenant.id, key.id, digest=a_digest(), last4="WXYZ", old_ends_at=later)
    await w.set_rate(tenant.id, requests=Rate(600, 60_000))
    await w.set_rate(tenant.id, key_id=key.id, requests=Rate(5, 1_000))
    await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route="listen", allowed=False))
    await PostgresSessions(w.pool, TRAIL).begin(
        NewSession(
            digest=digest, tenant_id=tenant.id, user_id=user.id, email=user.email, methods=("pwd",), address="",
            agent="", life=timedelta(hours=1),
        )
    )  # fmt: skip
    async with w.pool.operator() as connection:
        for table in ("usage_hourly", "usage_daily"):
            await connection.execute(
                f"INSERT INTO platform.{table} VALUES (now(), 1, 0, 0, 1, 1, 1, 1, 1, $1, '', '', 'r', 'ok')", tenant.id
            )
    return tenant


async def rows_of(w: World, tenant_id: str) -> dict[str, int]:
    """How many rows each table has of a tenant; those without any are left out."""
    tables = await w.pool.read(
        "SELECT table_name AS name FROM information_schema.columns c JOIN information_schema.tables t"
        " USING (table_schema, table_name) WHERE table_schema = 'platform' AND column_name = 'tenant_id'"
    )
    count = "SELECT count(*) AS n FROM platform.{} WHERE tenant_id = $1"
    found = {row["name"]: (await w.pool.read(count.format(row["name"]), tenant_id))[0]["n"] for row in tables}
    return {name: n for name, n in found.items() if n}


async def test_a_deleted_tenant_is_refused_at_once_and_can_be_restored(
    w: World, departures: PostgresDepartures
) -> None:
    digest = a_digest()
    tenant = await furnished(w, digest)
    left = await departures.delete(tenant.slug)
    assert left.status is TenantStatus.DELETING
    assert left.delete_after is not None
    assert timedelta(days=29) < left.delete_after - datetime.now(UTC) <= timedelta(days=30)
    found = await w.registry.identify_key(digest)
    assert found is not None
    assert found.standing is Standing.TENANT_SUSPENDED
    assert await PostgresSessions(w.pool, TRAIL).live(digest) is None
    assert await departures.delete(tenant.slug, AT_ONCE) == left, "asked again, it stays as it was"
    for status in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
        with pytest.raises(Leaving):
            await w.directory.set_tenant_status(tenant.slug, status)
    assert await departures.purge() == []
    assert await departures.restore(tenant.slug) == tenant
    assert await departures.restore(tenant.slug) == tenant


async def test_restoring_does_not_undo_what_was_before(w: World, departures: PostgresDepartures) -> None:
    tenant = await w.tenant()
    await w.directory.set_tenant_status(tenant.slug, TenantStatus.SUSPENDED)
    await departures.delete(tenant.slug)
    assert (await departures.restore(tenant.slug)).status is TenantStatus.SUSPENDED


async def test_a_purge_leaves_the_account_and_the_trail(w: World, departures: PostgresDepartures) -> None:
    """In every table there is, also those that are made after this test."""
    tenant, other = await furnished(w, a_digest()), await furnished(w, a_digest())
    theirs = await rows_of(w, other.id)
    await departures.delete(tenant.slug, AT_ONCE)
    assert [each.id for each in await departures.due()] == [tenant.id]
    assert [each.id for each in await departures.purge()] == [tenant.id]
    kept = {"audit_entries", "audit_heads", "outbox", "usage_hourly", "usage_daily"}
    assert set(await rows_of(w, tenant.id)) == kept
    assert set(theirs) > kept
    assert await rows_of(w, other.id) == theirs
    with pytest.raises(NotFound):
        await departures.restore(tenant.slug)
    last = await w.pool.read(
        "SELECT action FROM platform.audit_entries WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1", tenant.id
    )
    assert last[0]["action"] == "tenant.purged"


async def test_a_tenant_of_the_same_name_is_another_one(w: World, departures: PostgresDepartures) -> None:
    """No key, no session, no person and no usage of the old one is the new one's (T-07)."""
    digest = a_digest()
    old = await furnished(w, digest)
    (member, _), *_ = await w.directory.users(old.id)
    await departures.delete(old.slug, AT_ONCE)
    await departures.purge()
    new = await w.directory.create_tenant(old.slug, old.name)
    assert new.id != old.id
    assert await w.registry.identify_key(digest) is None
    assert await PostgresSessions(w.pool, TRAIL).live(digest) is None
    for name in (old.slug, old.id):
        assert await PostgresSubjects(w.pool).identify_subject(name, member.id) is None
    assert await PostgresSubjects(w.pool).identify_subject(old.slug, "") is None, "another issuer's guests"
    guest = await PostgresSubjects(w.pool).identify_subject(new.id, "")
    assert guest is not None
    assert guest.tenant_id == new.id
    assert await rows_of(w, new.id) == {"audit_entries": 1, "audit_heads": 1, "outbox": 1}
    await w.user(new)
    assert [person.id for person, _ in await w.directory.users(new.id)] != [member.id]


async def test_every_foreign_key_of_a_tenants_rows_finds_them_by_an_index(w: World) -> None:
    """Without one, who leaves with many keys would be looked for among all of them, once for each."""
    lacking = await w.pool.read(
        """
        SELECT c.conrelid::regclass::text || '.' || c.conname AS it FROM pg_constraint c
        WHERE c.contype = 'f' AND c.connamespace = 'platform'::regnamespace AND array_length(c.conkey, 1) > 1
            AND NOT EXISTS (
                SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indisvalid AND (
                    c.conkey @> ARRAY[i.indkey[0], i.indkey[1]] OR i.indkey[0] = c.conkey[array_length(c.conkey, 1)]
                )
            )
        """
    )
    few = {"platform.memberships.memberships_custom_role_fkey"}  # a tenant has few roles of its own
    assert {row["it"] for row in lacking} == few

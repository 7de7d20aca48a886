"""Tenants apart, in the database itself: whatever the code above asks for, a tenant's scope holds that tenant alone."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.identity.tenants import Role, RouteOverride, Tenant, UserStatus
from policies.limits.rates import Rate
from storage.ports import NotFound, StorageError, Unavailable
from storage.postgres.ids import Kind, new_id
from tests.storage.world import World, a_digest

TENANT_TABLES = """
    SELECT c.oid::regclass::text AS name, c.relrowsecurity AS guarded, c.relispartition AS is_partition,
        EXISTS (
            SELECT FROM pg_policy p
            WHERE p.polrelid = c.oid AND p.polroles = ARRAY['platform_app'::regrole::oid]
                AND pg_get_expr(p.polqual, c.oid) LIKE '%platform.tenant%'
        ) AS has_policy,
        EXISTS (
            SELECT FROM pg_policy p
            WHERE p.polrelid = c.oid
                AND (p.polroles <> ARRAY['platform_app'::regrole::oid]
                    OR pg_get_expr(p.polqual, c.oid) NOT LIKE '%platform.tenant%')
        ) AS has_loophole
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY 1
"""

REACHABLE = """
    SELECT c.oid::regclass::text AS name
    FROM pg_class c
    WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND has_any_column_privilege('platform_app', c.oid, 'SELECT')
    ORDER BY 1
"""


async def furnished(w: World) -> Tenant:
    """A tenant with a row in every table of the registry."""
    tenant = await w.tenant()
    user = await w.user(tenant, Role.OWNER)
    key = await w.key(tenant, user=user)
    await w.set_rate(tenant.id, requests=Rate(600, 60_000))
    await w.set_rate(tenant.id, key_id=key.id, requests=Rate(5, 1_000))
    await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route="listen", allowed=False))
    return tenant


# What holds for every table, also for those that do not exist yet


async def test_every_table_with_a_tenant_has_a_policy(w: World) -> None:
    """Add a table with a ``tenant_id`` and forget its policy, and this is what tells you."""
    found = await w.pool.read(TENANT_TABLES)
    assert {row["name"] for row in found} >= {
        "platform.memberships", "platform.api_keys", "platform.limits", "platform.route_overrides"
    }  # fmt: skip
    for row in found:
        assert row["guarded"], f"{row['name']} has no row-level security"
        # A partition may have none, if nobody but the owner can read it by its own name: then nothing passes.
        assert row["has_policy"] or row["is_partition"], f"{row['name']} has no policy for platform_app"
        assert not row["has_loophole"], f"{row['name']} has a policy that does not ask for the tenant"


async def test_a_tenants_scope_reaches_no_table_without_a_policy(w: World) -> None:
    """A table that has no ``tenant_id``, such as that of the people, needs a policy as well before it is granted."""
    unguarded = await w.pool.read(
        "SELECT oid::regclass::text AS name FROM pg_class "
        "WHERE relnamespace = 'platform'::regnamespace AND NOT relrowsecurity"
    )
    assert not {row["name"] for row in unguarded} & {row["name"] for row in await w.pool.read(REACHABLE)}


async def test_the_role_of_tenants_can_neither_log_in_nor_pass_by_the_policies(w: World) -> None:
    (role,) = await w.pool.read(
        "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = 'platform_app'"
    )
    assert not any(role)


async def test_the_role_of_tenants_owns_nothing(w: World) -> None:
    """The owner of a table is not subject to its policies."""
    assert await w.pool.read("SELECT relname FROM pg_class WHERE relowner = 'platform_app'::regrole") == []


async def test_without_a_tenant_nothing_is_seen(w: World) -> None:
    """Neither in a session that never had one, nor after one that had, nor with an empty one."""
    tenant = await furnished(w)
    names = [row["name"] for row in await w.pool.read(REACHABLE)]
    assert len(names) >= 6
    for settle in (None, "", "%", "ten_%", tenant.id[:-1], tenant.id + " ", tenant.slug):
        async with w.pool.operator() as connection:
            await connection.execute("SET LOCAL ROLE platform_app")
            if settle is not None:
                await connection.execute("SELECT set_config('platform.tenant', $1, true)", settle)
            for name in names:
                assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 0, (settle, name)


async def test_with_a_tenant_its_own_rows_are_seen_and_no_others(w: World) -> None:
    mine, other = await furnished(w), await furnished(w)
    for tenant, stranger in ((mine, other), (other, mine)):
        async with w.pool.tenant(tenant.id) as connection:
            assert await connection.fetchval("SELECT array_agg(id) FROM platform.tenants") == [tenant.id]
            assert await connection.fetchval("SELECT count(*) FROM platform.users") == 1
            for name in ("memberships", "api_keys", "limits", "route_overrides"):
                seen = await connection.fetchval(f"SELECT array_agg(DISTINCT tenant_id) FROM platform.{name}")
                assert seen == [tenant.id], (name, stranger)


# What one tenant tries on another


async def refused(w: World, tenant: Tenant, sql: str, *args: object) -> None:
    async def attempt() -> None:
        async with w.pool.tenant(tenant.id) as connection:
            await connection.execute(sql, *args)

    with pytest.raises(StorageError, match=r"permission denied|must be owner|row-level security|foreign key"):
        await attempt()


async def test_the_rows_of_another_tenant_are_neither_changed_nor_removed(w: World) -> None:
    mine, other = await furnished(w), await furnished(w)
    before = await everything(w)
    async with w.pool.tenant(mine.id) as connection:
        for sql in (  # what the scope has the rights to do, to rows of its own
            "UPDATE platform.api_keys SET revoked_at = now() WHERE tenant_id = $1",
            "UPDATE platform.limits SET count = 1 WHERE tenant_id = $1",
            "DELETE FROM platform.limits WHERE tenant_id = $1",
            "DELETE FROM platform.route_overrides WHERE tenant_id = $1",
            "UPDATE platform.users SET status = 'disabled' FROM platform.memberships m WHERE m.tenant_id = $1",
        ):
            tag = await connection.execute(sql, other.id)
            assert tag.endswith(" 0"), sql
    assert await everything(w) == before


async def test_no_row_is_put_into_another_tenant(w: World) -> None:
    mine, other = await furnished(w), await furnished(w)
    their_key = await w.key(other)
    before = await everything(w)
    (user,) = [user for user, _ in await w.directory.users(mine.id)]
    (their_user,) = [user for user, _ in await w.directory.users(other.id)]
    limit = "INSERT INTO platform.limits (tenant_id, key_id, count, period_ms) VALUES"
    key = "INSERT INTO platform.api_keys (id, tenant_id, user_id, name, digest, last4, scopes) VALUES"
    for sql, *args in (
        (f"{key} ('key_x', $1, NULL, 'x', $2, 'WXYZ', '{{}}')", other.id, a_digest()),
        (f"{key} ('key_x', $1, $2, 'x', $3, 'WXYZ', '{{}}')", mine.id, their_user.id, a_digest()),
        ("INSERT INTO platform.memberships (tenant_id, user_id, role) VALUES ($1, $2, 'owner')", other.id, user.id),
        (f"{limit} ($1, NULL, 1, 1)", other.id),
        (f"{limit} ($1, $2, 1, 1)", mine.id, their_key.id),
        (f"{limit} ($1, $2, 1, 1)", other.id, their_key.id),
        ("INSERT INTO platform.route_overrides (tenant_id, route) VALUES ($1, 'x')", other.id),
        ("INSERT INTO platform.tenants (id, slug, name) VALUES ('ten_x', 'x', $1)", "x"),
        ("UPDATE platform.api_keys SET tenant_id = $1", other.id),
        ("UPDATE platform.tenants SET status = $1", "active"),
        ("UPDATE platform.limits SET tenant_id = $1", other.id),
    ):  # fmt: skip
        await refused(w, mine, sql, *args)
    assert await everything(w) == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT digest FROM platform.api_keys",
        "SELECT * FROM platform.api_keys",
        "SELECT password_hash FROM platform.users",
        "UPDATE platform.users SET password_hash = 'x'",
        "UPDATE platform.users SET email = 'x@example.com'",
        "SELECT * FROM platform.schema_migrations",
        "CREATE TABLE platform.mine (id int)",
        "ALTER TABLE platform.api_keys DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON platform.api_keys",
        "TRUNCATE platform.limits",
        "DELETE FROM platform.api_keys",
        "SET LOCAL row_security = off; SELECT id FROM platform.tenants",
    ],
)
async def test_a_tenants_scope_has_no_more_rights_than_it_needs(w: World, sql: str) -> None:
    await refused(w, await w.tenant(), sql)


async def everything(w: World) -> dict[str, list[asyncpg.Record]]:
    names = ("tenants", "users", "memberships", "api_keys", "limits", "route_overrides")
    return {name: await w.pool.read(f"SELECT * FROM platform.{name} ORDER BY 1, 2") for name in names}


async def test_another_tenants_key_is_not_found_by_any_method(w: World) -> None:
    mine, other = await furnished(w), await furnished(w)
    (theirs,) = await w.registry.keys(other.id)
    before = await everything(w)
    for attempt in (
        w.registry.revoke_key(mine.id, theirs.id),
        w.registry.rotate_key(mine.id, theirs.id, digest=a_digest(), last4="WXYZ", old_ends_at=datetime.now(UTC)),
        w.set_rate(mine.id, key_id=theirs.id, requests=None),
        w.set_rate(mine.id, key_id=theirs.id, requests=Rate(1, 1)),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await everything(w) == before


async def test_a_tenant_that_is_not_there_has_nothing(w: World) -> None:
    await furnished(w)
    nobody = new_id(Kind.TENANT)
    assert await w.directory.users(nobody) == []
    assert await w.directory.route_overrides(nobody) == []
    assert await w.registry.keys(nobody) == []
    assert await w.rates(nobody) == []


async def test_scopes_that_share_connections_do_not_mix(w: World) -> None:
    """Many tenants at once over five connections, half of the callers giving up somewhere in the middle."""
    tenants = [await furnished(w) for _ in range(6)]
    chance = random.Random(1)
    loop = asyncio.get_running_loop()

    async def look(tenant: Tenant) -> None:
        for _ in range(5):
            seen = await w.registry.keys(tenant.id)
            assert {key.tenant_id for key in seen} == {tenant.id}

    tasks = [loop.create_task(look(tenant)) for tenant in tenants * 6]
    for task in chance.sample(tasks, 18):
        loop.call_later(chance.uniform(0, 0.1), task.cancel)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError | Unavailable) for end in ends), ends
    assert sum(end is None for end in ends) >= 18


# Whatever happens, in whatever order

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["key", "revoke", "rotate", "limit", "unlimit", "forbid", "allow", "join", "disable"]),
        st.integers(0, 1),  # who acts
        st.integers(0, 99),  # on which of all keys that exist, whosever they are
    ),
    min_size=10,
    max_size=30,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
async def test_no_sequence_of_acts_shows_a_tenant_anything_of_another(w: World, acts: list) -> None:
    """Each tenant acts on keys of both; afterwards each sees what it alone has done, and the other's is untouched."""
    tenants = [await w.tenant(), await w.tenant()]
    owned = [(who, (await w.key(tenants[who])).id) for who in (0, 1)]
    for act, who, which in acts:
        tenant_id = tenants[who].id
        owner, key_id = owned[which % len(owned)]
        reached = False
        try:
            match act:
                case "key":
                    owned.append((who, (await w.key(tenants[who])).id))
                case "revoke":
                    await w.registry.revoke_key(tenant_id, key_id)
                    reached = True
                case "rotate":
                    ends = datetime.now(UTC) + timedelta(hours=1)
                    new = await w.registry.rotate_key(
                        tenant_id, key_id, digest=a_digest(), last4="WXYZ", old_ends_at=ends
                    )
                    owned.append((who, new.id))
                    reached = True
                case "limit" | "unlimit":
                    rate = Rate(1 + which, 1_000) if act == "limit" else None
                    await w.set_rate(tenant_id, key_id=key_id, requests=rate)
                    reached = True
                case "forbid" | "allow":
                    override = RouteOverride(tenant_id=tenant_id, route=f"of-{who}", allowed=act == "allow")
                    await w.directory.set_route_override(override)
                case "join":
                    await w.directory.create_user(
                        tenant_id, f"{which % 3}@{tenants[who].slug}.example", "", Role.MEMBER
                    )
                case "disable":
                    email = f"{which % 3}@{tenants[1 - who].slug}.example"
                    await w.directory.set_user_status(tenant_id, email, UserStatus.DISABLED)
                    reached = True
                    owner = 1 - who
        except StorageError:
            pass
        assert not reached or owner == who, f"{act} reached what another tenant has"
    for who, tenant in enumerate(tenants):
        own = {key_id for owner, key_id in owned if owner == who}
        assert {key.id for key in await w.registry.keys(tenant.id)} == own
        assert {key_id for key_id, _ in await w.rates(tenant.id)} <= own
        assert {override.route for override in await w.directory.route_overrides(tenant.id)} <= {f"of-{who}"}
        assert all(user.email.endswith(f"@{tenant.slug}.example") for user, _ in await w.directory.users(tenant.id))
        assert all(user.status is UserStatus.ACTIVE for user, _ in await w.directory.users(tenant.id))

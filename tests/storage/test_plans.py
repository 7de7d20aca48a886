"""Plans: their limits and routes reach every caller of the tenants that are on them."""

import pytest

from policies.identity.principals import Principal
from policies.limits.allowances import Allowance, What
from policies.limits.rates import Rate
from storage.ports import AlreadyExists, NewKey, NotFound
from storage.postgres.onboarding import Newcomer, onboard
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tenants.plans import PlanInUse, PostgresPlans
from tests.storage.world import TRAIL, World, a_digest

REQUESTS = Allowance.parse(What.REQUESTS, "600/m")
AUDIO = Allowance.parse(What.AUDIO, "100h/month")


@pytest.fixture
def plans(w: World) -> PostgresPlans:
    return PostgresPlans(w.pool, TRAIL)


async def actions(w: World, tenant_id: str = "") -> list[str]:
    rows = await w.pool.read(
        "SELECT action FROM platform.audit_entries WHERE tenant_id = $1 ORDER BY sequence", tenant_id
    )
    return [row["action"] for row in rows]


async def test_a_plan_is_kept_as_it_was_written(w: World, plans: PostgresPlans) -> None:
    made = await plans.create("gold", limits=[AUDIO, REQUESTS], routes=["b", "a", "b"], rating="contract", note="n")
    assert made == await plans.plan("gold")
    assert made.texts == {"requests": ["600/m"], "audio": ["100h/month"]}
    assert made.routes == {"a", "b"}
    with pytest.raises(AlreadyExists):
        await plans.create("gold")
    with pytest.raises(ValueError, match="means no plan"):
        await plans.create("none")
    with pytest.raises(NotFound):
        await plans.plan("silver")
    with pytest.raises(ValueError, match="one limit of a kind"):
        await plans.change("gold", limits=[REQUESTS, Allowance.parse(What.REQUESTS, "5/s")])
    assert (await plans.change("gold", note="other")).limits == made.limits
    await plans.delete("gold")
    assert await plans.all() == []
    assert await actions(w) == ["plan.created", "plan.changed", "plan.deleted"]


async def test_a_plan_with_tenants_stays(w: World, plans: PostgresPlans) -> None:
    tenant = await w.tenant()
    await plans.create("gold")
    assert (await plans.assign(tenant.id, "gold")).plan == "gold"
    assert await plans.tenants_on("gold") == [tenant.id]
    with pytest.raises(PlanInUse):
        await plans.delete("gold")
    with pytest.raises(NotFound, match="no plan 'silver'"):
        await plans.assign(tenant.id, "silver")
    assert (await plans.assign(tenant.id, None)).plan is None
    await plans.delete("gold")
    assert await actions(w, tenant.id) == ["tenant.created", "tenant.plan_changed", "tenant.plan_changed"]


async def test_a_plans_limits_and_routes_reach_keys_and_people(w: World, plans: PostgresPlans) -> None:
    """In the one question that says who somebody is."""
    tenant, other = await w.tenant(), await w.tenant()
    user, digest = await w.user(tenant), a_digest()
    await w.key(tenant, digest=digest)
    await plans.create("gold", limits=[REQUESTS, AUDIO], routes=["listen"])
    await plans.assign(tenant.id, "gold")

    async def both() -> list[Principal | None]:
        return [
            await w.registry.identify_key(digest),
            await PostgresSubjects(w.pool).identify_subject(tenant.id, user.id),
        ]

    for found in await both():
        assert found is not None
        assert (found.tenant_rate, found.allowances, found.plan_routes) == (Rate(600, 60_000), (AUDIO,), {"listen"})
    await w.set_rate(tenant.id, requests=Rate(5, 1_000))
    for found in await both():
        assert found is not None
        assert (found.tenant_rate, found.allowances) == (Rate(5, 1_000), (AUDIO,)), "its own stands in place"
    assert [(str(grant.allowance), grant.plan) for grant in await w.limits.limits(tenant.id)] == [
        ("5/s", ""), ("100h/month", "gold"),
    ]  # fmt: skip
    assert await w.limits.limits(other.id) == []
    await plans.change("gold", limits=[], routes=[])
    await w.set_rate(tenant.id, requests=None)
    for found in await both():
        assert found is not None
        assert (found.tenant_rate, found.allowances, found.plan_routes) == (None, (), frozenset())


def newcomer(**more: object) -> Newcomer:
    facts: dict[str, object] = {
        "slug": "acme", "name": "Acme", "owner": "o@example.com", "invitation": a_digest(), "invited_by": None,
        "plan": "gold",
        "key": NewKey(name="first", digest=a_digest(), last4="WXYZ", scopes=frozenset({"transcribe"})),
    }  # fmt: skip
    return Newcomer(**(facts | more))  # type: ignore[arg-type]


async def test_onboarding_makes_all_of_it(w: World, plans: PostgresPlans) -> None:
    await plans.create("gold")
    made = await onboard(w.pool, TRAIL, newcomer())
    assert made.tenant == await w.directory.tenant("acme")
    assert made.tenant.plan == "gold"
    assert made.key is not None
    assert (await w.registry.keys(made.tenant.id), made.invitation.email) == ([made.key], "o@example.com")
    assert await actions(w, made.tenant.id) == [
        "tenant.created", "tenant.plan_changed", "invitation.created", "key.created",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["plan", "owner", "key", "slug"])
async def test_onboarding_makes_nothing_if_one_part_cannot_be(w: World, plans: PostgresPlans, fault: str) -> None:
    """Whichever part it is, nothing is left of the others: neither a row nor an entry of the trail."""
    await plans.create("gold")
    key = NewKey(name="first", digest=b"short", last4="WXYZ", scopes=frozenset())
    bad = {"plan": "silver", "owner": "nobody", "key": key, "slug": "Not a slug"}[fault]
    before = await everything(w)
    with pytest.raises((NotFound, ValueError)):
        await onboard(w.pool, TRAIL, newcomer(**{fault: bad}))
    assert await everything(w) == before
    await onboard(w.pool, TRAIL, newcomer())


async def test_the_parts_of_one_transaction_have_their_own_scopes(w: World) -> None:
    """After a tenant's part comes the operator's again, and nothing outlives the whole."""
    tenant, other = await w.tenant(), await w.tenant()
    count = "SELECT count(*) AS n FROM platform.tenants"
    async with w.pool.together() as one:
        assert (await one.read(count))[0]["n"] == 2
        assert (await one.read(count, tenant_id=tenant.id))[0]["n"] == 1
        async with one.tenant(other.id) as connection:
            assert await connection.fetchval("SELECT id FROM platform.tenants") == other.id
        assert (await one.read(count))[0]["n"] == 2
    assert (await w.pool.read("SELECT current_setting('platform.tenant', true) AS it"))[0]["it"] in (None, "")


async def everything(w: World) -> dict[str, int]:
    names = ("tenants", "invitations", "api_keys", "audit_entries", "audit_heads", "outbox")
    return {name: (await w.pool.read(f"SELECT count(*) AS n FROM platform.{name}"))[0]["n"] for name in names}

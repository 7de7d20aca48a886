"""Log-ins that can be renewed, and revocations, in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.permissions import ROLES
from policies.identity.refresh import LIFE, Family
from policies.identity.tenants import Role, UserStatus
from storage.ports import NotFound
from storage.postgres.ids import Kind, new_id
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tokens.families import PostgresFamilies, PostgresRevocations
from tests.storage.world import TRAIL, World, world

SCOPES = frozenset({"transcribe"})


@dataclass
class Logins:
    """The stores of tokens over one database."""

    world: World
    families: PostgresFamilies
    revocations: PostgresRevocations
    subjects: PostgresSubjects

    async def begin(self) -> Family:
        """A new member of a new tenant, logged in."""
        tenant = await self.world.tenant()
        user = await self.world.user(tenant)
        return await self.families.begin(
            tenant.id, user.id, client_id="first-party", scopes=SCOPES, seed=bytes(32), life=LIFE
        )


@pytest.fixture
async def logins(migrated_url: str) -> AsyncIterator[Logins]:
    async with world(migrated_url) as w:
        yield Logins(w, PostgresFamilies(w.pool, TRAIL), PostgresRevocations(w.pool, TRAIL), PostgresSubjects(w.pool))


async def test_a_family_begins_with_its_first_token(logins: Logins) -> None:
    family = await logins.begin()
    async with logins.families.held(family.id) as (found, _):
        assert found == family
    assert family.generation == 1
    assert family.expires_at - family.created_at == LIFE
    assert family.ended_at is None


async def test_only_a_member_can_begin_one(logins: Logins) -> None:
    tenant, other = await logins.world.tenant(), await logins.world.tenant()
    user = await logins.world.user(other)
    for tenant_id, user_id in ((tenant.id, user.id), (tenant.id, new_id(Kind.USER))):
        with pytest.raises(NotFound):
            await logins.families.begin(tenant_id, user_id, client_id="c", scopes=SCOPES, seed=bytes(32), life=LIFE)


@pytest.mark.parametrize("family_id", ["fam_" + "0" * 20, "fam_x", "", "' OR 1=1 --"])
async def test_what_is_no_family_is_not_found(logins: Logins, family_id: str) -> None:
    async with logins.families.held(family_id) as (found, _):
        assert found is None


async def test_who_holds_a_family_holds_it_alone(logins: Logins) -> None:
    """Every rotation is seen by the next: a hundred of them make a hundred numbers."""
    family = await logins.begin()

    async def rotate() -> tuple[int, int]:
        async with logins.families.held(family.id) as (found, hold):
            assert found is not None
            return found.generation, await hold.rotate()

    steps = await asyncio.gather(*(rotate() for _ in range(40)))
    assert sorted(steps) == [(number, number + 1) for number in range(1, 41)]


async def test_an_end_revokes_the_access_tokens_in_the_same_breath(logins: Logins) -> None:
    family = await logins.begin()
    async with logins.families.held(family.id) as (_, hold):
        await hold.end("reused")
    async with logins.families.held(family.id) as (found, _):
        assert found is not None
        assert found.ended_at is not None
    assert [each.what for each in await logins.revocations.since(None)] == [f"family:{family.id}"]


async def test_an_end_that_fails_half_way_did_not_happen(logins: Logins) -> None:
    """K-06: all of it or nothing."""
    family = await logins.begin()

    async def fail() -> None:
        async with logins.families.held(family.id) as (_, hold):
            await hold.end("revoked")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        await fail()
    async with logins.families.held(family.id) as (found, _):
        assert found == family
    assert await logins.revocations.since(None) == []


async def test_a_person_ends_one_log_in_of_its_own(logins: Logins) -> None:
    """Listed with whence it came; nobody else's, and not twice."""
    w = logins.world
    tenant = await w.tenant()
    user, other = await w.user(tenant), await w.user(tenant)
    made = [
        await logins.families.begin(
            tenant.id, user.id, client_id="c", scopes=SCOPES, seed=bytes(32), life=LIFE, address=address, agent="curl/8"
        )
        for address in ("192.0.2.1", "192.0.2.2")
    ]
    assert {(one.id, one.address, one.agent) for one in await logins.families.living(user.id)} == {
        (made[0].id, "192.0.2.1", "curl/8"), (made[1].id, "192.0.2.2", "curl/8"),
    }  # fmt: skip
    assert not await logins.families.end_one(other.id, made[0].id)
    assert await logins.families.end_one(user.id, made[0].id)
    assert not await logins.families.end_one(user.id, made[0].id)
    assert [one.id for one in await logins.families.living(user.id)] == [made[1].id]
    assert [each.what for each in await logins.revocations.since(None)] == [f"family:{made[0].id}"]


async def test_all_of_a_persons_log_ins_end_together(logins: Logins) -> None:
    """K-08: in one tenant, or in all; those that had ended are not named again."""
    w = logins.world
    here, there = await w.tenant(), await w.tenant()
    user = await w.user(here)
    await w.directory.create_user(there.id, user.email, "", Role.MEMBER)
    begun = [
        await logins.families.begin(t.id, user.id, client_id="c", scopes=SCOPES, seed=bytes(32), life=LIFE)
        for t in (here, here, there)
    ]
    other = await logins.begin()
    assert set(await logins.families.end_all(user.id, here.id)) == {begun[0].id, begun[1].id}
    assert await logins.families.end_all(user.id) == [begun[2].id]
    assert await logins.families.end_all(user.id) == []
    async with logins.families.held(other.id) as (found, _):
        assert found == other


async def test_revocations_are_read_since_an_instant(logins: Logins) -> None:
    """What is told again does no harm; what was missed would."""
    first = await logins.revocations.revoke("token:tok_1")
    assert await logins.revocations.since(None) == [first]
    assert await logins.revocations.since(first.revoked_at) == [first]
    assert await logins.revocations.since(first.revoked_at + timedelta(minutes=5)) == []
    again = await logins.revocations.revoke("token:tok_1")
    assert again.revoked_at > first.revoked_at
    assert await logins.revocations.since(None) == [again]


async def test_revocations_do_not_pile_up(logins: Logins) -> None:
    """A row counts for as long as a token can live, and is swept away by the next."""
    await logins.revocations.revoke("token:tok_1")
    async with logins.world.pool.operator() as connection:
        await connection.execute("UPDATE platform.token_revocations SET expires_at = now() - interval '1 s'")
    assert await logins.revocations.since(None) == []
    await logins.revocations.revoke("token:tok_2")
    rows = await logins.world.pool.read("SELECT what FROM platform.token_revocations")
    assert [row["what"] for row in rows] == ["token:tok_2"]


async def test_a_subject_is_who_it_is_now(logins: Logins) -> None:
    """J-12: role, status and membership as they are, not as they were when the token was made."""
    w = logins.world
    tenant, other = await w.tenant(), await w.tenant()
    user = await w.user(tenant, Role.ADMIN)
    found = await logins.subjects.identify_subject(tenant.id, user.id)
    assert found is not None
    assert (found.tenant_id, found.tenant_slug, found.user_id) == (tenant.id, tenant.slug, user.id)
    assert (found.roles, found.scopes, found.standing) == (("admin",), ROLES[Role.ADMIN], "good")
    assert await logins.subjects.identify_subject(other.id, user.id) is None
    await w.directory.set_user_status(tenant.id, user.email, UserStatus.DISABLED)
    found = await logins.subjects.identify_subject(tenant.id, user.id)
    assert found is not None
    assert found.standing == "user_disabled"


@pytest.mark.parametrize("subject", ["usr_" + "0" * 20, "svc_x", "' OR 1=1 --", "a\0b".replace("\0", "")])
async def test_a_subject_that_is_nobody_is_nobody(logins: Logins, subject: str) -> None:
    tenant = await logins.world.tenant()
    assert await logins.subjects.identify_subject(tenant.id, subject) is None
    assert await logins.subjects.identify_subject(new_id(Kind.TENANT), subject) is None


async def test_a_guest_is_the_tenants_own(logins: Logins) -> None:
    """For people of another issuer: known by the tenant alone, by its slug."""
    tenant = await logins.world.tenant()
    found = await logins.subjects.identify_subject(tenant.slug, "")
    assert found is not None
    assert (found.tenant_id, found.user_id, found.roles, found.scopes) == (tenant.id, "", (), frozenset())
    assert await logins.subjects.identify_subject("nowhere", "") is None
    by_id = await logins.subjects.identify_subject(tenant.id, "")
    assert by_id == found


async def test_times_are_the_servers(logins: Logins) -> None:
    family = await logins.begin()
    assert abs(datetime.now(UTC) - family.created_at) < timedelta(minutes=1)

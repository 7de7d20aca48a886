"""The promises of storage.ports.Directory, kept by PostgreSQL."""

import asyncio
from collections import Counter

import pytest

from policies.identity.tenants import Role, RouteOverride, TenantStatus, UserStatus
from storage.ports import AlreadyExists, NotFound
from storage.postgres.ids import Kind, is_id, new_id
from tests.storage.world import World


async def test_a_tenant_is_found_as_it_was_made(w: World) -> None:
    made = await w.directory.create_tenant("acme", "  Acme Ltd. ")
    assert is_id(Kind.TENANT, made.id)
    assert (made.slug, made.name, made.status) == ("acme", "Acme Ltd.", TenantStatus.ACTIVE)
    assert made.created_at.tzinfo is not None
    assert await w.directory.tenant("acme") == made


async def test_a_tenant_that_is_not_there_is_not_found(w: World) -> None:
    made = await w.directory.create_tenant("acme", "Acme")
    for slug in ("nobody", "acme-", "acm", made.id):
        with pytest.raises(NotFound, match=slug):
            await w.directory.tenant(slug)
        with pytest.raises(NotFound, match=slug):
            await w.directory.set_tenant_status(slug, TenantStatus.SUSPENDED)
    assert await w.directory.tenants() == [made]


@pytest.mark.parametrize("slug", ["", "ACME", "a b", "a\0b", "\ud800", "x" * 10_000, "' OR '1'='1", "acme\n"])
async def test_a_tenant_that_cannot_be_there_is_not_even_looked_for(unasked: World, slug: str) -> None:
    with pytest.raises(NotFound):
        await unasked.directory.tenant(slug)
    with pytest.raises(NotFound):
        await unasked.directory.set_tenant_status(slug, TenantStatus.SUSPENDED)


@pytest.mark.parametrize(
    ("slug", "name", "says"),
    [
        ("", "Acme", "short name"),
        ("Acme", "Acme", "short name"),
        ("-acme", "Acme", "short name"),
        ("acme-", "Acme", "short name"),
        ("acme\n", "Acme", "short name"),
        ("a" * 64, "Acme", "short name"),
        ("acmé", "Acme", "short name"),
        ("acme", "", "empty"),
        ("acme", " \t ", "empty"),
        ("acme", "Ac\0me", "control"),
        ("acme", "Ac\nme", "line break"),
        ("acme", "Ac\u2028me", "line break"),
        ("acme", "Ac\x1b[31mme", "control"),
        ("acme", "\ud83d", "control"),
        ("acme", "x" * 201, "201 characters"),
    ],
)
async def test_what_no_tenant_can_be_called_is_refused_with_a_sentence(
    unasked: World, slug: str, name: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        await unasked.directory.create_tenant(slug, name)


async def test_any_honest_name_is_kept_as_it_is(w: World) -> None:
    names = [
        "Zoë & Søn",
        "株式会社",
        "O'Brien'); DROP TABLE x --",
        "👩\u200d👩\u200d👧 Ltd",
        "กรุงเทพ",
        "x" * 200,
    ]
    for number, name in enumerate(names):
        assert (await w.directory.create_tenant(f"tenant-{number}", name)).name == name
    assert [tenant.name for tenant in await w.directory.tenants()] == names


async def test_a_short_name_is_taken_once(w: World) -> None:
    first = await w.directory.create_tenant("acme", "Acme")
    with pytest.raises(AlreadyExists, match="acme"):
        await w.directory.create_tenant("acme", "Another")
    assert await w.directory.tenants() == [first]


async def test_of_many_who_create_one_tenant_exactly_one_wins(w: World) -> None:
    ends = await asyncio.gather(
        *(w.directory.create_tenant("acme", f"Number {number}") for number in range(10)), return_exceptions=True
    )
    assert Counter(type(end).__name__ for end in ends) == {"Tenant": 1, "AlreadyExists": 9}
    assert [end for end in ends if not isinstance(end, Exception)] == await w.directory.tenants()


async def test_tenants_come_by_slug_whatever_the_locale_of_the_server(w: World) -> None:
    for slug in ("a-b", "a", "a0", "ab", "b"):
        await w.directory.create_tenant(slug, "Some Tenant")
    assert [tenant.slug for tenant in await w.directory.tenants()] == ["a", "a-b", "a0", "ab", "b"]


async def test_suspending_and_resuming_change_the_status_alone_and_may_be_repeated(w: World) -> None:
    made, other = await w.tenant(), await w.tenant()
    for status in (TenantStatus.SUSPENDED, TenantStatus.SUSPENDED, TenantStatus.ACTIVE, TenantStatus.ACTIVE):
        changed = await w.directory.set_tenant_status(made.slug, status)
        assert changed.status is status
        assert (changed.id, changed.name, changed.created_at) == (made.id, made.name, made.created_at)
        assert await w.directory.tenant(made.slug) == changed
    assert await w.directory.tenant(other.slug) == other


async def test_a_person_and_the_first_membership_come_together(w: World) -> None:
    acme = await w.tenant()
    user, membership = await w.directory.create_user(acme.id, " Ada@Example.COM ", " Ada ", Role.OWNER)
    assert is_id(Kind.USER, user.id)
    assert (user.email, user.name, user.status) == ("ada@example.com", "Ada", UserStatus.ACTIVE)
    assert (membership.tenant_id, membership.user_id, membership.role) == (acme.id, user.id, Role.OWNER)
    assert await w.directory.users(acme.id) == [(user, membership)]


async def test_an_address_is_compared_without_case(w: World) -> None:
    acme = await w.tenant()
    await w.directory.create_user(acme.id, "ada@example.com", "Ada", Role.OWNER)
    for again in ("ada@example.com", "ADA@EXAMPLE.COM", "Ada@example.com ", "ada@EXAMPLE.com"):
        with pytest.raises(AlreadyExists, match=r"ada@example\.com"):
            await w.directory.create_user(acme.id, again, "Impostor", Role.MEMBER)
    assert len(await w.directory.users(acme.id)) == 1


async def test_letters_beyond_ascii_are_compared_without_case_in_any_locale(w: World) -> None:
    """Also when one of the two spellings is composed (NFC) and the other is not."""
    acme = await w.tenant()
    await w.directory.create_user(acme.id, "ZO\u00cb@example.com", "Zoë", Role.MEMBER)
    with pytest.raises(AlreadyExists):
        await w.directory.create_user(acme.id, "zoe\u0308@example.com", "Zoë", Role.MEMBER)


@pytest.mark.parametrize(
    "email", ["", "ada", "@", "ada@", "@example.com", "a@b@c", "a b@example.com", "a@ex\0.com", "a@b\n.com", "\ud800@b",
              "a" * 250 + "@b.example"]
)  # fmt: skip
async def test_what_is_no_address_is_refused(unasked: World, email: str) -> None:
    tenant_id = new_id(Kind.TENANT)
    with pytest.raises(ValueError, match="not an e-mail address"):
        await unasked.directory.create_user(tenant_id, email, "Ada", Role.MEMBER)
    with pytest.raises(NotFound):
        await unasked.directory.set_user_status(tenant_id, email, UserStatus.DISABLED)


async def test_a_person_may_have_no_name(w: World) -> None:
    user, _ = await w.directory.create_user((await w.tenant()).id, "ada@example.com", "", Role.MEMBER)
    assert user.name == ""


async def test_a_person_another_tenant_knows_gets_only_the_membership(w: World) -> None:
    """Neither the name nor the password that the first tenant's person has can be changed by the second tenant."""
    first, second = await w.tenant(), await w.tenant()
    ada, _ = await w.directory.create_user(first.id, "ada@example.com", "Ada", Role.OWNER, password_hash="hers")
    same, membership = await w.directory.create_user(
        second.id, "ADA@example.com", "Eve", Role.VIEWER, password_hash="mine"
    )
    assert same == ada
    assert membership.role is Role.VIEWER
    rows = await w.pool.read("SELECT name, password_hash FROM platform.users")
    assert [tuple(row) for row in rows] == [("Ada", "hers")]
    assert [member.role for _, member in await w.directory.users(first.id)] == [Role.OWNER]
    assert [member.role for _, member in await w.directory.users(second.id)] == [Role.VIEWER]


async def test_many_tenants_that_invite_one_stranger_share_one_person(w: World) -> None:
    tenants = [await w.tenant() for _ in range(8)]
    ends = await asyncio.gather(
        *(w.directory.create_user(tenant.id, "ada@example.com", "Ada", Role.MEMBER) for tenant in tenants)
    )
    assert len({user.id for user, _ in ends}) == 1


async def test_of_many_who_add_one_member_exactly_one_wins(w: World) -> None:
    acme = await w.tenant()
    ends = await asyncio.gather(
        *(w.directory.create_user(acme.id, "ada@example.com", "Ada", Role.MEMBER) for _ in range(8)),
        return_exceptions=True,
    )
    assert Counter(type(end).__name__ for end in ends) == {"tuple": 1, "AlreadyExists": 7}
    assert len(await w.directory.users(acme.id)) == 1


async def test_no_person_is_left_behind_when_there_is_no_such_tenant(w: World) -> None:
    with pytest.raises(NotFound, match="tenant"):
        await w.directory.create_user(new_id(Kind.TENANT), "ada@example.com", "Ada", Role.MEMBER)
    assert await w.pool.read("SELECT FROM platform.users") == []


async def test_members_come_by_address_and_are_the_tenants_own(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    for email in ("c@example.com", "a@example.com", "b-c@example.com", "b@example.com"):
        await w.directory.create_user(acme.id, email, "Some One", Role.MEMBER)
    await w.user(other)
    emails = [user.email for user, _ in await w.directory.users(acme.id)]
    assert emails == ["a@example.com", "b-c@example.com", "b@example.com", "c@example.com"]


async def test_disabling_and_enabling_a_person_may_be_repeated(w: World) -> None:
    acme = await w.tenant()
    user = await w.user(acme)
    for status in (UserStatus.DISABLED, UserStatus.DISABLED, UserStatus.ACTIVE, UserStatus.ACTIVE):
        changed = await w.directory.set_user_status(acme.id, user.email.upper(), status)
        assert changed.status is status
        assert [member.status for member, _ in await w.directory.users(acme.id)] == [status]


async def test_a_tenant_cannot_disable_who_is_not_its_member(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    stranger = await w.user(other)
    with pytest.raises(NotFound, match="member"):
        await w.directory.set_user_status(acme.id, stranger.email, UserStatus.DISABLED)
    assert [user.status for user, _ in await w.directory.users(other.id)] == [UserStatus.ACTIVE]


async def test_a_forbidden_route_stays_forbidden_until_it_is_allowed(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()

    async def put(route: str, *, allowed: bool) -> None:
        await w.directory.set_route_override(RouteOverride(tenant_id=acme.id, route=route, allowed=allowed))

    await put("openai.transcriptions", allowed=False)
    await put("deepgram.listen", allowed=False)
    await put("deepgram.listen", allowed=False)
    assert await w.directory.route_overrides(acme.id) == [
        RouteOverride(tenant_id=acme.id, route="deepgram.listen", allowed=False),
        RouteOverride(tenant_id=acme.id, route="openai.transcriptions", allowed=False),
    ]
    assert await w.directory.route_overrides(other.id) == []
    await put("deepgram.listen", allowed=True)
    await put("never.forbidden", allowed=True)
    assert [override.route for override in await w.directory.route_overrides(acme.id)] == ["openai.transcriptions"]


async def test_a_route_cannot_be_forbidden_to_nobody(w: World) -> None:
    with pytest.raises(NotFound, match="tenant"):
        await w.directory.set_route_override(RouteOverride(tenant_id=new_id(Kind.TENANT), route="x", allowed=False))


async def test_a_tenants_short_name_where_its_id_belongs_is_a_loud_mistake(w: World) -> None:
    """An empty list would look like an answer."""
    acme = await w.tenant()
    with pytest.raises(ValueError, match="not the id of a tenant"):
        await w.directory.users(acme.slug)

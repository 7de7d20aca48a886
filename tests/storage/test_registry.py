"""The promises of storage.ports.KeyRegistry, kept by PostgreSQL."""

import asyncio
import traceback
from collections import Counter
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.principals import Method, Principal, Standing
from policies.identity.tenants import ApiKey, Role, RouteOverride, TenantStatus, UserStatus
from policies.limits.rates import Rate
from storage.ports import AlreadyExists, ExceedsOwner, NewKey, NotFound, StorageError
from storage.postgres.ids import Kind, is_id, new_id
from storage.postgres.keys.rows import IDENTIFY
from storage.postgres.tenants.members import PostgresMembers
from storage.postgres.tenants.roles import PostgresRoles
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts
from tests.storage.world import TRAIL, World, a_digest

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
NOT_KEYS = ["", "key_", "key_\0", "\ud800", "' OR '1'='1", "x" * 10_000, "KEY_01m8bb223qcrm3brkhs6"]


async def standing(w: World, digest: bytes) -> Standing:
    principal = await w.registry.identify_key(digest)
    assert principal is not None
    return principal.standing


async def test_a_key_is_kept_as_it_was_made(w: World) -> None:
    acme = await w.tenant()
    ada = await w.user(acme)
    ends = NOW + 90 * timedelta(days=1)
    made = await w.registry.create_key(
        acme.id,
        NewKey(
            name=" build server ",
            digest=a_digest(),
            last4="aB3_",
            scopes=frozenset({"usage:read", "transcribe"}),
            expires_at=ends,
            user_id=ada.id,
        ),
    )
    assert is_id(Kind.KEY, made.id)
    assert (made.tenant_id, made.user_id, made.name, made.last4) == (acme.id, ada.id, "build server", "aB3_")
    assert made.scopes == {"usage:read", "transcribe"}
    assert (made.expires_at, made.revoked_at) == (ends, None)
    assert await w.registry.keys(acme.id) == [made]
    assert await w.registry.key_tenant(made.id) == acme.id


async def test_keys_come_newest_first_and_ended_ones_with_them(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    made = [await w.key(acme, expires_at=NOW - HOUR), await w.key(acme), await w.key(acme)]
    await w.key(other)
    made[1] = await w.registry.revoke_key(acme.id, made[1].id)
    assert await w.registry.keys(acme.id) == made[::-1]


async def test_a_digest_is_registered_once(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    digest = a_digest()
    made = await w.key(acme, digest=digest)
    for tenant in (acme, other):
        with pytest.raises(AlreadyExists, match="key"):
            await w.key(tenant, digest=digest)
    assert (await w.registry.identify_key(digest)).key_id == made.id


async def test_no_secret_is_in_an_error_or_its_causes(w: World) -> None:
    """PostgreSQL's detail of a violated constraint is the row: a traceback in a log would show it."""
    acme = await w.tenant()
    digest, password_hash = a_digest(), "$2b$12$secret"
    await w.key(acme, digest=digest)
    with pytest.raises(AlreadyExists) as known:
        await w.key(acme, digest=digest)

    async def break_a_check() -> None:
        async with w.pool.operator() as connection:
            await connection.execute(
                "INSERT INTO platform.users (id, email, name, password_hash) VALUES ('bad', 'a@b', 'x', $1)",
                password_hash,
            )

    with pytest.raises(StorageError, match="check constraint") as refused:
        await break_a_check()
    told = "".join(traceback.format_exception(known.value) + traceback.format_exception(refused.value))
    assert "UniqueViolationError" in told
    assert digest.hex() not in told
    assert password_hash not in told


async def test_a_key_needs_a_tenant_and_an_owner_who_is_its_member(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    stranger = await w.user(other)
    with pytest.raises(NotFound, match="member"):
        await w.key(acme, user=stranger)
    with pytest.raises(NotFound, match="tenant"):
        await w.registry.create_key(
            new_id(Kind.TENANT), NewKey(name="x", digest=a_digest(), last4="WXYZ", scopes=frozenset())
        )
    assert await w.registry.keys(acme.id) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"digest": b""}, "32 bytes"),
        ({"digest": b"x" * 31}, "32 bytes"),
        ({"digest": b"x" * 64}, "32 bytes"),
        ({"last4": "abc"}, "last four"),
        ({"last4": "abc\0"}, "last four"),
        ({"last4": "thk_live_whole_key"}, "last four"),
        ({"name": " "}, "empty"),
        ({"name": "a\nb"}, "line break"),
        ({"scopes": frozenset({""})}, "not a scope"),
        ({"scopes": frozenset({"a b"})}, "not a scope"),
        ({"scopes": frozenset({"a\r\nX-Evil: 1"})}, "not a scope"),
        ({"scopes": frozenset({'a"b'})}, "not a scope"),
        ({"scopes": frozenset({"é"})}, "not a scope"),
        ({"expires_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001  that is the fault
    ],
)
async def test_what_no_key_can_be_is_refused_with_a_sentence(unasked: World, change: dict, says: str) -> None:
    good = {"name": "x", "digest": a_digest(), "last4": "WXYZ", "scopes": frozenset({"transcribe"})}
    with pytest.raises(ValueError, match=says):
        await unasked.registry.create_key(new_id(Kind.TENANT), NewKey(**{**good, **change}))


async def test_a_key_with_everything_identifies_its_holder(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    ada = await w.user(acme, Role.ADMIN)
    digest = a_digest()
    ends = datetime(2100, 1, 2, 3, 4, 5, 678_901, UTC)
    key = await w.key(acme, digest=digest, scopes=frozenset({"transcribe", "usage:read"}), expires_at=ends, user=ada)
    await w.set_rate(acme.id, requests=Rate(600, 60_000))
    await w.set_rate(acme.id, key_id=key.id, requests=Rate(5, 1_000))
    await w.set_rate(other.id, requests=Rate(1, 1_000))
    for tenant, route in ((acme, "deepgram.listen"), (acme, "openai.realtime"), (other, "openai.models")):
        await w.directory.set_route_override(RouteOverride(tenant_id=tenant.id, route=route, allowed=False))
    assert await w.registry.identify_key(digest) == Principal(
        method=Method.API_KEY,
        standing=Standing.GOOD,
        tenant_id=acme.id,
        tenant_slug=acme.slug,
        user_id=ada.id,
        key_id=key.id,
        scopes=frozenset({"transcribe", "usage:read"}),
        roles=("admin",),
        expires_ms=4_102_542_245_678,
        tenant_rate=Rate(600, 60_000),
        key_rate=Rate(5, 1_000),
        denied_routes=frozenset({"deepgram.listen", "openai.realtime"}),
    )


async def test_a_holder_can_be_asked_for_by_the_keys_id(w: World) -> None:
    """The very same answer; what is no id of a key, its secret among them, is NotFound and is not repeated whole."""
    acme = await w.tenant()
    digest = a_digest()
    key = await w.key(acme, digest=digest, user=await w.user(acme))
    assert await w.registry.key_holder(key.id) == await w.registry.identify_key(digest)
    for unknown in ("", "key_0", acme.id, f"{key.id}x", "' OR '1'='1", "thk_live_0000000000000000000000000000"):
        with pytest.raises(NotFound) as caught:
            await w.registry.key_holder(unknown)
        assert "0000000000000000" not in str(caught.value)


async def test_a_key_with_nothing_identifies_its_tenant(w: World) -> None:
    acme = await w.tenant()
    digest = a_digest()
    key = await w.key(acme, digest=digest, scopes=frozenset())
    assert await w.registry.identify_key(digest) == Principal(
        method=Method.API_KEY,
        standing=Standing.GOOD,
        tenant_id=acme.id,
        tenant_slug=acme.slug,
        key_id=key.id,
    )


async def test_an_unknown_digest_is_nobody(w: World) -> None:
    """A-03: keys are found by digest alone; a prefix of one, one with more after it, hostile bytes are unknown too."""
    digest = a_digest()
    await w.key(await w.tenant(), digest=digest)
    for unknown in (
        a_digest(),
        b"",
        digest[:31],
        digest[:16],
        digest + b"\0",
        b"' OR '1'='1",
        b"\0" * 32,
        b"%" * 100_000,
    ):
        assert await w.registry.identify_key(unknown) is None


async def test_standing_names_the_gravest_reason(w: World) -> None:
    """Revoked comes before a suspended tenant, and that before a disabled user; each ends when its cause does."""
    acme = await w.tenant()
    ada = await w.user(acme)
    digest = a_digest()
    key = await w.key(acme, digest=digest, user=ada)
    assert await standing(w, digest) is Standing.GOOD
    await w.directory.set_user_status(acme.id, ada.email, UserStatus.DISABLED)
    assert await standing(w, digest) is Standing.USER_DISABLED
    await w.directory.set_tenant_status(acme.slug, TenantStatus.SUSPENDED)
    assert await standing(w, digest) is Standing.TENANT_SUSPENDED
    await w.registry.revoke_key(acme.id, key.id)
    assert await standing(w, digest) is Standing.REVOKED
    await w.directory.set_tenant_status(acme.slug, TenantStatus.ACTIVE)
    await w.directory.set_user_status(acme.id, ada.email, UserStatus.ACTIVE)
    assert await standing(w, digest) is Standing.REVOKED


async def test_a_disabled_user_does_not_stop_the_keys_of_others(w: World) -> None:
    acme = await w.tenant()
    ada, bob = await w.user(acme), await w.user(acme)
    of_bob, of_nobody = a_digest(), a_digest()
    await w.key(acme, digest=of_bob, user=bob)
    await w.key(acme, digest=of_nobody)
    await w.directory.set_user_status(acme.id, ada.email, UserStatus.DISABLED)
    assert await standing(w, of_bob) is Standing.GOOD
    assert await standing(w, of_nobody) is Standing.GOOD


async def test_an_expired_key_is_identified_with_its_end(w: World) -> None:
    """Whether it has ended is for the caller's clock: a cached principal must end on time too."""
    digest = a_digest()
    ends = NOW - HOUR
    await w.key(await w.tenant(), digest=digest, expires_at=ends)
    principal = await w.registry.identify_key(digest)
    assert principal.standing is Standing.GOOD
    assert principal.expires_ms == int(ends.timestamp() * 1000)


async def test_the_end_is_rounded_down_to_the_millisecond(w: World) -> None:
    digest = a_digest()
    await w.key(await w.tenant(), digest=digest, expires_at=datetime(2030, 1, 1, 0, 0, 0, 999_999, UTC))
    assert (await w.registry.identify_key(digest)).expires_ms == 1_893_456_000_999


async def test_revoking_is_for_ever_and_keeps_the_first_moment(w: World) -> None:
    acme = await w.tenant()
    key = await w.key(acme)
    first = await w.registry.revoke_key(acme.id, key.id)
    assert first.revoked_at is not None
    assert await w.registry.revoke_key(acme.id, key.id) == first
    assert await w.registry.keys(acme.id) == [first]


async def test_a_successor_is_the_old_key_in_everything_but_the_secret(w: World) -> None:
    acme = await w.tenant()
    ada = await w.user(acme, Role.OWNER)
    old_digest, new_digest = a_digest(), a_digest()
    old = await w.key(acme, digest=old_digest, expires_at=NOW + 9 * HOUR, user=ada)
    await w.set_rate(acme.id, key_id=old.id, requests=Rate(5, 1_000))
    new = await w.registry.rotate_key(acme.id, old.id, digest=new_digest, last4="NEWs", old_ends_at=NOW + HOUR)
    assert new.id != old.id
    assert new.last4 == "NEWs"
    assert (new.tenant_id, new.user_id, new.name, new.scopes, new.expires_at) == (
        (old.tenant_id, old.user_id, old.name, old.scopes, old.expires_at)
    )
    ended = {key.id: key.expires_at for key in await w.registry.keys(acme.id)}
    assert ended == {old.id: NOW + HOUR, new.id: NOW + 9 * HOUR}
    before, after = await w.registry.identify_key(old_digest), await w.registry.identify_key(new_digest)
    assert (before.standing, after.standing) == (Standing.GOOD, Standing.GOOD)
    assert before.key_rate == after.key_rate == Rate(5, 1_000)
    await w.set_rate(acme.id, key_id=new.id, requests=None)
    assert (await w.registry.identify_key(old_digest)).key_rate == Rate(5, 1_000)


async def test_an_old_key_never_lives_longer_by_being_rotated(w: World) -> None:
    acme = await w.tenant()
    old = await w.key(acme, expires_at=datetime.now(UTC) + HOUR)
    new = await w.registry.rotate_key(acme.id, old.id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + 99 * HOUR)
    assert {key.expires_at for key in await w.registry.keys(acme.id)} == {old.expires_at} == {new.expires_at}


async def test_what_has_ended_is_not_rotated(w: World) -> None:
    """A revoked, an expired, a foreign, an unknown key: none gets a successor."""
    acme, other = await w.tenant(), await w.tenant()
    revoked, expired, foreign = await w.key(acme), await w.key(acme, expires_at=NOW - HOUR), await w.key(other)
    await w.registry.revoke_key(acme.id, revoked.id)
    for key_id in (revoked.id, expired.id, foreign.id, new_id(Kind.KEY)):
        with pytest.raises(NotFound, match=key_id):
            await w.registry.rotate_key(acme.id, key_id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + HOUR)
    assert len(await w.registry.keys(acme.id)) == 2
    assert await w.registry.keys(other.id) == [foreign]


async def test_a_key_has_one_successor_and_a_successor_may_have_its_own(w: World) -> None:
    acme = await w.tenant()
    first = await w.key(acme)
    second = await w.registry.rotate_key(acme.id, first.id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + HOUR)
    with pytest.raises(AlreadyExists, match="successor"):
        await w.registry.rotate_key(acme.id, first.id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + 2 * HOUR)
    third = await w.registry.rotate_key(acme.id, second.id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + HOUR)
    assert {key.id: key.expires_at for key in await w.registry.keys(acme.id)} == {
        first.id: NOW + HOUR,
        second.id: NOW + HOUR,
        third.id: None,
    }


@pytest.mark.parametrize(
    ("overlap", "loser"), [(HOUR, "AlreadyExists"), (-HOUR, "NotFound")], ids=["with overlap", "without"]
)
async def test_of_many_rotations_at_once_exactly_one_wins(w: World, overlap: timedelta, loser: str) -> None:
    acme = await w.tenant()
    old = await w.key(acme)
    digests = [a_digest() for _ in range(8)]
    ends = await asyncio.gather(
        *(
            w.registry.rotate_key(acme.id, old.id, digest=digest, last4="WXYZ", old_ends_at=NOW + overlap)
            for digest in digests
        ),
        return_exceptions=True,
    )
    assert Counter(type(end).__name__ for end in ends) == {"ApiKey": 1, loser: 7}
    (winner,) = [(end, digest) for end, digest in zip(ends, digests, strict=True) if not isinstance(end, Exception)]
    assert [key.id for key in await w.registry.keys(acme.id)] == [winner[0].id, old.id]
    assert [await w.registry.identify_key(digest) is not None for digest in digests].count(True) == 1
    assert (await w.registry.identify_key(winner[1])).expires_ms is None


async def test_revoking_and_rotating_at_once_never_leaves_the_old_key_in_use(w: World) -> None:
    acme = await w.tenant()
    for _ in range(5):
        digest = a_digest()
        old = await w.key(acme, digest=digest)
        await asyncio.gather(
            w.registry.revoke_key(acme.id, old.id),
            w.registry.rotate_key(acme.id, old.id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW + HOUR),
            return_exceptions=True,
        )
        assert await standing(w, digest) is Standing.REVOKED


@pytest.mark.parametrize("key_id", NOT_KEYS)
async def test_what_cannot_be_a_keys_id_is_not_even_looked_for(unasked: World, key_id: str) -> None:
    tenant_id = new_id(Kind.TENANT)
    with pytest.raises(NotFound):
        await unasked.registry.revoke_key(tenant_id, key_id)
    with pytest.raises(NotFound):
        await unasked.registry.key_tenant(key_id)
    with pytest.raises(NotFound):
        await unasked.registry.rotate_key(tenant_id, key_id, digest=a_digest(), last4="WXYZ", old_ends_at=NOW)
    with pytest.raises(NotFound):
        await unasked.set_rate(tenant_id, key_id=key_id, requests=None)


async def test_an_unknown_key_has_no_tenant_and_cannot_be_revoked(w: World) -> None:
    acme, other = await w.tenant(), await w.tenant()
    foreign = await w.key(other)
    with pytest.raises(NotFound):
        await w.registry.key_tenant(new_id(Kind.KEY))
    for key_id in (new_id(Kind.KEY), foreign.id):
        with pytest.raises(NotFound, match=key_id):
            await w.registry.revoke_key(acme.id, key_id)
    assert await w.registry.keys(other.id) == [foreign]


async def test_identifying_a_key_reads_no_table_from_end_to_end(w: World) -> None:
    """It stands in the way of a request: with many rows, each of them is found by an index."""
    acme = await w.tenant()
    async with w.pool.operator() as connection:
        await connection.execute(
            """
            INSERT INTO platform.api_keys (id, tenant_id, name, digest, last4, scopes)
            SELECT 'key_' || n, $1, 'n', sha256(n::text::bytea), 'WXYZ', '{}' FROM generate_series(1, 3000) n
            """,
            acme.id,
        )
        await connection.execute(
            """
            INSERT INTO platform.limits (tenant_id, key_id, count, period_ms)
            SELECT tenant_id, id, 1, 1000 FROM platform.api_keys
            """
        )
        await connection.execute("ANALYZE platform.api_keys, platform.limits")
        plan = await connection.fetch("EXPLAIN " + IDENTIFY, a_digest())
    text = "\n".join(row[0] for row in plan)
    for table in ("api_keys", "limits"):
        assert f"Seq Scan on {table}" not in text, text


async def test_a_persons_key_does_no_more_than_its_person_may(w: World) -> None:
    """A-08: who was made a viewer does not transcribe with an old key; scopes that are no permission are nobody's."""
    acme = await w.tenant()
    ada = await w.user(acme, Role.ADMIN)
    members = PostgresMembers(w.pool, TRAIL)
    scopes = frozenset({"transcribe", "keys:write", "house:word"})
    of_ada, of_acme = a_digest(), a_digest()
    await w.key(acme, digest=of_ada, user=ada, scopes=scopes)
    await w.key(acme, digest=of_acme, scopes=scopes)

    async def held(digest: bytes) -> tuple[frozenset[str], tuple[str, ...]]:
        principal = await w.registry.identify_key(digest)
        assert principal is not None
        return principal.scopes, principal.roles

    assert await held(of_ada) == (scopes, ("admin",))
    await members.set_role(acme.id, ada.id, Role.MEMBER, None)
    assert await held(of_ada) == ({"transcribe", "house:word"}, ("member",))
    await members.set_role(acme.id, ada.id, Role.VIEWER, None)
    assert await held(of_ada) == ({"house:word"}, ("viewer",))
    await PostgresRoles(w.pool, TRAIL).create(acme.id, "clerks", "", ["keys:write"])
    await members.set_role(acme.id, ada.id, Role.MEMBER, "clerks")
    assert await held(of_ada) == ({"keys:write", "house:word"}, ("clerks",))
    assert await held(of_acme) == (scopes, ())


async def test_a_service_accounts_key_does_no_more_than_the_account_may(w: World) -> None:
    """Whatever the names of the scopes; its successors neither, and nothing once it is disabled."""
    acme, other = await w.tenant(), await w.tenant()
    accounts = PostgresServiceAccounts(w.pool, TRAIL)
    scopes = frozenset({"transcribe", "keys:write", "house:word"})
    account = await accounts.create(acme.id, name="w", scopes=scopes, audiences=frozenset(), digest=a_digest())
    wish = {"name": "k", "last4": "WXYZ", "service_account_id": account.id}
    first, second = a_digest(), a_digest()
    key = await w.registry.create_key(acme.id, NewKey(digest=first, scopes=scopes, **wish))
    await w.registry.rotate_key(acme.id, key.id, digest=second, last4="WXYZ", old_ends_at=NOW + HOUR)
    for left in (scopes, frozenset({"house:word"}), frozenset({"transcribe", "another"})):
        await accounts.change(acme.id, account.id, scopes=left)
        for digest in (first, second):
            principal = await w.registry.identify_key(digest)
            assert principal is not None
            assert (principal.user_id, principal.roles) == (account.id, ("service",))
            assert principal.scopes == scopes & left
    with pytest.raises(ExceedsOwner, match="house:word, keys:write"):
        await w.registry.create_key(acme.id, NewKey(digest=a_digest(), scopes=scopes, **wish))
    with pytest.raises(NotFound, match="service account"):
        await w.registry.create_key(other.id, NewKey(digest=a_digest(), scopes=frozenset(), **wish))
    with pytest.raises(ValueError, match="not both"):
        await w.registry.create_key(acme.id, NewKey(digest=a_digest(), scopes=frozenset(), user_id="usr_x", **wish))
    await accounts.disable(acme.id, account.id)
    assert [await standing(w, digest) for digest in (first, second)] == [Standing.REVOKED] * 2


async def test_who_makes_keys_without_a_pause_is_removed_all_the_same(w: World) -> None:
    """Keys that are being made as a removal begins end with it, and those that come after it wait, and are not made."""
    acme = await w.tenant()
    await w.user(acme, Role.OWNER)
    ada = await w.user(acme)
    old, last, late = a_digest(), a_digest(), a_digest()
    key = await w.key(acme, digest=old, user=ada)
    members = PostgresMembers(w.pool, TRAIL)
    async with asyncio.TaskGroup() as tasks, w.pool.tenant(acme.id) as connection:
        # What a rotation has done when it is about to end.
        await connection.execute(
            "INSERT INTO platform.api_keys (id, tenant_id, user_id, name, digest, last4, scopes)"
            " VALUES ($1, $2, $3, 'last', $4, 'last', '{}')",
            new_id(Kind.KEY), acme.id, ada.id, last,
        )  # fmt: skip
        removal = tasks.create_task(members.remove(acme.id, ada.id))
        await _waiting_for_locks(w, 1)
        maker = tasks.create_task(_refused(w.key(acme, digest=late, user=ada)))
        rotation = tasks.create_task(
            _refused(w.registry.rotate_key(acme.id, key.id, digest=late, last4="late", old_ends_at=NOW + HOUR))
        )
        await _waiting_for_locks(w, 3)
    assert removal.result().user_id == ada.id
    assert maker.result()
    assert rotation.result()
    for digest in (old, last):
        principal = await w.registry.identify_key(digest)
        assert principal is not None
        assert principal.standing is Standing.REVOKED
    assert await w.registry.identify_key(late) is None


async def _refused(making: Awaitable[ApiKey]) -> bool:
    try:
        await making
    except NotFound:
        return True
    return False


async def _waiting_for_locks(w: World, count: int) -> None:
    """Until so many sessions wait for a table's."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'platform.memberships'::regclass"
    async with asyncio.timeout(30):
        while (await w.pool.read(waiting))[0]["count"] < count:
            pass

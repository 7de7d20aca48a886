"""Service accounts in PostgreSQL: an id and a secret, which is one of two while it is being replaced."""

from datetime import UTC, datetime, timedelta

import pytest

from policies.identity.tenants import TenantStatus
from storage.ports import AlreadyExists, NotFound
from storage.postgres.ids import Kind, new_id
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tokens.service_accounts import PostgresServiceAccounts
from tests.storage.world import TRAIL, World, a_digest

SCOPES = frozenset({"transcribe"})


@pytest.fixture
def accounts(w: World) -> PostgresServiceAccounts:
    return PostgresServiceAccounts(w.pool, TRAIL)


async def test_an_account_is_known_by_its_id_and_its_secret(w: World, accounts: PostgresServiceAccounts) -> None:
    tenant, digest = await w.tenant(), a_digest()
    made = await accounts.create(
        tenant.id, name="worker", scopes=SCOPES, audiences=frozenset({"billing"}), digest=digest
    )
    assert (made.name, made.scopes, made.audiences, made.disabled_at) == ("worker", SCOPES, {"billing"}, None)
    assert await accounts.authenticate(made.id, digest) == made
    assert await accounts.accounts(tenant.id) == [made]
    assert await accounts.account(made.id) == made
    other = await accounts.create(tenant.id, name="other", scopes=SCOPES, audiences=frozenset(), digest=a_digest())
    for account_id, secret in ((made.id, a_digest()), (other.id, digest), ("", digest), ("svc_x", digest)):
        assert await accounts.authenticate(account_id, secret) is None


async def test_a_name_is_one_account_of_a_tenant(w: World, accounts: PostgresServiceAccounts) -> None:
    here, there = await w.tenant(), await w.tenant()
    for tenant in (here, there):
        await accounts.create(tenant.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=a_digest())
    with pytest.raises(AlreadyExists, match="'x' already"):
        await accounts.create(here.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=a_digest())
    with pytest.raises(NotFound):
        await accounts.create(new_id(Kind.TENANT), name="x", scopes=SCOPES, audiences=frozenset(), digest=a_digest())


async def test_a_new_secret_and_the_old_one_overlap(w: World, accounts: PostgresServiceAccounts) -> None:
    """A-10: both for a while, then the new one alone."""
    tenant, old, new, newest = await w.tenant(), a_digest(), a_digest(), a_digest()
    made = await accounts.create(tenant.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=old)
    await accounts.rotate(tenant.id, made.id, digest=new, old_ends_at=datetime.now(UTC) + timedelta(hours=1))
    assert [await accounts.authenticate(made.id, secret) is not None for secret in (old, new)] == [True, True]
    await accounts.rotate(tenant.id, made.id, digest=newest, old_ends_at=datetime.now(UTC))
    assert [await accounts.authenticate(made.id, secret) is not None for secret in (old, new, newest)] == [
        False, False, True
    ]  # fmt: skip


async def test_a_disabled_account_gets_nothing_more(w: World, accounts: PostgresServiceAccounts) -> None:
    tenant, digest = await w.tenant(), a_digest()
    made = await accounts.create(tenant.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=digest)
    subjects = PostgresSubjects(w.pool)
    found = await subjects.identify_subject(tenant.id, made.id)
    assert found is not None
    assert (found.user_id, found.roles, found.scopes, found.standing) == (made.id, ("service",), SCOPES, "good")
    first = await accounts.disable(tenant.id, made.id)
    assert await accounts.disable(tenant.id, made.id) == first
    assert await accounts.authenticate(made.id, digest) is None
    found = await subjects.identify_subject(tenant.id, made.id)
    assert found is not None
    assert found.standing == "revoked"
    with pytest.raises(NotFound, match="still enabled"):
        await accounts.rotate(tenant.id, made.id, digest=a_digest(), old_ends_at=datetime.now(UTC))


async def test_a_suspended_tenants_accounts_get_nothing(w: World, accounts: PostgresServiceAccounts) -> None:
    tenant, digest = await w.tenant(), a_digest()
    made = await accounts.create(tenant.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=digest)
    await w.directory.set_tenant_status(tenant.slug, TenantStatus.SUSPENDED)
    assert await accounts.authenticate(made.id, digest) is None


async def test_another_tenants_account_is_not_there(w: World, accounts: PostgresServiceAccounts) -> None:
    mine, other = await w.tenant(), await w.tenant()
    theirs = await accounts.create(other.id, name="x", scopes=SCOPES, audiences=frozenset(), digest=a_digest())
    with pytest.raises(NotFound):
        await accounts.disable(mine.id, theirs.id)
    with pytest.raises(NotFound):
        await accounts.rotate(mine.id, theirs.id, digest=a_digest(), old_ends_at=datetime.now(UTC))
    assert await accounts.accounts(mine.id) == []
    assert await PostgresSubjects(w.pool).identify_subject(mine.id, theirs.id) is None

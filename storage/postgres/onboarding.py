"""A tenant from nothing to its first request: tenant, plan, its owner's invitation and a first key; all or none."""

from dataclasses import dataclass

from policies.identity.tenants import ApiKey, Role, Tenant
from policies.people import Invitation
from storage.ports import NewKey
from storage.postgres.audit import AuditTrail
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.pool import Pool
from storage.postgres.tenants.directory import PostgresDirectory
from storage.postgres.tenants.invitations import PostgresInvitations
from storage.postgres.tenants.plans import PostgresPlans


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A tenant to be. ``invitation`` is the digest of the secret in its owner's link (32 bytes)."""

    slug: str
    name: str
    owner: str
    invitation: bytes
    invited_by: str | None
    plan: str | None
    key: NewKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarded:
    """What was made."""

    tenant: Tenant
    invitation: Invitation
    key: ApiKey | None


async def onboard(pool: Pool, trail: AuditTrail, new: Newcomer) -> Onboarded:
    """In one transaction. Raises AlreadyExists for the slug, NotFound for the plan, ValueError for what cannot be."""
    async with pool.together() as one:
        tenant = await PostgresDirectory(one, trail).create_tenant(new.slug, new.name)
        if new.plan is not None:
            tenant = await PostgresPlans(one, trail).assign(tenant.id, new.plan)
        invitation = await PostgresInvitations(one, trail).create(
            tenant.id, new.owner, Role.OWNER, new.invitation, new.invited_by
        )
        key = None
        if new.key is not None:
            key = await PostgresKeyRegistry(one, trail).create_key(tenant.id, new.key)
    return Onboarded(tenant=tenant, invitation=invitation, key=key)

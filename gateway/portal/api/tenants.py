"""Tenants: an operator's for all of them, everybody's own for one."""

from typing import Any

from gateway.portal.api.operations import Ask, InTenant, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import Page, Paged
from gateway.portal.api.shapes import Instant, Name, Slug
from gateway.portal.problems import Problem
from policies.permissions import Permission
from policies.tenants import Tenant, TenantStatus
from policies.verdict import Refusal
from storage.ports import Invalidation

operations = Operations("tenants")


class TenantShown(Shown):
    """An organisation: the unit of isolation, of limits and of the account."""

    id: str
    slug: str
    name: str
    status: TenantStatus
    created_at: Instant


class TenantWish(Sent):
    """A new tenant."""

    slug: Slug
    name: Name


class TenantChange(Sent):
    """What of a tenant changes."""

    name: Name


class TenantList(Paged, Sent):
    """Which tenants."""

    status: TenantStatus | None = None


@operations.get("/tenants", Permission.PLATFORM_READ, query=TenantList, answer=Page[TenantShown])
async def list_tenants(ask: Ask[TenantList, Any]) -> Page[TenantShown]:
    """All tenants, by slug."""
    query = ask.query
    cursors = ask.cursors(query.status)
    after = cursors.open(query.cursor) or [""]
    found = await ask.directory.tenants_page(query.limit + 1, after=str(after[0]), status=query.status)
    return cursors.page([_shown(each) for each in found], query.limit, [[each.slug] for each in found])


@operations.post("/tenants", Permission.PLATFORM_WRITE, query=Nothing, body=TenantWish, answer=TenantShown)
async def create_tenant(ask: Ask[Nothing, TenantWish]) -> TenantShown:
    """Make a tenant."""
    return _shown(await ask.directory.create_tenant(ask.body.slug, ask.body.name))


@operations.get("/tenants/{slug}", Permission.PLATFORM_READ, query=Nothing, answer=TenantShown)
async def show_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """One tenant, by slug."""
    return _shown(await ask.directory.tenant(ask.path("slug")))


@operations.post("/tenants/{slug}/suspend", Permission.PLATFORM_WRITE, query=Nothing, answer=TenantShown, status=200)
async def suspend_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """Refuse all of a tenant's credentials. Its data stays."""
    if (await ask.directory.tenant(ask.path("slug"))).id == ask.who.tenant_id:
        raise Problem(Refusal.IN_USE, "It is the tenant of your own credential, which would be refused as well.")
    return await _set_status(ask, TenantStatus.SUSPENDED)


@operations.post("/tenants/{slug}/resume", Permission.PLATFORM_WRITE, query=Nothing, answer=TenantShown, status=200)
async def resume_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """Accept a suspended tenant's credentials again."""
    return await _set_status(ask, TenantStatus.ACTIVE)


@operations.get("/tenant", Permission.TENANT_READ, answer=TenantShown)
async def show_own_tenant(ask: Ask[InTenant, Any]) -> TenantShown:
    """The caller's own tenant."""
    return _shown(await ask.directory.tenant_by_id(ask.tenant_id))


@operations.patch("/tenant", Permission.TENANT_WRITE, body=TenantChange, answer=TenantShown)
async def change_own_tenant(ask: Ask[InTenant, TenantChange]) -> TenantShown:
    """Rename the caller's own tenant."""
    changed = await ask.directory.rename_tenant(
        ask.tenant_id, ask.body.name, lambda current: ask.check_version(_shown(current))
    )
    return _shown(changed)


async def _set_status(ask: Ask[Nothing, Any], status: TenantStatus) -> TenantShown:
    found = await ask.directory.set_tenant_status(ask.path("slug"), status)
    await ask.announce(Invalidation(tenant_id=found.id))
    return _shown(found)


def _shown(tenant: Tenant) -> TenantShown:
    return TenantShown(
        id=tenant.id, slug=tenant.slug, name=tenant.name, status=tenant.status, created_at=tenant.created_at
    )

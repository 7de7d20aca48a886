"""Tenants: an operator's for all of them, everybody's own for one."""

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from gateway.portal.api.counting import recounted
from gateway.portal.api.operations import Ask, InTenant, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import Page, Paged
from gateway.portal.api.shapes import Instant, Name, Slug
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import Tenant, TenantStatus
from storage.ports import Invalidation
from storage.postgres.tenants.departures import PostgresDepartures
from storage.postgres.tenants.directory import Leaving, PostgresDirectory
from storage.postgres.tenants.plans import PostgresPlans

operations = Operations("tenants")


class TenantShown(Shown):
    """An organisation: the unit of isolation, of limits and of the account."""

    id: str
    slug: str
    name: str
    status: TenantStatus
    plan: str | None = Field(description="The plan that it is on.")
    created_at: Instant
    delete_after: Instant | None = Field(description="When a deleted tenant is removed; null: it is not deleted.")


class TenantWish(Sent):
    """A new tenant."""

    slug: Slug
    name: Name


class TenantChange(Sent):
    """What of a tenant changes."""

    name: Name


class TenantEdit(Sent):
    """What of a tenant changes; what is left out stays."""

    name: Name | None = None
    plan: Slug | None = Field(default=None, description="Null: on none.")


class TenantLeave(Sent):
    """How a tenant is deleted."""

    grace_days: int = Field(default=30, ge=0, le=365, description="Days in which it can be restored.")


class TenantList(Paged, Sent):
    """Which tenants."""

    sort: Literal["slug", "created", "-created"] = Field(
        default="slug", description="By slug, oldest first, or newest first."
    )

    status: TenantStatus | None = None


@operations.get("/tenants", Permission.PLATFORM_READ, query=TenantList, answer=Page[TenantShown])
async def list_tenants(ask: Ask[TenantList, Any]) -> Page[TenantShown]:
    """All tenants, by slug if nothing else is said."""
    query = ask.query
    found = await ask.directory.tenants_page(
        query.limit + 1, sort=query.sort, beyond=ask.cursors.beyond(query.cursor), status=query.status
    )
    places = [[each.slug if query.sort == "slug" else each.id] for each in found]
    return ask.cursors.page([shown(each) for each in found], query.limit, places)


@operations.post("/tenants", Permission.PLATFORM_WRITE, query=Nothing, body=TenantWish, answer=TenantShown)
async def create_tenant(ask: Ask[Nothing, TenantWish]) -> TenantShown:
    """Make a tenant."""
    return shown(await ask.directory.create_tenant(ask.body.slug, ask.body.name))


@operations.get("/tenants/{slug}", Permission.PLATFORM_READ, query=Nothing, answer=TenantShown)
async def show_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """One tenant, by slug."""
    return shown(await ask.directory.tenant(ask.path("slug")))


@operations.post("/tenants/{slug}/suspend", Permission.PLATFORM_WRITE, query=Nothing, answer=TenantShown, status=200)
async def suspend_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """Refuse all of a tenant's credentials. Its data stays."""
    await _not_ones_own(ask)
    return await _set_status(ask, TenantStatus.SUSPENDED)


@operations.post("/tenants/{slug}/resume", Permission.PLATFORM_WRITE, query=Nothing, answer=TenantShown, status=200)
async def resume_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """Accept a suspended tenant's credentials again."""
    return await _set_status(ask, TenantStatus.ACTIVE)


@operations.patch("/tenants/{slug}", Permission.PLATFORM_WRITE, query=Nothing, body=TenantEdit, answer=TenantShown)
async def change_tenant(ask: Ask[Nothing, TenantEdit]) -> TenantShown:
    """Rename a tenant, or put it on another plan: in effect within a second."""
    edit = ask.body
    async with ask.parts.pool.together() as one:
        directory = PostgresDirectory(one, ask.trail)
        found = await directory.tenant(ask.path("slug"))
        found = await directory.rename_tenant(
            found.id, edit.name or found.name, lambda current: ask.check_version(shown(current))
        )
        if "plan" in edit.model_fields_set:
            found = await PostgresPlans(one, ask.trail).assign(found.id, edit.plan)
    if edit.plan is not None:
        await recounted(ask, found.id, found.id)
    await ask.announce(Invalidation(tenant_id=found.id))
    return shown(found)


@operations.delete("/tenants/{slug}", Permission.PLATFORM_WRITE, query=TenantLeave, answer=TenantShown, status=200)
async def delete_tenant(ask: Ask[TenantLeave, Any]) -> TenantShown:
    """Refuse all of a tenant's credentials, and remove it once its grace is over. The account and the trail stay."""
    await _not_ones_own(ask)
    left = await _departures(ask).delete(
        ask.path("slug"), timedelta(days=ask.query.grace_days), lambda current: ask.check_version(shown(current))
    )
    await ask.announce(Invalidation(tenant_id=left.id))
    return shown(left)


@operations.post("/tenants/{slug}/restore", Permission.PLATFORM_WRITE, query=Nothing, answer=TenantShown, status=200)
async def restore_tenant(ask: Ask[Nothing, Any]) -> TenantShown:
    """Undo a deletion whose grace is not over: the tenant is as it was before, suspended if it was."""
    found = await _departures(ask).restore(ask.path("slug"))
    await ask.announce(Invalidation(tenant_id=found.id))
    return shown(found)


@operations.get("/tenant", Permission.TENANT_READ, answer=TenantShown)
async def show_own_tenant(ask: Ask[InTenant, Any]) -> TenantShown:
    """The caller's own tenant."""
    return shown(await ask.directory.tenant_by_id(ask.tenant_id))


@operations.patch("/tenant", Permission.TENANT_WRITE, body=TenantChange, answer=TenantShown)
async def change_own_tenant(ask: Ask[InTenant, TenantChange]) -> TenantShown:
    """Rename the caller's own tenant."""
    changed = await ask.directory.rename_tenant(
        ask.tenant_id, ask.body.name, lambda current: ask.check_version(shown(current))
    )
    return shown(changed)


async def _not_ones_own(ask: Ask[Any, Any]) -> None:
    if (await ask.directory.tenant(ask.path("slug"))).id == ask.who.tenant_id:
        raise Problem(Refusal.IN_USE, "It is the tenant of your own credential, which would be refused as well.")


def _departures(ask: Ask[Any, Any]) -> PostgresDepartures:
    return PostgresDepartures(ask.parts.pool, ask.trail)


async def _set_status(ask: Ask[Nothing, Any], status: TenantStatus) -> TenantShown:
    try:
        found = await ask.directory.set_tenant_status(ask.path("slug"), status)
    except Leaving as error:
        raise Problem(Refusal.IN_USE, str(error)) from error
    await ask.announce(Invalidation(tenant_id=found.id))
    return shown(found)


def shown(tenant: Tenant) -> TenantShown:
    """A tenant as the API shows it."""
    return TenantShown(
        id=tenant.id,
        slug=tenant.slug,
        name=tenant.name,
        status=tenant.status,
        plan=tenant.plan,
        created_at=tenant.created_at,
        delete_after=tenant.delete_after,
    )

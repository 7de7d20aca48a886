"""``gateway tenant``."""

from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, tell, with_stores
from gateway.cli.known_routes import check_route
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.tenant_life import delete, facts, onboard, purge, restore
from gateway.cli.values import NAME, SLUG
from gateway.times import maybe_stamp, stamp
from policies.identity.tenants import RouteOverride, Tenant, TenantStatus
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


@click.group(cls=Group)
def tenant() -> None:
    """Organisations: the unit of isolation, limits and the account."""


@tenant.command()
@click.argument("slug", type=SLUG)
@click.option("--name", type=NAME, help="What people call it. Default: the slug.")
@common
def create(given: Given, slug: str, name: str | None) -> None:
    """Make a tenant. SLUG is its short name: small letters, digits and hyphens."""
    made = with_stores(given, lambda stores: stores.directory.create_tenant(slug, name or slug))
    tell(given, facts(made), f"Tenant {slug} made.")
    remark(f"Next, a key: gateway key create --tenant {slug} --name NAME")


@tenant.command("list")
@common
def list_tenants(given: Given) -> None:
    """All tenants, by slug."""
    found = with_stores(given, lambda stores: stores.directory.tenants())
    if given.json:
        print_json([facts(each) for each in found])
        return
    print_table(
        ("SLUG", "NAME", "STATUS", "CREATED", "ID", "PLAN", "DELETED AFTER"),
        [(t.slug, t.name, t.status, stamp(t.created_at), t.id, t.plan, maybe_stamp(t.delete_after)) for t in found],
    )
    if not found:
        remark("There is no tenant yet. Make one: gateway tenant create SLUG")


@tenant.command()
@click.argument("slug", type=SLUG)
@common
def suspend(given: Given, slug: str) -> None:
    """Refuse all of a tenant's credentials. Its data stays."""
    found = with_stores(given, lambda stores: _set_status(stores, slug, TenantStatus.SUSPENDED))
    tell(given, facts(found), f"Tenant {slug} is suspended: all of its credentials are refused.")


@tenant.command()
@click.argument("slug", type=SLUG)
@common
def resume(given: Given, slug: str) -> None:
    """Accept a suspended tenant's credentials again."""
    found = with_stores(given, lambda stores: _set_status(stores, slug, TenantStatus.ACTIVE))
    tell(given, facts(found), f"Tenant {slug} is active.")


@tenant.command()
@click.argument("slug", type=SLUG)
@click.argument("route", required=False)
@click.option("--deny/--allow", "deny", default=None, help="Forbid the route to this tenant, or lift that again.")
@common
def route(given: Given, slug: str, route: str | None, *, deny: bool | None) -> None:
    """Forbid one tenant a route of the route table. ROUTE is its name there, such as openai.transcriptions.

    Without ROUTE: the routes that are forbidden to the tenant. What the table itself closes stays closed.
    """
    if (route is None) != (deny is None):
        raise click.UsageError("Name a ROUTE and one of --deny, --allow; or neither, to see what is forbidden.")
    denied = with_stores(given, lambda stores: _override(stores, slug, route, deny=bool(deny)))
    if given.json:
        print_json({"tenant": slug, "denied_routes": denied})
    elif route is None:
        print_table(("DENIED",), [(name,) for name in denied])
    else:
        click.echo(f"Tenant {slug} may {'not ' if deny else ''}use {route}.")


async def _set_status(stores: "Stores", slug: str, status: TenantStatus) -> Tenant:
    found = await stores.directory.set_tenant_status(slug, status)
    await stores.announce(Invalidation(tenant_id=found.id))
    return found


async def _override(stores: "Stores", slug: str, name: str | None, *, deny: bool) -> list[str]:
    """Set it where there is one to set; the routes that are forbidden then."""
    found = await stores.directory.tenant(slug)
    if name is not None:
        if deny:
            check_route(stores, name)
        await stores.directory.set_route_override(RouteOverride(tenant_id=found.id, route=name, allowed=not deny))
        await stores.announce(Invalidation(tenant_id=found.id))
    return [override.route for override in await stores.directory.route_overrides(found.id)]


for command in (onboard, delete, restore, purge):
    tenant.add_command(command)

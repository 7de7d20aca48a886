"""``gateway plan``."""

from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.known_routes import check_routes
from gateway.cli.limit_rows import recounted
from gateway.cli.limits import with_amounts
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.tenant_life import facts as tenant_facts
from gateway.cli.values import NONE, SLUG
from gateway.times import stamp
from policies.identity.tenants import Tenant
from policies.limits.allowances import Allowance
from policies.limits.plans import MOST, Counted, Plan
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.tenants.plans import PostgresPlans

_Amounts = tuple[Allowance | None, ...]


@click.group(cls=Group)
def plan() -> None:
    """Limits and routes under one name, for all tenants that are on the plan.

    A limit that a tenant has itself, on all routes, stands in place of the plan's of the same kind.
    """


class _Most(click.ParamType[tuple[Counted, int]]):
    """``keys=20000``."""

    name = "what=n"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Counted, int]:
        what, _, number = str(value).partition("=")
        if what not in set(Counted) or not (number.isascii() and number.isdecimal() and len(number) < 8):
            self.fail(f"{value!r} is not one of {', '.join(Counted)}, '=' and a number.", param, ctx)
        return Counted(what), int(number)


_MOST = _Most()


def _with_terms(command: Any) -> Any:
    route = click.option(
        "--route", "routes", multiple=True, metavar="NAME", help="Open this route alone; again for another one."
    )
    rating = click.option("--rating", metavar="NAME", help="The price list that usage is rated by.")
    note = click.option("--note", help="For other operators.")
    most = click.option(
        "--most", type=_MOST, multiple=True, metavar="WHAT=N",
        help=f"How many a tenant may have instead of {' '.join(f'{what}={number}' for what, number in MOST.items())}.",
    )  # fmt: skip
    return with_amounts(route(rating(note(most(command)))))


@plan.command()
@click.argument("name", type=SLUG)
@_with_terms
@common
def create(
    given: Given,
    name: str,
    routes: tuple[str, ...],
    rating: str | None,
    note: str | None,
    most: tuple[tuple[Counted, int], ...],
    **amounts: _Amounts,
) -> None:
    """Make a plan. Without --route it opens all routes."""

    async def make(stores: "Stores") -> Plan:
        check_routes(stores, routes)
        return await _plans(stores).create(
            name, limits=_granted(amounts), routes=routes, rating=rating or "", note=note or "", most=dict(most)
        )

    made = with_stores(given, make)
    tell(given, _facts(made), f"Plan {name} made.")
    remark(f"Next, a tenant on it: gateway plan assign {name} SLUG")


@plan.command("list")
@common
def list_plans(given: Given) -> None:
    """All plans, by name."""

    async def ask(stores: "Stores") -> list[tuple[Plan, int]]:
        plans = _plans(stores)
        return [(each, len(await plans.tenants_on(each.name))) for each in await plans.all()]

    found = with_stores(given, ask)
    if given.json:
        print_json([_facts(each) | {"tenants": tenants} for each, tenants in found])
        return
    print_table(
        ("NAME", "LIMITS", "ROUTES", "RATING", "TENANTS", "NOTE", "MOST"),
        [
            (
                each.name,
                ", ".join(f"{limit.what} {limit}" for limit in each.limits),
                " ".join(sorted(each.routes)) or "all",
                each.rating,
                tenants,
                each.note,
                ", ".join(f"{what}={number}" for what, number in sorted(each.most.items())),
            )
            for each, tenants in found
        ],
    )
    if not found:
        remark("There is no plan yet. Make one: gateway plan create NAME --requests 600/m")


@plan.command("set")
@click.argument("name", type=SLUG)
@_with_terms
@common
def set_plan(
    given: Given,
    name: str,
    routes: tuple[str, ...],
    rating: str | None,
    note: str | None,
    most: tuple[tuple[Counted, int], ...],
    **amounts: _Amounts,
) -> None:
    """Change a plan: in effect for all tenants that are on it within a second.

    What is not named stays; 'none' lifts a limit, and '--route none' opens all routes.
    """
    named = {what: found for what, found in amounts.items() if found}
    only = () if routes == (NONE,) else routes
    if not (named or routes or most) and rating is None and note is None:
        raise click.UsageError("name what is to change, such as --requests 600/m")

    async def change(stores: "Stores") -> Plan:
        check_routes(stores, only)
        plans = _plans(stores)
        old = await plans.plan(name)
        kept = [limit for limit in old.limits if limit.what.value not in named]
        changed = await plans.change(
            name,
            limits=[*kept, *_granted(named)] if named else None,
            routes=only if routes else None,
            rating=rating,
            note=note,
            most={**old.most, **dict(most)} if most else None,
        )
        for tenant_id in await plans.tenants_on(name):
            await stores.announce(Invalidation(tenant_id=tenant_id))
        return changed

    tell(given, _facts(with_stores(given, change)), f"Plan {name} changed.")


@plan.command()
@click.argument("name")
@click.argument("slug", type=SLUG)
@common
def assign(given: Given, name: str, slug: str) -> None:
    """Put a tenant on a plan; NAME 'none' takes it off. In effect within a second."""

    async def put(stores: "Stores") -> Tenant:
        tenant = await stores.directory.tenant(slug)
        tenant = await _plans(stores).assign(tenant.id, None if name == NONE else name)
        await recounted(stores, tenant.id, tenant.id)
        await stores.announce(Invalidation(tenant_id=tenant.id))
        return tenant

    found = with_stores(given, put)
    tell(given, tenant_facts(found), f"Tenant {slug} is on {f'plan {found.plan}' if found.plan else 'no plan'}.")


@plan.command()
@click.argument("name", type=SLUG)
@yes_option
@common
def delete(given: Given, name: str, *, yes: bool) -> None:
    """End a plan that no tenant is on."""
    confirm(f"Delete plan {name}?", yes=yes)
    with_stores(given, lambda stores: _plans(stores).delete(name))
    tell(given, {"name": name}, f"Plan {name} is deleted.")


def _plans(stores: "Stores") -> "PostgresPlans":
    from storage.postgres.tenants.plans import PostgresPlans  # noqa: PLC0415  slow: see the package's docstring

    return PostgresPlans(stores.pool, stores.trail)


def _granted(amounts: dict[str, _Amounts]) -> list[Allowance]:
    return [allowance for found in amounts.values() for allowance in found if allowance is not None]


def _facts(found: Plan) -> dict[str, object]:
    return {
        "name": found.name,
        "limits": found.texts,
        "routes": sorted(found.routes),
        "rating": found.rating,
        "note": found.note,
        "most": {what.value: number for what, number in sorted(found.most.items())},
        "created_at": stamp(found.created_at),
    }

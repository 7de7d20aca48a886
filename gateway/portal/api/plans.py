"""Plans: the operator's to make; a tenant is on one or on none."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.portal.api.keys import RouteNames
from gateway.portal.api.limits import Texts, parsed
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.paging import ByName, Page
from gateway.portal.api.shapes import Instant, Slug, stamp
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.limits.allowances import Allowance, What
from policies.limits.plans import Counted, Plan
from storage.ports import Invalidation
from storage.postgres.tenants.plans import PlanInUse, PostgresPlans

operations = Operations("plans")

_MOST_TOLD = 100
"""More tenants than this are told of a change by emptying every cache once."""
_LIMITS = "Limits by kind: `requests`, `bytes`, `audio`, `concurrency`, `streams`."


def _are_limits(texts: dict[What, list[str]]) -> dict[What, list[str]]:
    for what, written in texts.items():
        parsed(what, written)
    return texts


Limits = Annotated[dict[What, Texts], AfterValidator(_are_limits), Field(description=_LIMITS)]
_MOST = "How many a tenant may have of a thing: `keys`, `service_accounts`, `webhooks`, `invitations`, `roles`."
Most = Annotated[dict[Counted, Annotated[int, Field(ge=0, le=1_000_000)]], Field(description=_MOST)]
Line = Annotated[str, Field(max_length=200)]


class PlanShown(Shown):
    """A plan. A tenant's own limit of a kind stands in place of the plan's of that kind."""

    name: str
    limits: dict[str, list[str]] = Field(description=_LIMITS)
    routes: list[str] = Field(description="The only routes that it opens, by name; empty: all.")
    rating: str = Field(description="The price list that its usage is rated by.")
    note: str
    most: dict[str, int] = Field(description=f"{_MOST} What it does not name is as without a plan.")
    created_at: Instant


class PlanWish(Sent):
    """A new plan."""

    name: Slug
    limits: Limits = Field(default={})
    routes: RouteNames = Field(default=[])
    rating: Line = ""
    note: Line = ""
    most: Most = Field(default={})


class PlanEdit(Sent):
    """What of a plan changes; what is left out stays."""

    limits: Limits | None = None
    routes: RouteNames | None = None
    rating: Line | None = None
    note: Line | None = None
    most: Most | None = None


class PlanList(ByName, Sent):
    """Which plans."""

    rating: str | None = Field(default=None, max_length=200, description="Those of this price list.")


@operations.get("/plans", Permission.PLATFORM_READ, query=PlanList, answer=Page[PlanShown])
async def list_plans(ask: Ask[PlanList, Any]) -> Page[PlanShown]:
    """All plans, by name if nothing else is said."""
    query = ask.query
    kept = [plan for plan in await plans(ask).all() if query.rating in (None, plan.rating)]
    page, following = ask.cursors.cut(
        kept, query, lambda plan: ("" if query.sort == "name" else stamp(plan.created_at), plan.name)
    )
    return Page(data=[_shown(plan) for plan in page], next_cursor=following)


@operations.post("/plans", Permission.PLATFORM_WRITE, query=Nothing, body=PlanWish, answer=PlanShown)
async def create_plan(ask: Ask[Nothing, PlanWish]) -> PlanShown:
    """Make a plan."""
    wish = ask.body
    made = await plans(ask).create(
        wish.name,
        limits=_limits(wish.limits),
        routes=wish.routes,
        rating=wish.rating,
        note=wish.note,
        most=wish.most,
    )
    return _shown(made)


@operations.get("/plans/{name}", Permission.PLATFORM_READ, query=Nothing, answer=PlanShown)
async def show_plan(ask: Ask[Nothing, Any]) -> PlanShown:
    """One plan."""
    return _shown(await plans(ask).plan(ask.path("name")))


@operations.patch("/plans/{name}", Permission.PLATFORM_WRITE, query=Nothing, body=PlanEdit, answer=PlanShown)
async def change_plan(ask: Ask[Nothing, PlanEdit]) -> PlanShown:
    """Change a plan: in effect for all tenants that are on it within a second."""
    edit, name = ask.body, ask.path("name")
    changed = await plans(ask).change(
        name,
        limits=None if edit.limits is None else _limits(edit.limits),
        routes=edit.routes,
        rating=edit.rating,
        note=edit.note,
        most=edit.most,
        check=lambda current: ask.check_version(_shown(current)),
    )
    for change in told(await plans(ask).tenants_on(name)):
        await ask.announce(change)
    return _shown(changed)


@operations.delete("/plans/{name}", Permission.PLATFORM_WRITE, query=Nothing)
async def delete_plan(ask: Ask[Nothing, Any]) -> None:
    """End a plan that no tenant is on."""
    try:
        await plans(ask).delete(ask.path("name"), lambda current: ask.check_version(_shown(current)))
    except PlanInUse as error:
        raise Problem(Refusal.IN_USE, str(error)) from error


def plans(ask: Ask[Any, Any]) -> PostgresPlans:
    """The plans, changed in this caller's name."""
    return PostgresPlans(ask.parts.pool, ask.trail)


def told(tenants: Sequence[str]) -> list[Invalidation]:
    """What caches are to forget when the plan of these tenants has changed."""
    return [Invalidation(tenant_id=each) for each in tenants] if len(tenants) <= _MOST_TOLD else [Invalidation()]


def _limits(texts: dict[What, list[str]]) -> list[Allowance]:
    return [allowance for what, written in texts.items() for allowance in parsed(what, written)]


def _shown(plan: Plan) -> PlanShown:
    return PlanShown(
        name=plan.name,
        limits=plan.texts,
        routes=sorted(plan.routes),
        rating=plan.rating,
        note=plan.note,
        most={what.value: number for what, number in sorted(plan.most.items())},
        created_at=plan.created_at,
    )

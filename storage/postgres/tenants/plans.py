"""Plans in PostgreSQL: the operator's, and the tenants that are on them."""

import json
from collections.abc import Callable, Mapping, Sequence

import asyncpg

from policies.audit import Change, Facts, changed
from policies.identity.tenants import Tenant
from policies.limits.allowances import Allowance, What
from policies.limits.plans import Counted, Plan, checked
from storage.ports import AlreadyExists, NotFound, StorageError
from storage.postgres import values
from storage.postgres.absences import no_tenant
from storage.postgres.audit import AuditTrail
from storage.postgres.faults import violating
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import TENANT, TENANTS, tenant_of

_PLAN = "name, limits, routes, rating, note, most, created_at"
_PLANS = f"SELECT {_PLAN} FROM platform.plans"  # noqa: S608  made of this module's own column names


class PlanInUse(StorageError):
    """Tenants are on this plan."""


def plan_limits(text: str | None) -> tuple[Allowance, ...]:
    """What the column ``limits`` says; None, of a tenant without a plan, says nothing."""
    return tuple(Allowance.parse(What(what), limit) for what, limit in json.loads(text)) if text else ()


class PostgresPlans:
    """Everything here is the operator's. Storing what no plan can be raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def all(self) -> Sequence[Plan]:
        """By name."""
        return [_plan(row) for row in await self._pool.read(f"{_PLANS} ORDER BY name")]

    async def plan(self, name: str) -> Plan:
        """Raises NotFound."""
        rows = await self._pool.read(f"{_PLANS} WHERE name = $1", name)
        if not rows:
            raise _no_plan(name)
        return _plan(rows[0])

    async def create(
        self,
        name: str,
        *,
        limits: Sequence[Allowance] = (),
        routes: Sequence[str] = (),
        rating: str = "",
        note: str = "",
        most: Mapping[Counted, int] | None = None,
    ) -> Plan:
        """Raises AlreadyExists."""
        values.check_slug(name)
        if name == "none":
            raise ValueError("'none' means no plan: call it something else")
        async with self._pool.operator() as connection:
            with violating({"plans_pkey": AlreadyExists(f"There is a plan {name} already.", what="plan")}):
                (row,) = await connection.fetch(
                    "INSERT INTO platform.plans (name, limits, routes, rating, note, most)"  # noqa: S608
                    f" VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_PLAN}",
                    name,
                    *_columns(limits, routes, rating, note, most or {}),
                )
            made = _plan(row)
            await self._trail.record(connection, _change("plan.created", made, after=_facts(made)))
        return made

    async def change(
        self,
        name: str,
        *,
        limits: Sequence[Allowance] | None = None,
        routes: Sequence[str] | None = None,
        rating: str | None = None,
        note: str | None = None,
        most: Mapping[Counted, int] | None = None,
        check: Callable[[Plan], None] = lambda _: None,
    ) -> Plan:
        """What is None stays. ``check`` sees the plan as it is, and may raise. Raises NotFound."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"{_PLANS} WHERE name = $1 FOR NO KEY UPDATE",
                name,
            )
            if not rows:
                raise _no_plan(name)
            old = _plan(rows[0])
            check(old)
            (row,) = await connection.fetch(
                "UPDATE platform.plans SET limits = $2, routes = $3, rating = $4, note = $5, most = $6"  # noqa: S608
                " WHERE name = $1"
                f" RETURNING {_PLAN}",
                name,
                *_columns(
                    old.limits if limits is None else limits,
                    sorted(old.routes) if routes is None else routes,
                    old.rating if rating is None else rating,
                    old.note if note is None else note,
                    old.most if most is None else most,
                ),
            )
            new = _plan(row)
            before, after = changed(_facts(old), _facts(new))
            if after:
                await self._trail.record(connection, _change("plan.changed", new, before=before, after=after))
        return new

    async def delete(self, name: str, check: Callable[[Plan], None] = lambda _: None) -> None:
        """``check`` sees the plan as it was, and may raise. Raises NotFound; PlanInUse while tenants are on it."""
        in_use = PlanInUse(f"Tenants are on the plan {name}. Give them another one first.")
        async with self._pool.operator() as connection:
            with violating({"tenants_plan_fkey": in_use}):
                rows = await connection.fetch(f"DELETE FROM platform.plans WHERE name = $1 RETURNING {_PLAN}", name)  # noqa: S608
            if not rows:
                raise _no_plan(name)
            gone = _plan(rows[0])
            check(gone)
            await self._trail.record(connection, _change("plan.deleted", gone, before=_facts(gone)))

    async def rating_of(self, tenant_id: str) -> str:
        """The name of the price list that the tenant's plan names; empty without one."""
        rows = await self._pool.read(
            "SELECT p.rating FROM platform.plans p JOIN platform.tenants t ON t.plan = p.name WHERE t.id = $1",
            tenant_id,
            tenant_id=tenant_id,
        )
        return rows[0]["rating"] if rows else ""

    async def assign(self, tenant_id: str, name: str | None) -> Tenant:
        """The tenant on this plan; None: on none. Raises NotFound."""
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"{TENANTS} WHERE id = $1 FOR NO KEY UPDATE",
                tenant_id,
            )
            if not rows:
                raise no_tenant(tenant_id)
            old = tenant_of(rows[0])
            if old.plan == name:
                return old
            with violating({"tenants_plan_fkey": _no_plan(name or "")}):
                (row,) = await connection.fetch(
                    f"UPDATE platform.tenants SET plan = $2 WHERE id = $1 RETURNING {TENANT}",  # noqa: S608
                    tenant_id,
                    name,
                )
            await self._trail.record(
                connection,
                Change(
                    tenant_id=tenant_id,
                    action="tenant.plan_changed",
                    target=tenant_id,
                    target_name=old.slug,
                    before={"plan": old.plan},
                    after={"plan": name},
                ),
            )
        return tenant_of(row)

    async def tenants_on(self, name: str) -> Sequence[str]:
        """The ids of the tenants that are on a plan."""
        rows = await self._pool.read("SELECT id FROM platform.tenants WHERE plan = $1 ORDER BY id", name)
        return [row["id"] for row in rows]


def _columns(
    limits: Sequence[Allowance], routes: Sequence[str], rating: str, note: str, most: Mapping[Counted, int]
) -> tuple[object, ...]:
    return (
        json.dumps([[limit.what, str(limit)] for limit in checked(limits)]),
        sorted(set(routes)),
        values.clean_line(rating, "the name of a price list"),
        values.clean_line(note, "the note"),
        json.dumps(dict(most)),
    )


def _plan(row: asyncpg.Record) -> Plan:
    return Plan(
        name=row["name"],
        limits=plan_limits(row["limits"]),
        routes=frozenset(row["routes"]),
        rating=row["rating"],
        note=row["note"],
        most={Counted(what): number for what, number in json.loads(row["most"]).items()},
        created_at=row["created_at"],
    )


def _facts(plan: Plan) -> Facts:
    return {
        "limits": [f"{limit.what} {limit}" for limit in plan.limits],
        "routes": sorted(plan.routes),
        "rating": plan.rating,
        "note": plan.note,
        "most": [f"{what} {number}" for what, number in sorted(plan.most.items())],
    }


def _change(action: str, plan: Plan, before: Facts | None = None, after: Facts | None = None) -> Change:
    return Change(tenant_id="", action=action, target=plan.name, target_name=plan.name, before=before, after=after)


def _no_plan(name: str) -> NotFound:
    return NotFound(f"There is no plan {name!r}.", what="plan")

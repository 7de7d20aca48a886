"""The LimitBook port: what operators grant; and how the registry reads it along with who is asking."""

import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from policies.audit import Change, Facts, changed
from policies.limits.allowances import Allowance, Kind, Scope, What
from policies.limits.calendars import Calendar
from policies.limits.plans import in_force
from policies.limits.rates import Rate
from storage.ports import Grant, NotFound
from storage.postgres.absences import no_member, no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.ids import Kind as IdKind
from storage.postgres.ids import is_id
from storage.postgres.pool import Pool
from storage.postgres.room import before_memberships
from storage.postgres.tenants.plans import plan_limits

if TYPE_CHECKING:
    from storage import ports


_LIMITS = """
    SELECT key_id, user_id, what, count, coalesce(period_ms, 0) AS period_ms, calendar, route, shadow, unit
    FROM platform.limits WHERE tenant_id = $1
"""
_PLACE = ("coalesce(key_id, '')", "coalesce(user_id, '')", "route", "what", "calendar")
_IN_ORDER = f"ORDER BY {', '.join(f'{part} ASC' for part in _PLACE)}"
"""As the index limits_order_idx has it."""
_PLAN = "SELECT p.name, p.limits FROM platform.plans p JOIN platform.tenants t ON t.plan = p.name WHERE t.id = $1"
_VERSION = f"""
    SELECT count(*),
        sum(hashtextextended(concat_ws(',', holder, what, calendar, route, count, period_ms, shadow, unit), 0)),
        ({_PLAN.replace("p.name, p.limits", "p.name || p.limits")}) AS plan
    FROM platform.limits WHERE tenant_id = $1
"""  # noqa: S608  made of this module's own words
"""A sum needs no order: ten thousand limits are some milliseconds."""


class Limits(NamedTuple):
    """What bounds one caller, as a Principal has it: the two plain request rates, and all the rest."""

    tenant_rate: Rate | None
    key_rate: Rate | None
    allowances: tuple[Allowance, ...]


def limits_sql(tenant: str, user: str, key: str) -> str:
    """An expression with the limits of a caller, for :func:`limits_of`; from SQL expressions for its ids, or NULL."""
    return f"""(
        SELECT json_agg(json_build_array(
            CASE WHEN l.key_id IS NOT NULL THEN 'key' WHEN l.user_id IS NOT NULL THEN 'user' ELSE 'tenant' END,
            l.what, l.count, coalesce(l.period_ms, 0), l.calendar, l.route, l.shadow, l.unit
        ) ORDER BY l.key_id NULLS FIRST, l.user_id NULLS FIRST, l.what, l.calendar, l.route)
        FROM platform.limits l
        WHERE l.tenant_id = {tenant} AND l.holder IN ({tenant}, {user}, {key})
    )"""  # noqa: S608  made of this package's own column names


def limits_of(text: str | None, plan: str | None) -> Limits:
    """Read what :func:`limits_sql` gave, and what the tenant's plan adds to it."""
    plain: dict[Scope, Rate] = {}
    rest = []
    own = [_allowance(*row) for row in json.loads(text or "[]")]
    for allowance in (*own, *in_force(own, plan_limits(plan))):
        if (
            allowance.kind is Kind.RATE
            and allowance.scope is not Scope.USER
            and not (allowance.route or allowance.shadow)
        ):
            plain[allowance.scope] = Rate(allowance.count, allowance.period_ms)
        else:
            rest.append(allowance)
    return Limits(plain.get(Scope.TENANT), plain.get(Scope.KEY), tuple(rest))


class PostgresLimitBook:
    """See :class:`storage.ports.LimitBook`. A limit that admits nothing raises ValueError."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def set_limits(
        self,
        tenant_id: str,
        *,
        user_id: str | None = None,
        key_id: str | None = None,
        route: str = "",
        lifted: Collection[What] = (),
        granted: Sequence[Allowance] = (),
        check: Callable[[str], None] | None = None,
    ) -> None:
        """In one transaction. ``check`` sees the :meth:`version` of the tenant's as they were, and may raise.

        Who sets limits of one tenant does it one after the other: each sees what the one before has made.
        """
        _check(user_id, key_id, granted)
        if key_id is not None and not is_id(IdKind.KEY, key_id):
            raise _missing(tenant_id, user_id, key_id)
        holder = _Holder(tenant_id, user_id, key_id, route)
        async with self._pool.tenant(tenant_id) as connection:
            await before_memberships(connection)
            await connection.execute("SELECT FROM platform.tenants WHERE id = $1 FOR NO KEY UPDATE", tenant_id)
            if check is not None:
                check(await _version(connection.fetch, tenant_id))
            name = await _name_of(connection, tenant_id, user_id, key_id)
            before = await holder.facts(connection)
            await holder.lift(connection, lifted)
            for allowance in granted:
                await holder.grant(connection, allowance)
            after = await holder.facts(connection)
            if before != after:
                was, now = changed(before, after)
                change = Change(
                    tenant_id=tenant_id,
                    action="limits.changed",
                    target=holder.id,
                    target_name=name,
                    before=was,
                    after=now,
                )
                await self._trail.record(connection, change)

    async def limits(self, tenant_id: str, only: Collection[str] | None = None) -> Sequence[Grant]:
        """The tenant's own first, then its users', then its keys' by id, which is by age; its plan's at the end."""
        condition, holders = ("", ()) if only is None else (" AND holder = ANY($2)", ([tenant_id, *only],))
        rows = await self._pool.read(f"{_LIMITS}{condition} {_IN_ORDER}", tenant_id, *holders, tenant_id=tenant_id)
        own = [_grant(*row.values()) for row in rows]
        return [*own, *await self._of_plan(tenant_id, own)]

    async def page(
        self, tenant_id: str, limit: int, *, falling: bool, beyond: Sequence[str] | None, holder: str = ""
    ) -> Sequence[Grant]:
        """Those ``beyond`` another's :func:`place`, in the order of :meth:`limits` or backwards; of one ``holder``.

        A plan's are the tenant's, and no holder's. They are few, and come last.
        """
        of_plan = [] if holder else [one for one in await self.limits(tenant_id, ()) if one.plan]
        if beyond is not None:
            last = tuple(beyond)
            of_plan = [one for one in of_plan if (place(one) < last if falling else place(one) > last)]
        of_plan.sort(key=place, reverse=falling)
        in_plan = beyond is not None and beyond[0] != ""
        own: Sequence[Grant] = ()
        if falling or not in_plan:
            after = None if in_plan or beyond is None else beyond[1:]
            own = await self._own(tenant_id, limit, falling=falling, after=after, holder=holder)
        return [*of_plan, *own][:limit] if falling else [*own, *of_plan][:limit]

    async def version(self, tenant_id: str) -> str:
        """A text that is another one whenever one of the tenant's limits is, its plan's included."""
        return await _version(partial(self._pool.read, tenant_id=tenant_id), tenant_id)

    async def _own(
        self, tenant_id: str, limit: int, *, falling: bool, after: Sequence[str] | None, holder: str
    ) -> list[Grant]:
        arguments = [tenant_id, limit, *([holder] if holder else []), *(after or [])]
        numbers = ", ".join(f"${number}" for number in range(len(arguments) - len(_PLACE) + 1, len(arguments) + 1))
        conditions = [
            " AND holder = $3" if holder else "",
            f" AND ({', '.join(_PLACE)}) {'<' if falling else '>'} ({numbers})" if after else "",
        ]
        order = _IN_ORDER.replace(" ASC", " DESC") if falling else _IN_ORDER
        rows = await self._pool.read(
            f"{_LIMITS}{''.join(conditions)} {order} LIMIT $2", *arguments, tenant_id=tenant_id
        )
        return [_grant(*row.values()) for row in rows]

    async def _of_plan(self, tenant_id: str, own: Sequence[Grant]) -> list[Grant]:
        plans = await self._pool.read(_PLAN, tenant_id, tenant_id=tenant_id)
        return [
            Grant(allowance, None, None, plan["name"])
            for plan in plans
            for allowance in in_force([grant.allowance for grant in own], plan_limits(plan["limits"]))
        ]

    async def set_calendar(self, tenant_id: str, calendar: Calendar) -> None:
        """Raises ValueError for a zone or a day that is none."""
        Calendar.checked(calendar.zone, calendar.anchor_day)
        async with self._pool.tenant(tenant_id) as connection:
            rows = await connection.fetch("SELECT time_zone, anchor_day FROM platform.tenants WHERE id = $1", tenant_id)
            if not rows:
                raise no_tenant(tenant_id)
            old = Calendar(*rows[0].values())
            if old == calendar:
                return
            await connection.execute(
                "UPDATE platform.tenants SET time_zone = $2, anchor_day = $3 WHERE id = $1",
                tenant_id,
                calendar.zone,
                calendar.anchor_day,
            )
            was, now = changed(asdict(old), asdict(calendar))
            slug = await _name_of(connection, tenant_id, None, None)
            change = Change(
                tenant_id=tenant_id,
                action="calendar.changed",
                target=tenant_id,
                target_name=slug,
                before=was,
                after=now,
            )
            await self._trail.record(connection, change)

    async def calendar(self, tenant_id: str) -> Calendar:
        """When the tenant's days and months begin."""
        rows = await self._pool.read(
            "SELECT time_zone, anchor_day FROM platform.tenants WHERE id = $1", tenant_id, tenant_id=tenant_id
        )
        if not rows:
            raise no_tenant(tenant_id)
        return Calendar(*rows[0].values())


@dataclass(frozen=True, slots=True)
class _Holder:
    """Whose limits on which route: a key's, a user's or, with neither, the tenant's; empty ``route``: on all."""

    tenant_id: str
    user_id: str | None
    key_id: str | None
    route: str

    @property
    def id(self) -> str:
        """As the table's generated column ``holder``."""
        return self.key_id or self.user_id or self.tenant_id

    async def facts(self, connection: Connection) -> Facts:
        """What is set, for the audit trail: ``{"audio-month": "100h/month"}``."""
        rows = await connection.fetch(
            """
            SELECT what, count, coalesce(period_ms, 0), calendar, route, shadow, unit FROM platform.limits
            WHERE tenant_id = $1 AND holder = $2 AND route = $3
            """,
            self.tenant_id,
            self.id,
            self.route,
        )
        found = [_allowance(Scope.TENANT, *row.values()) for row in rows]
        return {one.name.partition("-")[2]: f"{one} (shadow)" if one.shadow else str(one) for one in found}

    async def lift(self, connection: Connection, lifted: Collection[What]) -> None:
        """Every limit of these kinds."""
        await connection.execute(
            "DELETE FROM platform.limits"
            " WHERE tenant_id = $1 AND holder = $2 AND route = $3 AND what = ANY($4::text[])",
            self.tenant_id,
            self.id,
            self.route,
            list(lifted),
        )

    async def grant(self, connection: Connection, allowance: Allowance) -> None:
        """One limit, in the place of another for the same sort of period."""
        await connection.execute(
            """
            INSERT INTO platform.limits
                (tenant_id, key_id, user_id, route, what, count, period_ms, calendar, shadow, unit)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (tenant_id, holder, what, calendar, route) DO UPDATE
            SET count = excluded.count, period_ms = excluded.period_ms, shadow = excluded.shadow, unit = excluded.unit
            """,
            self.tenant_id,
            self.key_id,
            self.user_id,
            self.route,
            allowance.what,
            allowance.count,
            allowance.period_ms or None,
            allowance.calendar,
            allowance.shadow,
            allowance.unit,
        )


def place(grant: Grant) -> tuple[str, ...]:
    """Where a limit is among a tenant's: after those of older holders; its plan's are the last."""
    one = grant.allowance
    return grant.plan, grant.key_id or "", grant.user_id or "", one.route, one.what, one.calendar


async def _version(fetch: Callable[..., Awaitable[Sequence[asyncpg.Record]]], tenant_id: str) -> str:
    (row,) = await fetch(_VERSION, tenant_id)
    return "/".join(str(part) for part in row.values())


def _check(user_id: str | None, key_id: str | None, granted: Sequence[Allowance]) -> None:
    if key_id is not None and user_id is not None:
        raise ValueError("a limit is a key's or a user's, not both")
    for allowance in granted:
        held = allowance.what in (What.CONCURRENCY, What.STREAMS)
        if allowance.count < 1 or allowance.period_ms < 0 or (held is (allowance.kind is not Kind.LEASE)):
            raise ValueError(f"{allowance} admits nothing: to shut a tenant or a key out, suspend or revoke it")


def _missing(tenant_id: str, user_id: str | None, key_id: str | None) -> NotFound:
    if key_id is not None:
        return NotFound(f"This tenant has no key {key_id!r}.", what="key")
    return no_member(user_id) if user_id else no_tenant(tenant_id)


async def _name_of(connection: Connection, tenant_id: str, user_id: str | None, key_id: str | None) -> str:
    """Whose limits they are, in words: a key's name, a member's address, a tenant's slug. Raises NotFound."""
    name: str | None = await connection.fetchval(
        """
        SELECT CASE
            WHEN $2::text IS NOT NULL THEN (SELECT name FROM platform.api_keys WHERE tenant_id = $1 AND id = $2)
            WHEN $3::text IS NOT NULL THEN (
                SELECT u.email FROM platform.memberships m JOIN platform.users u ON u.id = m.user_id
                WHERE m.tenant_id = $1 AND m.user_id = $3
            )
            ELSE (SELECT slug FROM platform.tenants WHERE id = $1)
        END
        """,
        tenant_id,
        key_id,
        user_id,
    )
    if name is None:
        raise _missing(tenant_id, user_id, key_id)
    return name


def _grant(key_id: str | None, user_id: str | None, *row: Any) -> Grant:
    scope = Scope.KEY if key_id else Scope.USER if user_id else Scope.TENANT
    return Grant(_allowance(scope, *row), user_id, key_id)


def _allowance(scope: str, what: str, count: int, period_ms: int, *rest: Any) -> Allowance:
    calendar, route, shadow, unit = rest
    return Allowance(
        scope=Scope(scope),
        what=What(what),
        count=count,
        period_ms=period_ms,
        calendar=calendar,
        route=route,
        shadow=shadow,
        unit=unit,
    )


if TYPE_CHECKING:
    _promised: type[ports.LimitBook] = PostgresLimitBook

"""The lines of ``gateway limits show``: every limit with its current use."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway.cli.output import remark
from gateway.portal.web.figures import amount
from gateway.times import maybe_stamp
from gateway.usage.limit_use import Quota, Use, quota, uses
from policies.identity.tenants import Tenant
from policies.limits.allowances import Kind
from policies.limits.calendars import Calendar
from policies.limits.holding import Spent
from storage.ports import Grant, Unavailable

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


@dataclass(frozen=True, slots=True)
class Row:
    """One limit. ``used`` in its own unit, None where nobody could be asked; ``whole_s`` seconds until none is used."""

    grant: Grant
    holder: str
    used: int | None
    whole_s: int
    quota: Quota | None
    """Where a calendar period's allowance is heading; None for others, and where nobody could be asked."""

    @property
    def scope(self) -> str:
        """tenant, user or key."""
        return self.grant.allowance.scope

    @property
    def holder_id(self) -> str:
        """Empty for the tenant itself."""
        return self.grant.key_id or self.grant.user_id or ""

    @property
    def limit(self) -> str:
        """As it was written."""
        return str(self.grant.allowance)

    @property
    def is_plain(self) -> bool:
        """A request rate on all routes that is enforced."""
        allowance = self.grant.allowance
        return allowance.kind is Kind.RATE and not (allowance.route or allowance.shadow or self.grant.user_id)

    def as_json(self) -> dict[str, Any]:
        """Figures in requests, bytes, or milliseconds of audio."""
        allowance = self.grant.allowance
        return {
            "name": allowance.name,
            "for": self.scope,
            "id": self.holder_id or None,
            "what": allowance.what,
            "limit": self.limit,
            "allowed": allowance.count,
            "used": self.used,
            "whole_in_s": self.whole_s,
            "forecast": self.quota.forecast.at_end if self.quota else None,
            "exhausted_at": maybe_stamp(self.quota.exhausted_at) if self.quota else None,
            "route": allowance.route or None,
            "shadow": allowance.shadow,
            "plan": self.grant.plan or None,
        }

    def as_line(self) -> tuple[str, ...]:
        """The cells of a table, for people."""
        allowance = self.grant.allowance
        used = "?"
        if self.used is not None:
            used = f"{amount(self.used, allowance.what)} ({100 * self.used // allowance.count} %)"
        remarks = [f"route {allowance.route}"] if allowance.route else []
        remarks += ["shadow"] if allowance.shadow else []
        remarks += [f"plan {self.grant.plan}"] if self.grant.plan else []
        return (
            self.holder_id or self.scope,
            self.holder,
            allowance.what,
            self.limit,
            used,
            self._whole_again(),
            self._outlook(),
            ", ".join(remarks),
        )

    def _whole_again(self) -> str:
        """When none of it is used: a calendar period says so itself, whatever the seconds to it are rounded to."""
        if self.quota is not None:
            moment = self.quota.period.end.astimezone(UTC)
        elif self.whole_s:
            moment = datetime.fromtimestamp(time.time() + self.whole_s, UTC)
        else:
            return ""
        return moment.strftime("%Y-%m-%d %H:%M:%SZ")

    def _outlook(self) -> str:
        """What a calendar period will come to, and when that is too much."""
        if self.quota is None or self.quota.forecast.at_end is None:
            return ""
        allowance, at_end = self.grant.allowance, self.quota.forecast.at_end
        text = f"{100 * at_end // allowance.count} %"
        exhausted_at = self.quota.exhausted_at
        return f"{text}, none left {exhausted_at:%Y-%m-%d %H:%MZ}" if exhausted_at else text


async def rows(stores: "Stores", tenant: Tenant) -> Sequence[Row]:
    """Every limit of a tenant, its users and its keys."""
    grants, calendar = await stores.limits.limits(tenant.id), await stores.limits.calendar(tenant.id)
    now_ms = int(time.time() * 1000)
    names = {"": tenant.slug}
    names |= {key.id: key.name for key in await stores.keys.keys(tenant.id)}
    names |= {user.id: user.email for user, _ in await stores.directory.users(tenant.id)}
    found = await _uses(stores, tenant.id, grants, calendar, now_ms)
    return [
        Row(
            grant,
            names.get(grant.key_id or grant.user_id or "", ""),
            use.used if use else None,
            (use.whole_ms + 999) // 1000 if use else 0,
            quota(use, calendar, now_ms) if use and grant.allowance.kind is Kind.QUOTA else None,
        )
        for grant, use in zip(grants, found, strict=True)
    ]


async def _uses(
    stores: "Stores", tenant_id: str, grants: Sequence[Grant], calendar: Calendar, now_ms: int
) -> Sequence[Use | None]:
    """None of each where nobody can be asked."""
    from storage.redis.holds import RedisHolds  # noqa: PLC0415  slow: see the package's docstring

    if stores.redis_url is None or not grants:
        return [None] * len(grants)
    try:
        holds = RedisHolds(stores.redis_url, timeout=2.0)
    except ValueError:
        return [None] * len(grants)
    try:
        return await uses(grants, tenant_id, calendar, now_ms, holds, stores.ledger, Spent())
    except Unavailable as error:
        remark(f"What is in use is not known: {error}")
        return [None] * len(grants)
    finally:
        await holds.close()


async def recounted(stores: "Stores", tenant_id: str, holder: str) -> None:
    """Have limits that were set know what was used before."""
    from gateway.usage.recount import recount  # noqa: PLC0415  slow: see the package's docstring

    if stores.redis_url is not None:
        await recount(
            tenant_id, holder, book=stores.limits, ledger=stores.ledger, redis_url=stores.redis_url,
            now_ms=int(time.time() * 1000),
        )  # fmt: skip

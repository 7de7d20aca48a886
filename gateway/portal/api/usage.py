"""What a tenant has used: sums over a time, whole or broken down."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Shown
from gateway.portal.api.shapes import Instant, SentInstant
from gateway.portal.problems import Problem
from policies.permissions import Permission
from policies.verdict import Refusal
from storage.ports import UsageTotals
from storage.postgres.usage import PostgresLedger

operations = Operations("usage")

_LONGEST_DAYS = 3_700


class UsageOf(InTenant):
    """Of which time, and by what."""

    since: SentInstant | None = Field(default=None, description="From then on. Default: since the month began, in UTC.")
    until: SentInstant | None = Field(default=None, description="Until before then. Default: now.")
    by: Literal["key", "user", "route", "day", "hour"] | None = Field(default=None, description="Broken down by it.")


class SumsShown(Shown):
    """Sums. `errors` have a status of 400 or more, `denied` are the gateway's own refusals among them."""

    requests: int
    audio_ms: int
    bytes_in: int
    bytes_out: int
    errors: int
    denied: int


class GroupShown(SumsShown):
    """The sums of one key, user, route, day or hour."""

    label: str


class UsageShown(Shown):
    """What was used in a time."""

    since: Instant
    until: Instant
    total: SumsShown
    groups: list[GroupShown]


@operations.get("/usage", Permission.USAGE_READ, query=UsageOf, answer=UsageShown)
async def show_usage(ask: Ask[UsageOf, Any]) -> UsageShown:
    """Sums over a time, from the roll-ups: as fast for a year as for a day."""
    query, now = ask.query, ask.parts.now()
    until = query.until or now
    since = query.since or until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    _check(since, until)
    ledger = PostgresLedger(ask.parts.pool)
    groups = await ledger.breakdown(ask.tenant_id, since, until, query.by) if query.by else ()
    return UsageShown(
        since=since,
        until=until,
        total=SumsShown(**_facts(await ledger.totals(ask.tenant_id, since, until))),
        groups=[GroupShown(label=label, **_facts(sums)) for label, sums in groups],
    )


def _check(since: datetime, until: datetime) -> None:
    if since > until:
        raise Problem(Refusal.INVALID_INPUT, fields={"since": "This is after the end."})
    if (until - since).days > _LONGEST_DAYS:
        raise Problem(Refusal.INVALID_INPUT, fields={"since": f"Ask for {_LONGEST_DAYS} days at the most."})


def _facts(sums: UsageTotals) -> dict[str, int]:
    return {
        "requests": sums.requests,
        "audio_ms": sums.audio_ms,
        "bytes_in": sums.bytes_in,
        "bytes_out": sums.bytes_out,
        "errors": sums.errors,
        "denied": sums.denied,
    }

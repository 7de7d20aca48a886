"""What a tenant has used: sums over a time, whole or broken down."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gateway.portal.api.operations import Ask, InTenant, Operations, Run, Sent, Shown
from gateway.portal.api.paging import ByAge, OldestFirst, Page
from gateway.portal.api.shapes import Instant, SentInstant
from gateway.portal.api.streaming import LINES, sent
from gateway.portal.web.problem import Problem
from gateway.usage.export import FORMATS, flat
from policies.account.usage import AudioSource, Outcome, UsageRecord
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from storage.ports import RawRemoved, UsageTotals
from storage.postgres.labels import called
from storage.postgres.usage.events import PostgresUsageEvents, UsageSought
from storage.postgres.usage.ledger import PostgresLedger
from storage.postgres.usage.series import PostgresUsageSeries, Sum, needs_records

operations = Operations("usage")

_LONGEST_DAYS = 3_700
_MOST_GROUPS = 50_000


class UsageOf(InTenant):
    """Which time, and how it is broken down."""

    since: SentInstant | None = Field(default=None, description="From then on. Default: since the month began, in UTC.")
    until: SentInstant | None = Field(default=None, description="Until before then. Default: now.")
    by: Literal["key", "user", "route", "outcome", "model", "status", "day", "hour"] | None = Field(
        default=None, description="Broken down by it. A day at the most by `status`."
    )
    bucket: Literal["1m", "1h", "1d"] | None = Field(
        default=None, description="As a series: for every minute (of a day at the most), hour or day of UTC."
    )


class SumsShown(Shown):
    """Sums. `errors` have a status of 400 or more, `denied` are those that the gateway refused or cut off.

    `unmeasured`: requests and jobs that named their audio by URL, and of which no answer told the length.
    """

    requests: int
    audio_ms: int
    bytes_in: int
    bytes_out: int
    errors: int
    denied: int
    unmeasured: int


class GroupShown(SumsShown):
    """The sums of one key, user, route, outcome, model, status, day or hour; in a series, of one bucket."""

    label: str = Field(description="Empty in a series that is not broken down.")
    name: str = Field(description="Of a key its name, of a member the address; empty where there is none any more.")
    since: Instant | None = Field(description="When the bucket begins; null where there is none.")


class UsageShown(Shown):
    """What was used in a time."""

    since: Instant
    until: Instant
    total: SumsShown
    groups: list[GroupShown]


def _in_turn(run: Run) -> Run:
    """Its time grows with the records, and one tenant's are not to hold all connections."""

    @wraps(run)
    async def wait(ask: Ask[Any, Any]) -> Any:
        async with ask.parts.long_reads.records(ask.who.tenant_id):
            return await run(ask)

    return wait


@operations.get("/usage", Permission.USAGE_READ, query=UsageOf, answer=UsageShown)
@_in_turn
async def show_usage(ask: Ask[UsageOf, Any]) -> UsageShown:
    """Sums over a time, whole, broken down, and as a series; from the roll-ups, as fast for a year as for a day."""
    query, now = ask.query, ask.parts.now()
    until = query.until or now
    since = query.since or until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    _check(since, until, days=1 if needs_records(query.bucket, query.by) else _LONGEST_DAYS)
    ledger = PostgresLedger(ask.parts.pool)
    if needs_records(query.bucket, query.by):
        await _check_kept(ask, since, until)
    groups = await _groups(ask, since, until) if query.by or query.bucket else ()
    names = await called(ask.parts.pool, ask.tenant_id, query.by, (one.label for one in groups))
    return UsageShown(
        since=since,
        until=until,
        total=SumsShown(**_facts(await ledger.totals(ask.tenant_id, since, until))),
        groups=[
            GroupShown(label=one.label, name=names.get(one.label, ""), since=one.since, **_facts(one.totals))
            for one in groups
        ],
    )


async def _groups(ask: Ask[UsageOf, Any], since: datetime, until: datetime) -> Sequence[Sum]:
    query, series = ask.query, PostgresUsageSeries(ask.parts.pool)
    found = await series.sums(ask.tenant_id, since, until, bucket=query.bucket, by=query.by, most=_MOST_GROUPS + 1)
    if len(found) > _MOST_GROUPS:
        told = f"This would be more than {_MOST_GROUPS} sums: ask for a shorter time, or fewer of them."
        raise Problem(Refusal.INVALID_INPUT, fields={"bucket" if query.bucket else "by": told})
    return found


async def _check_kept(ask: Ask[Any, Any], since: datetime, until: datetime) -> None:
    """Raises Problem when a part of the single records was removed."""
    try:
        await PostgresLedger(ask.parts.pool).raw_days(ask.tenant_id, since, until)
    except RawRemoved as error:
        raise Problem(Refusal.INVALID_INPUT, fields={"since": str(error)}) from error


class TenantsUsageOf(OldestFirst, Sent):
    """Which days, in UTC."""

    since: SentInstant | None = Field(default=None, description="Its whole day. Default: since the month began.")
    until: SentInstant | None = Field(default=None, description="Before its day. Default: with today.")


class TenantSums(SumsShown):
    """The sums of one tenant."""

    tenant_id: str
    tenant: str = Field(description="Its slug; empty when it was removed.")


@operations.get("/usage/tenants", Permission.PLATFORM_READ, query=TenantsUsageOf, answer=Page[TenantSums])
async def list_usage_of_tenants(ask: Ask[TenantsUsageOf, Any]) -> Page[TenantSums]:
    """What every tenant has used, of whole days, the oldest tenant first if nothing else is said; for operators."""
    query, now = ask.query, ask.parts.now()
    until = query.until or now + timedelta(days=1)
    since = query.since or now.replace(day=1)
    _check(since, until)
    found = await PostgresUsageSeries(ask.parts.pool).of_tenants(
        since, until, query.limit + 1, sort=query.sort, beyond=ask.cursors.beyond(query.cursor)
    )
    shown = [TenantSums(tenant_id=tenant, tenant=slug, **_facts(sums)) for tenant, slug, sums in found]
    return ask.cursors.page(shown, query.limit, [[one.tenant_id] for one in shown])


class PercentilesShown(Shown):
    """Microseconds within which so many of a hundred requests ended."""

    p50: int
    p95: int
    p99: int


class LatencyOf(InTenant):
    """Which time, a day at the most, and which route."""

    since: SentInstant | None = Field(default=None, description="Default: an hour before the end.")
    until: SentInstant | None = Field(default=None, description="Default: now.")
    route: str = Field(default="", max_length=120)


class LatencyShown(Shown):
    """How long requests took; null where there were none."""

    since: Instant
    until: Instant
    requests: int
    duration_us: PercentilesShown | None
    upstream_us: PercentilesShown | None


class EventList(ByAge, InTenant):
    """Which requests."""

    since: SentInstant | None = Field(default=None, description="Default: a day before the end.")
    until: SentInstant | None = Field(default=None, description="Default: now.")
    key: str = Field(default="", max_length=64)
    user: str = Field(default="", max_length=64)
    route: str = Field(default="", max_length=120)
    outcome: Outcome | None = None
    request_id: str = Field(default="", max_length=64)


class EventShown(Shown):
    """One request, as it was accounted for."""

    event_id: str
    ended_at: Instant
    request_id: str
    key_id: str
    user_id: str
    route: str
    method: str
    status: int
    outcome: Outcome
    code: str = Field(description="Why the gateway refused it; empty where it did not.")
    audio_ms: int = Field(description="Below 0 where it takes back what a job was accounted with too much.")
    audio_source: AudioSource
    walked_ms: int | None
    reported_ms: int | None
    estimated_ms: int | None
    discrepant: bool
    channels: int | None
    container: str
    codec: str
    model: str
    language: str
    response_format: str
    input_tokens: int | None
    output_tokens: int | None
    bytes_in: int
    bytes_out: int
    duration_us: int
    upstream_us: int
    attempt: int
    job: str = Field(description="`kind:id` of the job that was made, or is corrected; empty where there is none.")
    before_ms: int | None = Field(description="Of a correction: what of the job had been accounted before; else null.")


class ExportOf(InTenant):
    """Which time, and in which form."""

    since: SentInstant | None = Field(default=None, description="Default: since the month of the end began.")
    until: SentInstant | None = Field(default=None, description="Default: now.")
    format: Literal["jsonl", "csv"] = "jsonl"


@operations.get("/usage/latency", Permission.USAGE_READ, query=LatencyOf, answer=LatencyShown)
@_in_turn
async def show_latency(ask: Ask[LatencyOf, Any]) -> LatencyShown:
    """Percentiles of how long requests took, the gateway's part included and apart."""
    query = ask.query
    until = query.until or ask.parts.now()
    since = query.since or until - timedelta(hours=1)
    _check(since, until, days=1)
    found = await PostgresUsageEvents(ask.parts.pool).latency(ask.tenant_id, since, until, query.route)
    return LatencyShown(
        since=since,
        until=until,
        requests=found.requests,
        duration_us=_percentiles(found.durations_us),
        upstream_us=_percentiles(found.upstreams_us),
    )


@operations.get("/usage/events", Permission.USAGE_READ, query=EventList, answer=Page[EventShown])
@_in_turn
async def list_usage_events(ask: Ask[EventList, Any]) -> Page[EventShown]:
    """Single requests, the newest first if nothing else is said."""
    query = ask.query
    position = ask.cursors.open(query.cursor)
    # Without an end the first page says what "now" is for those after it.
    until = query.until or (_instant(position[2]) if position else ask.parts.now())
    since = query.since or until - timedelta(days=1)
    _check(since, until)
    sought = UsageSought(
        since=since,
        until=until,
        key_id=query.key,
        user_id=query.user,
        route=query.route,
        outcome=query.outcome or "",
        request_id=query.request_id,
    )
    found = await PostgresUsageEvents(ask.parts.pool).page(
        ask.tenant_id,
        sought,
        query.limit + 1,
        sort=query.sort,
        beyond=(_instant(position[0]), str(position[1])) if position else None,
    )
    places = [[_ended(each).isoformat(), each.event_id, until.isoformat()] for each in found]
    return ask.cursors.page([_event(each) for each in found], query.limit, places)


@operations.get("/usage/export", Permission.USAGE_READ, query=ExportOf)
async def export_usage(ask: Ask[ExportOf, Any]) -> web.StreamResponse:
    """Every request of a time in order, streamed as JSON lines or CSV; an answer that breaks off is not complete."""
    query = ask.query
    until = query.until or ask.parts.now()
    since = query.since or until.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    _check(since, until)
    tenant = await ask.directory.tenant_by_id(ask.tenant_id)
    await _check_kept(ask, since, until)  # while there still is another answer
    async with ask.parts.long_reads.ledger(ask.who.tenant_id) as ledger:
        pieces = _pieces(ledger.export(ask.tenant_id, since, until), tenant.slug, query.format)
        return await sent(ask.request, pieces, name=f"usage-{tenant.slug}", form=query.format)


async def _pieces(records: AsyncGenerator[UsageRecord, None], slug: str, form: str) -> AsyncGenerator[bytes, None]:
    """Some hundred lines at a time; with the heading first."""
    heading, line = FORMATS[form]
    lines = [heading]
    async with aclosing(records):
        async for record in records:
            lines.append(line(flat(record, slug)))
            if len(lines) >= LINES:
                yield "".join(lines).encode()
                lines.clear()
    yield "".join(lines).encode()


def _percentiles(found: tuple[int, ...]) -> PercentilesShown | None:
    return PercentilesShown(p50=found[0], p95=found[1], p99=found[2]) if found else None


def _instant(text: str | int) -> datetime:
    return datetime.fromisoformat(str(text))


def _ended(record: UsageRecord) -> datetime:
    return datetime.fromtimestamp(record.ended_ms // 1000, UTC) + timedelta(milliseconds=record.ended_ms % 1000)


def _event(record: UsageRecord) -> EventShown:
    measured = record.measured
    return EventShown(
        event_id=record.event_id,
        ended_at=_ended(record),
        request_id=record.request_id,
        key_id=record.key_id,
        user_id=record.user_id,
        route=record.route,
        method=record.method,
        status=record.status,
        outcome=record.outcome,
        code=record.code,
        audio_ms=measured.audio_ms,
        audio_source=measured.source,
        walked_ms=measured.walked_ms,
        reported_ms=measured.reported_ms,
        estimated_ms=measured.estimated_ms,
        discrepant=measured.discrepant,
        channels=measured.channels,
        container=measured.container,
        codec=measured.codec,
        model=measured.model,
        language=measured.language,
        response_format=measured.response_format,
        input_tokens=measured.input_tokens,
        output_tokens=measured.output_tokens,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        duration_us=record.duration_us,
        upstream_us=record.upstream_us,
        attempt=record.attempt,
        job=measured.job,
        before_ms=measured.before_ms,
    )


def _check(since: datetime, until: datetime, days: int = _LONGEST_DAYS) -> None:
    if since > until:
        raise Problem(Refusal.INVALID_INPUT, fields={"since": "This is after the end."})
    if until - since > timedelta(days=days):
        most = "a day" if days == 1 else f"{days} days"
        raise Problem(Refusal.INVALID_INPUT, fields={"since": f"Ask for {most} at the most."})


def _facts(sums: UsageTotals) -> dict[str, int]:
    return {
        "requests": sums.requests,
        "audio_ms": sums.audio_ms,
        "bytes_in": sums.bytes_in,
        "bytes_out": sums.bytes_out,
        "errors": sums.errors,
        "denied": sums.denied,
        "unmeasured": sums.unmeasured,
    }

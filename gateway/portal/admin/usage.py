"""Usage: what was asked for and how much audio it was, over a time of one's choice, by whom and by what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway.portal.admin.lines import ENDS, audio_of, lines, requests_of
from gateway.portal.admin.times import PRESETS, Range, bucketed, day_begins, lately
from gateway.portal.admin.visit import Visit, enter, filled
from gateway.portal.api.usage import GroupShown, UsageShown, show_usage
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission

routes = web.RouteTableDef()

PATH = "/admin/usage"
CHOICES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "bucket": ("A bar for each", {"": "hour or day", "1h": "hour", "1d": "day (UTC)"}),
    "by": (
        "A line for each",
        {"key": "key", "user": "member", "model": "model", "route": "route", "outcome": "outcome"},
    ),
}
_USUAL: Final = "30d"
_MOST_LINES: Final = 200


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """What somebody chose, in charts and tables; with what is wrong with the choice, where something is."""
    visit = await enter(request, Permission.USAGE_READ)
    chosen = filled(request, *CHOICES, "period", "since", "until")
    by, problem = chosen.get("by", "key"), None
    try:
        _check_choices(chosen)
        span = _span(visit, chosen)
    except Problem as found:
        span, by, problem = lately(_USUAL, request.app[PARTS].now()), "key", found
    series: UsageShown = await visit.ask(show_usage, {**span.asked(), "bucket": span.bucket, "by": "outcome"})
    before: UsageShown = await visit.ask(show_usage, span.before.asked())
    try:
        groups = (await visit.ask(show_usage, {**span.asked(), "by": by})).groups
    except Problem as found:  # there may be too many lines for any table
        if found.refusal is not Refusal.INVALID_INPUT:
            raise
        groups, problem = [], found
    buckets = lines(series.groups, span)
    return visit.page(
        "admin_usage.html", tab="usage", title="Usage", problem=problem, path=PATH, choices=CHOICES, presets=PRESETS,
        by=by, chosen={"by": by} | chosen, period="" if _names_days(chosen) else chosen.get("period", _USUAL),
        span=span, total=series.total, before=before.total, lines=buckets, ends=ENDS,
        chart=requests_of(buckets), audio=audio_of(buckets),
        groups=sorted(groups, key=_most, reverse=True)[:_MOST_LINES], more=len(groups) - _MOST_LINES,
        export=f"/platform/v1/usage/export?{urlencode({**span.asked(), 'format': 'csv'})}",
    )  # fmt: skip


def _check_choices(chosen: Mapping[str, str]) -> None:
    known = {"period": {*PRESETS}, **{name: {*told[1]} for name, told in CHOICES.items()}}
    faults = {name: "Choose one of those." for name, those in known.items() if chosen.get(name, "") not in {"", *those}}
    if faults:
        raise Problem(Refusal.INVALID_INPUT, fields=faults)


def _span(visit: Visit, chosen: Mapping[str, str]) -> Range:
    """From one day to another, where they are named; else the last so many hours or days. Raises Problem."""
    now, bucket = visit.request.app[PARTS].now(), chosen.get("bucket", "")
    if _names_days(chosen):
        since, until = _days(chosen, visit.account.person.time_zone, lately(_USUAL, now))
    else:
        preset = lately(chosen.get("period", _USUAL), now)
        since, until, bucket = preset.since, preset.until, bucket or preset.bucket
    try:
        return bucketed(since, until, bucket)
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, fields={"since": str(error)}) from error


def _days(chosen: Mapping[str, str], zone: str, otherwise: Range) -> tuple[datetime, datetime]:
    """From when until when, by the days of the person's own calendar. Raises Problem."""
    found, faults = {"since": otherwise.since, "until": otherwise.until}, {}
    for name, after in (("since", 0), ("until", 1)):
        if name in chosen:
            try:
                found[name] = min(day_begins(chosen[name], zone, after=after), otherwise.until)
            except ValueError as error:
                faults[name] = str(error)
    if faults:
        raise Problem(Refusal.INVALID_INPUT, fields=faults)
    return found["since"], found["until"]


def _names_days(chosen: Mapping[str, str]) -> bool:
    return "since" in chosen or "until" in chosen


def _most(group: GroupShown) -> tuple[int, int]:
    return group.audio_ms, group.requests

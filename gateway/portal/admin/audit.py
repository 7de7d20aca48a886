"""The audit trail: who did what to what, when and from where, before and after; as a page and as CSV."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from gateway.portal.admin.times import day_begins
from gateway.portal.admin.visit import Visit, enter, filled
from gateway.portal.api.audit import EntryShown, list_audit
from gateway.portal.api.paging import Page
from gateway.portal.web.problem import Problem
from policies.audit import ActorKind, text
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission

routes = web.RouteTableDef()

PATH = "/admin/audit"


class Difference(NamedTuple):
    """One fact that a change has made another; empty where there was or is none."""

    name: str
    before: str
    after: str


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """The newest first."""
    visit = await enter(request, Permission.AUDIT_READ)
    chosen = filled(request, "action", "actor", "target", "since", "until")
    found, problem, asked = Page[EntryShown](data=[], next_cursor=None), None, dict[str, str]()
    try:
        asked = _asked(visit, chosen)
        found = await visit.ask(list_audit, {**asked, **filled(request, "cursor")})
    except Problem as wrong:
        if wrong.refusal is not Refusal.INVALID_INPUT:
            raise
        problem = wrong
    return visit.page(
        "admin_audit.html", tab="audit", title="Audit log", problem=problem, path=PATH, chosen=chosen,
        entries=[(entry, differences(entry)) for entry in found.data], next_cursor=found.next_cursor,
        names=await _names(visit, found.data),
        export=f"/platform/v1/audit/export?{urlencode({**asked, 'format': 'csv'})}",
    )  # fmt: skip


def differences(entry: EntryShown) -> list[Difference]:
    """What the change made another, by name."""
    before, after = entry.before or {}, entry.after or {}
    return [
        Difference(name, text(before.get(name)), text(after.get(name))) for name in sorted({*before.keys(), *after})
    ]


def _asked(visit: Visit, chosen: Mapping[str, str]) -> dict[str, str]:
    """As the API takes it; days are the person's own, both whole. Raises Problem."""
    zone, faults = visit.account.person.time_zone, {}
    found = dict(chosen)
    for name, after in (("since", 0), ("until", 1)):
        if name in chosen:
            try:
                found[name] = day_begins(chosen[name], zone, after=after).isoformat()
            except ValueError as error:
                faults[name] = str(error)
    if faults:
        raise Problem(Refusal.INVALID_INPUT, fields=faults)
    return found


async def _names(visit: Visit, entries: Sequence[EntryShown]) -> dict[str, str]:
    """What people call those who acted, and that to which it was done, where the trail has no name for it."""
    nameless = {entry.target for entry in entries if not entry.target_name}
    kinds = {"user": ActorKind.USER, "key": ActorKind.API_KEY}
    found: dict[str, str] = {}
    for name, kind in kinds.items():
        found |= await visit.names(name, nameless | {entry.actor.id for entry in entries if entry.actor.kind is kind})
    return found

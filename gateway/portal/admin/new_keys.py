"""New API keys: made, or put in the place of an old one. The key is on the page that answers, and nowhere else."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from gateway.portal.admin.keys import PATH, texts
from gateway.portal.admin.visit import Visit, enter, filled, once_of
from gateway.portal.api.keys import KeyMade, KeyShown, KeyWish, create_key, rotate_key, show_key
from gateway.portal.api.limits import LimitsWish, set_limits
from gateway.portal.api.members import MemberShown, list_members, show_member
from gateway.portal.api.paging import LONGEST
from gateway.portal.own.keys import LIVES
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import Known, validated
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import ASSIGNABLE, Permission
from policies.limits.allowances import What, several

routes = web.RouteTableDef()

NEW = f"{PATH}/new"
OVERLAPS: Final = {"0": "at once", "3600": "after an hour", "86400": "after a day", "604800": "after a week"}
"""Seconds for which the old key still works."""
_TRY: Final = "openai.models"
"""The route that a new key is tried at."""


@routes.get(NEW)
async def new(request: web.Request) -> web.Response:
    """What it is called, what it may do, for how long and how much; for a member whose page leads here."""
    return await _form(await enter(request, Permission.KEYS_WRITE, fresh=True), filled(request, "user_id"), None)


@routes.post(NEW)
async def make(request: web.Request) -> web.Response:
    """Make it and set its limits."""
    visit = await enter(request, Permission.KEYS_WRITE, fresh=True)
    fields = await visit.fields()
    wish, limits = _wish(visit, fields), _limits(visit, fields)
    try:
        _check(visit, fields, wish, limits)
        made: KeyMade = await visit.ask(create_key, body=wish, once=fields.get("once", ""))
    except Problem as problem:
        return await _form(visit, fields, problem)
    return await _show(visit, made, await _limit(visit, made, limits, fields.get("once", "")))


@routes.get(f"{PATH}/{{key_id}}/rotate")
async def rotation(request: web.Request) -> web.Response:
    """When the old one is to end."""
    return await _rotation(await _entered(request), {}, None)


@routes.post(f"{PATH}/{{key_id}}/rotate")
async def rotate(request: web.Request) -> web.Response:
    """Make a successor with the same name, scopes and limits."""
    visit = await _entered(request)
    fields = await visit.fields()
    try:
        made: KeyMade = await visit.ask(
            rotate_key,
            body={"overlap_s": fields.get("overlap_s", "")},
            path=_parts(request),
            once=fields.get("once", ""),
        )
    except Problem as problem:
        return await _rotation(visit, fields, problem)
    return await _show(visit, made, None)


async def _entered(request: web.Request) -> Visit:
    return await enter(request, Permission.KEYS_WRITE, fresh=True)


def _parts(request: web.Request) -> dict[str, str]:
    return {"key_id": request.match_info["key_id"]}


def _wish(visit: Visit, fields: Mapping[str, str]) -> dict[str, object]:
    """A :class:`KeyWish` as the form has it."""
    life, parts = fields.get("life", "90"), visit.request.app[PARTS]
    return {
        "name": fields.get("name", ""),
        "scopes": [scope for scope in _scopes(visit) if fields.get(f"scope-{scope}") == "on"],
        "expires_at": (parts.now() + timedelta(days=int(life))).isoformat() if life and life in LIVES else None,
        "user_id": fields.get("user_id") or None,
        "networks": texts(fields.get("networks", "")),
    }


def _limits(visit: Visit, fields: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """What of a :class:`LimitsWish` is filled in; nothing of whoever may set none."""
    if not visit.may(Permission.LIMITS_WRITE):
        return {}
    return {what.value: found for what in What if (found := several(fields.get(what.value, "")))}


def _check(
    visit: Visit, fields: Mapping[str, str], wish: Mapping[str, object], limits: Mapping[str, Sequence[str]]
) -> None:
    """Both parts of the form, so that no key is made whose limits are none. Raises Problem that tells all faults."""
    faults = {}
    if fields.get("life", "90") not in LIVES:
        faults["life"] = "Choose how long it is good."
    if not wish["scopes"]:
        faults["scopes"] = "Choose what it may do."
    for model, part in ((KeyWish, wish), (LimitsWish, limits)):
        try:
            validated(model, part, Known.of(visit.request))
        except Problem as problem:
            faults = problem.fields | faults
    if faults:
        raise Problem(Refusal.INVALID_INPUT, fields=faults)


async def _limit(visit: Visit, made: KeyMade, limits: Mapping[str, Sequence[str]], once: str) -> Problem | None:
    """Set the limits of a key that is made. What is wrong with that, if anything: the key is shown all the same.

    ``once`` as for the key: a page that is loaded again must not undo what was set since.
    """
    if not limits:
        return None
    try:
        await visit.ask(set_limits, body={"key_id": made.id, **limits}, once=once)
    except Problem as problem:
        return Problem(problem.refusal, "The key is made, but its limits are not set: set them on its page.")
    return None


def _scopes(visit: Visit) -> list[str]:
    """What the person may give: of the permissions those held, and whatever else is a scope here."""
    parts = visit.request.app[PARTS]
    of_routes = {route.scope for route in parts.routes.values()}
    held = visit.who.permissions & set(ASSIGNABLE)
    return sorted({*held, *(parts.scopes - set(Permission))}, key=lambda scope: (scope not in of_routes, scope))


async def _form(visit: Visit, fields: Mapping[str, str], problem: Problem | None) -> web.Response:
    members, more = await _owners(visit, fields.get("user_id", "")) if visit.may(Permission.USERS_READ) else ([], False)
    return visit.page(
        "admin_key_new.html", tab="keys", title="Make an API key", problem=problem, fields=fields, lives=LIVES,
        scopes=_scopes(visit), members=members, more=more,
        kinds=What, once=once_of(fields, problem), action=NEW, path=PATH,
    )  # fmt: skip


async def _owners(visit: Visit, chosen: str) -> tuple[list[MemberShown], bool]:
    """Whose it can be: as many members as a list has, and the one that is ``chosen``. Whether there are more."""
    found = await visit.ask(list_members, {"limit": LONGEST})
    members = list(found.data)
    if chosen and all(one.user_id != chosen for one in members):
        with contextlib.suppress(Problem):
            members.insert(0, await visit.ask(show_member, path={"user_id": chosen}))
    return members, found.next_cursor is not None


async def _rotation(visit: Visit, fields: Mapping[str, str], problem: Problem | None) -> web.Response:
    key: KeyShown = await visit.ask(show_key, path=_parts(visit.request))
    return visit.page(
        "admin_key_rotate.html", tab="keys", title=f"Replace {key.name}", problem=problem, key=key, overlaps=OVERLAPS,
        once=once_of(fields, problem), path=PATH,
    )  # fmt: skip


async def _show(visit: Visit, made: KeyMade, problem: Problem | None) -> web.Response:
    """The key, and a command that works with it: at the service where it may use that, else at the gateway itself."""
    parts = visit.request.app[PARTS]
    route = parts.routes.get(_TRY)
    serves = route is not None and route.scope in made.scopes and (not made.routes or _TRY in made.routes)
    return visit.page(
        "admin_key_made.html", tab="keys", title="Your new key", problem=problem, key=made, path=PATH,
        url=parts.public_url + ("/v1/models" if serves else "/platform/v1/me"),
    )  # fmt: skip

"""API keys: listed, looked at one by one, renamed, enabled, disabled, revoked. ``new_keys`` makes them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from gateway.portal.admin.visit import Visit, enter, filled, version_of
from gateway.portal.api.keys import KeyShown, change_key, list_keys, revoke_key, show_key
from gateway.portal.api.limit_use import LimitInUse, list_limit_use
from gateway.portal.api.limits import set_limits
from gateway.portal.own.account import back
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.limits.allowances import What, several

routes = web.RouteTableDef()

PATH = "/admin/keys"
FILTERS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "status": (
        "Status",
        {
            "": "any",
            "active": "active",
            "disabled": "disabled",
            "expired": "expired",
            "revoked": "revoked",
            "user_disabled": "owner disabled",
        },
    ),
    "unused_days": ("Last used", {"": "any time", "30": "not for 30 days", "90": "not for 90 days"}),
    "ending_days": ("Ends", {"": "any time", "7": "within 7 days", "30": "within 30 days"}),
}
"""By name in the address and the API: what people call it, and the values."""


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """The tenant's keys, newest first."""
    visit = await enter(request, Permission.KEYS_READ)
    chosen = filled(request, "name", *FILTERS)
    found = await visit.ask(list_keys, {**chosen, **filled(request, "cursor")})
    owners = await visit.names("user", [key.user_id for key in found.data if key.user_id])
    return visit.page(
        "admin_keys.html", tab="keys", title="API keys", keys=found.data, next_cursor=found.next_cursor,
        filters=FILTERS, chosen=chosen, owners=owners, path=PATH,
    )  # fmt: skip


@routes.get(f"{PATH}/{{key_id}}")
async def look(request: web.Request) -> web.Response:
    """One key: what it is good for, its limits, and what can be done with it."""
    return await _one(await enter(request, Permission.KEYS_READ), None)


@routes.post(f"{PATH}/{{key_id}}/enable")
async def enable(request: web.Request) -> web.Response:
    """Let it be used again: that is giving it anew, and asks for the password as making one does."""
    visit = await enter(request, Permission.KEYS_WRITE, fresh=True)
    return await _change(visit, await visit.fields(), "key-enabled", {"enabled": True})


@routes.post(f"{PATH}/{{key_id}}/disable")
async def disable(request: web.Request) -> web.Response:
    """Refuse it until it is enabled."""
    visit = await enter(request, Permission.KEYS_WRITE)
    return await _change(visit, await visit.fields(), "key-disabled", {"enabled": False})


@routes.post(f"{PATH}/{{key_id}}/name")
async def rename(request: web.Request) -> web.Response:
    """Call it something else; the key itself stays."""
    visit = await enter(request, Permission.KEYS_WRITE)
    fields = await visit.fields()
    return await _change(visit, fields, "key-renamed", {"name": fields.get("name", "")})


@routes.post(f"{PATH}/{{key_id}}/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End it, now and for ever."""
    visit = await enter(request, Permission.KEYS_WRITE)
    fields = await visit.fields()
    try:
        await visit.ask(revoke_key, path=_parts(request), version=fields.get("version", ""))
    except Problem as problem:
        return await _one(visit, problem)
    return back(_path(request), "key-revoked")


@routes.post(f"{PATH}/{{key_id}}/limits")
async def limits(request: web.Request) -> web.Response:
    """Set the key's own limits on all routes, of the kinds that the form has; an empty field lifts."""
    visit = await enter(request, Permission.LIMITS_WRITE)
    fields = await visit.fields()
    wish: dict[str, object] = {what.value: several(fields[what.value]) for what in What if what.value in fields}
    try:
        await visit.ask(set_limits, body={"key_id": request.match_info["key_id"], **wish})
    except Problem as problem:
        return await _one(visit, problem, fields)
    return back(_path(request), "limits")


def texts(field: str) -> list[str]:
    """Several networks, as people write them in one field."""
    return field.replace(",", " ").split()


async def _change(visit: Visit, fields: Mapping[str, str], done: str, edit: Mapping[str, object]) -> web.Response:
    try:
        await visit.ask(change_key, body=edit, path=_parts(visit.request), version=fields.get("version", ""))
    except Problem as problem:
        return await _one(visit, problem, name=fields.get("name"))
    return back(_path(visit.request), done)


async def _one(
    visit: Visit, problem: Problem | None, fields: Mapping[str, str] | None = None, *, name: str | None = None
) -> web.Response:
    if problem is not None and problem.refusal is Refusal.NOT_FOUND:
        raise problem
    key: KeyShown = await visit.ask(show_key, path=_parts(visit.request))
    use: list[LimitInUse] = []
    if visit.may(Permission.LIMITS_READ):
        use = (await visit.ask(list_limit_use, {"key_id": key.id})).data
    owners = await visit.names("user", [key.user_id] if key.user_id else [])
    return visit.page(
        "admin_key.html", tab="keys", title=key.name, key=key, problem=problem, version=version_of(key), path=PATH,
        name=key.name if name is None else name, limits=use, owner=owners.get(key.user_id or "", key.user_id),
        fields=fields if fields is not None else _as_fields(use), kinds=_kinds(use),
        ends_soon=_ends_soon(key, visit.request.app[PARTS].now()),
    )  # fmt: skip


def _as_fields(in_use: list[LimitInUse]) -> dict[str, str]:
    """What the form begins with: the limits on all routes, which are those that it sets."""
    found: dict[str, list[str]] = {}
    for one in in_use:
        if not one.route:
            found.setdefault(one.what.value, []).append(one.limit)
    return {what: ", ".join(several) for what, several in found.items()}


def _kinds(in_use: list[LimitInUse]) -> list[What]:
    """Those that the form sets. One in shadow would no longer be, so it is left to the API."""
    return [what for what in What if not any(one.shadow and one.what is what and not one.route for one in in_use)]


def _ends_soon(key: KeyShown, now: datetime) -> bool:
    return key.status == "active" and key.expires_at is not None and (key.expires_at - now).days < 7


def _parts(request: web.Request) -> dict[str, str]:
    return {"key_id": request.match_info["key_id"]}


def _path(request: web.Request) -> str:
    return f"{PATH}/{request.match_info['key_id']}"

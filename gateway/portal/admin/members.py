"""Members: who belongs to the tenant and as what, another role, and the end of a membership."""

from typing import Final

from aiohttp import web

from gateway.portal.admin.visit import Visit, enter, filled, version_of
from gateway.portal.api.members import (
    MemberShown,
    RoleShown,
    change_member,
    list_members,
    list_roles,
    remove_member,
    show_member,
)
from gateway.portal.api.paging import LONGEST
from gateway.portal.own.account import back
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import ROLES, Permission, excess
from policies.identity.tenants import Role, UserStatus

routes = web.RouteTableDef()

PATH = "/admin/members"
_OWN: Final = "own:"
"""Before the name of a role of the tenant's own, in the form."""


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """The tenant's people, by e-mail."""
    visit = await enter(request, Permission.USERS_READ)
    chosen = filled(request, "email", "role")
    found = await visit.ask(list_members, {**chosen, **filled(request, "cursor")})
    return visit.page(
        "admin_members.html", tab="members", title="Members", members=found.data, next_cursor=found.next_cursor,
        filters={"role": ("Role", {"": "any", **{role: role for role in Role}})}, chosen=chosen, path=PATH,
        roles=await roles_of(visit),
    )  # fmt: skip


@routes.get(f"{PATH}/{{user_id}}")
async def look(request: web.Request) -> web.Response:
    """One member, and what can be done."""
    return await _one(await enter(request, Permission.USERS_READ), None)


@routes.post(f"{PATH}/{{user_id}}/role")
async def change(request: web.Request) -> web.Response:
    """Give another role. It outlives the session, so the password is asked for."""
    visit = await enter(request, Permission.USERS_WRITE, fresh=True)
    fields = await visit.fields()
    wanted = fields.get("role", "")
    body: dict[str, object] = {"role": wanted}
    if wanted.startswith(_OWN):
        body = {"role": Role.MEMBER, "custom_role": wanted.removeprefix(_OWN)}
    try:
        await visit.ask(change_member, body=body, path=_parts(request), version=fields.get("version", ""))
    except Problem as problem:
        return await _one(visit, problem)
    return back(f"{PATH}/{request.match_info['user_id']}", "role")


@routes.post(f"{PATH}/{{user_id}}/remove")
async def remove(request: web.Request) -> web.Response:
    """Take somebody out, or leave: then there is no session here any more."""
    visit = await enter(request, Permission.USERS_WRITE)
    fields = await visit.fields()
    try:
        await visit.ask(remove_member, path=_parts(request), version=fields.get("version", ""))
    except Problem as problem:
        return await _one(visit, problem)
    is_oneself = request.match_info["user_id"] == visit.who.user_id
    return back("/account" if is_oneself else PATH, "member-removed")


async def roles_of(visit: Visit) -> list[RoleShown]:
    """Those that members can be in; none for whoever may not see them."""
    if not visit.may(Permission.ROLES_READ):
        return []
    found: list[RoleShown] = (await visit.ask(list_roles, {"limit": LONGEST})).data
    return found


async def _one(visit: Visit, problem: Problem | None) -> web.Response:
    if problem is not None and problem.refusal is Refusal.NOT_FOUND:
        raise problem
    member: MemberShown = await visit.ask(show_member, path=_parts(visit.request))
    is_oneself = member.user_id == visit.who.user_id
    is_above = bool(excess(visit.who.permissions, member.permissions))
    return visit.page(
        "admin_member.html", tab="members", title=member.name or member.email, problem=problem, member=member,
        version=version_of(member), path=PATH, is_oneself=is_oneself, is_above=is_above,
        is_last=await _is_last_owner(visit, member), present=_present(member), choices=await _choices(visit, member),
    )  # fmt: skip


async def _choices(visit: Visit, member: MemberShown) -> dict[str, str]:
    """The roles that the person may give, which hold no more than its own; the present one among them."""
    own = {f"{_OWN}{role.name}": role for role in await roles_of(visit) if not role.built_in}
    found = {role.value: role.value for role in Role if not excess(visit.who.permissions, ROLES[role])}
    found |= {key: role.name for key, role in own.items() if not excess(visit.who.permissions, role.permissions)}
    return {_present(member): member.custom_role or member.role.value} | found


def _present(member: MemberShown) -> str:
    return f"{_OWN}{member.custom_role}" if member.custom_role else member.role.value


async def _is_last_owner(visit: Visit, member: MemberShown) -> bool:
    """Whether nobody could take over: so it is told before it is tried. The operation refuses it in any case."""
    if member.role is not Role.OWNER or member.custom_role:
        return False
    owners: list[MemberShown] = (await visit.ask(list_members, {"role": Role.OWNER, "limit": LONGEST})).data
    active = [one for one in owners if one.status is UserStatus.ACTIVE and not one.custom_role]
    return [one.user_id for one in active] == [member.user_id]


def _parts(request: web.Request) -> dict[str, str]:
    return {"user_id": request.match_info["user_id"]}

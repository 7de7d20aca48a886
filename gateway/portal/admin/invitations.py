"""Invitations: who was asked to join and what became of it; asking, asking again, taking it back."""

from collections.abc import Mapping

from aiohttp import web

from gateway.portal.admin.members import PATH as MEMBERS
from gateway.portal.admin.members import roles_of
from gateway.portal.admin.visit import Visit, enter, filled, once_of
from gateway.portal.api.invitations import create_invitation, list_invitations, revoke_invitation, send_invitation
from gateway.portal.api.operations import Run
from gateway.portal.own.account import back
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.identity.tenants import Role
from policies.people import InvitationState, may_invite

routes = web.RouteTableDef()

PATH = "/admin/invitations"
NEW = f"{PATH}/new"


@routes.get(PATH)
async def page(request: web.Request) -> web.Response:
    """The newest first, also those that are over."""
    return await _page(await enter(request, Permission.USERS_READ), None)


@routes.get(NEW)
async def new(request: web.Request) -> web.Response:
    """Whom, and as what."""
    return await _form(await enter(request, Permission.USERS_WRITE, fresh=True), {}, None)


@routes.post(NEW)
async def invite(request: web.Request) -> web.Response:
    """Invite, and mail the link. Who joins stays, so the password is asked for."""
    visit = await enter(request, Permission.USERS_WRITE, fresh=True)
    fields = await visit.fields()
    body = {"email": fields.get("email", ""), "role": fields.get("role", Role.MEMBER)}
    try:
        await visit.ask(create_invitation, body=body, once=fields.get("once", ""))
    except Problem as problem:
        return await _form(visit, fields, problem)
    return back(PATH, "invited")


@routes.post(f"{PATH}/{{invitation_id}}/send")
async def send(request: web.Request) -> web.Response:
    """Mail a new link in place of the old one."""
    return await _done(request, send_invitation, "invited")


@routes.post(f"{PATH}/{{invitation_id}}/revoke")
async def revoke(request: web.Request) -> web.Response:
    """Its link works no more."""
    return await _done(request, revoke_invitation, "invitation-revoked")


async def _done(request: web.Request, run: Run, said: str) -> web.Response:
    visit = await enter(request, Permission.USERS_WRITE)
    await visit.fields()
    try:
        await visit.ask(run, path=_parts(request))
    except Problem as problem:
        return await _page(visit, problem)
    return back(PATH, said)


async def _page(visit: Visit, problem: Problem | None) -> web.Response:
    if problem is not None and problem.refusal is Refusal.NOT_FOUND:
        raise problem
    chosen = filled(visit.request, "state")
    found = await visit.ask(list_invitations, {**chosen, **filled(visit.request, "cursor")})
    again = (InvitationState.PENDING, InvitationState.EXPIRED)
    return visit.page(
        "admin_invitations.html", tab="members", title="Invitations", problem=problem, invitations=found.data,
        next_cursor=found.next_cursor, chosen=chosen, path=PATH, members_path=MEMBERS, again=again,
        filters={"state": ("State", {"": "any", **{state: state for state in InvitationState}})},
        names=await visit.names("user", [one.invited_by for one in found.data if one.invited_by]),
        may_give={role: may_invite(visit.who.permissions, role) for role in Role},
    )  # fmt: skip


async def _form(visit: Visit, fields: Mapping[str, str], problem: Problem | None) -> web.Response:
    return visit.page(
        "admin_invite.html", tab="members", title="Invite somebody", problem=problem, fields=fields, action=NEW,
        path=PATH, once=once_of(fields, problem), roles=await roles_of(visit),
        choices=[role for role in Role if may_invite(visit.who.permissions, role)],
    )  # fmt: skip


def _parts(request: web.Request) -> dict[str, str]:
    return {"invitation_id": request.match_info["invitation_id"]}

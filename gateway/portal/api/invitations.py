"""Invitations to the tenant: who was asked to join, and what became of it."""

from typing import Any

from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import ByAge, Page
from gateway.portal.api.shapes import Email, Instant
from gateway.portal.entry import joining
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import ROLES, Permission
from policies.identity.tenants import Role
from policies.people import Invitation, InvitationState

operations = Operations("invitations")


class InvitationShown(Shown):
    """An invitation. Its link was mailed, and is not told again."""

    id: str
    email: str
    role: Role
    state: InvitationState
    invited_by: str | None
    created_at: Instant
    sent_at: Instant
    expires_at: Instant


class InvitationWish(Sent):
    """Whom to invite, and as what."""

    email: Email
    role: Role = Role.MEMBER


class InvitationList(ByAge, InTenant):
    """Which invitations."""

    state: InvitationState | None = None


@operations.get("/invitations", Permission.USERS_READ, query=InvitationList, answer=Page[InvitationShown])
async def list_invitations(ask: Ask[InvitationList, Any]) -> Page[InvitationShown]:
    """The tenant's invitations, newest first if nothing else is said, also those that are over."""
    query, book = ask.query, joining.invitations(ask.request)
    found = await book.page(
        ask.tenant_id,
        query.limit + 1,
        sort=query.sort,
        beyond=ask.cursors.beyond(query.cursor),
        state=query.state,
    )
    return ask.cursors.page([_shown(ask, each) for each in found], query.limit, [[each.id] for each in found])


@operations.get("/invitations/{invitation_id}", Permission.USERS_READ, answer=InvitationShown)
async def show_invitation(ask: Ask[InTenant, Any]) -> InvitationShown:
    """One invitation."""
    return _shown(ask, await joining.invitations(ask.request).get(ask.tenant_id, ask.path("invitation_id")))


@operations.post("/invitations", Permission.USERS_WRITE, body=InvitationWish, answer=InvitationShown)
async def create_invitation(ask: Ask[InTenant, InvitationWish]) -> InvitationShown:
    """Invite somebody, in a role that holds no more than one's own permissions. The link is mailed."""
    wish, who = ask.body, ask.who
    who.may_give(ROLES[wish.role])
    if who.is_guest:  # whether it still may could not be asked when the invitation is accepted
        raise Problem(Refusal.INSUFFICIENT_PERMISSION, "Somebody whom this gateway knows itself must invite.")
    made = await joining.invite(ask.request, ask.tenant_id, wish.email, wish.role, who.user_id or who.key_id)
    return _shown(ask, made)


@operations.post("/invitations/{invitation_id}/send", Permission.USERS_WRITE, answer=InvitationShown, status=200)
async def send_invitation(ask: Ask[InTenant, Any]) -> InvitationShown:
    """Mail a new link in place of the old one; the time begins anew."""
    current = await joining.invitations(ask.request).get(ask.tenant_id, ask.path("invitation_id"))
    ask.who.may_govern(ROLES[current.role])
    return _shown(ask, await joining.send_again(ask.request, ask.tenant_id, current.id))


@operations.delete("/invitations/{invitation_id}", Permission.USERS_WRITE)
async def revoke_invitation(ask: Ask[InTenant, Any]) -> None:
    """Its link works no more."""
    await joining.invitations(ask.request).revoke(
        ask.tenant_id, ask.path("invitation_id"), lambda current: ask.check_version(_shown(ask, current))
    )


def _shown(ask: Ask[Any, Any], invitation: Invitation) -> InvitationShown:
    return InvitationShown(
        id=invitation.id,
        email=invitation.email,
        role=invitation.role,
        state=invitation.state(ask.parts.now()),
        invited_by=invitation.invited_by,
        created_at=invitation.created_at,
        sent_at=invitation.sent_at,
        expires_at=invitation.expires_at,
    )

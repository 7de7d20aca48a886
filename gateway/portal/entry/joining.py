"""Invitations as the invited see them: a link, and a person who is a member afterwards. And how they are sent."""

from datetime import datetime

from aiohttp import web

from gateway.portal.entry import browser, halfway
from gateway.portal.entry.choosing import hashed, new_password
from gateway.portal.entry.identity import IDENTITY, people, trail
from gateway.portal.entry.oidc.provider import PROVIDERS
from gateway.portal.entry.passkeys.ceremony import takes_passkeys
from gateway.portal.entry.proving import limit
from gateway.portal.entry.recovery import mint
from gateway.portal.mail import letters
from gateway.portal.mail.posting import post
from gateway.portal.mail.sending import MAILER, deliver, require_mailbox
from gateway.portal.parts import PARTS
from gateway.portal.web.bodies import form_fields
from gateway.portal.web.pages import render
from gateway.portal.web.problem import Problem
from gateway.portal.web.problem_answers import wants_page
from policies.http.verdict import Refusal
from policies.identity.tenants import Role
from policies.people import Invitation, InvitationState, Proven, Session, account_bucket
from storage.ports import Invalidation
from storage.postgres.tenants.invitations import Means, PostgresInvitations
from storage.redis.attempts import Bucket

routes = web.RouteTableDef()

PURPOSE = "invitations"
"""What the key of their digests is derived for."""
FREE_TRIES = 30
_FREE_TO_ONE, _FREE_BY_TENANT = 5, 200


def invitations(request: web.Request) -> PostgresInvitations:
    """The invitations, as this request may change them."""
    return PostgresInvitations(request.app[PARTS].pool, trail(request))


async def invite(request: web.Request, tenant_id: str, email: str, role: Role, invited_by: str | None) -> Invitation:
    """Invite, and mail the link. Whether who asks may invite is the caller's to know.

    Raises AlreadyExists for a member, Problem where mail is off, cannot go to that address, or does not leave: the
    invitation waits to be sent again then.
    """
    if not request.app[MAILER].is_on:
        raise Problem(Refusal.MAIL_IS_OFF)
    require_mailbox(email)
    await _limit_mails(request, tenant_id, email)
    secret = mint("invite")
    digest = request.app[IDENTITY].digest(PURPOSE, secret)
    made = await invitations(request).create(tenant_id, email, role, digest, invited_by)
    await _send(request, made, secret)
    return made


async def send_again(request: web.Request, tenant_id: str, invitation_id: str) -> Invitation:
    """A new link in place of the old one. Raises NotFound, Problem."""
    current = await invitations(request).get(tenant_id, invitation_id)
    await _limit_mails(request, tenant_id, current.email)
    secret = mint("invite")
    digest = request.app[IDENTITY].digest(PURPOSE, secret)
    made = await invitations(request).send_again(tenant_id, invitation_id, digest)
    await _send(request, made, secret)
    return made


async def _limit_mails(request: web.Request, tenant_id: str, email: str) -> None:
    """Nobody is flooded with letters, of whose text the tenant's name is a part. Raises Problem."""
    buckets = [
        Bucket(f"invited:{tenant_id}:{account_bucket(email)}", _FREE_TO_ONE),
        Bucket(f"invited-by:{tenant_id}", _FREE_BY_TENANT),
    ]
    tried = await request.app[IDENTITY].attempts.begin(buckets)
    if tried.wait_s > 0:
        raise Problem(Refusal.RATE_LIMIT_EXCEEDED, headers={"Retry-After": str(int(tried.wait_s) + 1)})


async def _send(request: web.Request, made: Invitation, secret: str) -> None:
    tenant = await _tenant_name(request, made.tenant_id)
    letter = letters.invitation(link(request.app[PARTS].public_url, secret), tenant, made.role)
    await deliver(request, made.email, *letter, kept=f"The invitation {made.id} is there, and can be sent again.")


def link(public_url: str, secret: str) -> str:
    """Where an invitation is accepted."""
    return f"{public_url}/auth/invite/{secret}"


@routes.get("/auth/invite/{secret}")
async def page(request: web.Request) -> web.Response:
    """Who invites to what; a form for whoever is new, a button for whoever is signed in. Looking uses nothing up."""
    return await invite_page(request, request.match_info["secret"], None)


@routes.post("/auth/invite/{secret}")
async def accept(request: web.Request) -> web.Response:
    """Join; who is new is signed in by it."""
    await limit(request, "invite", free=FREE_TRIES)
    secret = request.match_info["secret"]
    digest = digest_of(request, secret)
    invitation = await pending(request, secret)
    session = await browser.current(request)
    known = await people(request).account(invitation.email)
    if known is not None:
        if session is None or session.user_id != known.person.id:
            return await invite_page(request, secret, Problem(Refusal.LOGIN_REQUIRED))
        joined = await invitations(request).accept(digest, user_id=session.user_id)
        methods = session.methods
    else:
        name = (await form_fields(request)).get("name", "").strip()[:200]
        try:
            _, password = await new_password(request)
            stored = await hashed(request, password, about=(invitation.email, name))
            joined = await invitations(request).accept(digest, name=name, password_hash=stored)
        except Problem as problem:
            return await invite_page(request, secret, problem, name)
        except ValueError as error:
            return await invite_page(
                request, secret, Problem(Refusal.INVALID_INPUT, fields={"name": f"{error}."}), name
            )
        methods = ("pwd",)
    if joined is None:
        raise Problem(Refusal.LINK_INVALID)
    return await _welcome(request, joined[0], joined[1], methods, session if known is not None else None)


async def join(
    request: web.Request, secret: str, name: str, means: Means, methods: tuple[str, ...],
    proved_at: datetime | None = None,
) -> web.Response:  # fmt: skip
    """Join as somebody new, who signs in by ``means`` from now on and has no password. Raises Problem, ValueError."""
    joined = await invitations(request).accept(digest_of(request, secret), name=name, also=means)
    if joined is None:
        raise Problem(Refusal.LINK_INVALID)
    return await _welcome(request, *joined, methods, None, proved_at)


@routes.post("/auth/invite/{secret}/decline")
async def decline(request: web.Request) -> web.Response:
    """Say no, once and for ever. The link is proof enough: it went to the invited, and opens nothing here."""
    await limit(request, "invite", free=FREE_TRIES)
    session = await browser.current(request)
    declined = await invitations(request).decline(digest_of(request, request.match_info["secret"]))
    if declined is None:
        raise Problem(Refusal.LINK_INVALID)
    tenant = await _tenant_name(request, declined.tenant_id)
    inviter = await people(request).account_of(declined.invited_by) if declined.invited_by else None
    if inviter is not None and inviter.may_sign_in:
        await post(request, inviter.person.email, *letters.invitation_declined(declined.email, tenant))
    if not wants_page(request):
        return web.json_response({"id": declined.id, "state": InvitationState.DECLINED})
    response = render(
        request, "message.html", title="You have declined", link="/account" if session is not None else None,
        link_text="To your account", message=f"You do not join {tenant}. Who invited you sees that you have declined.",
    )  # fmt: skip
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _welcome(
    request: web.Request, invitation: Invitation, user_id: str, methods: tuple[str, ...], continues: Session | None,
    proved_at: datetime | None = None,
) -> web.Response:  # fmt: skip
    """A session in the tenant that was joined; of whoever was signed in already it goes on from the one there was."""
    await request.app[PARTS].bus.publish(Invalidation(user_id=user_id))
    account = await people(request).account_of(user_id)
    place = next((p for p in account.places if p.tenant_id == invitation.tenant_id), None) if account else None
    if account is None or place is None or not place.active:
        raise Problem(Refusal.LINK_INVALID)
    proven = Proven(person=account.person, place=place, methods=methods, at=proved_at, continues=continues)
    return await halfway.go_on(request, proven, "/account")


def digest_of(request: web.Request, secret: str) -> bytes:
    """What is stored of a link."""
    return request.app[IDENTITY].digest(PURPOSE, secret)


async def pending(request: web.Request, secret: str) -> Invitation:
    """The invitation of a link that works. Raises Problem."""
    invitation = await invitations(request).read(digest_of(request, secret))
    if invitation is None or invitation.state(request.app[PARTS].now()) is not InvitationState.PENDING:
        raise Problem(Refusal.LINK_INVALID)
    return invitation


async def pending_new(request: web.Request, secret: str) -> Invitation:
    """The same for somebody who has no account yet: whoever has one signs in to join. Raises Problem."""
    invitation = await pending(request, secret)
    if await people(request).account(invitation.email) is not None:
        raise Problem(Refusal.LOGIN_REQUIRED)
    return invitation


async def invite_page(request: web.Request, secret: str, problem: Problem | None, name: str = "") -> web.Response:
    """What the invited sees, and what went wrong. Raises Problem where the link works no more."""
    invitation = await pending(request, secret)
    session = await browser.current(request)
    known = await people(request).account(invitation.email)
    signed_in = session is not None and known is not None and session.user_id == known.person.id
    other = await people(request).account_of(session.user_id) if session is not None and not signed_in else None
    response = render(
        request,
        "invite.html",
        title="You are invited",
        problem=problem,
        name=name,
        invitation=invitation,
        inviter=await _inviter_name(request, invitation.invited_by),
        tenant=await _tenant_name(request, invitation.tenant_id),
        action=f"/auth/invite/{secret}",
        is_new=known is None,
        passkeys=takes_passkeys(request),
        providers=request.app[PROVIDERS].values(),
        signed_in=signed_in,
        other=other.person if other is not None else None,
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _inviter_name(request: web.Request, invited_by: str | None) -> str:
    """The person's name; empty where a program or the operator has invited."""
    account = await people(request).account_of(invited_by) if invited_by else None
    return account.person.name or account.person.email if account is not None else ""


async def _tenant_name(request: web.Request, tenant_id: str) -> str:
    rows = await request.app[PARTS].pool.read("SELECT name FROM platform.tenants WHERE id = $1", tenant_id)
    return str(rows[0]["name"]) if rows else ""

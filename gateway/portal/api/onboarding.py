"""Onboarding: a tenant, its plan, its owner's invitation and its first key by one call; all or nothing."""

from typing import Any

from pydantic import Field

from gateway.portal.api import keys, tenants
from gateway.portal.api.operations import Ask, Nothing, Operations, Sent, Shown
from gateway.portal.api.shapes import Email, Instant, Name, Scopes, Slug
from gateway.portal.entry import joining
from gateway.portal.entry.identity import IDENTITY
from gateway.portal.entry.recovery import mint
from gateway.portal.mail import letters
from gateway.portal.mail.sending import is_delivered
from policies.identity.permissions import Permission
from storage.ports import NewKey
from storage.postgres.onboarding import Newcomer, onboard

operations = Operations("tenants")


class FirstKeyWish(Sent):
    """The tenant's first key."""

    name: Name = "first"
    scopes: Scopes = Field(default=["transcribe"])
    test: bool = Field(default=False, description="A `thk_test_` key.")


class OnboardingWish(Sent):
    """A tenant with all that it needs to begin."""

    slug: Slug
    name: Name | None = Field(default=None, description="Null: the slug.")
    owner: Email = Field(description="Who is invited to own it.")
    plan: Slug | None = None
    key: FirstKeyWish | None = Field(default=None, description="Null: no key.")


class InvitationSent(Shown):
    """The owner's invitation. ``link`` is there only where no mail could carry it: give it to the owner alone."""

    id: str
    email: str
    expires_at: Instant
    mailed: bool
    link: str | None


class OnboardingDone(Shown):
    """What was made. The key itself is in this answer and nowhere else."""

    tenant: tenants.TenantShown
    invitation: InvitationSent
    key: keys.KeyMade | None


@operations.post("/onboarding", Permission.PLATFORM_WRITE, query=Nothing, body=OnboardingWish, answer=OnboardingDone)
async def onboard_tenant(ask: Ask[Nothing, OnboardingWish]) -> OnboardingDone:
    """Make a tenant, put it on its plan, invite its owner, make its first key: all of it, or nothing."""
    wish = ask.body
    invitation = mint("invite")
    secret, first = _first_key(ask, wish.key) if wish.key else ("", None)
    made = await onboard(
        ask.parts.pool,
        ask.trail,
        Newcomer(
            slug=wish.slug,
            name=wish.name or wish.slug,
            owner=wish.owner,
            invitation=ask.request.app[IDENTITY].digest(joining.PURPOSE, invitation),
            invited_by=ask.who.user_id or None,
            plan=wish.plan,
            key=first,
        ),
    )
    link = joining.link(ask.parts.public_url, invitation)
    letter = letters.invitation(link, made.tenant.name, made.invitation.role)
    mailed = await is_delivered(ask.request, made.invitation.email, *letter)  # the tenant is there either way
    return OnboardingDone(
        tenant=tenants.shown(made.tenant),
        invitation=InvitationSent(
            id=made.invitation.id,
            email=made.invitation.email,
            expires_at=made.invitation.expires_at,
            mailed=mailed,
            link=None if mailed else link,
        ),
        key=keys.KeyMade(**keys.facts(made.key, ask.parts.now()), key=secret) if made.key else None,
    )


def _first_key(ask: Ask[Any, Any], wish: FirstKeyWish) -> tuple[str, NewKey]:
    secret, digest = keys.mint(ask.parts, test=wish.test)
    return secret, NewKey(name=wish.name, digest=digest, last4=secret[-4:], scopes=frozenset(wish.scopes))

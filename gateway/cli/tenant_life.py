"""How a tenant comes, by ``gateway tenant onboard``, and how it leaves: ``delete``, ``restore``, ``purge``."""

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Command, Given, common, confirm, tell, with_stores, yes_option
from gateway.cli.known_routes import check_scopes
from gateway.cli.minting import mint as mint_key
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.values import DURATION, EMAIL, NAME, SCOPE, SLUG
from gateway.times import maybe_stamp, stamp
from policies.identity.tenants import Tenant
from storage.ports import Invalidation, NewKey

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.onboarding import Onboarded


@click.command(cls=Command)
@click.argument("slug", type=SLUG)
@click.option("--owner", type=EMAIL, required=True, help="Who is invited to own it.")
@click.option("--name", type=NAME, help="What people call it. Default: the slug.")
@click.option("--plan", type=SLUG, help="The plan that it is on. See them: gateway plan list")
@click.option("--key", "key_name", type=NAME, help="Make a first key with this name.")
@click.option(
    "--scope", "scopes", type=SCOPE, multiple=True, default=("transcribe",), show_default=True,
    help="What that key may do; give it again for another.",
)  # fmt: skip
@common
def onboard(
    given: Given,
    slug: str,
    owner: str,
    name: str | None,
    plan: str | None,
    key_name: str | None,
    scopes: tuple[str, ...],
) -> None:
    """Make a tenant that can begin: its plan, an invitation of its owner, a first key. All of it, or nothing.

    The invitation is mailed; where that cannot be, its link is printed.
    """

    async def make(stores: "Stores") -> "tuple[Onboarded, str, str]":
        check_scopes(stores, scopes)
        return await _onboard(stores, slug, name or slug, owner, plan, key_name, frozenset(scopes))

    made, key, link = with_stores(given, make)
    invited = made.invitation
    if given.json:
        print_json(
            {
                "tenant": facts(made.tenant),
                "invitation": {
                    "id": invited.id,
                    "email": invited.email,
                    "expires_at": stamp(invited.expires_at),
                    "link": link or None,
                },
                "key": {"id": made.key.id, "name": made.key.name, "key": key} if made.key else None,
            }
        )
        return
    remark(f"Tenant {slug} made" + (f", on plan {plan}." if plan else "."))
    if link:
        click.echo(link)
        remark(f"Give this link to {invited.email}: it works once, until {stamp(invited.expires_at)}.")
    else:
        remark(f"{invited.email} is invited to own it: the link was mailed.")
    if made.key:
        click.echo(key)
        remark(f"The key {made.key.id}, for {' '.join(sorted(scopes))}. Keep it now: it is not shown again.")


async def _onboard(
    stores: "Stores", slug: str, name: str, owner: str, plan: str | None, key_name: str | None, scopes: frozenset[str]
) -> "tuple[Onboarded, str, str]":
    """What was made, the key itself, and the invitation's link unless it was mailed."""
    from gateway.identity.digests import digest  # noqa: PLC0415  the same
    from gateway.portal.entry import joining, recovery  # noqa: PLC0415  slow: see the package's docstring
    from gateway.portal.mail import letters, sending  # noqa: PLC0415  the same
    from storage.postgres.onboarding import Newcomer  # noqa: PLC0415  the same
    from storage.postgres.onboarding import onboard as make  # noqa: PLC0415  the same

    settings, invitation = stores.settings, recovery.mint("invite")
    key, first = "", None
    if key_name is not None:
        key, its_digest = mint_key(stores, test=False)
        first = NewKey(name=key_name, digest=its_digest, last4=key[-4:], scopes=scopes)
    new = Newcomer(
        slug=slug,
        name=name,
        owner=owner,
        invitation=digest(stores.secret_for(joining.PURPOSE), invitation.encode()),
        invited_by=None,
        plan=plan,
        key=first,
    )
    made = await make(stores.pool, stores.trail, new)
    link = joining.link(settings.base_url, invitation)
    if settings.mail is None:
        return made, key, link
    mailer = sending.Mailer(url=settings.mail.get_secret_value(), sender=settings.mail_from)
    try:
        await mailer.send(owner, *letters.invitation(link, name, made.invitation.role))
    except sending.MailFailed as error:
        remark(f"The invitation could not be mailed: {error}.")
        return made, key, link
    return made, key, ""


@click.command(cls=Command)
@click.argument("slug", type=SLUG)
@click.option("--grace", type=DURATION, default="30d", show_default=True, help="How long it can be restored.")
@yes_option
@common
def delete(given: Given, slug: str, grace: timedelta, *, yes: bool) -> None:
    """Refuse all of a tenant's credentials now, and remove it once its grace is over.

    Its usage and its audit trail stay, for as long as those are kept.
    """
    ends = "" if grace else " It cannot be restored."
    confirm(f"Delete tenant {slug}? All of its credentials are refused at once.{ends}", yes=yes)

    async def leave(stores: "Stores") -> Tenant:
        from storage.postgres.tenants.departures import PostgresDepartures  # noqa: PLC0415  slow

        found = await PostgresDepartures(stores.pool, stores.trail).delete(slug, grace)
        await stores.announce(Invalidation(tenant_id=found.id))
        return found

    left = with_stores(given, leave)
    tell(given, facts(left), f"Tenant {slug} is deleted: all of its credentials are refused.")
    if not grace:
        remark("It is removed within a day, or now by: gateway tenant purge")
    elif left.delete_after is not None:
        remark(f"Until {stamp(left.delete_after)} it comes back by: gateway tenant restore {slug}")


@click.command(cls=Command)
@click.argument("slug", type=SLUG)
@common
def restore(given: Given, slug: str) -> None:
    """Undo a deletion whose grace is not over. What was suspended before is suspended again."""

    async def come_back(stores: "Stores") -> Tenant:
        from storage.postgres.tenants.departures import PostgresDepartures  # noqa: PLC0415  slow

        found = await PostgresDepartures(stores.pool, stores.trail).restore(slug)
        await stores.announce(Invalidation(tenant_id=found.id))
        return found

    found = with_stores(given, come_back)
    tell(given, facts(found), f"Tenant {slug} is {found.status}.")


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Only say which those are.")
@yes_option
@common
def purge(given: Given, *, dry_run: bool, yes: bool) -> None:
    """Remove the deleted tenants whose grace is over, for ever. A running gateway does it once a day by itself."""

    async def due(stores: "Stores") -> list[Tenant]:
        from storage.postgres.tenants.departures import PostgresDepartures  # noqa: PLC0415  slow

        return [*await PostgresDepartures(stores.pool, stores.trail).due()]

    async def remove(stores: "Stores") -> list[Tenant]:
        from storage.postgres.tenants.departures import PostgresDepartures  # noqa: PLC0415  slow

        gone = [*await PostgresDepartures(stores.pool, stores.trail).purge()]
        for tenant in gone:
            await stores.announce(Invalidation(tenant_id=tenant.id))
        return gone

    found = with_stores(given, due)
    if found and not dry_run:
        confirm(f"Remove {', '.join(tenant.slug for tenant in found)} for ever?", yes=yes)
        found = with_stores(given, remove)
    if given.json:
        print_json([facts(tenant) for tenant in found])
        return
    print_table(("SLUG", "DELETED AFTER", "ID"), [(t.slug, maybe_stamp(t.delete_after), t.id) for t in found])
    remark(f"{len(found)} {'to be removed' if dry_run else 'removed'}.")


def facts(found: Tenant) -> dict[str, object]:
    """A tenant as JSON shows it."""
    return {
        "id": found.id,
        "slug": found.slug,
        "name": found.name,
        "status": found.status.value,
        "plan": found.plan,
        "created_at": stamp(found.created_at),
        "delete_after": maybe_stamp(found.delete_after),
    }

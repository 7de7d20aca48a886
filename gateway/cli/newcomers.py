"""``gateway user create``, ``user invite`` and ``user link``: how people come, and choose a password."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Command, Given, common, with_stores
from gateway.cli.output import print_json, remark
from gateway.cli.people import facts, membership_facts, person_id
from gateway.cli.values import EMAIL, NAME, SLUG, tenant_option
from gateway.times import stamp
from policies.identity.tenants import Membership, Role, User

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from policies.people import Invitation
    from storage.postgres.people.users import Known

_MOST_BYTES = 8_192
"""More than the longest password takes, in any script."""


@click.command(cls=Command)
@click.option("--tenant", type=SLUG, help="The tenant's slug. Without: the person is in no tenant yet.")
@click.option("--email", type=EMAIL, required=True, help="Names the person, in every tenant.")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]),
    help="What the member may do in this tenant. Default: member.",
)  # fmt: skip
@click.option("--name", type=NAME, help="What people call the person. Default: the part of the e-mail before the @.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, one line.")
@common
def create(
    given: Given, tenant: str | None, email: str, role: str | None, name: str | None, *, password_stdin: bool
) -> None:
    """Make a person, and a member of a tenant. One whom another tenant knows already becomes a member here, too.

    Without a tenant, somebody who has no account yet: without a password a link to choose one is mailed, or printed
    where no mail is configured. A password is never an argument: arguments are seen by every user of a machine, and
    kept in histories.
    """
    if role and not tenant:
        raise click.UsageError("A role is one in a tenant: say --tenant as well.")
    password = _read_password() if password_stdin else None
    name = name or email.partition("@")[0]
    if tenant:
        _make_member(given, tenant, email, name=name, role=role or Role.MEMBER.value, password=password)
        return
    made, link = with_stores(given, lambda stores: _create_person(stores, email, name, password))
    if given.json:
        print_json({**facts(made), "link": link})
        return
    click.echo(link or f"{made.email} has an account.")
    if link:
        remark(f"Give this link to {made.email}, to choose a password: it works once, for seven days.")


def _make_member(given: Given, tenant: str, email: str, *, name: str, role: str, password: str | None) -> None:
    made, membership = with_stores(
        given, lambda stores: _create(stores, tenant, email, name=name, role=Role(role), password=password)
    )
    if given.json:
        print_json(membership_facts(made, membership, tenant))
    else:
        click.echo(f"{made.email} is {_article(role)} {role} of tenant {tenant}.")
    # Both are made in one transaction, which has one time; an older person was there before.
    if made.created_at < membership.created_at:
        remark(f"{made.email} was known already and keeps name{', password' if password else ''} and status.")
    elif password is None:
        remark(f"{made.email} has no password yet. A link to choose one: gateway user link --email {made.email}")


@click.command(cls=Command)
@tenant_option
@click.option("--email", type=EMAIL, required=True, help="Whom to invite.")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default=Role.MEMBER.value, show_default=True,
    help="What the member may do in this tenant.",
)  # fmt: skip
@common
def invite(given: Given, tenant: str, email: str, role: str) -> None:
    """Ask somebody to join a tenant. The link is mailed; where no mail is configured it is printed, this once."""
    made, link = with_stores(given, lambda stores: _invite(stores, tenant, email, Role(role)))
    if given.json:
        said = {"id": made.id, "email": made.email, "role": made.role.value, "expires_at": stamp(made.expires_at)}
        print_json({**said, "tenant": tenant, "link": link})
    elif link:
        click.echo(link)
        remark(f"Give this link to {made.email}: it works once, until {stamp(made.expires_at)}. It was not mailed.")
    else:
        click.echo(f"{made.email} is invited to tenant {tenant} as {role}: the link was mailed.")


@click.command(cls=Command)
@click.option("--email", type=EMAIL, required=True, help="Who is to choose a password.")
@common
def link(given: Given, email: str) -> None:
    """Make a link by which a person chooses a password, the first or a new one, in place of any that is out.

    It is mailed; where no mail is configured it is printed, this once. It works for seven days, and for half an hour
    where there is a way in already; a password stays until another is chosen. A second factor is asked for as ever.
    """
    known, life_s, shown = with_stores(given, lambda stores: _link(stores, email))
    until = stamp(datetime.now(UTC) + timedelta(seconds=life_s))
    if given.json:
        print_json({"id": known.id, "email": known.email, "expires_at": until, "link": shown})
    elif shown:
        click.echo(shown)
        remark(f"Give this link to {known.email}: it works once, until {until}. It was not mailed.")
    else:
        click.echo(f"A link to choose a password was mailed to {known.email}: it works once, until {until}.")


def _read_password() -> str:
    """The password on standard input: what precedes the end of its only line, exactly as it came."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    received = sys.stdin.buffer.read(_MOST_BYTES)
    if len(received) == _MOST_BYTES:
        raise click.BadParameter("that is longer than a password can be.", param_hint="--password-stdin")
    line = received.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line:
        raise click.BadParameter("a password is one line.", param_hint="--password-stdin")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.BadParameter("it is not UTF-8.", param_hint="--password-stdin") from None


async def _create(
    stores: "Stores", slug: str, email: str, *, name: str, role: Role, password: str | None
) -> tuple[User, Membership]:
    tenant = await stores.directory.tenant(slug)
    return await stores.directory.create_user(tenant.id, email, name, role, await _hashed(stores, password))


async def _create_person(stores: "Stores", email: str, name: str, password: str | None) -> tuple["Known", str]:
    """The person, and the link to a first password if there is one and it was not mailed."""
    from gateway.identity.digests import digest  # noqa: PLC0415  slow: see the package's docstring
    from gateway.portal.entry import recovery  # noqa: PLC0415  the same
    from gateway.portal.mail import letters  # noqa: PLC0415  the same
    from storage.postgres.people.newcomers import NewPerson  # noqa: PLC0415  the same
    from storage.postgres.people.users import PostgresUsers  # noqa: PLC0415  the same

    new = NewPerson(email=email, name=name, password_hash=await _hashed(stores, password))
    users = PostgresUsers(stores.pool, stores.trail)
    if password is not None:
        return await users.create(new), ""
    secret = recovery.mint("reset")
    made = await users.create(new, digest(stores.secret_for(recovery.LINKS), secret.encode()))
    link = recovery.link(stores.settings.base_url, secret)
    return made, "" if await _mail(stores, made.email, letters.welcome(link)) else link


async def _link(stores: "Stores", email: str) -> tuple["Known", int, str]:
    """The person, how many seconds the link works, and the link if it was not mailed."""
    from gateway.identity.digests import digest  # noqa: PLC0415  slow: see the package's docstring
    from gateway.portal.entry import recovery  # noqa: PLC0415  the same
    from gateway.portal.mail import letters  # noqa: PLC0415  the same
    from policies.people import RESET_S  # noqa: PLC0415  the same
    from storage.postgres.people.users import PostgresUsers  # noqa: PLC0415  the same

    users, secret = PostgresUsers(stores.pool, stores.trail), recovery.mint("reset")
    of_secret = digest(stores.secret_for(recovery.LINKS), secret.encode())
    known, life_s = await users.link(await person_id(stores, email), of_secret)
    made = recovery.link(stores.settings.base_url, secret)
    letter = letters.reset(made) if life_s == RESET_S else letters.welcome(made)
    return known, life_s, "" if await _mail(stores, known.email, letter) else made


async def _hashed(stores: "Stores", password: str | None) -> str | None:
    from gateway.identity.passwords import hash_password  # noqa: PLC0415  slow: see the package's docstring

    if password is None:
        return None
    try:
        return await asyncio.to_thread(hash_password, password, stores.secret_for("passwords"))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--password-stdin") from None


async def _mail(stores: "Stores", email: str, letter: tuple[str, str]) -> bool:
    """Whether it was mailed: not where no mail is configured, nor where its server does not take it."""
    from gateway.portal.mail.sending import Mailer, MailFailed  # noqa: PLC0415  slow: see the package's docstring

    settings = stores.settings
    if settings.mail is None:
        return False
    try:
        await Mailer(url=settings.mail.get_secret_value(), sender=settings.mail_from).send(email, *letter)
    except MailFailed as error:
        remark(str(error))
        return False
    return True


async def _invite(stores: "Stores", slug: str, email: str, role: Role) -> tuple["Invitation", str]:
    """The invitation, and its link if it was not mailed."""
    from gateway.identity.digests import digest  # noqa: PLC0415  the same
    from gateway.portal.entry import joining, recovery  # noqa: PLC0415  slow: see the package's docstring
    from gateway.portal.mail import letters  # noqa: PLC0415  slow: see the package's docstring

    tenant = await stores.directory.tenant(slug)
    secret = recovery.mint("invite")
    key = stores.secret_for(joining.PURPOSE)
    made = await stores.invitations.create(tenant.id, email, role, digest(key, secret.encode()))
    link = joining.link(stores.settings.base_url, secret)
    return made, "" if await _mail(stores, made.email, letters.invitation(link, tenant.name, role)) else link


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"

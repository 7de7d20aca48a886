"""``gateway user``."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.output import print_json, print_table, remark
from gateway.cli.people import facts, member
from gateway.cli.values import EMAIL, NAME, SLUG, Written, tenant_option
from gateway.locales import LANGUAGES, check_time_zone
from gateway.times import stamp
from policies.identity.tenants import Membership, Role, User, UserStatus
from storage.ports import Invalidation, NotFound

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from policies.people import Invitation
    from storage.postgres.people.users import Known

_MOST_BYTES = 8_192
"""More than the longest password takes, in any script."""


@click.group(cls=Group)
def user() -> None:
    """People, and who belongs to which tenant."""


@user.command()
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
        print_json(_membership_facts(made, membership, tenant))
    else:
        click.echo(f"{made.email} is {_article(role)} {role} of tenant {tenant}.")
    # Both are made in one transaction, which has one time; an older person was there before.
    if made.created_at < membership.created_at:
        remark(f"{made.email} was known already and keeps name{', password' if password else ''} and status.")
    elif password is None:
        remark(f"{made.email} has no password and no link to one: next time ask by `gateway user invite`.")


@user.command("list")
@tenant_option
@common
def list_users(given: Given, tenant: str) -> None:
    """A tenant's members, by e-mail."""

    async def ask(stores: "Stores") -> list[tuple[User, Membership]]:
        return [*await stores.directory.users((await stores.directory.tenant(tenant)).id)]

    found = with_stores(given, ask)
    if given.json:
        print_json([_membership_facts(person, membership, tenant) for person, membership in found])
        return
    print_table(
        ("EMAIL", "NAME", "ROLE", "STATUS", "CREATED", "ID"),
        [(u.email, u.name, m.role, u.status, stamp(u.created_at), u.id) for u, m in found],
    )


@user.command()
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


@user.command()
@click.option("--email", type=EMAIL, help="The account whose tries are forgotten.")
@click.option("--address", help="The client address whose tries are forgotten.")
@common
def unban(given: Given, email: str | None, address: str | None) -> None:
    """Let an account, or an address, try to sign in again at once after too many wrong passwords or codes."""
    if not (email or address):
        raise click.UsageError("Say which: --email or --address.")
    found = with_stores(given, lambda stores: _unban(stores, email, address))
    tell(given, {"forgotten": found}, "The tries are forgotten." if found else "There were no tries to forget.")


@user.command()
@click.option("--tenant", type=SLUG, required=True, help="A tenant that the person is a member of.")
@click.option("--email", type=EMAIL, required=True, help="Whom to disable.")
@yes_option
@common
def disable(given: Given, tenant: str, email: str, *, yes: bool) -> None:
    """Refuse all of a person's credentials, in every tenant; log-ins end for good."""
    confirm(f"Disable {email}? Sessions and streams end at once, in every tenant.", yes=yes)
    found = with_stores(given, lambda stores: _set_status(stores, tenant, email, UserStatus.DISABLED))
    tell(given, facts(found), f"{found.email} is disabled: all of this person's credentials are refused.")


@user.command()
@click.option("--tenant", type=SLUG, required=True, help="A tenant that the person is a member of.")
@click.option("--email", type=EMAIL, required=True, help="Whom to enable.")
@common
def enable(given: Given, tenant: str, email: str) -> None:
    """Accept a disabled person's credentials again."""
    found = with_stores(given, lambda stores: _set_status(stores, tenant, email, UserStatus.ACTIVE))
    tell(given, facts(found), f"{found.email} is active.")


@user.command()
@tenant_option
@click.option("--email", type=EMAIL, required=True, help="Who leaves it.")
@yes_option
@common
def remove(given: Given, tenant: str, email: str, *, yes: bool) -> None:
    """Take a person out of a tenant: its keys there are revoked, its sessions there are over. The last owner stays."""
    confirm(f"Remove {email} from tenant {tenant}? The keys that {email} has there are revoked for ever.", yes=yes)
    user_id = with_stores(given, lambda stores: _remove(stores, tenant, email))
    tell(given, {"id": user_id, "email": email, "tenant": tenant}, f"{email} is no member of tenant {tenant} any more.")


@user.command()
@click.option("--email", type=EMAIL, required=True, help="Who is meant.")
@click.option("--name", type=NAME, help="What people call the person.")
@click.option("--language", type=click.Choice(list(LANGUAGES)), help="The language of the person.")
@click.option("--time-zone", type=Written("time zone", check_time_zone), help="Such as Europe/Berlin.")
@common
def edit(given: Given, email: str, **changes: str | None) -> None:
    """Change what is shown of a person, in every tenant. The address only the person changes."""
    found = with_stores(given, lambda stores: _edit(stores, email, changes))
    if given.json:
        print_json({"id": found.id, "email": found.email, "name": found.name, "language": found.language,
                    "time_zone": found.time_zone})  # fmt: skip
    else:
        click.echo(f"{found.email} is {found.name}: {found.language}, {found.time_zone}.")


@user.command()
@click.option("--email", type=EMAIL, required=True, help="Whom to forget.")
@yes_option
@common
def erase(given: Given, email: str, *, yes: bool) -> None:
    """Forget a person for ever: name, address, password and memberships; keys end. A tenant's last owner stays."""
    confirm(f"Forget {email}? The account cannot be brought back, and its keys end, in every tenant.", yes=yes)
    user_id = with_stores(given, lambda stores: _erase(stores, email))
    tell(given, {"id": user_id}, f"{email} is forgotten.")


async def _edit(stores: "Stores", email: str, changes: dict[str, str | None]) -> "Known":
    from storage.postgres.people.users import PostgresUsers  # noqa: PLC0415  slow: see the package's docstring

    user_id = await _person_id(stores, email)
    return await PostgresUsers(stores.pool, stores.trail).change(user_id, **changes)  # type: ignore[arg-type]


async def _erase(stores: "Stores", email: str) -> str:
    from storage.postgres.people.sessions import PostgresSessions  # noqa: PLC0415  slow: see the package's docstring
    from storage.postgres.people.users import PostgresUsers  # noqa: PLC0415  the same
    from storage.postgres.tokens.families import PostgresFamilies  # noqa: PLC0415  the same

    user_id = await _person_id(stores, email)
    await PostgresUsers(stores.pool, stores.trail).erase(user_id)
    await PostgresSessions(stores.pool, stores.trail).end(user_id, "disabled")
    await PostgresFamilies(stores.pool, stores.trail).end_all(user_id)
    await stores.announce(Invalidation())
    return user_id


async def _person_id(stores: "Stores", email: str) -> str:
    """Raises NotFound."""
    from storage.postgres.people.accounts import PostgresPeople  # noqa: PLC0415  slow: see the package's docstring

    account = await PostgresPeople(stores.pool, stores.trail).account(email)
    if account is None:
        raise NotFound(f"Nobody has the e-mail address {email}.")
    return account.person.id


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


async def _unban(stores: "Stores", email: str | None, address: str | None) -> bool:
    from storage.postgres.people.accounts import PostgresPeople  # noqa: PLC0415  slow
    from storage.redis.attempts import RedisAttempts, address_names  # noqa: PLC0415  slow
    from storage.redis.client import client  # noqa: PLC0415  slow

    if stores.redis_url is None:
        raise click.ClickException("GATEWAY_REDIS_URL is not set: tries are counted there.")
    redis = client(stores.redis_url)
    try:
        attempts = RedisAttempts(redis)
        found = [await attempts.forgive(name) for name in address_names(address or "")]
        known = PostgresPeople(stores.pool, stores.trail)
        account = await known.account(email) if email else None
        if email:
            found.append(await attempts.forgive_account(email))
        if account is not None:
            found.append(await attempts.forgive_person(account.person.id))
        if any(found):
            user_id = account.person.id if account is not None else ""
            await known.note("login.unbanned", user_id, email or "", {"address": address} if address else None)
        return any(found)
    finally:
        await redis.aclose()


async def _remove(stores: "Stores", slug: str, email: str) -> str:
    from storage.postgres.tenants.members import PostgresMembers  # noqa: PLC0415  slow: see the package's docstring

    tenant = await stores.directory.tenant(slug)
    user_id = await member(stores, tenant.id, slug, email)
    await PostgresMembers(stores.pool, stores.trail).remove(tenant.id, user_id)
    await stores.announce(Invalidation(user_id=user_id))
    return user_id


async def _set_status(stores: "Stores", slug: str, email: str, status: UserStatus) -> User:
    from storage.postgres.people.log_ins import end_log_ins, end_tokens  # noqa: PLC0415  slow
    from storage.postgres.tenants.directory import PostgresDirectory  # noqa: PLC0415  slow

    tenant = await stores.directory.tenant(slug)
    async with stores.pool.together() as one:
        found = await PostgresDirectory(one, stores.trail).set_user_status(tenant.id, email, status)
        async with one.operator() as connection:
            if status is UserStatus.DISABLED:  # or whoever had stolen one would be back with the person
                await end_log_ins(connection, stores.trail, found.id, "disabled")
                await end_tokens(connection, found.id)
    # Of every tenant: a person's keys may be in others, which row-level security does not show from here.
    await stores.announce(Invalidation())
    return found


def _membership_facts(found: User, membership: Membership, tenant: str) -> dict[str, object]:
    return {**facts(found), "tenant": tenant, "role": membership.role.value}


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"

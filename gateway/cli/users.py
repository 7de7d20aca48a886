"""``gateway user``; how people come is ``newcomers``."""

from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, confirm, tell, with_stores, yes_option
from gateway.cli.newcomers import create, invite, link
from gateway.cli.output import print_json, print_table
from gateway.cli.people import facts, member, membership_facts, person_id
from gateway.cli.values import EMAIL, NAME, SLUG, Written, tenant_option
from gateway.locales import LANGUAGES, check_time_zone
from gateway.times import stamp
from policies.identity.tenants import Membership, User, UserStatus
from storage.ports import Invalidation

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.people.users import Known


@click.group(cls=Group)
def user() -> None:
    """People, and who belongs to which tenant."""


@user.command("list")
@tenant_option
@common
def list_users(given: Given, tenant: str) -> None:
    """A tenant's members, by e-mail."""

    async def ask(stores: "Stores") -> list[tuple[User, Membership]]:
        return [*await stores.directory.users((await stores.directory.tenant(tenant)).id)]

    found = with_stores(given, ask)
    if given.json:
        print_json([membership_facts(person, membership, tenant) for person, membership in found])
        return
    print_table(
        ("EMAIL", "NAME", "ROLE", "STATUS", "CREATED", "ID"),
        [(u.email, u.name, m.role, u.status, stamp(u.created_at), u.id) for u, m in found],
    )


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

    user_id = await person_id(stores, email)
    return await PostgresUsers(stores.pool, stores.trail).change(user_id, **changes)  # type: ignore[arg-type]


async def _erase(stores: "Stores", email: str) -> str:
    from storage.postgres.people.sessions import PostgresSessions  # noqa: PLC0415  slow: see the package's docstring
    from storage.postgres.people.users import PostgresUsers  # noqa: PLC0415  the same
    from storage.postgres.tokens.families import PostgresFamilies  # noqa: PLC0415  the same

    user_id = await person_id(stores, email)
    await PostgresUsers(stores.pool, stores.trail).erase(user_id)
    await PostgresSessions(stores.pool, stores.trail).end(user_id, "disabled")
    await PostgresFamilies(stores.pool, stores.trail).end_all(user_id)
    await stores.announce(Invalidation())
    return user_id


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


for command in (create, invite, link):
    user.add_command(command)

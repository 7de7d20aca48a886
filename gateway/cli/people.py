"""People as commands find them and show them."""

from typing import TYPE_CHECKING

from gateway.times import stamp
from policies.identity.tenants import Membership, User
from storage.ports import NotFound

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from storage.postgres.people.users import Known


async def members(stores: "Stores", tenant_id: str) -> dict[str, User]:
    """A tenant's members by id."""
    return {user.id: user for user, _ in await stores.directory.users(tenant_id)}


async def member(stores: "Stores", tenant_id: str, slug: str, email: str) -> str:
    """The id of a tenant's member. Raises NotFound."""
    for user in (await members(stores, tenant_id)).values():
        if user.email == email:
            return user.id
    raise NotFound(f"Tenant {slug} has no member {email}.", what="user")


async def person_id(stores: "Stores", email: str) -> str:
    """The id of whoever has the address, in whichever tenant. Raises NotFound."""
    from storage.postgres.people.accounts import PostgresPeople  # noqa: PLC0415  slow: see the package's docstring

    account = await PostgresPeople(stores.pool, stores.trail).account(email)
    if account is None:
        raise NotFound(f"Nobody has the e-mail address {email}.", what="user")
    return account.person.id


def facts(person: "User | Known") -> dict[str, object]:
    """A person as JSON shows it."""
    return {
        "id": person.id,
        "email": person.email,
        "name": person.name,
        "status": person.status.value,
        "created_at": stamp(person.created_at),
    }


def membership_facts(found: User, membership: Membership, tenant: str) -> dict[str, object]:
    """A member as JSON shows one."""
    return {**facts(found), "tenant": tenant, "role": membership.role.value}

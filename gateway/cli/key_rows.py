"""Keys as commands show them: with their tenant, their owner, and whether they work."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.people import members
from gateway.times import maybe_stamp, stamp
from policies.identity.tenants import ApiKey, Tenant, User

if TYPE_CHECKING:
    from gateway.cli.stores import Stores


@dataclass(frozen=True, slots=True)
class Held:
    """A key with those on whom it depends."""

    row: ApiKey
    tenant: Tenant
    user: User | None

    @property
    def status(self) -> str:
        """See :meth:`ApiKey.status`."""
        return self.row.status(datetime.now(UTC), self.tenant.status)


async def owned(stores: "Stores", tenant: Tenant, rows: Sequence[ApiKey]) -> list[Held]:
    """Keys of a tenant with their owners."""
    people = await members(stores, tenant.id)
    return [Held(row, tenant, people.get(row.user_id or "")) for row in rows]


async def holder(stores: "Stores", key_id: str) -> Tenant:
    """The tenant that holds a key."""
    return await stores.directory.tenant_by_id(await stores.keys.key_tenant(key_id))


def facts(held: Held) -> dict[str, object]:
    """A key as JSON shows it."""
    row = held.row
    return {
        "id": row.id,
        "name": row.name,
        "tenant": held.tenant.slug,
        "user": held.user and held.user.email,
        "service_account": row.service_account_id,
        "scopes": sorted(row.scopes),
        "status": held.status,
        "created_at": stamp(row.created_at),
        "expires_at": maybe_stamp(row.expires_at),
        "revoked_at": maybe_stamp(row.revoked_at),
        "last4": row.last4,
        "networks": list(row.networks),
        "routes": list(row.routes),
        "metadata": dict(row.metadata),
        "last_used": {
            "at": stamp(row.last_used.at),
            "address": row.last_used.address,
            "agent": row.last_used.agent,
        }
        if row.last_used
        else None,
    }

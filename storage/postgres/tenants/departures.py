"""Tenants that leave: refused at once, restored while there is time, then removed from all tables but two kinds.

The account (``usage_*``) and the trail (``audit_*``, and its events on their way out) stay until their own
retention ends. What is left of a tenant there has its id, which no other tenant ever gets; a new tenant of the same
slug is another one, and other issuers that name the slug mean nobody by it any more.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from graphlib import TopologicalSorter

from policies.audit import Change
from policies.identity.tenants import Tenant
from storage.postgres.absences import no_tenant
from storage.postgres.address import Connection
from storage.postgres.audit import AuditTrail
from storage.postgres.pool import Pool
from storage.postgres.tenant_rows import TENANT, TENANTS, tenant_of

GRACE = timedelta(days=30)
_KEPT = ("usage_%", "audit_%", "outbox")
_PATIENCE_S = 600.0
"""A tenant may have many keys."""

_TABLES = """
    SELECT c.oid, c.relname FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'platform'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname NOT LIKE ALL ($1::text[])
    ORDER BY c.relname
"""
_NOTE_SLUG = """
    INSERT INTO platform.former_slugs (slug) VALUES ($1) ON CONFLICT (slug) DO UPDATE SET purged_at = now()
"""
_REFERENCES = """
    SELECT conrelid, confrelid FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'platform'::regnamespace AND conrelid <> confrelid
"""


class PostgresDepartures:
    """The operator's. Each change is in the tenant's own chain, which outlives it."""

    def __init__(self, pool: Pool, trail: AuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def delete(
        self, slug: str, grace: timedelta = GRACE, check: Callable[[Tenant], None] = lambda _: None
    ) -> Tenant:
        """From now on all of its credentials are refused; after ``grace`` it can be purged. Raises NotFound.

        Of one that is leaving already the time stays as it was. ``check`` sees it as it was, and may raise.
        """
        async with self._pool.operator() as connection:
            old = await _locked(connection, slug)
            check(old)
            if old.delete_after is not None:
                return old
            (row,) = await connection.fetch(
                "UPDATE platform.tenants SET status_before = status, status = 'deleting', delete_after = now() + $2"  # noqa: S608
                f" WHERE id = $1 RETURNING {TENANT}",
                old.id,
                grace,
            )
            new = tenant_of(row)
            await self._record(connection, "tenant.deleted", old, new)
        return new

    async def restore(self, slug: str) -> Tenant:
        """As it was before it was deleted; suspended, if it was. Raises NotFound: also when it is too late."""
        async with self._pool.operator() as connection:
            old = await _locked(connection, slug)
            if old.delete_after is None:
                return old
            (row,) = await connection.fetch(
                "UPDATE platform.tenants SET status = status_before, status_before = NULL, delete_after = NULL"  # noqa: S608
                f" WHERE id = $1 RETURNING {TENANT}",
                old.id,
            )
            new = tenant_of(row)
            await self._record(connection, "tenant.restored", old, new)
        return new

    async def due(self) -> Sequence[Tenant]:
        """Those whose grace is over, oldest first."""
        rows = await self._pool.read(f"{TENANTS} WHERE delete_after <= now() ORDER BY delete_after")
        return [tenant_of(row) for row in rows]

    async def purge(self) -> Sequence[Tenant]:
        """Remove those whose grace is over, each in a transaction of its own; who was removed."""
        gone = []
        while (tenant := await self._purge_one()) is not None:
            gone.append(tenant)
        return gone

    async def _purge_one(self) -> Tenant | None:
        async with self._pool.operator() as connection:
            rows = await connection.fetch(
                f"{TENANTS} WHERE delete_after <= now() ORDER BY delete_after LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            if not rows:
                return None
            tenant = tenant_of(rows[0])
            for table in await _tables(connection):
                await connection.execute(
                    f'DELETE FROM platform."{table}" WHERE tenant_id = $1',  # noqa: S608  a name of the catalogue
                    tenant.id,
                    timeout=_PATIENCE_S,
                )
            await connection.execute("DELETE FROM platform.tenants WHERE id = $1", tenant.id, timeout=_PATIENCE_S)
            await connection.execute(_NOTE_SLUG, tenant.slug)
            change = Change(tenant_id=tenant.id, action="tenant.purged", target=tenant.id, target_name=tenant.slug)
            await self._trail.record(connection, change)
        return tenant

    async def _record(self, connection: Connection, action: str, old: Tenant, new: Tenant) -> None:
        await self._trail.record(
            connection,
            Change(
                tenant_id=old.id,
                action=action,
                target=old.id,
                target_name=old.slug,
                before={"status": old.status},
                after={
                    "status": new.status,
                    "delete_after": new.delete_after.isoformat() if new.delete_after else None,
                },
            ),
        )


async def _locked(connection: Connection, slug: str) -> Tenant:
    rows = await connection.fetch(f"{TENANTS} WHERE slug = $1 FOR NO KEY UPDATE", slug)
    if not rows:
        raise no_tenant(slug)
    return tenant_of(rows[0])


async def _tables(connection: Connection) -> list[str]:
    """Every table with rows of tenants but those that are kept, the ones that point at others first."""
    names = {row["oid"]: row["relname"] for row in await connection.fetch(_TABLES, list(_KEPT))}
    order: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(names, ()))
    for row in await connection.fetch(_REFERENCES):
        if row["conrelid"] in names and row["confrelid"] in names:
            order.add(row["confrelid"], row["conrelid"])
    return [names[oid] for oid in order.static_order()]

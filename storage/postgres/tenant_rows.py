"""Tenants as rows."""

import asyncpg

from policies.tenants import Tenant, TenantStatus

TENANT = "id, slug, name, status, created_at, plan, delete_after"
TENANTS = f"SELECT {TENANT} FROM platform.tenants"  # noqa: S608  made of this module's own column names


def tenant_of(row: asyncpg.Record) -> Tenant:
    """A row of ``TENANT``."""
    return Tenant(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        status=TenantStatus(row["status"]),
        created_at=row["created_at"],
        plan=row["plan"],
        delete_after=row["delete_after"],
    )

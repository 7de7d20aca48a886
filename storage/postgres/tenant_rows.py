"""Tenants as rows."""

import asyncpg

from policies.identity.tenants import Tenant, TenantStatus

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


MEANT = "(t.id = $1 OR t.slug = $1 AND NOT EXISTS (SELECT FROM platform.former_slugs f WHERE f.slug = $1))"
"""Whether ``t`` is the tenant that somebody else's people come to, by its id or its slug.

A slug has no underscore, so that none is ever another tenant's id. One that was another tenant's before means nobody:
whoever wrote it into an issuer's or a provider's table meant that one (T-07). The id means the same for ever.
"""

FORMER = "SELECT slug FROM platform.former_slugs WHERE slug = ANY($1::text[])"
"""Which of some slugs are former ones, by which nobody is found any more."""

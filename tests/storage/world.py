"""What the tests of the registry share: the repositories over one migrated database, and things to put into it."""

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from policies.audit import OPERATOR
from policies.identity.tenants import ApiKey, Role, Tenant, User
from policies.limits.allowances import Allowance, What
from policies.limits.rates import Rate
from storage.ports import NewKey
from storage.postgres.audit import AuditTrail
from storage.postgres.keys.registry import PostgresKeyRegistry
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.pool import Pool
from storage.postgres.tenants.directory import PostgresDirectory

CHAIN_KEY = b"k" * 32
TRAIL = AuditTrail(lambda: CHAIN_KEY, OPERATOR)

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class World:
    """One database through every port."""

    pool: Pool
    directory: PostgresDirectory
    registry: PostgresKeyRegistry
    limits: PostgresLimitBook

    async def tenant(self) -> Tenant:
        """A new one."""
        return await self.directory.create_tenant(f"tenant-{next(_numbers)}", "Some Tenant")

    async def user(self, tenant: Tenant, role: Role = Role.MEMBER) -> User:
        """A new person, member of ``tenant``."""
        user, _ = await self.directory.create_user(tenant.id, f"user{next(_numbers)}@example.com", "Some One", role)
        return user

    async def set_rate(self, tenant_id: str, *, key_id: str | None = None, requests: Rate | None) -> None:
        """Set or lift a plain request rate."""
        granted = []
        if requests is not None:
            granted = [Allowance(what=What.REQUESTS, count=requests.count, period_ms=requests.period_ms)]
        await self.limits.set_limits(
            tenant_id, key_id=key_id, lifted=() if requests else [What.REQUESTS], granted=granted
        )

    async def rates(self, tenant_id: str) -> list[tuple[str | None, Rate]]:
        """The plain request rates that are set, by key; the tenant's own has None."""
        grants = await self.limits.limits(tenant_id)
        return [(grant.key_id, Rate(grant.allowance.count, grant.allowance.period_ms)) for grant in grants]

    async def key(
        self,
        tenant: Tenant,
        *,
        digest: bytes | None = None,
        scopes: frozenset[str] = frozenset({"transcribe"}),
        expires_at: datetime | None = None,
        user: User | None = None,
    ) -> ApiKey:
        """A new key of ``tenant``."""
        return await self.registry.create_key(
            tenant.id,
            NewKey(
                name=f"key {next(_numbers)}",
                digest=digest or a_digest(),
                last4="WXYZ",
                scopes=scopes,
                expires_at=expires_at,
                user_id=user.id if user else None,
            ),
        )


@asynccontextmanager
async def world(url: str, *, max_size: int = 5) -> AsyncIterator[World]:
    """The repositories over the database at ``url``, closed afterwards."""
    pool = Pool(url, max_size=max_size)
    try:
        yield World(
            pool, PostgresDirectory(pool, TRAIL), PostgresKeyRegistry(pool, TRAIL), PostgresLimitBook(pool, TRAIL)
        )
    finally:
        await pool.close()


def a_digest() -> bytes:
    """A digest that no other key has."""
    return secrets.token_bytes(32)

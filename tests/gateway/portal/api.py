"""Callers of the API as the gateway vouches for them: keys and people of tenants that are really there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp.test_utils import TestClient

from gateway.configuration.secrets import derived
from gateway.portal.oauth.parts import OAUTH
from gateway.portal.parts import Parts
from policies.audit import OPERATOR
from policies.identity.permissions import ASSIGNABLE, Permission
from policies.identity.tenants import Role, Tenant, User
from storage.postgres.audit import PURPOSE, AuditTrail
from storage.postgres.pool import Pool
from storage.postgres.tenants.directory import PostgresDirectory

EVERYTHING = " ".join(Permission)


@dataclass(frozen=True)
class Caller:
    """What the gateway's headers say of somebody."""

    client: TestClient[Any, Any]
    tenant: Tenant
    headers: Mapping[str, str]
    user: User | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON. ``status`` is what it must be."""
        sent: dict[str, Any] = {} if body is None else {"json": body}
        async with self.client.request(
            method, f"/platform/v1{path}", headers={**self.headers, **(headers or {})}, **sent
        ) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return await answer.json(content_type=None) if text else None


@dataclass
class Houses:
    """Makes tenants and callers in them."""

    client: TestClient[Any, Any]
    parts: Parts
    made: int = field(default=0)

    @property
    def directory(self) -> PostgresDirectory:
        trail = AuditTrail(lambda: derived(self.parts.secret_key, PURPOSE), OPERATOR)
        return PostgresDirectory(self.parts.pool, trail)

    async def tenant(self) -> Tenant:
        """A new one."""
        self.made += 1
        return await self.directory.create_tenant(f"house-{self.made}", "House")

    async def person(
        self, tenant: Tenant | None = None, role: Role = Role.OWNER, *, scopes: str = EVERYTHING, operator: bool = False
    ) -> Caller:
        """A key of a person in ``tenant``, with every scope if nothing else is said."""
        tenant = tenant or await self.tenant()
        self.made += 1
        user, _ = await self.directory.create_user(tenant.id, f"p{self.made}@example.com", "P", role)
        if operator:
            await make_operator(self.parts.pool, user)
        headers = {
            "X-Tenant-ID": tenant.id,
            "X-User-ID": user.id,
            "X-API-Key-ID": f"key_of_{self.made}",
            "X-Auth-Scopes": scopes,
            "X-Request-ID": f"req-{self.made}",
            "X-Client-IP": "192.0.2.9",
        }
        return Caller(self.client, tenant, headers, user)

    async def machine(self, tenant: Tenant | None = None, scopes: str = " ".join(ASSIGNABLE)) -> Caller:
        """A key of the tenant itself."""
        tenant = tenant or await self.tenant()
        self.made += 1
        headers = {"X-Tenant-ID": tenant.id, "X-API-Key-ID": f"key_of_{self.made}", "X-Auth-Scopes": scopes}
        return Caller(self.client, tenant, headers)

    async def first_signing_key(self) -> None:
        """Return once it is there: the portal makes it by itself after its start."""
        await self.client.app[OAUTH].tokens.state.ready()


async def make_operator(pool: Pool, user: User) -> None:
    """As the command on the gateway's machine does."""
    async with pool.operator() as connection:
        await connection.execute("UPDATE platform.users SET operator = true WHERE id = $1", user.id)

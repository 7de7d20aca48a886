"""Who asks the API: with which permissions, and in which tenant."""

from dataclasses import dataclass

from aiohttp import web

from gateway.portal.caller import caller, client_address, request_id, user_agent
from gateway.portal.parts import PARTS
from gateway.portal.problems import Problem
from policies.audit import Actor, ActorKind
from policies.permissions import Permission, permitted
from policies.verdict import Refusal
from storage.postgres.ids import Kind
from storage.postgres.members import permissions_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An identified caller of the API. ``tenant_id`` is its own tenant, empty for an operator without one."""

    tenant_id: str
    user_id: str
    key_id: str
    permissions: frozenset[Permission]

    @property
    def is_operator(self) -> bool:
        """Whether it may act in every tenant."""
        return Permission.PLATFORM_READ in self.permissions

    def require(self, permission: Permission | None) -> None:
        """Raises Problem when this permission is missing."""
        if permission is not None and permission not in self.permissions:
            raise Problem(Refusal.INSUFFICIENT_PERMISSION, f"It needs '{permission}'.")


async def subject(request: web.Request) -> Subject:
    """The holder of the key or token that came with the request. Raises Problem when there is none.

    A person's key may do what its scopes name and the person may, as the registry says at this moment; a key of the
    tenant itself what its scopes name.
    """
    who = caller(request)
    if not who.is_known:
        raise Problem(Refusal.MISSING_CREDENTIAL)
    is_person = who.user_id.startswith(Kind.USER)  # else a service account's token, or the tenant's own key
    holder = await permissions_in(request.app[PARTS].pool, who.tenant_id, who.user_id) if is_person else None
    return Subject(
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        key_id=who.key_id,
        permissions=permitted(who.scopes, holder),
    )


def actor(request: web.Request, who: Subject) -> Actor:
    """The same caller, as the audit trail names it."""
    return Actor(
        kind=ActorKind.API_KEY if who.key_id else ActorKind.USER,
        id=who.key_id or who.user_id,
        address=client_address(request),
        agent=user_agent(request),
        request_id=request_id(request),
    )

"""Who asks the API: with which permissions, and in which tenant."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from gateway.portal.caller import caller
from gateway.portal.entry.browser import current
from gateway.portal.parts import PARTS
from gateway.portal.web.problem import Problem
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission, excess, permitted
from policies.people import Session
from storage.postgres.ids import Kind
from storage.postgres.tenants.members import permissions_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An identified caller of the API. ``tenant_id`` is its own tenant, empty for an operator without one."""

    tenant_id: str
    user_id: str
    key_id: str
    permissions: frozenset[Permission]
    is_fresh: bool = True
    """False for a browser's session whose person gave the password a while ago."""

    @property
    def is_operator(self) -> bool:
        """Whether it may act in every tenant."""
        return Permission.PLATFORM_READ in self.permissions

    @property
    def is_guest(self) -> bool:
        """Whether another issuer alone knows it."""
        return bool(self.user_id) and not self.user_id.startswith((Kind.USER, Kind.SERVICE))

    def require(self, permission: Permission | None) -> None:
        """Raises Problem when this permission is missing."""
        if permission is not None and permission not in self.permissions:
            raise Problem(Refusal.INSUFFICIENT_PERMISSION, f"It needs '{permission}'.")

    def require_fresh(self) -> None:
        """Raises Problem for a browser that may have been left open: what is done now outlives the session."""
        if not self.is_fresh:
            raise Problem(Refusal.FRESH_LOGIN_REQUIRED)

    def may_give(self, wanted: Iterable[str]) -> None:
        """Raises Problem when these are more than it holds itself, and as :meth:`require_fresh` does."""
        self.may_govern(wanted)
        self.require_fresh()

    def may_govern(self, wanted: Iterable[str]) -> None:
        """Raises Problem when these scopes or permissions are more than it holds itself."""
        lacking = excess(self.permissions, wanted)
        if lacking:
            raise Problem(Refusal.EXCEEDS_OWN_PERMISSIONS, f"You do not hold {', '.join(lacking)}.")


async def subject(request: web.Request) -> Subject:
    """The holder of the key or token that came with the request, else of the browser's session.

    Raises Problem when there is neither. A person may do what the registry says at this moment, and with a key or a
    token no more than its scopes name; a key of the tenant itself, a service account and a guest of another issuer what
    the scopes name.
    """
    who, pool = caller(request), request.app[PARTS].pool
    if who.is_known:
        is_person = who.user_id.startswith(Kind.USER)
        holder = await permissions_in(pool, who.tenant_id, who.user_id) if is_person else None
        return Subject(
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            key_id=who.key_id,
            permissions=permitted(who.scopes, holder),
        )
    session = await current(request)
    if session is None:
        raise Problem(Refusal.MISSING_CREDENTIAL)
    return await of_session(request, session)


async def of_session(request: web.Request, session: Session) -> Subject:
    """The person who is signed in, in the tenant that the session is in."""
    return Subject(
        tenant_id=session.tenant_id,
        user_id=session.user_id,
        key_id="",
        permissions=await permissions_in(request.app[PARTS].pool, session.tenant_id, session.user_id),
        is_fresh=session.is_fresh(request.app[PARTS].now()),
    )

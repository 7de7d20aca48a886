"""May this principal use this route now: standing, expiry, the tenant's exceptions and plan, scope; in that order."""

from dataclasses import dataclass, replace

from policies.bounds import Bounds, bounds
from policies.http.headers import ASSERTION, identity_lines
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Method, Principal, Standing
from policies.limits.ratelimit_fields import policy_line
from policies.limits.rates import Charge, Rate
from policies.routing.routes import Access, Route

ANONYMOUS = Principal(method=Method.NONE, standing=Standing.GOOD, tenant_id="", tenant_slug="")

_BY_STANDING = {
    Standing.REVOKED: Refusal.API_KEY_REVOKED,
    Standing.DISABLED: Refusal.API_KEY_DISABLED,
    Standing.TENANT_SUSPENDED: Refusal.TENANT_SUSPENDED,
    Standing.USER_DISABLED: Refusal.USER_DISABLED,
}


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to use one route. Only :func:`authorise` gives it; limits come next and can still say no."""

    principal: Principal
    route: Route
    charges: tuple[Charge, ...]
    identity: bytes
    """The identity lines for the upstream, each with its line end: made once, because a permit is kept."""
    rate_policy: bytes
    """The ``RateLimit-Policy`` line that goes with ``charges``; empty without any."""
    bounds: Bounds | None = None
    """Limits of other kinds; where there are any, ``charges`` are among them."""
    assertion: str = ""
    """The signed identity; one of the ``identity`` lines as well."""

    def asserted(self, assertion: str) -> "Permit":
        """The same permit with the identity signed, where there is an identity and something to sign it with."""
        if not (assertion and self.identity):
            return self
        line = f"{ASSERTION}: {assertion}\r\n".encode("ascii")
        return replace(self, identity=self.identity + line, assertion=assertion)


def authorise(principal: Principal, route: Route, now_ms: int, default_rate: Rate | None = None) -> Permit | Deny:
    """A permit, or the first reason against it. ``default_rate`` bounds a tenant that has no rate of its own."""
    refusal = _BY_STANDING.get(principal.standing)
    if refusal is None and principal.expires_ms is not None and principal.expires_ms <= now_ms:
        refusal = Refusal.API_KEY_EXPIRED
    if refusal is not None:
        if principal.method is Method.JWT and refusal.status == 401:
            refusal = Refusal.INVALID_TOKEN  # whatever is wrong with a token, the answer is the same
        return Deny(refusal=refusal, principal=principal)
    if route.access is Access.PUBLIC or (route.access is Access.OPTIONAL and principal.method is Method.NONE):
        return Permit(principal, route, (), b"", b"", bounds=bounds(ANONYMOUS, route, ()))
    if principal.method is Method.NONE:
        return Deny(refusal=Refusal.MISSING_CREDENTIAL)
    if route.name in principal.denied_routes or _is_outside_plan(route, principal):
        return Deny(refusal=Refusal.ROUTE_DENIED, principal=principal)
    if principal.only_routes and route.name not in principal.only_routes:
        return Deny(refusal=Refusal.KEY_BOUND_ELSEWHERE, principal=principal)
    if route.scope and route.scope not in principal.scopes:
        return Deny(
            refusal=Refusal.INSUFFICIENT_SCOPE,
            detail=f"It needs '{route.scope}'.",
            principal=principal,
            scope=route.scope,
        )
    charged = charges(principal, default_rate)
    return Permit(
        principal,
        route,
        charged,
        b"".join(line + b"\r\n" for line in identity_lines(principal)),
        policy_line(charged),
        bounds=bounds(principal, route, charged),
    )


def _is_outside_plan(route: Route, principal: Principal) -> bool:
    """A plan says nothing about the gateway's own routes: log-in and administration stay."""
    return bool(principal.plan_routes) and route.name not in principal.plan_routes and not route.is_own


def charges(principal: Principal, default_rate: Rate | None) -> tuple[Charge, ...]:
    """Every limit that one request touches, widest first. The hash tag keeps a tenant's counters in one slot."""
    tenant_rate = principal.tenant_rate or default_rate
    found = []
    if tenant_rate is not None:
        found.append(Charge("tenant-requests", f"rate:{{{principal.tenant_id}}}", tenant_rate))
    if principal.key_rate is not None:
        found.append(Charge("key-requests", f"rate:{{{principal.tenant_id}}}:{principal.key_id}", principal.key_rate))
    return tuple(found)

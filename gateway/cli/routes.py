"""``gateway routes``: what the table opens, and what becomes of one request and why."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gateway.cli.command import Given, Group, common, with_stores
from gateway.cli.output import print_facts, print_json, print_table, remark
from policies.authorise import ANONYMOUS, Permit, authorise
from policies.http.credentials import stands_in
from policies.http.inquiry import Target
from policies.http.questions import is_asked_at
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Principal
from policies.limits.rates import Rate
from policies.routing.route_table import RoutesInvalid, RouteTable
from policies.routing.routes import PORTAL, Access, Route, WithoutLimiter

if TYPE_CHECKING:
    from gateway.cli.stores import Stores
    from gateway.configuration.settings import Settings

_ACCESS = {
    Access.PUBLIC: "anybody",
    Access.CREDENTIAL: "who has a valid credential",
    Access.OPTIONAL: "anybody; a credential that is sent must be valid",
}
_WITHOUT_LIMITER = {
    WithoutLimiter.LOCAL: "each worker counts its share of the limits",
    WithoutLimiter.CLOSED: "503 until limits can be checked again",
    WithoutLimiter.OPEN: "nothing is counted",
}
_METERS = {
    "none": "nothing is measured",
    "multipart": "the audio in a form, walked as it passes",
    "raw": "the body is the audio, walked as it passes",
}


@click.group(cls=Group)
def routes() -> None:
    """The route table: what is open, and why a request is let in or not.

    Everything but --as is read from the settings and the table alone; nothing is connected to.
    """


@routes.command("list")
@common
def list_routes(given: Given) -> None:
    """Every route, the gateway's own last."""
    found = _table(given.settings()).routes
    if given.json:
        print_json([_facts(route) for route in found])
        return
    print_table(
        ("NAME", "METHODS", "PATH", "ACCESS", "SCOPE", "METER", "UPSTREAM"),
        [
            (r.name, ",".join(_methods(r)), r.path, r.access, r.scope, r.meter, r.upstream)
            for r in found
        ],
    )  # fmt: skip


@routes.command()
@click.argument("method")
@click.argument("path")
@click.option("--as", "key_id", metavar="KEY_ID", help="Also: may this key, and how much? The stores are asked.")
@common
def explain(given: Given, method: str, path: str, key_id: str | None) -> None:
    """What becomes of a request with METHOD and PATH (as a client sends it, with a query if you like), and why."""
    settings = given.settings()
    found = _match(settings, method, path)
    holder = _holder(given, key_id) if key_id is not None else None
    told = _Told(method, path, found, settings, holder)
    if given.json:
        print_json(told.as_json())
    else:
        print_facts(told.facts())
        if told.answer is not None:
            remark(told.answer.message)


def _table(settings: "Settings") -> RouteTable:
    from gateway.configuration.route_file import load_routes  # noqa: PLC0415  slow: see the package's docstring

    try:
        return load_routes(settings)
    except RoutesInvalid as error:
        faults = "\n".join(f"  {fault}" for fault in error.faults)
        raise click.ClickException(f"the route table cannot be used.\n{faults}") from error


def _match(settings: "Settings", method: str, path: str) -> Route | Deny:
    """As both doors do: the target must have one reading before any route is looked for."""
    table = _table(settings)
    target = Target.parse(path)
    if target is None:
        return Deny(refusal=Refusal.AMBIGUOUS_TARGET)
    found = table.match(method, target.path)
    if isinstance(found, Route) and not found.is_own and stands_in(target.path, target.query):
        return Deny(refusal=Refusal.CREDENTIAL_IN_QUERY)
    return found


def _holder(given: Given, key_id: str) -> Principal:
    async def ask(stores: "Stores") -> Principal:
        return await stores.keys.key_holder(key_id)

    return with_stores(given, ask)


@dataclass(frozen=True, slots=True)
class _Told:
    """One request, and all that can be said of it without sending it."""

    method: str
    target: str
    found: Route | Deny
    settings: "Settings"
    holder: Principal | None

    @property
    def is_question(self) -> bool:
        """Whether a proxy asks there about another request."""
        target = Target.parse(self.target)
        return target is not None and is_asked_at(target.path)

    @property
    def judged(self) -> Permit | Deny:
        """The decision, but for the counting: that of the key, or of somebody without any."""
        if isinstance(self.found, Deny):
            return self.found
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        return authorise(self.holder or ANONYMOUS, self.found, now_ms, self.settings.default_requests)

    @property
    def answer(self) -> Deny | None:
        """The refusal, if there is one. Without --as, that a credential is missing is none."""
        judged = self.judged
        if self.is_question or not isinstance(judged, Deny):
            return None
        return None if self.holder is None and judged.refusal is Refusal.MISSING_CREDENTIAL else judged

    def verdict(self) -> str:
        """One line."""
        if self.is_question:
            return "answered by forward-auth, to trusted proxies alone: explain the request that is asked about"
        if self.answer is not None:
            return f"refused: {self.answer.refusal.status} {self.answer.refusal.code}"
        if isinstance(self.found, Route) and self.holder is None and self.found.access is Access.CREDENTIAL:
            return "admitted, with a credential that may (see --as), within its limits"
        return "admitted, within the limits"

    def facts(self) -> dict[str, object]:
        """What there is to tell, for a person."""
        facts: dict[str, object] = {"request": f"{self.method} {self.target}", "verdict": self.verdict()}
        if self.answer is not None and self.answer.allow:
            facts["methods there"] = ", ".join(self.answer.allow)
        if isinstance(self.found, Deny) or self.is_question:
            return facts
        route = self.found
        facts |= {
            "route": f"{route.name} ({self._where(route)})",
            "path": route.path,
            "why this one": _why(route),
            "open to": _ACCESS[route.access] + (f" with the scope '{route.scope}'" if route.scope else ""),
        }
        if self.holder is not None:
            facts["asked as"] = _who(self.holder)
            if self.answer is not None and self.answer.refusal is Refusal.ROUTE_DENIED:
                facts["closed by"] = _closed_by(self.holder, route)
        facts |= {f"limit {name}": limit for name, limit in self._limits(route)}
        facts |= {
            "without Redis": _WITHOUT_LIMITER[route.without_limiter],
            "upstream": f"{route.upstream} ({self._addresses(route)})",
            "metering": _METERS.get(route.meter) or f"the stream's audio, by its protocol '{route.meter}'",
            "largest body": f"{route.max_body} bytes",
            "time-outs": _times(route),
            "errors": f"in the shape of '{route.dialect}'",
        }
        if route.grants:
            facts["grants"] = f"a ticket for {', '.join(route.grants)}, in the shape of '{route.dialect}'"
        if route.websocket:
            facts["stream"] = f"at most {route.stream_longest_s:g} s, {route.stream_idle_s:g} s of silence"
        return facts

    def as_json(self) -> dict[str, object]:
        """The same for a program."""
        answer = self.answer
        said: dict[str, object] = {
            "method": self.method,
            "target": self.target,
            "verdict": self.verdict(),
            "refusal": None
            if answer is None
            else {"status": answer.refusal.status, "code": answer.refusal.code, "message": answer.message},
            "route": None,
            "limits": [],
        }
        if isinstance(self.found, Route) and not self.is_question:
            said["route"] = _facts(self.found) | {"defined": self._where(self.found), "why": _why(self.found)}
            said["limits"] = [{"name": name, "limit": limit} for name, limit in self._limits(self.found)]
        if self.holder is not None:
            said["as"] = {
                "key_id": self.holder.key_id,
                "tenant": self.holder.tenant_slug,
                "user_id": self.holder.user_id,
                "scopes": sorted(self.holder.scopes),
                "standing": self.holder.standing,
            }
        return said

    def _limits(self, route: Route) -> list[tuple[str, str]]:
        """Every limit that such a request touches. Without --as only what holds for everybody can be told."""
        judged = self.judged
        if isinstance(judged, Permit):
            bounds = judged.bounds
            bound = () if bounds is None else bounds.request
            if bound:
                shadow = " (shadow: counted, refuses nobody)"
                return [(b.allowance.name, f"{b.allowance}{shadow if b.allowance.shadow else ''}") for b in bound]
            return [(charge.name, str(charge.rate)) for charge in judged.charges]
        rate: Rate | None = self.settings.default_requests
        if self.holder is not None or rate is None or route.access is not Access.CREDENTIAL:
            return []
        return [("tenant-requests", f"{rate}, unless the tenant has a rate of its own")]

    def _where(self, route: Route) -> str:
        from gateway.configuration.route_file import place_of  # noqa: PLC0415  slow: see the package's docstring
        from gateway.shipped import shipped  # noqa: PLC0415  the same

        if route.is_own:
            return "built in"
        return place_of(self.settings.routes_file or shipped("routes.toml"), route.name)

    def _addresses(self, route: Route) -> str:
        if route.is_own:
            return "the gateway's own pages"
        if route.upstream == PORTAL:
            return "the gateway itself"
        return ", ".join(self.settings.every_upstream()[route.upstream].addresses)


def _closed_by(holder: Principal, route: Route) -> str:
    if route.name in holder.denied_routes:
        return f"an exception of the tenant (gateway tenant route {holder.tenant_slug} {route.name} --allow)"
    return "the tenant's plan (gateway plan list)"


def _facts(route: Route) -> dict[str, object]:
    return {
        "name": route.name,
        "path": route.path,
        "methods": list(route.methods),
        "websocket": route.websocket,
        "access": route.access,
        "scope": route.scope or None,
        "upstream": route.upstream,
        "meter": route.meter,
        "dialect": route.dialect,
        "without_limiter": route.without_limiter,
        "max_body": route.max_body,
        "first_byte_s": route.first_byte_s,
        "idle_s": route.idle_s,
        "grants": list(route.grants),
    }


def _methods(route: Route) -> tuple[str, ...]:
    return ("WS",) if route.websocket and route.methods == ("GET",) else route.methods


def _why(route: Route) -> str:
    if "{" not in route.path:
        return "the path is named in full"
    return "the path fits, and no route names more of it in full"


def _times(route: Route) -> str:
    whole = "" if math.isinf(route.total_s) else f", {route.total_s:g} s in all"
    return f"{route.first_byte_s:g} s to the answer's begin, {route.idle_s:g} s of silence{whole}"


def _who(holder: Principal) -> str:
    owner = f", user {holder.user_id}" if holder.user_id else ""
    scopes = " ".join(sorted(holder.scopes)) or "none"
    return f"key {holder.key_id} of tenant {holder.tenant_slug}{owner}; scopes: {scopes}; {holder.standing}"

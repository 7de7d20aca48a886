"""The decision, for both doors: the pure stages of ``policies`` in order, with the two questions to the stores between.

``Inquiry -> route -> Presented -> Principal -> Permit -> charges -> levels -> Admit | Deny``. All that a door says of
itself is whether it sees the request through.
"""

from collections.abc import Callable, Collection, Sequence

from gateway.dataplane.holder import Holder
from gateway.dataplane.key_uses import KeyUses
from gateway.identity.snapshot import Entry, Snapshot
from gateway.telemetry.metrics import Metrics
from policies.admission import Admit, conclude
from policies.authorise import ANONYMOUS, Permit, authorise
from policies.bounds import Bound
from policies.http.credentials import Conflict, Presented, present, stands_in
from policies.http.crosssite import from_own_page
from policies.http.inquiry import Inquiry
from policies.http.tickets import is_ticket
from policies.http.verdict import Deny, Refusal
from policies.identity.jws import looks_like_one
from policies.identity.principals import Method, Principal
from policies.limits.rates import FREE, Rate, Taken
from policies.networks import holds
from policies.routing.route_table import RouteTable
from policies.routing.routes import PORTAL, Access, Route, WithoutLimiter
from storage.local_counters import LocalCounters
from storage.ports import Counters, Held, Tickets, Unavailable, Waiter


class Gatekeeper:
    """Decides. ``local`` counts while ``counters`` cannot be asked; ``accepts_usage`` tells if records have room."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        snapshot: Snapshot,
        counters: Counters,
        local: LocalCounters,
        metrics: Metrics,
        accepts_usage: Callable[[], bool],
        tickets: Tickets,
        holder: Holder,
        uses: KeyUses,
        default_rate: Rate | None,
        now_ms: Callable[[], int],
        own_hosts: Collection[bytes] = (),
        assertion: Callable[[Principal, str], str] | None = None,
    ) -> None:
        self.routes = routes
        self._snapshot = snapshot
        self._counters = counters
        self._local = local
        self._metrics = metrics
        self._assertion = assertion
        self._accepts_usage = accepts_usage
        self._tickets = tickets
        self._holder = holder
        self._uses = uses
        self._default_rate = default_rate
        self._now_ms = now_ms
        self._own_hosts = own_hosts

    async def decide(self, inquiry: Inquiry, route: Route, address: str, *, is_seen: bool = True) -> Admit | Deny:
        """The answer to one question, from a client's address, about a route that was matched."""
        permit = self._permit(inquiry, route)
        if permit is None:
            permit = await self._ask(inquiry, route)
            if isinstance(permit, Permit):
                self._uses.note(permit.principal, address, inquiry.head.user_agent.decode("utf-8", "replace")[:256])
        if isinstance(permit, Deny):
            return permit
        if stands_in(inquiry.path, inquiry.query) and not route.is_own:
            return Deny(refusal=Refusal.CREDENTIAL_IN_QUERY, principal=permit.principal)
        if permit.principal.networks and not holds(permit.principal.networks, address):
            return Deny(refusal=Refusal.ADDRESS_NOT_ALLOWED, principal=permit.principal)
        if not self._accepts_usage():
            self._metrics.journal_full[("request",)] += 1
            return Deny(refusal=Refusal.ACCOUNT_UNAVAILABLE, principal=permit.principal)
        if permit.bounds is not None and (bound := self._holder.bound(permit.bounds, inquiry, is_seen=is_seen)):
            return await self.hold(permit, bound, inquiry, address)
        if not permit.charges:
            return Admit(permit, FREE)
        try:
            taken = await self._counters.take(permit.charges)
        except Unavailable:
            return self.uncounted(permit)
        return self.conclude(permit, taken)

    def take_for(self, permit: Permit, waiter: Waiter[Taken]) -> None:
        """Take what the permit's request is charged, for :meth:`conclude`, or :meth:`uncounted` without an answer."""
        self._counters.take_for(permit.charges, waiter)

    async def hold(self, permit: Permit, bound: Sequence[Bound], inquiry: Inquiry, address: str) -> Admit | Deny:
        """The answer where there are other limits than plain request rates."""
        return await self._holder.hold(permit, bound, inquiry, address)

    def hold_for(self, permit: Permit, bound: Sequence[Bound], address: str, waiter: Waiter[Held]) -> None:
        """Have held what a request without a body needs, for :meth:`conclude_held`, or :meth:`hold` otherwise."""
        self._holder.hold_for(permit, bound, address, waiter)

    def conclude_held(self, permit: Permit, held: Held) -> Admit | Deny | None:
        """The last word, counted; None where there is more to ask."""
        return None if held.answer.unknown else self._holder.conclude(permit, held)

    def uncounted(self, permit: Permit) -> Admit | Deny:
        """The answer while the limiter cannot be asked, as the route has it."""
        if permit.route.without_limiter is WithoutLimiter.CLOSED:
            return Deny(refusal=Refusal.LIMITER_UNAVAILABLE, principal=permit.principal)
        self._metrics.fail_open[("ratelimit",)] += 1
        if permit.route.without_limiter is WithoutLimiter.OPEN:
            return Admit(permit, FREE)
        return self.conclude(permit, self._local.take_now(permit.charges))

    def conclude(self, permit: Permit, taken: Taken) -> Admit | Deny:
        """The last word, counted."""
        counts, refused_by = self._metrics.ratelimit, taken.refused_by
        if refused_by is not None:
            counts[(refused_by.name, "refused")] += 1
        else:
            for charge in permit.charges:
                counts[(charge.name, "admitted")] += 1
        return conclude(permit, taken)

    def stands(self, permit: Permit, presented: Presented) -> bool:
        """Whether that credential would get this very permit again, and the account has room for one more request.

        For a request that comes again: route, address and header are the same, and what was judged of them holds.
        """
        entry, principal = self._snapshot.known(presented), permit.principal
        if entry is None or entry.permits.get(permit.route.name) is not permit or not self._accepts_usage():
            return False
        if principal.expires_ms is not None and principal.expires_ms <= self._now_ms():
            return False
        self._metrics.auth[(principal.method, "ok")] += 1
        return True

    def _permit(self, inquiry: Inquiry, route: Route) -> Permit | Deny | None:
        """What can be said without waiting; None when the registry must be asked."""
        if inquiry.head.cookies and route.upstream == PORTAL:
            inquiry.presented = present(inquiry.head)  # sessions there are the portal's own to know
        presented = inquiry.presented
        if not isinstance(presented, Presented):
            if isinstance(presented, Conflict):
                return Deny(refusal=Refusal.CONFLICTING_CREDENTIALS)
            self._metrics.auth[(Method.NONE, "missing" if route.access is Access.CREDENTIAL else "ok")] += 1
            return authorise(ANONYMOUS, route, 0)
        if route.access is Access.PUBLIC:
            return authorise(ANONYMOUS, route, 0)
        if presented.session and not from_own_page(inquiry.method, inquiry.head, self._own_hosts):
            return Deny(refusal=Refusal.ORIGIN_NOT_ALLOWED if inquiry.head.upgrade else Refusal.CROSS_SITE_REQUEST)
        entry = self._snapshot.known(presented)
        return self._authorised(entry, route) if entry is not None else None

    async def _ask(self, inquiry: Inquiry, route: Route) -> Permit | Deny:
        assert isinstance(inquiry.presented, Presented)
        try:
            if is_ticket(inquiry.presented.secret):
                behind = await self._redeem(inquiry.presented.secret, route)
                if isinstance(behind, Deny):
                    return behind
                inquiry.presented = behind
            entry = await self._snapshot.identify(inquiry.presented)
        except Unavailable:
            self._metrics.auth[(_method(inquiry.presented), "unavailable")] += 1
            return Deny(refusal=Refusal.REGISTRY_UNAVAILABLE)
        return self._authorised(entry, route)

    async def _redeem(self, secret: bytes, route: Route) -> Presented | Deny:
        """The credential behind a ticket, which is used up by this if it is good once. Raises Unavailable."""
        ticket = await self._tickets.take(secret)
        if ticket is None or route.name not in ticket.routes:
            self._metrics.auth[("ticket", "unknown" if ticket is None else "other_route")] += 1
            return Deny(refusal=Refusal.INVALID_TICKET)
        presented = await self._snapshot.behind(ticket, secret)
        if presented is None:
            self._metrics.auth[("ticket", "revoked")] += 1
            return Deny(refusal=Refusal.INVALID_TICKET)
        self._metrics.auth[("ticket", "ok")] += 1
        return presented

    async def still_good(self, presented: Presented, route: Route, address: str) -> Permit | Deny:
        """Whether an open stream's credential would be let in again from there, or why not. Raises Unavailable.

        A token that has lapsed meanwhile counts on, as long as neither it nor its subject was revoked: it is there for
        openings, and lives for minutes.
        """
        entry = self._snapshot.known(presented) or await self._snapshot.identify(presented)
        principal = entry.principal
        if principal is None:
            return Deny(refusal=entry.refusal)
        now_ms = 0 if principal.method is Method.JWT else self._now_ms()
        permit = authorise(principal, route, now_ms, self._default_rate)
        if isinstance(permit, Permit) and principal.networks and not holds(principal.networks, address):
            return Deny(refusal=Refusal.ADDRESS_NOT_ALLOWED, principal=principal)
        return permit

    def pin(self, presented: Presented, permit: Permit) -> bool:
        """Keep what a token says with it, for :meth:`still_good` after its time. Whether this still is its permit."""
        entry = self._snapshot.known(presented)
        if entry is None:
            return False
        presented.token = entry.token
        return entry.permits.get(permit.route.name) is permit

    def _authorised(self, entry: Entry, route: Route) -> Permit | Deny:
        principal = entry.principal
        if principal is None:
            self._metrics.auth[(entry.method, entry.reason)] += 1
            return Deny(refusal=entry.refusal)
        permit: Permit | Deny | None = entry.permits.get(route.name)
        if permit is None or (principal.expires_ms is not None and principal.expires_ms <= self._now_ms()):
            permit = authorise(principal, route, self._now_ms(), self._default_rate)
            if isinstance(permit, Permit):
                if self._assertion is not None:
                    permit = permit.asserted(self._assertion(principal, route.upstream))
                if self._assertion is None or permit.assertion:  # else it is tried again, until there is a key to sign
                    entry.permits[route.name] = permit
        if isinstance(permit, Deny):
            self._metrics.auth[(principal.method, permit.refusal.code)] += 1
        else:
            self._metrics.auth[(principal.method, "ok")] += 1
        return permit


def _method(presented: Presented) -> Method:
    """What a credential looks like, where nobody could say whose it is."""
    if presented.session:
        return Method.SESSION
    return Method.JWT if looks_like_one(presented.secret) else Method.API_KEY

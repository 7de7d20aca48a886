"""Limits beyond plain request rates: asks the store to hold what a request needs, and says what to do when it cannot.

A counter of a calendar period that is missing (a new period, or a Redis that lost its memory) is told from the ledger
what was used; what is still in a journal then, some seconds' worth, is not in that figure. One that lacks what passed
while Redis was away is told the same afterwards.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.dataplane.limit_events import Events, LimitReached
from gateway.telemetry.metrics import Metrics
from policies.admission import Admit, conclude_held, outgrown
from policies.authorise import Permit
from policies.bounds import STREAM_AHEAD, Bound, Bounds, demands, least, usual, with_margin
from policies.corrections import counted_in
from policies.http.inquiry import Inquiry
from policies.http.verdict import Deny, Refusal
from policies.identity.principals import Principal
from policies.limits.allowances import Kind, Scope, What
from policies.limits.holding import NOTHING_SPENT, Answer, Demand, Lease, Spent
from policies.limits.rates import FREE
from policies.routing.routes import WithoutLimiter
from storage.local_holds import LocalHolds
from storage.ports import Held, Holds, Unavailable, UsageOf, Waiter

_SOFT = (80, 100)
"""Per cent of a calendar period's allowance at which an event is told."""
_MOST_TOLD = 50_000
_RECOUNT_S = 10.0
"""What has ended is in the ledger by then, unless PostgreSQL was away as well."""


class Account(Protocol):
    """Where the past is known."""

    async def used(self, of: UsageOf) -> int:
        """See :class:`storage.ports.Ledger`."""


class Holder:
    """Holds. ``local`` stands in while ``holds`` cannot be asked."""

    def __init__(
        self,
        *,
        holds: Holds,
        local: LocalHolds,
        account: Account,
        events: Events,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._holds = holds
        self._local = local
        self._account = account
        self._events = events
        self._metrics = metrics
        self._now_ms = now_ms
        self._told: set[str] = set()
        self._looking_up: dict[str, asyncio.Task[int]] = {}
        self._apart: dict[str, tuple[Principal, Demand]] = {}
        """Counters that lack what ended since the last :meth:`recount` and was counted in ``local``."""
        self._due: dict[str, tuple[Principal, Demand]] = {}
        """The same of what ended before."""

    @staticmethod
    def bound(bounds: Bounds, inquiry: Inquiry, *, is_seen: bool = True) -> tuple[Bound, ...]:
        """The limits that hold for a request, or for one whose end is not seen, because a proxy carries it."""
        if not is_seen:
            return bounds.asked
        return bounds.request if _has_body(inquiry) else bounds.bodyless

    async def hold(self, permit: Permit, bound: Sequence[Bound], inquiry: Inquiry, address: str) -> Admit | Deny:
        """Take and reserve all that the request needs, or say which limit is in the way."""
        guess, floor = _expected(permit, inquiry)
        is_stream = permit.route.websocket
        later = None if is_stream else floor

        def wants(expected: Spent) -> tuple[Demand, ...]:
            return demands(bound, permit.principal.calendar, self._now_ms(), expected, address, later)

        wanted = wants(guess)
        mode, holds = permit.route.without_limiter, self._holds
        try:
            held = await self._ask(self._holds, permit, wanted)
            if is_stream and _is_only_a_guess(held):
                held = await self._ask(self._holds, permit, wants(floor))
        except Unavailable:
            if mode is WithoutLimiter.CLOSED:
                return Deny(refusal=Refusal.LIMITER_UNAVAILABLE, principal=permit.principal)
            self._metrics.fail_open[("ratelimit",)] += 1
            if mode is WithoutLimiter.OPEN:
                return Admit(permit, FREE)
            holds = self._local
            held = await self._ask(holds, permit, wanted)
        return self.conclude(permit, held, is_lasting=holds is self._holds)

    def hold_for(self, permit: Permit, bound: Sequence[Bound], address: str, waiter: Waiter[Held]) -> None:
        """The first question of :meth:`hold` for a request without a body: whether it is all, the answer tells."""
        wanted = demands(bound, permit.principal.calendar, self._now_ms(), Spent(), address, Spent())
        self._holds.hold_for(wanted, waiter)

    def conclude(self, permit: Permit, held: Held, *, is_lasting: bool = True) -> Admit | Deny:
        """The last word, counted. Where a bug of ours has it unsaid, nothing stays held."""
        try:
            return self._conclude(permit, held, is_lasting=is_lasting)
        except Exception:
            if held.lease is not None:
                held.lease.settle(Spent())  # one request, as the account has it
            raise

    def _conclude(self, permit: Permit, held: Held, *, is_lasting: bool) -> Admit | Deny:
        self._count(held.demands, held.answer)
        self._notice(permit.principal, held.demands, held.answer)
        hold = None if held.lease is None else _Hold(self, permit, held.lease, is_lasting=is_lasting)
        if (lease := held.lease) is not None and any(one.allowance.kind is Kind.QUOTA for one in lease.demands):
            hear = self._notice if is_lasting else self._ended_apart
            lease.hear = lambda told: hear(permit.principal, lease.demands, told)
        return conclude_held(permit, held.demands, held.answer, hold)

    async def extend(
        self, permit: Permit, lease: Lease, expected: Spent, spent: Spent, *, margin: bool
    ) -> tuple[Deny | None, bool]:
        """The refusal or None of :meth:`policies.admission.Hold.grow`, and whether no margin was left."""
        try:
            wanted = with_margin(expected) if margin else expected
            answer = await lease.extend(wanted, spent)
            if answer.unknown:  # Redis lost its memory meanwhile
                for demand, figure in zip(lease.demands, answer.figures, strict=False):
                    if figure.unknown:
                        await self._holds.tell(demand, await self._used(permit.principal, demand))
                answer = await lease.extend(wanted, spent)
            is_short = not answer.admitted
            if is_short and margin:
                answer = await lease.extend(expected, spent)
        except Unavailable:
            if permit.route.without_limiter is WithoutLimiter.CLOSED:
                return Deny(refusal=Refusal.LIMITER_UNAVAILABLE, principal=permit.principal), False
            self._metrics.fail_open[("ratelimit",)] += 1
            return None, False
        if answer.refused_by is None:
            self._notice(permit.principal, lease.demands, answer)
            return None, is_short
        self._notice(permit.principal, _wanted(lease.demands, expected, spent), answer)
        self._metrics.ratelimit[(lease.demands[answer.refused_by].allowance.name, "outgrown")] += 1
        return outgrown(permit, lease.demands, answer, answer.refused_by), True

    async def _ask(self, holds: Holds, permit: Permit, wanted: tuple[Demand, ...]) -> Held:
        """The demands that were made and the answer to them. Raises Unavailable.

        A demand whose use nobody can tell is left out, unless the route is closed then.
        """
        held = await holds.hold(wanted)
        if not held.answer.unknown:
            return held
        missing = [d for d, figure in zip(wanted, held.answer.figures, strict=True) if figure.unknown]
        for demand in missing:
            try:
                used = await self._used(permit.principal, demand)
            except Unavailable:
                if permit.route.without_limiter is WithoutLimiter.CLOSED:
                    raise
                self._metrics.fail_open[("quota",)] += 1
                wanted = tuple(one for one in wanted if one is not demand)
            else:
                await holds.tell(demand, used)
        held = await holds.hold(wanted)
        if held.answer.unknown:
            raise Unavailable("the counters of this period vanish as soon as they are told")
        return held

    async def _used(self, principal: Principal, demand: Demand) -> int:
        """What was used of a demand's period, by the ledger; all who need one figure at a time share one question."""
        looking = self._looking_up.get(demand.key)
        if looking is None:
            allowance = demand.allowance
            period = principal.calendar.period(allowance.calendar, demand.ends_ms - 1)
            of = UsageOf(
                tenant_id=principal.tenant_id,
                user_id=principal.user_id if allowance.scope is Scope.USER else "",
                key_id=principal.key_id if allowance.scope is Scope.KEY else "",
                route=allowance.route,
                what=allowance.what,
                since=period.start,
                until=period.end,
            )
            looking = asyncio.get_running_loop().create_task(self._account.used(of))
            self._looking_up[demand.key] = looking
            looking.add_done_callback(lambda done: self._looked_up(demand.key, done))
        return await asyncio.shield(looking)

    def _looked_up(self, key: str, done: asyncio.Task[int]) -> None:
        del self._looking_up[key]
        if not done.cancelled():
            done.exception()  # those who asked have it, unless all of them have left

    async def keep_counted(self) -> None:
        """:meth:`recount` again and again, for ever."""
        while True:
            await asyncio.sleep(_RECOUNT_S)
            await self.recount()

    async def recount(self) -> None:
        """Have the counters of calendar periods know what was counted in ``local``, of all that ended a while ago."""
        for key, (principal, demand) in list(self._due.items()):
            try:
                await self._holds.tell(demand, await self._used(principal, demand))
            except Unavailable:
                break
            del self._due[key]
            self._local.forget(demand)
        self._due |= self._apart
        self._apart = {}

    def _ended_apart(self, principal: Principal, held: Sequence[Demand], answer: Answer) -> None:
        self._notice(principal, held, answer)
        self._apart |= {one.key: (principal, one) for one in held if one.allowance.kind is Kind.QUOTA}

    def _count(self, wanted: Sequence[Demand], answer: Answer) -> None:
        counts = self._metrics.ratelimit
        if answer.refused_by is not None:
            counts[(wanted[answer.refused_by].allowance.name, "refused")] += 1
        for demand, figure in zip(wanted, answer.figures, strict=True):
            allowance = demand.allowance
            if figure.overrun and allowance.shadow:
                counts[(allowance.name, "shadow_refused")] += 1
            elif answer.refused_by is None:
                counts[(allowance.name, "admitted")] += 1

    def _notice(self, principal: Principal, wanted: Sequence[Demand], answer: Answer) -> None:
        """Tell once, per process, counter and size, that an allowance is nearly used up, and that it is."""
        for demand, figure in zip(wanted, answer.figures, strict=False):
            allowance = demand.allowance
            if allowance.kind is not Kind.QUOTA:
                continue
            # By what is spent for good: a reservation may be given back, and one request may be too large for it.
            is_used_up = figure.overrun and figure.used + demand.need > allowance.count >= demand.need
            reached = 100 if is_used_up else 100 * figure.used // allowance.count
            for mark in _SOFT:
                told = f"{demand.key}:{allowance.count}:{mark}"
                if reached >= mark and told not in self._told:
                    if len(self._told) >= _MOST_TOLD:
                        self._told.clear()
                    self._told.add(told)
                    event_id = "evt_" + hashlib.sha256(told.encode()).hexdigest()[:32]
                    holders = {Scope.KEY: principal.key_id, Scope.USER: principal.user_id}
                    holder = holders.get(allowance.scope, principal.tenant_id)
                    self._events.limit_reached(
                        LimitReached(event_id, principal.tenant_id, holder, allowance, mark, demand.ends_ms)
                    )


class _Hold:
    """See :class:`policies.admission.Hold`."""

    __slots__ = ("_holder", "_is_lasting", "_lease", "_permit", "audio", "exceeds", "grows", "is_short", "settle")

    def __init__(self, holder: Holder, permit: Permit, lease: Lease, *, is_lasting: bool) -> None:
        self._holder = holder
        self._permit = permit
        self._lease = lease
        self._is_lasting = is_lasting
        self.grows = lease.grows
        self.audio = counted_in(lease.demands) if is_lasting else ()
        self.is_short = False
        self.settle = lease.settle
        self.exceeds = lease.exceeds

    def follow(self, permit: Permit) -> None:
        """See :class:`policies.admission.Hold`. A share of a limit, counted in this process alone, stays what it is."""
        if self._is_lasting and permit is not self._permit:
            self._permit = permit
            bound = () if permit.bounds is None else permit.bounds.request
            self._lease.follow({one.allowance.name: one.allowance for one in bound})
            self.grows = self._lease.grows

    async def grow(self, expected: Spent, spent: Spent = NOTHING_SPENT, *, margin: bool = True) -> Deny | None:
        """See :class:`policies.admission.Hold`."""
        deny, self.is_short = await self._holder.extend(self._permit, self._lease, expected, spent, margin=margin)
        return deny


def _has_body(inquiry: Inquiry) -> bool:
    return bool(inquiry.head.content_lengths or inquiry.head.transfer_encodings)


def _expected(permit: Permit, inquiry: Inquiry) -> tuple[Spent, Spent]:
    """What it is likely to come to, and what it comes to at the least."""
    if permit.route.websocket:
        return STREAM_AHEAD, Spent(1_000, 1_000)
    if not _has_body(inquiry):
        return Spent(), Spent()
    head, has_audio = inquiry.head, permit.route.meter != "none"
    length: int | None = int(head.content_lengths[0]) if head.content_lengths else None
    return (
        usual(length, head.content_type.decode("latin-1"), has_audio=has_audio),
        least(length, has_audio=has_audio),
    )


def _wanted(demands: Sequence[Demand], expected: Spent, spent: Spent) -> list[Demand]:
    """What an extension asked for, beside what was spent before."""
    return [
        replace(one, want=max(one.want, expected.of(one.allowance.what) - spent.of(one.allowance.what)))
        for one in demands
    ]


def _is_only_a_guess(held: Held) -> bool:
    place = held.answer.refused_by
    return place is not None and held.demands[place].allowance.what is What.AUDIO

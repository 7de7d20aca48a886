"""A request that somebody thinks of making: judged as the gateway would, counted nowhere, and what it would cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from gateway.portal.api.counting import counted
from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.web.problem import Problem
from gateway.usage.limit_use import Use
from policies.account.usage import Measured, Outcome
from policies.admission import refusal_of
from policies.authorise import Permit, authorise
from policies.bounds import STREAM_AHEAD, Bound, allowance_of, least, usual
from policies.http.verdict import Deny, Refusal
from policies.identity.permissions import Permission
from policies.identity.principals import Principal
from policies.limits.allowances import Kind, Scope
from policies.limits.holding import RETRY_LEASE_MS, Spent
from policies.routing.routes import Route
from storage.ports import Grant, NotFound
from storage.postgres.subjects import PostgresSubjects
from storage.postgres.tenants.plans import PostgresPlans

operations = Operations("limits")


class Intended(Sent):
    """A request that somebody thinks of making."""

    route: str = Field(max_length=120, description="The route's name.")
    key_id: str | None = Field(default=None, max_length=64, description="With which key; your own is taken otherwise.")
    bytes: int = Field(default=0, ge=0, le=2**53, description="The size of its body.")
    duration_s: float | None = Field(default=None, ge=0, le=1e9, description="Its audio; else guessed from its size.")
    channels: int = Field(default=1, ge=1, le=64, description="Of the audio, where each of them is charged for.")
    model: str = Field(default="", max_length=200, description="Which one, where prices differ.")


class LimitVerdict(Shown):
    """One limit that the request would touch; figures in requests, bytes, or milliseconds of audio."""

    name: str
    limit: str
    allowed: int
    used: int
    wanted: int
    fits: bool = Field(description="Of audio that is guessed: whether the least that it can be fits.")
    whole_in_s: int = Field(description="Until none of it is in use.")
    shadow: bool


class Cost(Shown):
    """What the request costs by the tenant's price list, if it is made."""

    plan: str
    currency: str
    billable_ms: int
    price_per_minute: str
    amount: str = Field(description="To four decimals more than a statement has, which rounds its total alone.")


class Verdict(Shown):
    """Whether it would pass now. Nothing was taken."""

    allowed: bool
    refusal: str | None = Field(description="The stable code of the refusal; null where it would pass.")
    decides: str | None = Field(
        description="The limit that refuses it, or else that of which the least would be left; null without any."
    )
    audio_ms: int = Field(description="What it would come to in audio.")
    limits: list[LimitVerdict]
    cost: Cost | None = Field(description="Null where the gateway knows no price list for the tenant.")


@dataclass(frozen=True, slots=True)
class _Guess:
    """What it would come to, and at the least: the gateway refuses nobody on a guess that may be too high."""

    likely: Spent
    least: Spent
    unread: Spent
    """The least that is known before its body is read: what does not fit then is refused first."""

    def least_of(self, use: Use) -> int:
        """What of a limit has to fit."""
        return min(use.wanted, self.least.of(use.grant.allowance.what))


@operations.post("/limits/check", Permission.LIMITS_READ, body=Intended, answer=Verdict, status=200)
async def check_limits(ask: Ask[InTenant, Intended]) -> Verdict:
    """Whether a request would pass now, which limit decides, and what it would cost; takes nothing."""
    route = ask.parts.routes.get(ask.body.route)
    if route is None:
        raise Problem(Refusal.INVALID_INPUT, fields={"route": f"There is no route {ask.body.route!r}."})
    who, guess, now_ms = await _principal(ask, route), _guess(ask.body, route), int(ask.parts.now().timestamp() * 1000)
    judged = authorise(who, route, now_ms, ask.parts.settings.default_requests)
    found: Sequence[Use] = ()
    if isinstance(judged, Permit):
        grants = [_grant(bound, who) for bound in _bounds(judged)]
        found = await counted(ask, grants, who.calendar, now_ms, guess.likely)
    limits = [_judged(use, guess) for use in found]
    decisive = _decisive(guess, found, limits)
    return Verdict(
        allowed=isinstance(judged, Permit) and (decisive is None or limits[decisive].fits),
        refusal=_refusal(judged, guess, found, limits, decisive),
        decides=None if decisive is None else limits[decisive].name,
        audio_ms=guess.likely.audio_ms,
        limits=limits,
        cost=await _cost(ask, who, guess.likely),
    )


async def _principal(ask: Ask[InTenant, Intended], route: Route) -> Principal:
    """Whom the gateway would see: the key's holder, who asks, or, for an operator elsewhere, somebody of the tenant."""
    wanted, mine = ask.body.key_id, ask.who.tenant_id == ask.tenant_id
    if wanted is not None or (mine and ask.who.key_id):
        try:
            found = await ask.keys.key_holder(wanted or ask.who.key_id)
        except NotFound:
            found = None
        if found is not None and found.tenant_id == ask.tenant_id:
            return found
        raise Problem(Refusal.INVALID_INPUT, fields={"key_id": f"There is no key {wanted or ask.who.key_id!r}."})
    subjects = PostgresSubjects(ask.parts.pool)
    found = await subjects.identify_subject(ask.tenant_id, ask.who.user_id) if mine and ask.who.user_id else None
    if found is not None:
        return found
    somebody = await subjects.identify_subject(ask.tenant_id, "")
    if somebody is None:
        raise NotFound("This tenant was removed.")
    return replace(somebody, scopes=frozenset({route.scope}))


def _guess(wish: Intended, route: Route) -> _Guess:
    """As the gateway has it before the first byte of the body."""
    has_audio = route.meter != "none"
    unread = least(wish.bytes, has_audio=has_audio)
    if wish.duration_s is not None:
        told = Spent(round(wish.duration_s * 1000), wish.bytes)
        return _Guess(told, told, unread)
    if route.websocket:
        return _Guess(STREAM_AHEAD, STREAM_AHEAD, STREAM_AHEAD)
    return _Guess(usual(wish.bytes, "", has_audio=has_audio), unread, unread)


def _bounds(permit: Permit) -> Sequence[Bound]:
    """But for those of the client's address, which nobody knows yet."""
    if permit.bounds is None:
        return [Bound(allowance_of(charge), charge.key) for charge in permit.charges]
    return [bound for bound in permit.bounds.request if bound.allowance.scope is not Scope.ADDRESS]


def _grant(bound: Bound, who: Principal) -> Grant:
    scope = bound.allowance.scope
    return Grant(
        bound.allowance, who.user_id if scope is Scope.USER else None, who.key_id if scope is Scope.KEY else None
    )


def _judged(use: Use, guess: _Guess) -> LimitVerdict:
    allowance = use.grant.allowance
    return LimitVerdict(
        name=allowance.name,
        limit=str(allowance),
        allowed=allowance.count,
        used=use.used,
        wanted=use.wanted,
        fits=_lacks(use, guess.least) <= 0,
        whole_in_s=(use.whole_ms + 999) // 1000,
        shadow=allowance.shadow,
    )


def _decisive(guess: _Guess, found: Sequence[Use], limits: Sequence[LimitVerdict]) -> int | None:
    """The place of the limit that decides: whichever refuses first, and for the longest, else the tightest.

    None in shadow does.
    """
    known = [place for place, one in enumerate(limits) if not one.shadow]
    refusing = [place for place in known if not limits[place].fits]
    if refusing:
        at_once = [place for place in refusing if _lacks(found[place], guess.unread) > 0]
        return max(at_once or refusing, key=lambda place: _wait_ms(found[place], guess))
    return min(known, key=lambda place: _left(limits[place]), default=None)


def _lacks(use: Use, spent: Spent) -> int:
    allowance = use.grant.allowance
    need = min(use.wanted, spent.of(allowance.what))
    return use.used + need - allowance.count if need else 0  # what takes nothing passes, however much was used


def _wait_ms(use: Use, guess: _Guess) -> float:
    """How long a limit refuses it, as the gateway counts that."""
    allowance = use.grant.allowance
    if guess.least_of(use) > allowance.count:
        return math.inf
    if allowance.kind is Kind.LEASE or (allowance.kind is Kind.QUOTA and _is_only_held(use, guess)):
        return RETRY_LEASE_MS
    if allowance.kind is Kind.QUOTA:
        return use.whole_ms
    return _lacks(use, guess.least) * allowance.period_ms / allowance.count


def _is_only_held(use: Use, guess: _Guess) -> bool:
    return guess.least_of(use) <= use.grant.allowance.count - (use.used - use.held)


def _left(one: LimitVerdict) -> float:
    return (one.allowed - one.used - one.wanted) / one.allowed


def _refusal(
    judged: Permit | Deny,
    guess: _Guess,
    found: Sequence[Use],
    limits: Sequence[LimitVerdict],
    decisive: int | None,
) -> str | None:
    if isinstance(judged, Deny):
        return judged.refusal.code
    if decisive is None or limits[decisive].fits:
        return None
    use = found[decisive]
    return refusal_of(use.grant.allowance, is_held=_is_only_held(use, guess)).code


async def _cost(ask: Ask[InTenant, Intended], who: Principal, likely: Spent) -> Cost | None:
    if ask.parts.price_lists is None:
        return None
    rating = await PostgresPlans(ask.parts.pool, ask.trail).rating_of(ask.tenant_id)
    plan = ask.parts.price_lists.plan_of(who.tenant_slug, rating)
    if plan is None:
        return None
    measured = Measured(audio_ms=likely.audio_ms, channels=ask.body.channels, model=ask.body.model)
    billable_ms = plan.billable_ms(measured, Outcome.OK)
    return Cost(
        plan=plan.name,
        currency=plan.currency,
        billable_ms=billable_ms,
        price_per_minute=f"{plan.price_of(ask.body.model):f}",
        amount=f"{plan.worth(billable_ms, ask.body.model):f}",
    )

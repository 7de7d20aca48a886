"""Limits: read by whoever may, set by a tenant for its people and keys, by operators for the tenant itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gateway.limit_use import Use, uses
from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import Page
from gateway.portal.problems import Problem
from policies.allowances import Allowance, Kind, What
from policies.bounds import usual
from policies.permissions import Permission
from policies.verdict import Refusal
from storage.ports import Grant, Invalidation
from storage.postgres.limits import PostgresLimitBook
from storage.postgres.usage import PostgresLedger
from storage.redis.holds import RedisHolds

operations = Operations("limits")

Texts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=4, description="Empty: lifted.")
]


class LimitShown(Shown):
    """One limit. Without user and key it is the tenant's."""

    what: What
    limit: str = Field(description="`600/m`, `3600s/h`, `100h/month`, `10GB/d`; for what is held at one time, `10`.")
    user_id: str | None
    key_id: str | None
    route: str = Field(description="The one route that it is for; empty: all.")
    shadow: bool = Field(description="Counted and reported, and refuses nobody.")
    plan: str = Field(description="The plan that it comes from; empty: it is the tenant's own.")


class LimitsWish(Sent):
    """Limits of one holder; what is left out stays."""

    user_id: str | None = Field(default=None, max_length=64)
    key_id: str | None = Field(default=None, max_length=64)
    route: str = Field(default="", max_length=120)
    shadow: bool = False
    requests: Texts | None = None
    bytes: Texts | None = None
    audio: Texts | None = None
    concurrency: Texts | None = None
    streams: Texts | None = None


@operations.get("/limits", Permission.LIMITS_READ, answer=Page[LimitShown])
async def list_limits(ask: Ask[InTenant, Any]) -> Page[LimitShown]:
    """Every limit that is set: the tenant's, its members', its keys'. All that fit a request hold."""
    return await _all(ask)


@operations.put("/limits", Permission.LIMITS_WRITE, body=LimitsWish, answer=Page[LimitShown])
async def set_limits(ask: Ask[InTenant, LimitsWish]) -> Page[LimitShown]:
    """Set or lift limits of a key or a member; those of the tenant as a whole are the operator's to set."""
    wish = ask.body
    if not (wish.key_id or wish.user_id):
        ask.who.require(Permission.PLATFORM_WRITE)
    if wish.route and wish.route not in ask.parts.route_names:
        raise Problem(Refusal.INVALID_INPUT, fields={"route": f"There is no route {wish.route!r}."})
    named = {what: getattr(wish, what.value) for what in What}
    granted = [
        replace(allowance, shadow=wish.shadow)
        for what, texts in named.items()
        if texts
        for allowance in parsed(what, texts)
    ]
    await _book(ask).set_limits(
        ask.tenant_id,
        user_id=wish.user_id,
        key_id=wish.key_id,
        route=wish.route,
        lifted=[what for what, texts in named.items() if texts is not None],
        granted=granted,
    )
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=wish.key_id or ""))
    return await _all(ask)


class Intended(Sent):
    """A request that somebody thinks of making."""

    route: str = Field(max_length=120, description="The route's name.")
    key_id: str | None = Field(default=None, max_length=64, description="With which key; your own is taken otherwise.")
    bytes: int = Field(default=0, ge=0, le=2**53, description="The size of its body.")
    duration_s: float | None = Field(default=None, ge=0, le=1e9, description="Its audio; else guessed from its size.")
    stream: bool = Field(default=False, description="A WebSocket.")


class LimitVerdict(Shown):
    """One limit that the request would touch; figures in requests, bytes, or milliseconds of audio."""

    name: str
    limit: str
    allowed: int
    used: int
    wanted: int
    fits: bool
    whole_in_s: int = Field(description="Until none of it is in use.")
    shadow: bool


class Verdict(Shown):
    """Whether it would pass now. Nothing was taken."""

    allowed: bool
    audio_ms: int = Field(description="What it would come to in audio.")
    limits: list[LimitVerdict]


@operations.post("/limits/check", Permission.LIMITS_READ, body=Intended, answer=Verdict, status=200)
async def check_limits(ask: Ask[InTenant, Intended]) -> Verdict:
    """Whether a request would pass its limits now, and what it would take of each; takes nothing."""
    wish = ask.body
    if wish.route not in ask.parts.route_names:
        raise Problem(Refusal.INVALID_INPUT, fields={"route": f"There is no route {wish.route!r}."})
    expected = usual(wish.bytes, "", has_audio=wish.bytes > 0)
    if wish.duration_s is not None:
        expected = expected._replace(audio_ms=round(wish.duration_s * 1000))
    grants = await _touched(ask, wish)
    calendar = await _book(ask).calendar(ask.tenant_id)
    now_ms = int(ask.parts.now().timestamp() * 1000)
    holds, ledger = RedisHolds(ask.parts.redis_url, timeout=1.0), PostgresLedger(ask.parts.pool)
    try:
        found = await uses(grants, ask.tenant_id, calendar, now_ms, holds, ledger, expected)
    finally:
        await holds.close()
    return Verdict(
        allowed=all(use.fits or use.grant.allowance.shadow for use in found),
        audio_ms=expected.audio_ms,
        limits=[_judged(use) for use in found],
    )


async def _touched(ask: Ask[InTenant, Intended], wish: Intended) -> list[Grant]:
    """The limits of the tenant, the key, and whoever holds the key."""
    key_id, user_id = wish.key_id or ask.who.key_id, ask.who.user_id
    if wish.key_id is not None:
        key = next((key for key in await ask.keys.keys(ask.tenant_id) if key.id == wish.key_id), None)
        if key is None:
            raise Problem(Refusal.INVALID_INPUT, fields={"key_id": f"There is no key {wish.key_id!r}."})
        user_id = key.user_id or ""
    other = What.CONCURRENCY if wish.stream else What.STREAMS
    found = [
        grant
        for grant in await _book(ask).limits(ask.tenant_id)
        if grant.allowance.what is not other
        and grant.allowance.route in ("", wish.route)
        and grant.key_id in (None, key_id)
        and grant.user_id in (None, user_id)
    ]
    default = ask.parts.settings.default_requests
    if default is not None and not any(_is_plain(grant) for grant in found):
        allowance = Allowance(what=What.REQUESTS, count=default.count, period_ms=default.period_ms)
        found.insert(0, Grant(allowance, None, None))
    return found


def _is_plain(grant: Grant) -> bool:
    """Whether it is the tenant's own request rate, which stands in the default's place."""
    allowance = grant.allowance
    bare = not (allowance.route or allowance.shadow or grant.user_id or grant.key_id)
    return bare and allowance.kind is Kind.RATE


def _judged(use: Use) -> LimitVerdict:
    allowance = use.grant.allowance
    return LimitVerdict(
        name=allowance.name,
        limit=str(allowance),
        allowed=allowance.count,
        used=use.used,
        wanted=use.wanted,
        fits=use.fits,
        whole_in_s=(use.whole_ms + 999) // 1000,
        shadow=allowance.shadow,
    )


async def _all(ask: Ask[Any, Any]) -> Page[LimitShown]:
    return Page(data=[_shown(grant) for grant in await _book(ask).limits(ask.tenant_id)], next_cursor=None)


def parsed(what: What, texts: Sequence[str]) -> list[Allowance]:
    """Limits of one kind, as operators write them. Raises Problem."""
    try:
        return [Allowance.parse(what, text) for text in texts]
    except ValueError as error:
        raise Problem(Refusal.INVALID_INPUT, fields={what.value: f"{error}."}) from error


def _book(ask: Ask[Any, Any]) -> PostgresLimitBook:
    return PostgresLimitBook(ask.parts.pool, ask.trail)


def _shown(grant: Grant) -> LimitShown:
    allowance = grant.allowance
    return LimitShown(
        what=allowance.what,
        limit=str(allowance),
        user_id=grant.user_id,
        key_id=grant.key_id,
        route=allowance.route,
        shadow=allowance.shadow,
        plan=grant.plan,
    )

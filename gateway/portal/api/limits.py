"""Limits: read by whoever may, set by a tenant for its people and keys, by operators for the tenant itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from gateway.portal.api.counting import recounted
from gateway.portal.api.operations import Ask, InTenant, Operations, Sent, Shown
from gateway.portal.api.paging import LONGEST, Cursors, OldestFirst, Page
from gateway.portal.web.problem import Problem
from policies.bounds import limits_nothing, matters
from policies.http.verdict import Refusal
from policies.identity.permissions import Permission
from policies.limits.allowances import Allowance, What, check_apart
from storage.ports import Grant, Invalidation
from storage.postgres.limits import PostgresLimitBook, place

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

    @field_validator(*(what.value for what in What))
    @classmethod
    def _are_limits(cls, texts: list[str] | None, info: ValidationInfo) -> list[str] | None:
        parsed(What(str(info.field_name)), texts or ())
        return texts


class LimitsVersion(Shown):
    """What the version of all of a tenant's limits is made of."""

    version: str


class LimitList(OldestFirst, InTenant):
    """Whose limits; all without."""

    key_id: str | None = Field(default=None, max_length=64, description="Those of this key alone.")
    user_id: str | None = Field(default=None, max_length=64, description="Those of this member alone.")


@operations.get("/limits", Permission.LIMITS_READ, query=LimitList, answer=Page[LimitShown])
async def list_limits(ask: Ask[LimitList, Any]) -> Page[LimitShown]:
    """Every limit that is set: the tenant's, its members' by their age, its keys' by theirs. All that fit hold.

    The ETag is that of all of them, whichever are shown: it is what a change of any may be bound to.
    """
    return await _page(ask, ask.query, ask.cursors)


@operations.put("/limits", Permission.LIMITS_WRITE, body=LimitsWish, answer=Page[LimitShown])
async def set_limits(ask: Ask[InTenant, LimitsWish]) -> Page[LimitShown]:
    """Set or lift limits of a key or a member; those of the tenant as a whole are the operator's to set.

    The answer is the first page of the list, and its cursor goes on there.
    """
    wish = ask.body
    if not (wish.key_id or wish.user_id):
        ask.who.require(Permission.PLATFORM_WRITE)
    named = {what: getattr(wish, what.value) for what in What}
    if wish.route:
        _check_route(ask, wish.route, [what for what, texts in named.items() if texts])
    granted = [
        replace(allowance, shadow=wish.shadow)
        for what, texts in named.items()
        if texts
        for allowance in parsed(what, texts)
    ]
    await book(ask).set_limits(
        ask.tenant_id,
        user_id=wish.user_id,
        key_id=wish.key_id,
        route=wish.route,
        lifted=[what for what, texts in named.items() if texts is not None],
        granted=granted,
        check=lambda version: ask.check_version(LimitsVersion(version=version)),
    )
    await recounted(ask, ask.tenant_id, wish.key_id or wish.user_id or ask.tenant_id)
    await ask.announce(Invalidation(tenant_id=ask.tenant_id, key_id=wish.key_id or ""))
    first = LimitList(limit=LONGEST)
    return await _page(ask, first, ask.cursors_of(list_limits.__name__, first))


def _check_route(ask: Ask[Any, Any], name: str, limited: Sequence[What]) -> None:
    """One that is not there, or that no request of a kind touches, would hold for nothing and look as if it did."""
    route = ask.parts.routes.get(name)
    if route is None:
        raise Problem(Refusal.INVALID_INPUT, fields={"route": f"There is no route {name!r}."})
    fields = {what.value: limits_nothing(what, route) for what in limited if not matters(what, route)}
    if fields:
        raise Problem(Refusal.INVALID_INPUT, fields=fields)


async def _page(ask: Ask[Any, Any], query: LimitList, cursors: Cursors) -> Page[LimitShown]:
    found = await grants_of(ask, query, cursors)
    version = LimitsVersion(version=await book(ask).version(ask.tenant_id))
    return cursors.page([shown(grant) for grant in found], query.limit, [place(grant) for grant in found]).of(version)


async def grants_of(ask: Ask[Any, Any], query: LimitList, cursors: Cursors) -> Sequence[Grant]:
    """Those of a page, and one more where there are more."""
    opened = cursors.open(query.cursor)
    if query.key_id and query.user_id:
        raise ValueError("a limit is a key's or a user's, not both")
    return await book(ask).page(
        ask.tenant_id,
        query.limit + 1,
        falling=query.sort.startswith("-"),
        beyond=None if opened is None else [str(part) for part in opened],
        holder=query.key_id or query.user_id or "",
    )


def parsed(what: What, texts: Sequence[str]) -> list[Allowance]:
    """Limits of one kind, as operators write them. Raises ValueError."""
    allowances = [Allowance.parse(what, text) for text in texts]
    check_apart(allowances)
    return allowances


def book(ask: Ask[Any, Any]) -> PostgresLimitBook:
    """The limits, set in this caller's name."""
    return PostgresLimitBook(ask.parts.pool, ask.trail)


def shown(grant: Grant) -> LimitShown:
    """A limit as the API shows it."""
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

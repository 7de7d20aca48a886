"""The last word: a permit and what the limits said become an admission, or a refusal."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.authorise import Permit
from policies.http.verdict import Deny, Refusal
from policies.limits.allowances import Allowance, Kind, What
from policies.limits.holding import NEVER, NOTHING_SPENT, RETRY_LEASE_MS, Answer, Demand, Spent
from policies.limits.ratelimit_fields import refusing_lines, tightest_lines
from policies.limits.rates import FREE, Taken


class Hold(Protocol):
    """What an admitted request holds of its limits until it is settled."""

    grows: bool
    """Whether anything of it is to be extended while the request runs: audio or bytes that are limited."""
    audio: tuple[Demand, ...]
    """The limits of audio that it will be counted in, where they outlast this process."""
    is_short: bool
    """Whether the last growth left less in some limit than is usually kept in reserve: it will soon be used up."""

    def settle(self, spent: Spent) -> None:
        """Give back what was reserved, and keep what was spent. Never waits; later calls do nothing."""

    def exceeds(self, expected: Spent) -> bool:
        """Whether more is expected than was reserved."""

    def follow(self, permit: Permit) -> None:
        """Go by the caller's limits as they are now; one that was added since is for what begins behind it."""

    def grow(self, expected: Spent, spent: Spent = NOTHING_SPENT, *, margin: bool = True) -> Awaitable[Deny | None]:
        """Raise the reservation to what is expected in all, or say which limit is in the way.

        With ``margin`` some more is reserved if it fits. ``spent`` was used for good: it stays counted even when the
        process dies before the end.
        """


@dataclass(slots=True)
class Admit:
    """The answer yes; the relay accepts nothing else.

    Immutable by use: frozen, it would cost each request half a microsecond more.
    """

    permit: Permit
    taken: Taken
    hold: Hold | None = None
    """What the request holds until it is settled."""
    limit_lines: tuple[bytes, ...] = ()
    """The header lines of its tightest limit, where ``taken`` does not say it."""


def conclude(permit: Permit, taken: Taken) -> Admit | Deny:
    """Admit when every charge was taken; otherwise say which limit refused, and until when."""
    if taken.refused_by is None:
        return Admit(permit, taken)
    charge = taken.refused_by
    return Deny(
        refusal=Refusal.RATE_LIMIT_EXCEEDED,
        detail=f"The limit '{charge.name}' is {charge.rate}.",
        principal=permit.principal,
        taken=taken,
    )


_REFUSALS = {
    What.REQUESTS: Refusal.RATE_LIMIT_EXCEEDED,
    What.BYTES: Refusal.BYTES_LIMIT_EXCEEDED,
    What.AUDIO: Refusal.AUDIO_LIMIT_EXCEEDED,
    What.CONCURRENCY: Refusal.CONCURRENCY_LIMIT_EXCEEDED,
    What.STREAMS: Refusal.STREAM_LIMIT_EXCEEDED,
}


def conclude_held(permit: Permit, demands: Sequence[Demand], answer: Answer, hold: Hold | None) -> Admit | Deny:
    """The same for a request that holds something of its limits."""
    if answer.refused_by is None:
        return Admit(permit, FREE, hold, tightest_lines(demands, answer))
    return outgrown(permit, demands, answer, answer.refused_by)


def outgrown(permit: Permit, demands: Sequence[Demand], answer: Answer, place: int) -> Deny:
    """The refusal of the limit at ``place``: of a new request, or of one that came to more than it had reserved."""
    demand, figure = demands[place], answer.figures[place]
    detail = f"The limit '{demand.allowance.name}' is {demand.allowance}."
    is_held = demand.allowance.kind is Kind.QUOTA and answer.retry_ms == RETRY_LEASE_MS
    if answer.retry_ms == NEVER:
        detail += " This request alone is more than that."
    elif is_held:
        detail += " What it needs of that is reserved by other requests for the moment."
    elif demand.allowance.what in (What.AUDIO, What.BYTES):
        detail += " This request comes to more than is left of that."
    return Deny(
        refusal=refusal_of(demand.allowance, is_held=is_held),
        detail=detail,
        principal=permit.principal,
        limit_lines=refusing_lines(demand, figure, answer.retry_ms),
    )


def refusal_of(allowance: Allowance, *, is_held: bool = False) -> Refusal:
    """The refusal of a limit. ``is_held``: what is wanted is held by other requests, and not used up."""
    return Refusal.QUOTA_EXCEEDED if allowance.kind is Kind.QUOTA and not is_held else _REFUSALS[allowance.what]

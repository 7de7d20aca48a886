"""The RateLimit fields, in one place, because the draft still moves.

draft-ietf-httpapi-ratelimit-headers-11 (May 2026): two Lists of Strings (RFC 9651) with parameters; ``q`` quota and
``w`` window in seconds in the policy, ``r`` left and ``t`` seconds in the state. ``Retry-After`` is whole seconds
(RFC 9110 section 10.2.3) and never earlier than the limit allows.

``t`` is how long ``r`` must last: until the full burst is back, which paces a client at the limit's own rate. With
nothing left it is the wait for one more request, so that it never contradicts ``Retry-After``.
"""

from collections.abc import Iterable

from policies.limits import Charge, Level, Taken


def policy_line(charges: Iterable[Charge]) -> bytes:
    """The whole ``RateLimit-Policy`` line; empty where nothing is limited."""
    items = [f'"{c.name}";q={c.rate.count};w={max(1, c.rate.period_ms // 1000)}' for c in charges]
    return f"RateLimit-Policy: {', '.join(items)}".encode() if items else b""


def state_line(taken: Taken) -> bytes:
    """The whole ``RateLimit`` line."""
    items = [
        f'"{v.charge.name}";r={v.remaining};t={((v.reset_ms if v.remaining else _wait_ms(v)) + 999) // 1000}'
        for v in taken.levels
    ]
    return f"RateLimit: {', '.join(items)}".encode()


def refused_lines(taken: Taken) -> list[bytes]:
    """All three lines of an answer that a limit refused."""
    return [
        policy_line(level.charge for level in taken.levels),
        state_line(taken),
        b"Retry-After: %d" % max(1, (taken.retry_ms + 999) // 1000),
    ]


def _wait_ms(level: Level) -> int:
    """When one more request fits a limit that has nothing left."""
    rate = level.charge.rate
    return max(0, level.reset_ms - rate.period_ms + rate.period_ms // rate.count)

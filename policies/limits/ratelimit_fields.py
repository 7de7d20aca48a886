"""The RateLimit fields, in one place, because the draft still moves.

draft-ietf-httpapi-ratelimit-headers-11 (May 2026): two Lists of Strings (RFC 9651) with parameters; ``q`` quota and
``w`` window in seconds in the policy, ``r`` left and ``t`` seconds in the state. ``Retry-After`` is whole seconds
(RFC 9110 section 10.2.3) and never earlier than the limit allows.

``t`` is how long ``r`` must last: until the full burst is back, which paces a client at the limit's own rate. With
nothing left it is the wait for one more request, so that it never contradicts ``Retry-After``.
"""

from collections.abc import Iterable, Sequence

from policies.limits.allowances import Kind, What
from policies.limits.holding import NEVER, RETRY_LEASE_MS, Answer, Demand, Figure
from policies.limits.rates import Charge, Rate, Taken

_LONGEST_RETRY_MS = 60_000
"""A longer wait than that is for people to plan: openai's Node SDK sleeps for as long as ``Retry-After`` says."""
_NO_RETRY = b"X-Should-Retry: false"

_shapes: dict[int, "_Shape"] = {}
_MOST_SHAPES = 10_000


def policy_line(charges: Iterable[Charge]) -> bytes:
    """The whole ``RateLimit-Policy`` line; empty where nothing is limited."""
    items = [f'"{c.name}";q={c.rate.count};w={max(1, c.rate.period_ms // 1000)}' for c in charges]
    return f"RateLimit-Policy: {', '.join(items)}".encode() if items else b""


class _Shape:
    """The line of a permit's charges, but for what is left; and of the figures that it last told, what it tells."""

    __slots__ = ("_at_once", "_frame", "_last", "_lefts", "_text", "_together", "_told", "charges", "figures")

    def __init__(self, charges: tuple[Charge, ...]) -> None:
        self.charges = charges
        items = ", ".join(f'"{charge.name}";r=%d;t=%d' for charge in charges)
        self._text = f"RateLimit: {items}".encode()
        self._frame = self._text.replace(b"r=%d", b"r=%%d")
        self._at_once = min(((one.rate.count - 1) // one.rate.period_ms for one in charges), default=0)
        """So many requests take less than a millisecond of any limit, and so change no time."""
        self.figures: tuple[int, ...] = ()
        self._last = self._together = b""
        self._lefts: tuple[int, ...] = ()
        self._told: list[tuple[int, int, int, int]] = []
        """For each charge what is left, milliseconds until it is full, and its rate."""

    def read(self, figures: tuple[int, ...]) -> None:
        """Work out what they come to; many requests of one turn have the same."""
        resets = list(zip(self.charges, figures[::2], figures[1::2], strict=True))
        self._told = [(left, ms, one.rate.period_ms, one.rate.count) for one, left, ms in resets]
        waits = [(left, -(-(ms if left else _wait_ms(one.rate, ms)) // 1000)) for one, left, ms in resets]
        self._last = self._text % tuple(number for pair in waits for number in pair)
        if self._at_once:
            self._together = self._frame % tuple(-(-ms // 1000) for ms in figures[1::2])
            self._lefts = figures[::2]
        self.figures = figures

    def line(self, behind: int) -> bytes:
        """The line."""
        if not behind:
            return self._last
        if behind <= self._at_once:
            return self._together % tuple([left + behind for left in self._lefts])
        told: list[int] = []
        for left, ms, period_ms, count in self._told:
            told += (left + behind, -((behind * period_ms // count - ms) // 1000))
        return self._text % tuple(told)


def state_line(taken: Taken) -> bytes:
    """The whole ``RateLimit`` line."""
    charges, figures = taken.charges, taken.figures
    shape = _shapes.get(id(charges))
    if shape is None or shape.charges is not charges:  # a permit's charges are one tuple for as long as it is kept
        if len(_shapes) >= _MOST_SHAPES:
            _shapes.clear()
        shape = _shapes[id(charges)] = _Shape(charges)
    if shape.figures is not figures:
        shape.read(figures)
    return shape.line(taken.behind)


def refused_lines(taken: Taken) -> list[bytes]:
    """All lines of an answer that a limit refused; ``X-Should-Retry`` as in :func:`refusing_lines`."""
    lines = [
        policy_line(taken.charges),
        state_line(taken),
        b"Retry-After: %d" % max(1, (taken.retry_ms + 999) // 1000),
    ]
    return [*lines, _NO_RETRY] if taken.retry_ms > _LONGEST_RETRY_MS else lines


def tightest_lines(demands: Sequence[Demand], answer: Answer) -> tuple[bytes, ...]:
    """Both lines, for the limit of which the least is left; empty where all are in shadow."""
    pairs = [(d, f) for d, f in zip(demands, answer.figures, strict=True) if not d.allowance.shadow]
    if not pairs:
        return ()
    return _lines(*min(pairs, key=lambda pair: pair[1].left / pair[0].allowance.count))


def refusing_lines(demand: Demand, figure: Figure, retry_ms: int) -> tuple[bytes, ...]:
    """Both lines of the limit that refused, and when to come back: ``t`` ends then at the latest.

    ``X-Should-Retry: false`` tells the official SDKs that trying again is of no use: they would send an upload thrice,
    or not come back before the day is over.
    """
    if 0 < retry_ms < figure.reset_ms:
        figure = figure._replace(reset_ms=retry_ms)
    lines = _lines(demand, figure)
    if retry_ms != NEVER:
        lines += (b"Retry-After: %d" % max(1, (retry_ms + 999) // 1000),)
    longest_ms = RETRY_LEASE_MS if demand.allowance.kind is Kind.QUOTA else _LONGEST_RETRY_MS
    if retry_ms == NEVER or retry_ms > longest_ms:
        lines += (_NO_RETRY,)
    return lines


_UNITS = {
    What.BYTES: ("content-bytes", 1),
    What.AUDIO: ("audio-seconds", 1_000),
    What.CONCURRENCY: ("concurrent-requests", 1),
    What.STREAMS: ("open-streams", 1),
}


def _lines(demand: Demand, figure: Figure) -> tuple[bytes, ...]:
    allowance = demand.allowance
    unit, size = _UNITS.get(allowance.what, ("", 1))
    policy = f'"{allowance.name}";q={allowance.count // size}'
    if allowance.period_ms:
        policy += f";w={max(1, allowance.period_ms // 1000)}"
    if unit:
        policy += f';qu="{unit}"'
    state = f'"{allowance.name}";r={figure.left // size}'
    if allowance.kind is not Kind.LEASE:
        state += f";t={(figure.reset_ms + 999) // 1000}"
    return f"RateLimit-Policy: {policy}".encode(), f"RateLimit: {state}".encode()


def _wait_ms(rate: Rate, reset_ms: int) -> int:
    """When one more request fits a limit that has nothing left."""
    return max(0, reset_ms - rate.period_ms + rate.period_ms // rate.count)

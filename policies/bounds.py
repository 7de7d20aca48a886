"""Every limit that a request touches beyond plain request rates, and how much of it the request is likely to need.

Nothing of the body has been read when that is decided. So its length and type stand in: the length over a bit rate that
is usual for the format, and, before anybody is refused on such a guess, over the highest that is plausible.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from policies.identity.principals import Principal
from policies.limits.allowances import Allowance, Kind, Scope, What
from policies.limits.calendars import Calendar
from policies.limits.holding import Demand, Spent
from policies.limits.rates import Charge
from policies.networks import customer
from policies.routing.routes import Route

STREAM_AHEAD = Spent(audio_ms=10_000, bytes_in=65_536)
"""What a stream reserves ahead of what it has sent."""
UNSAID_MS = 1_000
"""Audio reserved for a body whose length nobody says."""
_MARGIN_MS, _MARGIN_BYTES = 5_000, 1_048_576
_USUAL_BITS = {
    "audio/wav": 256_000,
    "audio/x-wav": 256_000,
    "audio/wave": 256_000,
    "audio/vnd.wave": 256_000,
    "audio/flac": 160_000,
    "audio/x-flac": 160_000,
    "audio/mpeg": 128_000,
    "audio/mp3": 128_000,
    "audio/mp4": 128_000,
    "audio/x-m4a": 128_000,
    "audio/aac": 128_000,
    "audio/ogg": 48_000,
    "audio/opus": 48_000,
    "audio/webm": 48_000,
    "audio/amr": 12_200,
}
_UNKNOWN_BITS = 256_000
"""16 kHz, 16 bit, one channel: what speech is recorded in."""
_HIGHEST_BITS = 3_072_000
"""48 kHz, 32 bit, two channels."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit and the key of its counter, which lacks only what changes from request to request."""

    allowance: Allowance
    key: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """A caller's limits on a route: of a request, of one without a body, and of one that is asked about.

    The last is carried by a proxy, and nobody tells when it ends: places at one time are not among its limits.
    Where streams open a request is a stream.

    They follow from the route and from nothing that a client says: ``Upgrade: websocket`` on a request that opens no
    stream would buy it a way around the limit of requests at one time. Each is empty where plain request rates are all
    there is.
    """

    request: tuple[Bound, ...]
    bodyless: tuple[Bound, ...]
    asked: tuple[Bound, ...]


def bounds(principal: Principal, route: Route, charges: Iterable[Charge]) -> Bounds | None:
    """All limits that hold for a caller on a route, its plain rates among them; None when there are no others.

    The hash tag keeps all that one request touches in one slot of a cluster.
    """
    if not principal.allowances and not route.of_address:
        return None
    tenant = principal.tenant_id
    holders = {Scope.TENANT: "", Scope.USER: principal.user_id, Scope.KEY: principal.key_id}
    found = [
        Bound(a, counter_key(a, tenant, holders[a.scope]))
        for a in principal.allowances
        if not a.route or a.route == route.name
    ]
    found += [_of_address(a, tenant, route) for a in route.of_address]
    rates = [Bound(allowance_of(charge), charge.key) for charge in charges]
    request = bodyless = [b for b in found if matters(b.allowance.what, route)]
    if not route.websocket:
        bodyless = [b for b in request if b.allowance.what is not What.BYTES]
    if not request:
        return None
    asked = [b for b in bodyless if b.allowance.what not in (What.CONCURRENCY, What.STREAMS)]
    return Bounds(*(tuple(rates + those) if those else () for those in (request, bodyless, asked)))


def counter_key(allowance: Allowance, tenant_id: str, holder: str) -> str:
    """The key of a counter, without the period of a calendar; ``holder`` is a user's or a key's id, or empty.

    Plain request rates have the keys of ``policies.authorise.charges``: they are the same counters.
    """
    if allowance.kind is Kind.RATE and not allowance.route and allowance.scope is not Scope.USER:
        return f"rate:{{{tenant_id}}}:{holder}" if holder else f"rate:{{{tenant_id}}}"
    return f"limit:{{{tenant_id}}}:{holder}:{allowance.what}:{allowance.route}"


def demands(
    bound: Iterable[Bound],
    calendar: Calendar,
    now_ms: int,
    expected: Spent,
    address: str,
    measured_later: Spent | None = None,
) -> tuple[Demand, ...]:
    """What one request wants of each limit.

    ``measured_later`` is set for a request whose body is measured before anybody works on it: the least that it comes
    to. Its audio is then reserved when the body has told its length, since the guesses of hundreds that arrive together
    would leave room for none of them. A limit in shadow is reserved by the guess all the same: it refuses nobody.
    """
    wanted = []
    for one in bound:
        allowance, key, ends_ms = one.allowance, one.key, 0
        want, at_least = expected.of(allowance.what), 0
        if measured_later is not None and allowance.what is What.AUDIO and not allowance.shadow:
            want, at_least = 0, measured_later.audio_ms
        if allowance.scope is Scope.ADDRESS:
            key = key.replace("?", customer(address) or "unknown")
        if allowance.kind is Kind.QUOTA:
            period = calendar.period(allowance.calendar, now_ms)
            key, ends_ms = f"{key}:{allowance.calendar}:{period.label}", period.end_ms
        wanted.append(Demand(allowance, key, want, ends_ms, at_least))
    return tuple(wanted)


def usual(length: int | None, content_type: str, *, has_audio: bool) -> Spent:
    """What a request is likely to come to. ``length`` is its body's in bytes, None where it is not announced."""
    bits = _USUAL_BITS.get(content_type.partition(";")[0].strip().lower(), _UNKNOWN_BITS)
    return _over(length, bits, has_audio=has_audio)


def least(length: int | None, *, has_audio: bool) -> Spent:
    """What it comes to at the very least, if the announced length is true."""
    return _over(length, _HIGHEST_BITS, has_audio=has_audio)


def with_margin(expected: Spent) -> Spent:
    """Some more than is expected, so that a reservation that grows does so in few steps."""
    return Spent(
        expected.audio_ms + max(expected.audio_ms // 8, _MARGIN_MS),
        expected.bytes_in + max(expected.bytes_in // 8, _MARGIN_BYTES),
    )


def _over(length: int | None, bits: int, *, has_audio: bool) -> Spent:
    if length is None:
        return Spent(UNSAID_MS if has_audio else 0, 0)
    return Spent(length * 8_000 // bits if has_audio else 0, length)


def matters(what: What, route: Route) -> bool:
    """Whether a limit of this kind can matter on a route; audio comes with the request, or a job's result tells it."""
    if route.websocket:
        return what is not What.CONCURRENCY
    return what is not What.STREAMS and (what is not What.AUDIO or route.meter != "none" or bool(route.job_audio))


_NOTHING = {
    What.CONCURRENCY: "opens streams, whose number 'streams' limits",
    What.STREAMS: "opens no streams",
    What.AUDIO: "has no audio",
}


def limits_nothing(what: What, route: Route) -> str:
    """What is to be said of a limit that does not matter on a route."""
    return f"It would limit nothing: the route {route.name} {_NOTHING[what]}."


def allowance_of(charge: Charge) -> Allowance:
    """A plain request rate as an allowance like all others."""
    scope = Scope(charge.name.partition("-")[0])
    return Allowance(what=What.REQUESTS, count=charge.rate.count, period_ms=charge.rate.period_ms, scope=scope)


def _of_address(allowance: Allowance, tenant: str, route: Route) -> Bound:
    tag = f"{{{tenant}}}:?" if tenant else "{?}"
    return Bound(allowance, f"limit:{tag}:{route.name}:{allowance.what}")

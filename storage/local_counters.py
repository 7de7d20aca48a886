"""Request rates inside one process: what a route falls back to while Redis cannot be asked."""

from collections.abc import Callable

from policies.limits.rates import FREE, Charge, Rate, Taken, level, retry_after_ms, take
from storage.ports import Waiter

_MOST = 100_000


class LocalCounters:
    """The Counters port in memory.

    ``clock_ms`` gives monotonic milliseconds. Each of ``sharers`` processes that count apart allows its part of a
    limit, so that together they hold it. At most 100 000 counters are kept; full ones are dropped first, because
    forgetting a counter that has refilled changes no answer.
    """

    def __init__(self, clock_ms: Callable[[], float], sharers: int = 1) -> None:
        self._clock_ms = clock_ms
        self._sharers = sharers
        self._tats: dict[str, float] = {}

    async def take(self, charges: tuple[Charge, ...]) -> Taken:
        """See :class:`storage.ports.Counters`."""
        return self.take_now(charges)

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        """See the port."""
        waiter.set_result(self.take_now(charges))

    def take_now(self, charges: tuple[Charge, ...]) -> Taken:
        """The same without waiting: nothing here can."""
        if not charges:
            return FREE
        if self._sharers > 1:
            charges = tuple(Charge(charge.name, charge.key, self._part(charge.rate)) for charge in charges)
        now = self._clock_ms()
        tats = [self._tats.get(charge.key, 0.0) for charge in charges]
        admitted, after = take(tats, charges, 1, now)
        self._remember(charges, after, now)
        told = tuple(level(tat, charge, now) for tat, charge in zip(after, charges, strict=True))
        if not admitted:
            return Taken.of(told, *retry_after_ms(tats, charges, now))
        return Taken.of(told)

    def _part(self, rate: Rate) -> Rate:
        if rate.count >= self._sharers:
            return Rate(rate.count // self._sharers, rate.period_ms)
        return Rate(1, rate.period_ms * self._sharers // rate.count)

    def _remember(self, charges: tuple[Charge, ...], tats: list[float], now: float) -> None:
        if len(self._tats) >= _MOST:
            self._forget(now)
        self._tats.update((charge.key, tat) for charge, tat in zip(charges, tats, strict=True))

    def _forget(self, now: float) -> None:
        self._tats = {key: tat for key, tat in self._tats.items() if tat > now}
        if len(self._tats) >= _MOST:
            self._tats.clear()

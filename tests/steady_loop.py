"""An event loop whose clock stands still while a busy machine lets nobody run.

Where client, gateway and upstream share one loop, being held up must not look like being slow: a bound of a tenth of a
second that somebody has to keep says nothing when nobody had the processor for a fifth. So a turn of the loop takes no
longer than ``_TURN_S``, and its waiting no longer than it was to wait, whatever the machine's clock says.
"""

import asyncio
import selectors
import time

_TURN_S = 0.005


class _Patient(selectors.DefaultSelector):
    """Knows how much of the time since it was made nobody could use."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_s = 0.0
        self.turned_at = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = self._count(_TURN_S)
        self.turned_at = began
        found = super().select(timeout)
        self.turned_at = self._count(float("inf") if timeout is None else max(timeout, 0.0) + _TURN_S)
        return found

    def _count(self, at_most_s: float) -> float:
        now = time.monotonic()
        self.lost_s += max(0.0, now - self.turned_at - at_most_s)
        return now


class SteadyLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)

    def time(self) -> float:
        """Seconds that this loop could use."""
        turned_at = self._patient.turned_at
        return turned_at - self._patient.lost_s + min(time.monotonic() - turned_at, _TURN_S)

"""How many connections clients may hold: the count."""

import os
import resource
import time
from pathlib import Path
from typing import Protocol

import structlog

from gateway.telemetry.metrics import Metrics
from policies.networks import customer

_log = structlog.get_logger("gateway.clients")

_TO_COME = 48
"""Open files that a worker has later than at its start: connections to stores, journals, ``_RESERVE``."""
_RESERVE = 16
"""Files that no client gets: a client that comes then is told so, and journals and stores still have theirs."""
_MOST_STAY = 32
"""How many that were turned away may stay for a moment: they come in floods, and each is a file."""
_MOST = 65_536
_SHARE = 4
_SAY_AGAIN_S = 10.0


class Addresses(Protocol):
    """A set of addresses, as :class:`gateway.dataplane.inquiries.TrustedProxies` is one."""

    def __contains__(self, peer: str, /) -> bool:
        """Whether an address belongs to it."""


class Census:
    """Who is connected, in this worker. ``exempt`` addresses (trusted proxies) count in the total alone.

    With 0, ``most`` is what open files allow, up to 65 536, and ``most_per_address`` a quarter of it. More than open
    files allow are never taken: every connection may need one more to the upstream.
    """

    def __init__(self, metrics: Metrics, exempt: Addresses, *, most: int = 0, most_per_address: int = 0) -> None:
        files = open_files_limit()
        allowed = max(16, files - open_files() - _TO_COME)
        self._last_file = files - min(_RESERVE, files // 8)
        self.most = min(most or _MOST, allowed // 2)
        self.most_per_address = most_per_address or max(1, self.most // _SHARE)
        metrics.connections_most = self.most
        self._metrics = metrics
        self._exempt = exempt
        self._by_address: dict[str, int] = {}
        self._say_at = 0.0

    def enter(self, peer: str, descriptor: int) -> bool:
        """Count a new connection in, if there is room for it; ``unix`` is a socket file and has no address.

        The system gives the least number that is free, so ``descriptor`` says how many files are open, whatever for.
        """
        if descriptor >= self._last_file:
            return self._refused("files", peer, self._last_file)
        if self._metrics.connections >= self.most:
            return self._refused("total", peer, self.most)
        if self._is_limited(peer):
            address = _customer(peer)
            held = self._by_address.get(address, 0)
            if held >= self.most_per_address:
                return self._refused("address", peer, self.most_per_address)
            self._by_address[address] = held + 1
        self._metrics.connections += 1
        return True

    def may_stay(self, descriptor: int, others: int) -> bool:
        """Whether a client that was turned away may stay until it has read why, beside ``others`` that do."""
        return descriptor < self._last_file and others < min(_MOST_STAY, self.most)

    def leave(self, peer: str) -> None:
        """Count a connection out that was let in."""
        self._metrics.connections -= 1
        if self._is_limited(peer):
            address = _customer(peer)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def look_for_files(self) -> None:
        """Say so while no file is left at all: libuv then closes who comes. The times that it was so can be counted."""
        try:
            os.close(os.eventfd(0))
        except OSError:
            self._metrics.refused_connections[("unheard",)] += 1
            if self._may_say():
                _log.warning("no open file is left: connections are closed unanswered and uncounted")

    def _is_limited(self, peer: str) -> bool:
        return peer != "unix" and peer not in self._exempt

    def _refused(self, limit: str, peer: str, most: int) -> bool:
        self._metrics.refused_connections[(limit,)] += 1
        if self._may_say():
            _log.warning("connections are refused: too many are open", limit=limit, address=peer, most=most)
        return False

    def _may_say(self) -> bool:
        """Whether a log line is due: one for each connection would be a gift to whoever opens them."""
        now = time.monotonic()
        if now < self._say_at:
            return False
        self._say_at = now + _SAY_AGAIN_S
        return True


def open_files_limit() -> int:
    """How many files this process may have open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST * 3 if files == resource.RLIM_INFINITY else files


def open_files() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _customer(peer: str) -> str:
    """What its connections are counted under."""
    return peer if ":" not in peer else customer(peer) or peer

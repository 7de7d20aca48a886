"""Request rates in Redis: takes travel together while another question is out, and stay exact across processes.

Equal requests (the same charges) are one group in the script: a hot key costs Redis the same for one request as for
fifty. A group's first requests are admitted, the later ones refused; each is told what was left after it. In quiet
times a take does not wait for the end of the iteration: there is nobody to share with.
"""

import asyncio

from policies.limits.rates import FREE, Charge, Taken
from storage.ports import Unavailable, Waiter
from storage.redis.line import Script
from storage.redis.nodes import Nodes, slot_of
from storage.redis.wire import Deliver, Reply, Wire

_TAKE = Script.named("take.lua")


class _Group:
    """Equal requests that wait for the same answer."""

    __slots__ = ("charges", "waiting")

    def __init__(self, charges: tuple[Charge, ...]) -> None:
        self.charges = charges
        self.waiting: list[Waiter[Taken]] = []


class RedisCounters:
    """The Counters port; ``timeout`` in seconds bounds a take from call to answer.

    Of a cluster, whose commands cannot span slots, each tenant's takes travel in an EVALSHA of their own.
    """

    def __init__(self, url: str, *, timeout: float = 0.25) -> None:
        self._nodes = Nodes(url, timeout)
        self._main = self._nodes.main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: dict[int, _Group] = {}
        self._quiet = True
        """The last loop iteration gathered one take: waiting for a second one would only delay the next."""
        self._asked = 0
        """Commands whose answer is due."""

    def take(self, charges: tuple[Charge, ...]) -> asyncio.Future[Taken]:
        """See :class:`storage.ports.Counters`."""
        loop = self._loop
        if loop is None:  # asked for once: the question is a system call (getpid) each time
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Taken] = loop.create_future()
        self.take_for(charges, future)
        return future

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        """See the port. Callers that share one ``charges`` tuple share one group."""
        if not charges:
            waiter.set_result(FREE)
            return
        if not self._groups:
            if self._quiet and (wire := self._main.wire) is not None and wire.is_idle:
                alone = _Group(charges)
                alone.waiting.append(waiter)
                self._send(wire, [alone])
                return
            loop = self._loop = self._loop or asyncio.get_running_loop()
            loop.call_soon(self._flush)
        group = self._groups.get(id(charges))
        if group is None:
            group = self._groups[id(charges)] = _Group(charges)
        group.waiting.append(waiter)

    async def ping(self) -> None:
        """Raises Unavailable when Redis does not answer now."""
        await self._nodes.ping()

    async def close(self) -> None:
        """Drop the connection, also one that is being made. Takes under way end with Unavailable."""
        await self._nodes.close()

    def _flush(self) -> None:
        """Send what was gathered, or have it wait for a connection. While an answer is due, gather on.

        A server that is far or busy is so asked less often, and for more at a time.
        """
        if self._asked:
            return
        groups, self._groups = list(self._groups.values()), {}
        self._quiet = len(groups) == 1 and len(groups[0].waiting) == 1
        self._main.use(lambda wire: self._send(wire, groups))

    def _send(self, wire: Wire | Unavailable, groups: list[_Group]) -> None:
        if self._main.is_cluster:
            for part in _by_slot(groups):
                self._asked += 1
                self._nodes.run(_TAKE, *_pack(part), self._deliver(part))
        elif isinstance(wire, Unavailable):
            _fail(groups, wire)
        else:
            self._asked += 1
            _TAKE.run(wire, *_pack(groups), self._deliver(groups))

    def _deliver(self, groups: list[_Group]) -> Deliver:
        def hand_out(reply: Reply) -> None:
            self._asked -= 1
            if isinstance(reply, list):
                _hand_out(groups, reply)
            else:
                _fail(groups, reply)
            if self._asked or not self._groups:
                return
            if isinstance(reply, Unavailable):  # they have waited as long: one time-out is all that a take costs
                gathered, self._groups = list(self._groups.values()), {}
                _fail(gathered, reply)
            else:
                self._flush()

        return hand_out


def _by_slot(groups: list[_Group]) -> list[list[_Group]]:
    parts: dict[int, list[_Group]] = {}
    for group in groups:
        parts.setdefault(slot_of(group.charges[0].key.encode()), []).append(group)
    return list(parts.values())


def _fail(groups: list[_Group], reason: Reply) -> None:
    """Tell everybody that nobody knows."""
    for group in groups:
        for waiter in group.waiting:
            if not waiter.done():
                waiter.set_exception(Unavailable(f"limits cannot be counted: {reason}"))


_words: dict[int, tuple[tuple[Charge, ...], list[bytes], list[bytes]]] = {}
_MOST_WORDS = 10_000


def _pack(groups: list[_Group]) -> tuple[list[bytes], list[bytes]]:
    """KEYS and ARGV of the script."""
    keys: list[bytes] = []
    arguments: list[bytes] = []
    for group in groups:
        charges = group.charges
        known = _words.get(id(charges))
        if known is None or known[0] is not charges:  # a permit's charges are one tuple for as long as it is kept
            if len(_words) >= _MOST_WORDS:
                _words.clear()
            rates = [b"%d" % n for charge in charges for n in (charge.rate.period_ms * 1000, charge.rate.count)]
            known = (charges, [charge.key.encode() for charge in charges], [b"%d" % len(charges), *rates])
            _words[id(charges)] = known
        keys += known[1]
        arguments.append(b"%d" % len(group.waiting))
        arguments += known[2]
    return keys, arguments


def _hand_out(groups: list[_Group], reply: list[int]) -> None:
    """Give every waiting request its own answer."""
    at = 0
    for group in groups:
        charges, (admitted, refusing, retry_ms) = group.charges, reply[at : at + 3]
        at += 3 + 2 * len(charges)
        at_last = tuple(reply[at - 2 * len(charges) : at])
        behind = admitted
        for waiter in group.waiting:
            behind -= 1
            if waiter.done():
                continue
            if behind >= 0:
                waiter.set_result(Taken(charges, at_last, None, 0, behind))
            else:
                waiter.set_result(Taken(charges, at_last, charges[refusing - 1], retry_ms))

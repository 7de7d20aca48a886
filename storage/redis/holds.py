"""Leases and reservations in Redis: exact across processes, renewed while their requests last, free soon after a crash.

One script (``hold.lua``) reserves, extends and settles; all keys of one run carry one hash tag, so that a cluster can
serve it. A worker renews what it holds every third of a lease's time, in few commands however many there are.

What is given back while Redis is away is kept, and sent when it is back. If only the reply was lost, it is sent again
and counts where the reservation is still there: nothing is counted twice, and what that misses the ledger has. So has
the counter of a calendar period that Redis had lost, and that was told from the ledger meanwhile.
"""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from policies.limits.allowances import Kind
from policies.limits.holding import Answer, Demand, Figure, Spent, Step
from storage.held import HeldLease, NotDone
from storage.ports import Held, Unavailable, Waiter
from storage.redis.line import Script
from storage.redis.nodes import Nodes
from storage.redis.wire import NotSent, RedisRefused, Reply

if TYPE_CHECKING:
    from storage import ports

_HOLD = Script.named("hold.lua")
_RENEW = Script.named("renew.lua", in_order=True)
"""In order, because it puts back what it does not find: what is given back behind it must stay so."""
_TELL = Script.named("tell.lua")
_KEPT_MS = 86_400_000
"""How long a calendar period's counter outlives it: what began in the period may end later."""
_KINDS = {Kind.RATE: b"r", Kind.LEASE: b"l", Kind.WINDOW: b"w", Kind.QUOTA: b"q"}
_LEFT = Spent()
"""What was held for whoever had left by then comes to: one request, as the ledger counts it too."""
_PIECE = 500
"""Leases renewed in one command: Redis serves nobody else meanwhile."""
_MOST_OWED = 100_000
_MOST_REFUSALS = 30
"""A Redis that answers and will not do it, full or misused, is asked so often: some minutes."""


@dataclass(slots=True)
class _Owed:
    """Something to give back that has not been acknowledged."""

    lease: HeldLease
    steps: Sequence[Step]
    since: float
    """When the account had the first of it."""
    tried: bool = False
    refusals: int = 0


class RedisHolds:
    """The Holds port. A lease is free ``lease_s`` after its last renewal; ``timeout`` bounds a question. In seconds."""

    def __init__(self, url: str, lease_s: float = 30.0, *, timeout: float = 0.25) -> None:
        self._nodes = Nodes(url, timeout)
        self._timeout = timeout
        self._lease_ms = round(lease_s * 1000)
        self._prefix = secrets.token_hex(8)
        self._numbers = count(1)
        self._held: dict[str, HeldLease] = {}
        self._owed: dict[str, _Owed] = {}
        self._beat: asyncio.TimerHandle | None = None
        self._paid: asyncio.Future[None] | None = None
        self._closed = False

    async def hold(self, demands: tuple[Demand, ...]) -> Held:
        """See :class:`storage.ports.Holds`."""
        waiter: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self.hold_for(demands, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:  # it had arrived, and nobody is left to take it
                lease = waiter.result().lease
                if lease is not None:
                    lease.settle(_LEFT)
            raise

    def hold_for(self, demands: tuple[Demand, ...], waiter: Waiter[Held]) -> None:
        """See :class:`storage.ports.Holds`."""
        lease = HeldLease(self, f"{self._prefix}.{next(self._numbers)}", demands)
        loop = asyncio.get_running_loop()

        def deliver(reply: Reply) -> None:
            if not isinstance(reply, list):
                if not isinstance(reply, NotSent):
                    self._abandon(lease)  # it may have been carried out, and nobody will hear of it
                if not waiter.done():
                    waiter.set_exception(_unavailable(reply))
                return
            answer = _answer(reply)
            has_lease = answer.admitted and bool(lease.demands)
            if has_lease:
                lease.granted(demands, answer)
                lease.known_at = loop.time()
            if not waiter.done():
                if has_lease:
                    self._held[lease.id] = lease
                    self._watch()
                waiter.set_result(Held(demands, answer, lease if has_lease else None))
            elif has_lease:
                lease.settle(_LEFT)

        steps = [Step(demand, 0, 0, demand.want, demand.least) for demand in demands]
        self._nodes.run(_HOLD, *self._pack(lease, steps), deliver)

    async def look(self, demands: tuple[Demand, ...]) -> Answer:
        """What every limit says now; takes nothing. Raises Unavailable."""
        return await self._ask(HeldLease(self, "-", ()), [Step(demand, 0, 0, 0) for demand in demands])

    def change(self, lease: HeldLease, steps: Sequence[Step]) -> asyncio.Future[Answer]:
        """See :class:`storage.held.Keeper`.

        What a stream spends the account has had bit by bit since the limits last took notice.
        """
        ago_ms = _ago_ms(lease.known_at) if any(step.spent for step in steps) else 0
        return self._ask(lease, steps, ago_ms)

    def give_back(self, lease: HeldLease, steps: Sequence[Step]) -> None:
        """See :class:`storage.held.Keeper`."""
        self._held.pop(lease.id, None)
        if not steps:
            return
        if len(self._owed) >= _MOST_OWED:  # an outage of hours: the reservations have expired, the ledger has the rest
            del self._owed[next(iter(self._owed))]
        since = lease.known_at if lease.is_behind else asyncio.get_running_loop().time()
        self._owed[lease.id] = owed = _Owed(lease, steps, since)
        self._send_owed(owed)

    def repay(self, amounts: Sequence[tuple[Demand, int]]) -> None:
        """Give back what a request was counted with that has ended. Never waits, and is done once or not at all."""
        lease = HeldLease(self, f"{self._prefix}.{next(self._numbers)}", tuple(demand for demand, _ in amounts))
        self.give_back(lease, [Step(demand, 0, -amount, 0) for demand, amount in amounts])

    async def tell(self, demand: Demand, used: int) -> None:
        """See :class:`storage.ports.Holds`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def deliver(reply: Reply) -> None:
            if done.done():
                return
            if isinstance(reply, int):
                done.set_result(None)
            else:
                done.set_exception(_unavailable(reply))

        figures = [b"%d" % used, b"%d" % (demand.ends_ms + _KEPT_MS)]
        self._nodes.run(_TELL, [demand.key.encode()], figures, deliver)
        await done

    async def close(self) -> None:
        """Wait until what was given back has arrived, but no longer than a question may take. What is held expires."""
        self._closed = True
        if self._beat is not None:
            self._beat.cancel()
        if self._owed:
            self._paid = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._paid], timeout=self._timeout)
        await self._nodes.close()

    def _abandon(self, lease: HeldLease) -> None:
        """Nobody knows what the question brought about: whatever it may have is given back."""
        self.give_back(lease, [Step(demand, demand.want, 0, 0) for demand in lease.demands])

    def _ask(self, lease: HeldLease, steps: Sequence[Step], ago_ms: int = 0) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def deliver(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, list):
                answer = _answer(reply)
                if not answer.unknown:
                    lease.known_at = loop.time()
                future.set_result(answer)
            else:
                future.set_exception(_unavailable(reply))

        self._nodes.run(_HOLD, *self._pack(lease, steps, ago_ms), deliver)
        return future

    def _pack(self, lease: HeldLease, steps: Sequence[Step], ago_ms: int = 0) -> tuple[list[bytes], list[bytes]]:
        """``ago_ms`` as in the script."""
        keys, arguments = [], [lease.id.encode(), b"%d" % self._lease_ms, b"%d" % ago_ms]
        for step in steps:
            demand, allowance = step.demand, step.demand.allowance
            kind = allowance.kind
            span = demand.ends_ms if kind is Kind.QUOTA else allowance.period_ms * 1000
            keys += _keys(demand)
            change = step.had, step.spent, step.want, step.least
            arguments.append(
                b"%b %d %d %d %d %d %d %d" % (_KINDS[kind], allowance.count, span, allowance.shadow, *change)
            )
        return keys, arguments

    # --- what is due without being asked ------------------------------------------------------------------------------

    def _send_owed(self, owed: _Owed) -> None:
        """Unless it could not be sent at all, a second time is marked as one."""
        again, owed.tried = owed.tried, True
        ago_ms = _ago_ms(owed.since)

        def deliver(reply: Reply) -> None:
            if not isinstance(reply, list):
                owed.tried = again or not isinstance(reply, NotSent)
                owed.refusals += isinstance(reply, RedisRefused)
                if owed.refusals > _MOST_REFUSALS:
                    self._owed.pop(owed.lease.id, None)
                self._watch()
                return
            self._owed.pop(owed.lease.id, None)
            if owed.lease.hear is not None:
                owed.lease.hear(_answer(reply))
            if self._paid is not None and not self._owed and not self._paid.done():
                self._paid.set_result(None)

        self._nodes.run(_HOLD, *self._pack(owed.lease, owed.steps, -max(ago_ms, 1) if again else ago_ms), deliver)

    def _watch(self) -> None:
        if self._beat is None and not self._closed:
            self._beat = asyncio.get_running_loop().call_later(self._lease_ms / 3000, self._renew)

    def _renew(self) -> None:
        """A heartbeat: give back what is owed, then renew what is held. In this order on one connection."""
        self._beat = None
        for owed in list(self._owed.values()):
            self._send_owed(owed)
        for keys, arguments in _renewals(self._held.values()):
            self._nodes.run(_RENEW, keys, [b"%d" % self._lease_ms, *arguments], lambda _: None)
        if self._held or self._owed:
            self._watch()


def _renewals(leases: Iterable[HeldLease]) -> Iterable[tuple[list[bytes], list[bytes]]]:
    """KEYS and the rest of ARGV for each command: one limit, at most some hundred of its members."""
    members: dict[str, tuple[Demand, list[bytes]]] = {}
    for lease in leases:
        for demand, amount in zip(lease.demands, lease.amounts, strict=True):
            if amount:
                name = lease.id if demand.allowance.kind is Kind.LEASE else f"{amount}|{lease.id}"
                members.setdefault(demand.key, (demand, []))[1].append(name.encode())
    for demand, names in members.values():
        rest = iter(names)
        while piece := list(islice(rest, _PIECE)):
            yield _keys(demand), [b"%d" % len(piece), *piece]


def _ago_ms(at: float) -> int:
    return int((asyncio.get_running_loop().time() - at) * 1000)


def _keys(demand: Demand) -> list[bytes]:
    return [demand.key.encode(), f"{demand.key}:held".encode()]


def _answer(reply: list[int]) -> Answer:
    figures = tuple(
        Figure(reply[at], reply[at + 1], overrun=reply[at + 2] == 1, unknown=reply[at + 2] == 2, used=reply[at + 3])
        for at in range(3, len(reply), 4)
    )
    return Answer(figures, reply[1] - 1 if reply[1] else None, reply[2])


def _unavailable(reply: Reply) -> Unavailable:
    kind = NotDone if isinstance(reply, NotSent | RedisRefused) else Unavailable
    return kind(f"limits cannot be counted: {reply}")


if TYPE_CHECKING:
    _promised: type[ports.Holds] = RedisHolds

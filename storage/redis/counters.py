"""Request rates in Redis: every take of one loop iteration travels in one EVALSHA, and stays exact across processes.

Equal requests (the same charges) are one group in the script: a hot key costs Redis the same for one request as for
fifty. A group's first requests are admitted, the later ones refused; each is told what was left after it.
"""

import asyncio
import hashlib
from importlib import resources

from policies.limits import FREE, Charge, Level, Taken
from storage.ports import Unavailable
from storage.redis.wire import Address, RedisRefused, Wire, encode

_SCRIPT = resources.files(__package__).joinpath("take.lua").read_bytes()
_DIGEST = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()


class _Group:
    """Equal requests that wait for the same answer."""

    __slots__ = ("charges", "waiting")

    def __init__(self, charges: tuple[Charge, ...]) -> None:
        self.charges = charges
        self.waiting: list[asyncio.Future[Taken]] = []


class RedisCounters:
    """The Counters port over one connection, which is opened when first needed and again after it broke.

    ``timeout`` in seconds bounds a take from call to answer: a Redis that is slow is a Redis that is down.
    """

    def __init__(self, url: str, timeout: float = 0.25) -> None:
        self._address = Address.parse(url)
        self._timeout = timeout
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._groups: dict[int, _Group] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._retry_at = 0.0

    async def take(self, charges: tuple[Charge, ...]) -> Taken:
        """See :class:`storage.ports.Counters`. Callers that share one ``charges`` tuple share one group."""
        if not charges:
            return FREE
        loop = asyncio.get_running_loop()
        if not self._groups:
            loop.call_soon(self._flush)
        group = self._groups.get(id(charges))
        if group is None:
            group = self._groups[id(charges)] = _Group(charges)
        future: asyncio.Future[Taken] = loop.create_future()
        group.waiting.append(future)
        return await future

    async def ping(self) -> None:
        """Raises Unavailable when Redis does not answer now."""
        try:
            async with asyncio.timeout(self._timeout):
                wire = await self._connected()
                await wire.ask(encode(b"PING"))
        except (RedisRefused, TimeoutError) as error:
            self._leave(error)
            raise Unavailable(f"Redis cannot be asked: {str(error) or 'no answer in time'}") from error

    async def close(self) -> None:
        """Drop the connection, also one that is being made; takes under way end with Unavailable."""
        if self._connecting is not None:
            await asyncio.wait({self._connecting})
        if self._wire is not None:
            self._wire.close()
        if self._sending:
            await asyncio.wait(self._sending)

    def _flush(self) -> None:
        groups, self._groups = list(self._groups.values()), {}
        task = asyncio.get_running_loop().create_task(self._send(groups))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, groups: list[_Group]) -> None:
        keys, arguments = _pack(groups)
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._run(keys, arguments)
        except (Unavailable, RedisRefused, TimeoutError) as error:
            self._leave(error)
            refusal = Unavailable(f"limits cannot be counted: {str(error) or 'Redis does not answer in time'}")
            refusal.__cause__ = error
            for group in groups:
                for future in group.waiting:
                    if not future.done():
                        future.set_exception(refusal)
            return
        _hand_out(groups, reply)

    def _leave(self, error: Exception) -> None:
        """Give a connection up that hangs, or leads to a server that was demoted: its name may lead elsewhere now."""
        if self._wire is not None and (isinstance(error, TimeoutError) or str(error).startswith("READONLY")):
            self._wire.close()

    async def _run(self, keys: list[bytes], arguments: list[bytes]) -> list[int]:
        words = (_DIGEST, b"%d" % len(keys), *keys, *arguments)
        wire = await self._connected()
        try:
            reply = await wire.ask(encode(b"EVALSHA", *words))
        except RedisRefused as error:
            if not str(error).startswith("NOSCRIPT"):  # SCRIPT FLUSH, or a restarted server
                raise
            reply = await wire.ask(encode(b"EVAL", _SCRIPT, *words[1:]))
        assert isinstance(reply, list)
        return reply

    async def _connected(self) -> Wire:
        """The open connection; concurrent callers share one attempt, and a dead server is not tried on every tick."""
        if self._wire is not None and self._wire.is_open:
            return self._wire
        loop = asyncio.get_running_loop()
        if self._connecting is None:
            if loop.time() < self._retry_at:
                raise Unavailable("Redis could not be reached a moment ago")
            self._connecting = loop.create_task(self._connect())
            self._connecting.add_done_callback(_heard)
        await asyncio.shield(self._connecting)
        assert self._wire is not None
        return self._wire

    async def _connect(self) -> None:
        try:
            self._wire = await Wire.connect(self._address, self._timeout)
        except Unavailable:
            self._retry_at = asyncio.get_running_loop().time() + self._timeout
            raise
        finally:
            self._connecting = None


def _heard(task: asyncio.Task[None]) -> None:
    """Mark the exception of an attempt as seen, whose every waiter may have given up by now."""
    if not task.cancelled():
        task.exception()


def _pack(groups: list[_Group]) -> tuple[list[bytes], list[bytes]]:
    """KEYS and ARGV of the script."""
    places: dict[str, int] = {}
    arguments = []
    for group in groups:
        arguments += [b"%d" % len(group.waiting), b"%d" % len(group.charges)]
        for charge in group.charges:
            place = places.setdefault(charge.key, len(places) + 1)
            arguments += [b"%d" % place, b"%d" % (charge.rate.period_ms * 1000), b"%d" % charge.rate.count]
    return [key.encode() for key in places], arguments


def _hand_out(groups: list[_Group], reply: list[int]) -> None:
    """Give every waiting request its own answer."""
    at = 0
    for group in groups:
        admitted, refusing, retry_ms = reply[at : at + 3]
        levels = [
            (charge, reply[at + 3 + 2 * place], reply[at + 4 + 2 * place]) for place, charge in enumerate(group.charges)
        ]
        at += 3 + 2 * len(group.charges)
        for number, future in enumerate(group.waiting, start=1):
            if future.done():
                continue
            behind = max(admitted - number, 0)
            told = tuple(Level(charge, left + behind, reset) for charge, left, reset in levels)
            if number <= admitted:
                future.set_result(Taken(told))
            else:
                future.set_result(Taken(told, group.charges[refusing - 1], retry_ms))

"""A connection that is opened when first needed and again after it broke, and the scripts that are run over it."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources

from storage.ports import Unavailable
from storage.redis.wire import Address, Deliver, NotSent, RedisRefused, Reply, Wire, encode

Use = Callable[[Wire | Unavailable], None]


class Line:
    """``timeout`` in seconds bounds everything that is asked: a Redis that is slow is a Redis that is down.

    A dead one is not tried again on every tick, but at most once a ``timeout``.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self.wire: Wire | None = None
        self.is_cluster = False
        """Whether the server that answered last is a node of a cluster."""
        self._connecting: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self._parked: list[Use] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self.wire is not None and self.wire.is_open

    def use(self, deliver: Use) -> None:
        """Have ``deliver`` called with the open connection: now, or when there is one, or with why there is none."""
        if self.wire is not None and self.wire.is_open:
            deliver(self.wire)
            return
        loop = asyncio.get_running_loop()
        if self._connecting is None and loop.time() < self._retry_at:
            deliver(NotSent("Redis could not be reached a moment ago"))
            return
        self._parked.append(deliver)
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect())

    async def ping(self) -> None:
        """Raises Unavailable when Redis does not answer now."""
        if self.wire is None or not self.wire.is_open:
            (await Wire.connect(self._address, self._timeout)).close()  # its greeting was the question
            return
        try:
            await self.wire.ask(encode(b"PING"))
        except RedisRefused as error:
            raise Unavailable(f"Redis refuses to answer: {error}") from error

    async def close(self) -> None:
        """Drop the connection, also one that is being made. What is under way ends with Unavailable."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._tell(NotSent("the limiter is closing"))
        if self.wire is not None:
            self.wire.close()

    async def _connect(self) -> None:
        try:
            wire = await Wire.connect(self._address, self._timeout)
            with contextlib.suppress(RedisRefused):  # a user who may not ask: then it is taken for a single server
                self.is_cluster = "cluster_enabled:1" in str(await wire.ask(encode(b"INFO", b"cluster")))
            self.wire = wire
        except Unavailable as error:
            self._retry_at = asyncio.get_running_loop().time() + self._timeout
            self._connecting = None
            self._tell(NotSent(str(error)))
        else:
            self._connecting = None
            self._tell(self.wire)
        finally:
            self._connecting = None

    def _tell(self, what: Wire | Unavailable) -> None:
        parked, self._parked = self._parked, []
        for deliver in parked:
            deliver(what)


class Script:
    """A Lua script that ships with this package, called by its digest.

    A server that does not know it is sent it whole, behind what was sent meanwhile; with ``in_order`` it always is, and
    at once.
    """

    def __init__(self, text: bytes, *, in_order: bool = False) -> None:
        self.text = text
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self._call = (b"EVAL", text) if in_order else (b"EVALSHA", digest)

    @classmethod
    def named(cls, name: str, *, in_order: bool = False) -> "Script":
        """The one in a file beside this one."""
        return cls(resources.files(__package__).joinpath(name).read_bytes(), in_order=in_order)

    def run(
        self, wire: Wire, keys: Sequence[bytes], arguments: Sequence[bytes], deliver: Deliver, *,
        before: bytes = b"", soon: bool = False,
    ) -> None:  # fmt: skip
        """``deliver`` gets the reply, or RedisRefused or Unavailable. ``before`` is a command that goes first.

        ``soon`` as with :meth:`Wire.send`.
        """
        words = (b"%d" % len(keys), *keys, *arguments)

        def know_script(reply: Reply) -> None:
            if isinstance(reply, RedisRefused):
                if str(reply).startswith("NOSCRIPT"):  # SCRIPT FLUSH, or a server that restarted
                    if before:
                        wire.send(before, _ignore)
                    wire.send(encode(b"EVAL", self.text, *words), deliver)
                    return
                if str(reply).startswith("READONLY"):  # demoted: by now the name may lead to another server
                    wire.close()
            deliver(reply)

        if before:
            wire.send(before, _ignore, soon=soon)
        wire.send(encode(*self._call, *words), know_script, soon=soon)


def _ignore(_: Reply) -> None:
    """What follows tells whether it worked."""

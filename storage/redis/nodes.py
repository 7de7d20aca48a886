"""Redis, be it one server or a cluster: a script goes to the node that has its keys.

A cluster (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/) is learnt from its redirections:
whoever is asked says who has a slot, and is believed until that node cannot be reached or says otherwise.
"""

import binascii
from collections.abc import Sequence
from dataclasses import replace

from storage.ports import Unavailable
from storage.redis.line import Line, Script
from storage.redis.wire import Address, Deliver, RedisRefused, Reply, Wire, encode

_SLOTS = 16_384
_HOPS = 5
_ASKING = encode(b"ASKING")


class Nodes:
    """``main`` is the server that the URL names; the only one, unless it belongs to a cluster."""

    def __init__(self, url: str, timeout: float) -> None:
        self._address = Address.parse(url)
        self._timeout = timeout
        self.main = Line(self._address, timeout)
        self._others: dict[tuple[str, int], Line] = {}
        self._slots: dict[int, Line] = {}

    @property
    def is_cluster(self) -> bool:
        """Whether keys of one command must share a slot. Known once there was a connection."""
        return self.main.is_cluster

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], deliver: Deliver) -> None:
        """At the end of this loop iteration. ``deliver`` gets the reply, or RedisRefused or Unavailable.

        All keys have one hash tag.
        """
        self._run(self._line(keys[0]), script, keys, arguments, deliver, _HOPS)

    async def ping(self) -> None:
        """Raises Unavailable when Redis does not answer now."""
        await self.main.ping()

    async def close(self) -> None:
        """Drop every connection."""
        for line in (self.main, *self._others.values()):
            await line.close()

    def _line(self, key: bytes) -> Line:
        if not self.is_cluster:
            return self.main
        known = self._slots.get(slot_of(key))
        if known is not None or self.main.is_open:
            return known or self.main
        return next((line for line in self._others.values() if line.is_open), self.main)

    def _run(
        self, line: Line, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], deliver: Deliver,
        hops: int, *, asking: bool = False,
    ) -> None:  # fmt: skip
        def answered(reply: Reply) -> None:
            told = _redirection(reply) if hops else None
            if told is None:
                if isinstance(reply, Unavailable):
                    self._forget(line)
                deliver(reply)
                return
            kind, slot, host, port = told
            other = self._node(host or self._address.host, port)
            if kind == "MOVED":
                self._slots[slot] = other
            self._run(other, script, keys, arguments, deliver, hops - 1, asking=kind == "ASK")

        def over(wire: Wire | Unavailable) -> None:
            if isinstance(wire, Unavailable):
                answered(wire)
                return
            script.run(wire, keys, arguments, answered, before=_ASKING if asking else b"", soon=True)

        line.use(over)

    def _node(self, host: str, port: int) -> Line:
        if (host, port) == (self._address.host, self._address.port):
            return self.main
        line = self._others.get((host, port))
        if line is None:
            line = self._others[host, port] = Line(replace(self._address, host=host, port=port), self._timeout)
        return line

    def _forget(self, line: Line) -> None:
        """It cannot be asked: whoever took its slots over is found by asking another one."""
        if line is not self.main:
            self._slots = {slot: known for slot, known in self._slots.items() if known is not line}


def slot_of(key: bytes) -> int:
    """The hash slot of a key: of its hash tag, where it has one."""
    _, brace, rest = key.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if brace and end and tag else key, 0) % _SLOTS


def _redirection(reply: Reply) -> tuple[str, int, str, int] | None:
    """``MOVED 3999 127.0.0.1:6381``, or the same with ASK."""
    if not isinstance(reply, RedisRefused):
        return None
    kind, _, rest = str(reply).partition(" ")
    slot, _, address = rest.partition(" ")
    host, _, port = address.rpartition(":")
    if kind not in ("MOVED", "ASK") or not slot.isdecimal() or not port.isdecimal():
        return None
    return kind, int(slot), host.strip("[]"), int(port)

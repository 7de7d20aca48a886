"""The connections to one address of an upstream: made, kept while they rest, given up when their time is over.

Deadlines are looked at twice a second by one ticker for all connections, which is what a timer per request would cost
at full load.
"""

import asyncio
import errno
import ssl
from collections.abc import Sequence
from functools import partial

from gateway.configuration.origin import Origin, bracketed
from gateway.outbox import Outbox
from gateway.upstreams.answer import Familiar
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import OutOfFiles, TooSlow, Unreachable
from gateway.upstreams.tls_line import connect_tls
from policies.routing.routes import PORTAL
from policies.routing.upstreams import GOOD, Health

_TICK_S = 0.5
_IDLE_S = 4.0
"""How long an unused connection is kept: below the 5 s after which uvicorn, the usual neighbour, closes its end."""


class UpstreamPool:
    """The connections to one address of the upstream ``name``.

    ``connect_s`` bounds the making of a new one; ``ip`` is the address of a host that is given by name; ``tls`` what an
    https address is verified with (the system's authorities by default), as ``server_name``, which goes into Host too.
    ``credential_line`` is ours, with its line end. ``siblings`` are all addresses of the upstream.
    """

    def __init__(
        self,
        name: str,
        url: str | Origin,
        connect_s: float = 5.0,
        *,
        ip: str = "",
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        credential_line: bytes = b"",
        siblings: Sequence[Origin] = (),
    ) -> None:
        self.name = name
        self.origin = origin = Origin.parse(url) if isinstance(url, str) else url
        self.address = f"unix:{origin.path}" if origin.path else f"{bracketed(ip or origin.host)}:{origin.port}"
        self.ip = ip
        host = (server_name or origin.authority).encode()
        self.host_line = b"Host: %b\r\n%b" % (host, credential_line)
        self._connect_s = connect_s
        self._server_name = server_name or origin.host
        self._tls = (tls or ssl.create_default_context()) if origin.tls else None
        self.outbox = Outbox()
        self.health: Health = GOOD
        self.is_suspect = False
        # The portal is asked by a name that it never says itself: an identity provider may have it, localhost.
        own = {host, self.address.encode(), *(name for one in (origin, *siblings) for name in one.names)}
        self.familiar = Familiar(frozenset() if name == PORTAL else {name.lower() for name in own})
        self._idle: list[UpstreamConnection] = []
        self._all: set[UpstreamConnection] = set()
        self.others = 0
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """What it has to do now."""
        return len(self._all) - len(self._idle) + self.others

    def idle(self) -> UpstreamConnection | None:
        """The connection that was used last, of those that nobody uses."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises Unreachable, or OutOfFiles."""
        loop = asyncio.get_running_loop()
        origin = self.origin
        make = partial(UpstreamConnection, self)
        self.others += 1
        try:
            async with asyncio.timeout(self._connect_s):
                if origin.path:
                    _, connection = await loop.create_unix_connection(make, origin.path)
                elif self._tls is None:
                    _, connection = await loop.create_connection(make, self.ip or origin.host, origin.port)
                else:
                    connection = make()
                    await connect_tls(
                        connection, self.ip or origin.host, origin.port, context=self._tls, name=self._server_name
                    )
        except (OSError, TimeoutError) as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise OutOfFiles(f"{self.name}: no open file is left for a connection (RLIMIT_NOFILE)") from error
            reason = str(error) or f"no connection within {self._connect_s:g} s"
            raise Unreachable(f"{self.name}: {self.address}: {reason}") from error
        finally:
            self.others -= 1
        self._all.add(connection)
        if self._ticker is None:
            self._ticker = loop.call_later(_TICK_S, self._tick)
        return connection

    def put_back(self, connection: UpstreamConnection) -> None:
        """Keep a clean connection for the next exchange."""
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has closed, or will."""
        self._all.discard(connection)
        if not connection.is_open and connection in self._idle:
            self._idle.remove(connection)

    def close_idle(self) -> int:
        """Give up the connections that nobody uses. How many there were."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        return len(idle)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [c for c in self._all if c.deadline < now or c.end_by < now]:
            connection.fail(TooSlow(f"{self.name}: {self.address}: no answer in time"))
        while self._idle and self._idle[0].idle_since < now - _IDLE_S:
            self._idle.pop(0).close()
        self._ticker = loop.call_later(_TICK_S, self._tick) if self._all else None

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._all):
            connection.close()
        self._idle.clear()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

"""TLS to an upstream, over a connection that is heard to its end.

Servers that refuse an upload answer and hang up with the rest of it unread, which resets the connection. A write that
fails then ends it in the loop's eyes, though the answer lies in the socket. So a protocol of ours stands between the
socket and the loop's TLS, and reads what is left before it passes the bad news on.
"""

import asyncio
import contextlib
import os
import ssl
from typing import cast

from typing_extensions import override

_PIECE = 65_536
"""Bytes read at once of what is left."""


class _Attentive(asyncio.BufferedProtocol):
    """All goes through to ``tls``, a loss after what came before it."""

    def __init__(self, tls: asyncio.BufferedProtocol, transport: asyncio.Transport) -> None:
        self._tls = tls
        self._descriptor = transport.get_extra_info("socket").fileno()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return cast("memoryview", self._tls.get_buffer(sizehint))

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._tls.buffer_updated(nbytes)

    @override
    def eof_received(self) -> bool | None:
        return self._tls.eof_received()

    @override
    def pause_writing(self) -> None:
        self._tls.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._tls.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            with contextlib.suppress(OSError):
                while size := os.readv(self._descriptor, [self._tls.get_buffer(_PIECE)]):
                    self._tls.buffer_updated(size)
        self._tls.connection_lost(exc)


async def connect_tls(protocol: asyncio.Protocol, host: str, port: int, *, context: ssl.SSLContext, name: str) -> None:
    """Connect to a server that is verified as ``name``; then ``protocol`` is told. Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
    secured = await loop.start_tls(transport, protocol, context, server_hostname=name)
    assert secured is not None
    transport.set_protocol(_Attentive(cast("asyncio.BufferedProtocol", transport.get_protocol()), transport))
    protocol.connection_made(secured)

"""Wound: a connection that ends with something unread is reset, and the reset can eat the answer (RFC 9112, 9.6).

So where a client has sent more than will be answered, it is told that nothing follows, and read on.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.gateway.harness import Gateway, Options, running
from tests.storage.waiting import until
from tests.wounds.wire import answers, last, request

HANDSHAKE = (
    b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OUFCQ0RFRg==",
)  # fmt: skip


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stays for as long as its client wants to look at it."""
    monkeypatch.setattr("gateway.dataplane.delivery.LINGER_S", 300.0)


@contextlib.asynccontextmanager
async def asked(gateway: Gateway, data: bytes) -> AsyncIterator[tuple[bytes, socket.socket]]:
    """All that is answered until the gateway says that nothing follows, and the socket, whose other half is open."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(client, data)
        got = b""
        async with asyncio.timeout(30):
            while piece := await loop.sock_recv(client, 65_536):
                got += piece
        yield got, client


async def is_heard(client: socket.socket) -> bool:
    """Whether the other end takes what is sent now. Otherwise a reset answers it, within one machine at once."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await loop.sock_sendall(client, b"GET /more HTTP/1.1\r\n")
        await asyncio.sleep(0)
    return not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def refused(key: str) -> dict[str, bytes]:
    """What ends a connection, and more behind it."""
    more = request(key, b"GET /v1/models/behind HTTP/1.1")
    upload = request(None, b"POST /v1/listen HTTP/1.1", b"Connection: close", b"Content-Length: 5", body=b"12345")
    return {
        "ambiguous": request(key, b"GET /v1//models HTTP/1.1") + more,
        "the last one": last(key) + more,
        "half a request": last(key) + more[:-9],
        "many": last(key) + more * 200,
        "an upload": upload + more,
        "an upgrade": request(None, b"GET /v1/listen HTTP/1.1", *HANDSHAKE) + b"\x81\x80abcd" * 20,
    }


@pytest.mark.parametrize("case", ["ambiguous", "the last one", "half a request", "many", "an upload", "an upgrade"])
async def test_what_comes_behind_the_last_answer_is_read_on(gateway: Gateway, case: str) -> None:
    async with asked(gateway, refused(gateway.key)[case]) as (got, client):
        assert answers(got)[-1]["connection"] == "close"
        assert await is_heard(client)
    await until(lambda: not gateway.metrics.connections)
    assert "/v1/models/behind" not in [seen.target for seen in gateway.upstream.seen]


async def test_who_sends_nothing_more_is_let_go_at_once(gateway: Gateway) -> None:
    async with asked(gateway, last(gateway.key)) as (got, _):
        assert answers(got)[0].status == 200
        await until(lambda: not gateway.metrics.connections)


async def test_who_is_turned_away_reads_why_whenever_it_sends() -> None:
    """Some of them: in a flood there are more than files, and the others are cut short."""
    async with running(Options(most=4, most_per_address=1)) as gateway:
        _, held = await asyncio.open_connection("127.0.0.1", gateway.port)
        await until(lambda: gateway.metrics.connections == 1)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                got, client = await stack.enter_async_context(asked(gateway, b""))
                assert answers(got)[0].code == "too_many_connections"
                assert await is_heard(client)
            assert len(gateway.server.leaving) == 4
            async with asked(gateway, b"") as (got, _):
                assert answers(got)[0].code == "too_many_connections"
            assert len(gateway.server.leaving) == 4
        await until(lambda: not gateway.server.leaving)
        held.close()

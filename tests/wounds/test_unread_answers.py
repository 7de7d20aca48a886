"""A client that sends and never reads (D-03): its answers do not pile up in the gateway, and it is let go."""

import asyncio
import socket

import pytest

from gateway.dataplane import delivery
from tests.gateway.harness import Gateway


@pytest.mark.parametrize("close", [False, True])
async def test_answers_that_nobody_reads_are_bounded_and_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, close: bool
) -> None:
    """Pipelined refusals cost the sender nothing; they must cost the gateway little, and not for ever."""
    monkeypatch.setattr(delivery, "UNREAD_S", 0.2)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", gateway.port))
    one = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + (b"Connection: close\r\n" if close else b"") + b"\r\n"
    sending = asyncio.ensure_future(loop.sock_sendall(client, one * 100_000))  # noqa: TID251  ends below
    try:
        async with asyncio.timeout(30):
            while gateway.server.connections or not gateway.lines:  # noqa: ASYNC110  its end has no event here
                await asyncio.sleep(0.05)
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        client.close()
    assert len(gateway.lines) < 20_000


async def test_a_client_that_pipelines_leaves_the_others_their_turn(gateway: Gateway) -> None:
    """Thousands of refusals in one piece do not stand between another client and its answer."""
    one = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(one * 2_000)
    swallowing = asyncio.ensure_future(reader.read(-1))  # noqa: TID251  ends below
    while not gateway.metrics.denials:  # noqa: ASYNC110  until the first of them is served
        await asyncio.sleep(0)
    assert (await gateway.ask()).status == 200
    assert gateway.metrics.denials[("missing_credential",)] < 2_000
    swallowing.cancel()
    await asyncio.wait({swallowing})
    writer.close()

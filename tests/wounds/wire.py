"""Requests as bytes, ways of sending them, and the answers of a connection told apart."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

import pytest

from tests.gateway.harness import Answer, Gateway, Seen

SMUGGLED = "/v1/models/smuggled"
"""The target of the request that is hidden in bodies: once the upstream has seen it, the wound is open."""

HERE = ipaddress.ip_network("127.0.0.0/8")
"""Trusting this network trusts the test's own connections."""

Send = Callable[[Gateway, bytes], Awaitable[bytes]]


def request(
    key: str | None,
    line: bytes = b"GET /v1/models HTTP/1.1",
    *fields: bytes,
    body: bytes = b"",
    host: bytes = b"Host: gateway.test",
) -> bytes:
    """One request. Nothing is added but Host and, with a key, the credential: framing is the test's business."""
    credential = [b"Authorization: Bearer " + key.encode()] if key is not None else []
    return b"\r\n".join([line, host, *credential, *fields, b"", b""]) + body


def smuggled(key: str) -> bytes:
    """A whole good request, to be hidden where a body should be."""
    return request(key, f"GET {SMUGGLED} HTTP/1.1".encode())


def last(key: str) -> bytes:
    """A good request that ends the connection: how a test sees that the one before it was framed as it should be."""
    return request(key, b"GET /v1/models/next HTTP/1.1", b"Connection: close")


def answers(data: bytes) -> list[Answer]:
    """Every whole answer of a connection, in order; an interim one is an answer too."""
    found = []
    while data:
        answer = Answer.parse(data)
        data = answer.body if answer.status < 200 else answer.rest
        found.append(answer)
    return found


def statuses(data: bytes) -> list[int]:
    """The statuses of :func:`answers`."""
    return [answer.status for answer in answers(data)]


def targets(gateway: Gateway) -> list[str]:
    """What the upstream was asked for, in order."""
    return [seen.target for seen in gateway.upstream.seen]


async def whole(gateway: Gateway, data: bytes) -> bytes:
    """All in one segment."""
    return await in_pieces(gateway, [data])


async def byte_by_byte(gateway: Gateway, data: bytes) -> bytes:
    """Every byte a segment of its own, so that a parser has to stop and resume everywhere."""
    return await in_pieces(gateway, [data[i : i + 1] for i in range(len(data))])


async def in_pieces(gateway: Gateway, pieces: Sequence[bytes]) -> bytes:
    """Send piece by piece while reading; all that came until the gateway closed the connection, cleanly or not."""
    before = gateway.server.connections
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    collected = bytearray()
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            collecting = group.create_task(_collect(reader, collected))
            while gateway.server.connections == before:  # noqa: ASYNC110  until accepted, lest pieces be read as one
                await asyncio.sleep(0)
            for piece in pieces:
                if collecting.done() or writer.is_closing():
                    break
                writer.write(piece)
                for _ in range(2):  # turns of the loop that both ends run in: one to be told, one to read
                    await asyncio.sleep(0)
    finally:
        writer.close()
    return bytes(collected)


async def _collect(reader: asyncio.StreamReader, into: bytearray) -> None:
    try:
        while piece := await reader.read(65_536):
            into += piece
    except ConnectionError:
        return  # cut off: what came before counts


def held_back(gateway: Gateway) -> asyncio.Event:
    """The upstream answers what it was asked as soon as this is set."""
    go, respond = asyncio.Event(), gateway.upstream.respond

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        await go.wait()
        await respond(reader, writer, seen)

    gateway.upstream.respond = late
    return go


sent_both_ways = pytest.mark.parametrize("send", [whole, byte_by_byte])
"""Runs a test with the request whole, and split at every byte."""

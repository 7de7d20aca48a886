"""Wound: a body of crumbs (D-06; aiohttp CVE-2025-69229, Go CVE-2023-39326): much work, or much room, for few bytes."""

import asyncio
import os

from tests.gateway.harness import Gateway
from tests.storage.waiting import until
from tests.wounds.wire import in_pieces, request, statuses

POST = b"POST /v1/listen HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


async def test_a_body_of_crumbs_leaves_the_others_their_turn(gateway: Gateway) -> None:
    """So many chunks of one byte arrive whole, and another client is served in their midst."""
    count = 20_000 if os.environ.get("AIOHTTP_NO_EXTENSIONS") else 200_000  # the pure-Python parser has its time too
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, CHUNKED, b"Connection: close") + b"1\r\nx\r\n" * count)
    await until(lambda: gateway.upstream.connections > 0)
    async with asyncio.timeout(30):
        assert (await gateway.ask()).status == 200
    writer.write(b"0\r\n\r\n")
    assert statuses(await reader.read()) == [200]
    writer.close()
    assert [len(seen.body) for seen in gateway.upstream.seen] == [0, count]


async def test_chunk_extensions_take_no_room(gateway: Gateway) -> None:
    """A megabyte of extension: refused, or read and forgotten; it is nobody's body and is not passed on."""
    for extension in (b";" + b"a" * 1_000_000, b";a=b" * 250_000, b';a="' + b"b" * 1_000_000 + b'"'):
        gateway.upstream.seen.clear()
        data = request(gateway.key, POST, CHUNKED, b"Connection: close")
        got = statuses(await gateway.raw(data + b"1" + extension + b"\r\nx\r\n0\r\n\r\n"))
        assert got in ([200], [400], [431])
        assert [seen.body for seen in gateway.upstream.seen] == ([b"x"] if got == [200] else [])
        assert not any(b"aaaa" in seen.head or b";a=b" in seen.head for seen in gateway.upstream.seen)


async def test_a_trailer_without_end_is_cut_off(gateway: Gateway) -> None:
    """Trailers have the bounds of a header (aiohttp CVE-2026-22815)."""
    data = request(gateway.key, POST, CHUNKED, b"Connection: close", body=b"1\r\nx\r\n0\r\n")
    got = await in_pieces(gateway, [data, *[b"X-A: b\r\n" * 1_000] * 100, b"\r\n"])
    assert statuses(got) in ([400], [431], [])
    assert not gateway.upstream.seen

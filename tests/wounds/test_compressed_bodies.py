"""Wound: a bomb that we unpack ourselves (D-07; aiohttp's server decompresses by default)."""

import gzip
import zlib

import pytest

from policies.routing.route_table import RouteTable
from tests.gateway.harness import Options, running

PLAIN = bytes(5_000_000)
PACKED = {
    "gzip": gzip.compress(PLAIN, mtime=0),  # the same in every process: it is in the tests' names
    "deflate": zlib.compress(PLAIN),
    "br": b"\x8b\x02\x80",
    "zstd": b"(\xb5/\xfd",
}
ROUTES = RouteTable.compile({
    "routes": [
        {"name": "any", "path": "/any", "methods": ["POST"], "scope": "transcribe", "max_body": 20_000},
        {"name": "metered", "path": "/metered", "methods": ["POST"], "scope": "transcribe", "meter": "raw"},
    ]
})  # fmt: skip


@pytest.mark.parametrize("coding", PACKED)
async def test_a_packed_body_passes_packed_or_not_at_all(coding: str) -> None:
    """The bytes on the wire are what counts and what goes on; where audio must be walked it is 415."""
    async with running(Options(routes=ROUTES)) as gateway:
        fields = [("Content-Encoding", coding)]
        assert (await gateway.ask("POST", "/any", fields, PACKED[coding])).status == 200
        assert (await gateway.ask("POST", "/metered", fields, PACKED[coding])).status == 415
        (seen,) = gateway.upstream.seen
        assert (seen.body, seen.all("content-encoding")) == (PACKED[coding], [coding])
        assert gateway.journal.records[0].bytes_in == len(PACKED[coding])


@pytest.mark.parametrize("body", [PACKED["gzip"][:50], b"no gzip at all"], ids=["cut", "none"])
async def test_a_broken_packing_is_the_upstreams_to_judge(body: bytes) -> None:
    """Never a 500 of ours."""
    async with running(Options(routes=ROUTES)) as gateway:
        assert (await gateway.ask("POST", "/any", [("Content-Encoding", "gzip")], body)).status == 200
        assert gateway.upstream.seen[0].body == body

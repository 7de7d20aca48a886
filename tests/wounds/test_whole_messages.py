"""The class of wounds as a property: whatever bytes arrive, the upstream gets what was judged, or nothing.

Requests are put together from plain and odd lines and bodies, several on one connection, cut at random places; then
random bytes are changed. Anonymous callers may use ``/open…`` alone, and the key of ``ten_a`` is on some requests.
"""

import itertools
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.configuration.patience import Patience
from policies.http.inquiry import is_plain_path
from policies.http.verdict import Deny
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from tests.gateway.harness import Gateway, Options, running
from tests.wounds.wire import answers, in_pieces

KEY = b"Authorization: Bearer KEY"
LINES = [
    b"GET /open HTTP/1.1", b"GET /open/x HTTP/1.1", b"POST /open HTTP/1.1", b"GET /closed HTTP/1.1",
    b"POST /closed HTTP/1.1", b"GET /open/../closed HTTP/1.1", b"GET //closed HTTP/1.1", b"GET /open HTTP/1.0",
    b"GET http://gateway.test/closed HTTP/1.1", b"GET /open/%2e%2e HTTP/1.1", b"POST /open?a=/closed HTTP/1.1",
    b"get /open HTTP/1.1", b"GET /open HTTP/2.0", b"GET /open", b"TRACE /open HTTP/1.1",
]  # fmt: skip
FIELDS = [
    KEY, b"Content-Length: 5", b"Content-Length: 0", b"content-length: 05", b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer_Encoding: chunked", b"Content_Length: 5", b"Connection: close", b"Connection: keep-alive, X-Tenant-ID",
    b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"X-Tenant-ID: ten_b", b"X_TENANT_ID: ten_b",
    b"X-Tenant.ID: ten_b", b"X-A: b\r\n\tc", b"X-A : b", b"X-Forwarded-For: 6.6.6.6", b"Host: evil.test", b"X-A: \xff",
    b"TE: trailers", b"Trailer: X-Tenant-ID", b"X-User-ID:", b"Cookie: a=b",
]  # fmt: skip
BODIES = [
    b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX-Tenant-ID: ten_b\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n", b"zz\r\n",
]  # fmt: skip
_request = st.builds(
    lambda line, fields, body: b"\r\n".join([line, b"Host: gateway.test", *fields, b"", b""]) + body,
    st.sampled_from(LINES),
    st.lists(st.sampled_from(FIELDS), max_size=4),
    st.sampled_from(BODIES),
)
_changes = st.lists(st.tuples(st.integers(0, 600), st.sampled_from(b"\r\n\t\0 :;,/.%#xX5\x80\xff")), max_size=2)
_cuts = st.lists(st.integers(1, 600), max_size=3)
END = b"GET /open/end HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"
TABLE = RouteTable.compile({
    "routes": [
        {"name": "open", "path": "/open", "methods": ["GET", "POST"], "access": "public", "idle_s": 0.1},
        {"name": "open.one", "path": "/open/{a}", "methods": ["GET"], "access": "public"},
        {"name": "closed", "path": "/closed", "methods": ["GET", "POST"], "scope": "transcribe", "idle_s": 0.1},
    ]
})  # fmt: skip


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(Options(routes=TABLE, patience=Patience(header_s=0.1, idle_s=0.1))) as made:
        yield made


class Spy:
    """The table, and what was judged by it."""

    exact = TABLE.exact

    def __init__(self) -> None:
        self.allowed: list[tuple[str, str, str]] = []

    def match(self, method: str, path: str) -> Route | Deny:
        found = TABLE.match(method, path)
        if isinstance(found, Route):
            self.allowed.append((method, path, found.name))
        return found


@given(requests=st.lists(_request, min_size=1, max_size=3), changes=_changes, cuts=_cuts)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_upstream_gets_what_was_judged_or_nothing(
    gateway: Gateway, requests: list[bytes], changes: list[tuple[int, int]], cuts: list[int]
) -> None:
    """P-15, S-04, H-01: path byte for byte, framing of ours, identity of ours, and never an answer that breaks HTTP."""
    data = bytearray(b"".join(requests).replace(b"KEY", gateway.key.encode()) + END)
    for place, byte in changes:
        data[place % len(data)] = byte
    edges = sorted({0, *(cut % len(data) for cut in cuts), len(data)})
    gateway.upstream.seen.clear()
    spy = Spy()
    gateway.proxy._gatekeeper.routes = spy
    got = await in_pieces(gateway, [bytes(data[a:b]) for a, b in itertools.pairwise(edges)])
    assert all(answer.status < 500 or answer.status == 501 for answer in answers(got))
    judged = iter(spy.allowed)
    for seen in gateway.upstream.seen:
        path = seen.target.partition("?")[0]
        name = next((n for method, judged_path, n in judged if (method, judged_path) == (seen.method, path)), None)
        assert name is not None, "something arrived that was not judged"
        assert path.encode() in data
        assert is_plain_path(path)
        assert_well_framed(seen.head)
        who = [v for n, v in seen.headers if re.sub(rb"[_.]", b"-", n.lower()) in (b"x-tenant-id", b"x-user-id")]
        assert who == ([b"ten_a", b"usr_a"] if name == "closed" else [])


def assert_well_framed(head: bytes) -> None:
    """One reading: no stray line end, at most one framing header, one Host, nothing hop-by-hop."""
    lines = head[:-4].split(b"\r\n")[1:]
    assert not any(set(line) & set(b"\r\n\0") for line in lines)
    names = [re.sub(rb"[_.]", b"-", line.partition(b":")[0].lower()) for line in lines]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert names.count(b"host") == 1
    assert not {b"connection", b"upgrade", b"te", b"trailer", b"expect", b"cookie", b"authorization"} & set(names)

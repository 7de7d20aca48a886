"""Wound: Host, or an absolute target, poisons what is made of it (Starlette CVE-2026-48710, LiteLLM CVE-2026-49468)."""

import pytest

from tests.gateway.harness import Answer, Gateway
from tests.wounds.wire import Send, answers, in_pieces, request, sent_both_ways, targets

ODD = [
    b"a/public?x=", b"gw/public#", b"user@evil.test", b"user:pw@evil.test", b"", b" ", b"a b", b"a, b", b"gw:99999",
    b"gw:65536",
    b"gw:-1", b"gw:8o", b"gw:", b"[::1", b"::1", b"[::1]x", b"[::1]:99999", b"evil.test\\@gw", b"gw\x00",
    b"gw\t.test", b"gw%00",
    b"gw%2eevil", b"-gw", b"gw-", b".gw", b"gw..test", b"gw_", b"\xc3\xa9.test", b"\xff", b"gw;x", b"gw'",
    b"<script>", b"*", b"a" * 400 + b"/",
    b"http://gw", b"gw:80:80", b"gw,evil.test", b"gw?", b"gw#", b"gw/", b"//gw", b"1.2.3.4/8",
]  # fmt: skip
PLAIN = [
    b"gw", b"GW.test", b"gw.test.", b"gw.test:443", b"gw:0", b"gw:65535", b"127.0.0.1:9200", b"[::1]",
    b"[2001:db8::1]:9200",
    b"xn--bcher-kva.test", b"a_b.test", b"9200",
]  # fmt: skip


@sent_both_ways
@pytest.mark.parametrize("host", ODD, ids=lambda host: ascii(host[:30])[2:-1])
async def test_a_host_that_is_not_plain_is_refused(gateway: Gateway, send: Send, host: bytes) -> None:
    """P-13: 400, never 500, and its text is not repeated."""
    (answer,) = answers(await send(gateway, request(gateway.key, host=b"Host: " + host)))
    assert answer.status == 400
    assert not gateway.upstream.seen
    assert b"evil" not in answer.body


@pytest.mark.parametrize("host", PLAIN, ids=lambda host: host.decode())
async def test_a_plain_host_passes_and_changes_no_decision(gateway: Gateway, host: bytes) -> None:
    """P-10: one rule for every spelling; the upstream is the configured one, and is told what the client wrote."""
    data = await gateway.raw(
        request(gateway.key, b"GET /v1/models HTTP/1.1", b"Connection: close", host=b"Host: " + host)
    )
    assert Answer.parse(data).status == 200
    (seen,) = gateway.upstream.seen
    assert seen.all("host") == [f"127.0.0.1:{gateway.upstream.port}"]
    assert seen.all("x-forwarded-host") == [host.decode()]


@sent_both_ways
@pytest.mark.parametrize(
    "lines",
    [
        [b"Host: gw", b"Host: gw"],
        [b"Host: gw", b"Host: evil.test"],
        [b"Host: gw", b"host: gw"],
        [b"X: y"],
        [b"Host_: gw"],
        [b"Host : gw"],
        [b"Host: gw\r\n evil.test"],
    ],
    ids=lambda lines: ascii(b" ".join(lines))[2:-1],
)
async def test_there_is_exactly_one_host(gateway: Gateway, send: Send, lines: list[bytes]) -> None:
    """RFC 9112 section 3.2: none, two, or a folded one is 400 and ends the connection."""
    head = b"\r\n".join([b"GET /v1/models HTTP/1.1", *lines, b"X-API-Key: " + gateway.key.encode(), b"", b""])
    assert [answer.status for answer in answers(await send(gateway, head))] == [400]
    assert not gateway.upstream.seen


async def test_http_1_0_needs_no_host_but_teaches_the_next_request_nothing(gateway: Gateway) -> None:
    """The same header under another version is judged again: HTTP/1.1 without Host stays 400 on a kept connection."""
    fields = b"X-API-Key: " + gateway.key.encode() + b"\r\nConnection: keep-alive\r\n\r\n"
    old, new = b"GET /nowhere HTTP/1.0\r\n" + fields, b"GET /v1/models HTTP/1.1\r\n" + fields
    assert [answer.status for answer in answers(await in_pieces(gateway, [old, new]))] == [404, 400]
    assert not targets(gateway)


@pytest.mark.parametrize("host", [b"evil.test", b"gateway.test", b"gateway.test:80"])
async def test_an_absolute_target_is_refused_whatever_host_it_names(gateway: Gateway, host: bytes) -> None:
    """P-13, U-01: the configured upstream is the only one, and origin form the only form."""
    got = answers(await gateway.raw(request(gateway.key, b"GET http://" + host + b"/v1/models HTTP/1.1")))
    assert [(answer.status, answer.code) for answer in got] == [(400, "ambiguous_target")]
    assert not gateway.upstream.seen

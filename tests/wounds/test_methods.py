"""Wound: a method that the rule did not think of (Symfony CVE-2026-45075: HEAD bypasses a GET filter)."""

import pytest

from tests.gateway.harness import Gateway
from tests.wounds.wire import Send, answers, request, sent_both_ways, statuses

STRANGE = [
    b"TRACE", b"CONNECT", b"PROPFIND", b"delete", b"Post", b"X" * 200, b"PRI", b"TRACK", b"DEBUG", b"M-SEARCH",
    b"G\xc3\x89T",
    b"GET\x00", b"GET;", b"(GET)", b"G ET", b"", b"\x16\x03\x01",
]  # fmt: skip


@sent_both_ways
@pytest.mark.parametrize("method", STRANGE, ids=lambda method: ascii(method)[2:12])
async def test_a_method_that_no_route_lists_reaches_nothing(gateway: Gateway, send: Send, method: bytes) -> None:
    """P-14: 405 with Allow where a parser knows it, 400 where it does not; never 500, never the upstream."""
    data = request(gateway.key, method + b" /v1/models HTTP/1.1", b"Connection: close")
    (answer,) = answers(await send(gateway, data))
    assert answer.status in (400, 405)
    if answer.status == 405:
        assert answer["allow"] == "GET, HEAD"
    assert not gateway.upstream.seen


@sent_both_ways
@pytest.mark.parametrize("method", [b"get", b"Get", b"gET"])
async def test_a_method_is_what_it_is_judged_as(gateway: Gateway, send: Send, method: bytes) -> None:
    """The pure-Python parser reads ``get`` as GET, the C parser refuses it: judged and sent on as the same word."""
    (answer,) = answers(
        await send(gateway, request(gateway.key, method + b" /v1/models HTTP/1.1", b"Connection: close"))
    )
    assert [seen.method for seen in gateway.upstream.seen] == ([] if answer.status == 400 else ["GET"])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "POST"])
async def test_a_listed_path_takes_its_listed_methods_only(gateway: Gateway, method: str) -> None:
    """P-14: with a good key and without one."""
    for key in ("", None):
        answer = await gateway.ask(method, "/v1/models", key=key)
        assert (answer.status, answer["allow"]) == (405, "GET, HEAD")
    assert not gateway.upstream.seen


async def test_head_obeys_the_rule_of_get(gateway: Gateway) -> None:
    """P-14: refused without a key, with headers alone; where only POST is listed HEAD is 405 as well."""
    refused = await gateway.ask("HEAD", key=None)
    assert (refused.status, refused.body) == (401, b"")
    assert int(refused["content-length"]) > 0
    assert (await gateway.ask("HEAD", "/v1/audio/transcriptions")).status == 405
    assert not gateway.upstream.seen
    assert (await gateway.ask("HEAD")).body == b""
    assert gateway.upstream.seen[0].method == "HEAD"


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE"]
)
async def test_no_header_overrides_the_method(gateway: Gateway, name: str) -> None:
    """P-14: neither here nor at the upstream."""
    assert (await gateway.ask("GET", "/v1/models", [(name, "DELETE")])).status == 200
    assert (await gateway.ask("POST", "/v1/models", [(name, "GET")])).status == 405
    (seen,) = gateway.upstream.seen
    assert seen.method == "GET"
    assert b"override" not in seen.head.lower().replace(b"_", b"-")
    assert b"DELETE" not in seen.head


async def test_methods_do_not_multiply_series(gateway: Gateway) -> None:
    """O-06: what no route lists is counted under one label, however it is spelt."""
    for method in ("PROPFIND", "DELETE", "SEARCH", "LOCK"):
        await gateway.ask(method, "/v1/models")
        await gateway.ask(method, f"/nowhere/{method}")
    for number in range(20):
        await gateway.raw(request(None, b"X%d /v1/models HTTP/1.1" % number, b"Connection: close"))
    assert set(gateway.metrics.routes) == {"(none)"}
    assert {method for method, *_ in gateway.metrics.routes["(none)"].requests} == {"-"}


async def test_connect_gets_no_tunnel(gateway: Gateway) -> None:
    """Neither to the upstream nor anywhere else, in no form of target."""
    for target in (b"evil.test:443", b"127.0.0.1:80", b"/v1/models", b"gateway.test"):
        got = statuses(
            await gateway.raw(request(gateway.key, b"CONNECT " + target + b" HTTP/1.1", b"Connection: close"))
        )
        assert got in ([400], [405])
    assert not gateway.upstream.seen

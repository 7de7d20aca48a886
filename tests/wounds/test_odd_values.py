"""Wound: a header value that the next server reads otherwise (H-12, Envoy CVE-2023-27493: unescaped values)."""

import pytest

from policies.http.headers import identity_lines
from policies.identity.principals import Method, Principal, Standing
from tests.gateway.harness import Gateway
from tests.wounds.wire import Send, answers, request, sent_both_ways

MODELS = b"GET /v1/models HTTP/1.1"
EVEN = [b"b", b"", b"b\tc", b"\xc3\xa9", b"\x80\x85\xa0\xff", b"b" * 8_000, b'"\\', b"a: b", b"=?utf-8?q?=0d=0a?="]
BROKEN = [b"b\x00", b"b\x01", b"b\x0b", b"b\x7f", b"b\x1b[31m", b"b\rc", b"b\nc", b"b\r\r\nc: d"]


@sent_both_ways
@pytest.mark.parametrize("value", EVEN, ids=lambda value: ascii(value[:12])[2:-1])
async def test_a_value_passes_byte_for_byte(gateway: Gateway, send: Send, value: bytes) -> None:
    """H-12: obs-text and tab are values (RFC 9110 section 5.5), and ours to pass on, not to read."""
    await send(gateway, request(gateway.key, MODELS, b"X-A: " + value, b"Connection: close"))
    (seen,) = gateway.upstream.seen
    assert [v for n, v in seen.headers if n == b"X-A"] == [value]


@sent_both_ways
@pytest.mark.parametrize("value", BROKEN, ids=lambda value: ascii(value)[2:-1])
async def test_a_value_with_controls_is_refused(gateway: Gateway, send: Send, value: bytes) -> None:
    """H-12, S-06: 400; nothing of it is repeated."""
    (answer,) = answers(await send(gateway, request(gateway.key, MODELS, b"X-A: " + value, b"Connection: close")))
    assert answer.status == 400
    assert b"\x1b" not in answer.body
    assert not gateway.upstream.seen


@pytest.mark.parametrize("odd", ["a\r\nX-Admin: 1", "a\x00b", "é", "a\u2028b", "a\tb"])
def test_what_we_say_ourselves_is_plain(odd: str) -> None:
    """H-12: whatever a name in the registry holds, an identity line is one line of visible ASCII."""
    principal = Principal(
        method=Method.API_KEY, standing=Standing.GOOD, tenant_id=odd, tenant_slug=odd, key_id=odd, user_id=odd,
        scopes=frozenset({odd}), roles=(odd,),
    )  # fmt: skip
    for line in identity_lines(principal):
        assert all(0x20 <= byte <= 0x7E for byte in line)

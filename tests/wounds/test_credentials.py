"""Wound: a credential that is nearly one, or two at once (LiteLLM CVE-2026-42208, Zitadel GO-2025-3721, APISIX)."""

import base64

import pytest

from policies.http.credentials import is_well_formed
from policies.identity.principals import Standing
from tests.gateway.harness import Gateway
from tests.wounds.wire import Send, answers, request, sent_both_ways

MODELS = b"GET /v1/models HTTP/1.1"
CLOSE = b"Connection: close"


def near_misses(key: str, other: str) -> list[str]:
    """Everything that looks like a good key and is none."""
    prefix, body = key[:9], key[9:]
    return [
        key[:-1], key[1:], key[:20], prefix, prefix + "0" * 28, key + "0", key + key[-1], "x" + key, key.swapcase(),
        key.upper(), key.lower(), key.replace("live", "test"), prefix + other[9:20] + body[11:], other[:20] + key[20:],
        key[::-1], f"{key},{key}", f"{key} {key}", f"{key};", f"{key}=", f'"{key}"', f"<{key}>",
        f"Bearer {key}"[7:][:-2],
        key.replace("_", "-"), key.replace("thk", "Thk"), f"{key}%00", f"%74{key[1:]}", key[:30] + "\u017f",
    ]  # fmt: skip


async def test_what_is_nearly_a_key_is_no_key(gateway: Gateway) -> None:
    """A-04: 401 invalid_api_key for each; nothing goes on, and the registry is not even asked about most of them."""
    gateway.numbers = 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0
    key = gateway.add_key()
    gateway.numbers = 0xFEDC_BA98_7654_3210_FEDC_BA98_7654_3210  # a key that differs from the first one everywhere
    other = gateway.add_key(tenant_id="ten_b")
    for secret in near_misses(key, other):
        for name in ("Authorization: Bearer ", "X-API-Key: ", "Authorization: "):
            head = request(None, MODELS, (name + secret).encode(), CLOSE)
            (answer,) = answers(await gateway.raw(head))
            assert answer.status == 401, secret
            assert answer.code in ("invalid_api_key", "missing_credential")
    assert not gateway.upstream.seen


JUNK = [
    b"", b" ", b"\t", b"' OR '1'='1", b"'; DROP TABLE api_keys; --", b"%", b"%%", b"_", b"*", b"{}", b'{"a":1}',
    b"null",
    b"undefined", b"true", b"0", b"\xff\xfe", "schl\u00fcssel".encode(), "\u0417".encode(), b"a" * 8_000,
    b"thk_live_", b"thk_",
    b"Bearer", b"bearer bearer", b"Basic dGhrOnRoaw==", b"Digest x", b"Negotiate x", b"eyJhbGciOiJub25lIn0.e30.", b"${jndi:ldap://x}",
    b"../../etc/passwd", b"<script>", b"\xc2\xa0", b"\xe2\x80\xa8", b"()", b"a b c", b"a,b", b"=", b"==",
]  # fmt: skip


@pytest.mark.parametrize(
    "place", [b"Authorization: Bearer ", b"Authorization: ", b"X-API-Key: ", b"authorization:token "]
)
async def test_junk_is_401_in_every_place(gateway: Gateway, place: bytes) -> None:
    """A-06: 401, never 500; the answer repeats none of it."""
    for junk in JUNK:
        (answer,) = answers(await gateway.raw(request(None, MODELS, place + junk, CLOSE)))
        assert answer.status == 401, junk
        assert len(junk) < 8 or junk not in answer.body
    assert not gateway.upstream.seen
    assert gateway.keys.asked == 0


@sent_both_ways
@pytest.mark.parametrize("place", [b"Authorization: Bearer ", b"X-API-Key: "])
@pytest.mark.parametrize("junk", [b"thk\x00", b"\x00", b"thk\x01x", b"thk\x7f", b"thk\rx"])
async def test_controls_in_a_credential_are_no_http(gateway: Gateway, send: Send, place: bytes, junk: bytes) -> None:
    """A-06: 400, as for any other header."""
    assert [a.status for a in answers(await send(gateway, request(None, MODELS, place + junk)))] == [400]
    assert not gateway.upstream.seen


@pytest.mark.parametrize("size", [10_000, 100_000])
@pytest.mark.parametrize("place", [b"Authorization: Bearer ", b"X-API-Key: "])
async def test_a_huge_credential_is_431(gateway: Gateway, place: bytes, size: int) -> None:
    """A-06, A-01: refused before it is looked at, and not repeated."""
    (answer,) = answers(await gateway.raw(request(None, MODELS, place + b"k" * size)))
    assert (answer.status, answer.code) == (431, "request_headers_too_large")
    assert b"kkkk" not in answer.body
    assert not gateway.upstream.seen


def pairs(one: str, two: str) -> dict[str, tuple[list[str], int]]:
    """Two credentials on one request, and the status of the answer."""
    return {
        "the same, both places": ([f"Authorization: Bearer {one}", f"X-API-Key: {one}"], 200),
        "the same, other scheme": ([f"Authorization: Token {one}", f"X-API-Key:  {one}\t"], 200),
        "the same twice": ([f"Authorization: Bearer {one}", f"Authorization: bearer {one}"], 200),
        "the same key header twice": ([f"X-API-Key: {one}", f"x-api-key: {one}"], 200),
        "an empty one beside": ([f"Authorization: Bearer {one}", "X-API-Key: "], 200),
        "an empty scheme beside": (["Authorization: Bearer ", f"X-API-Key: {one}"], 200),
        "two tenants": ([f"Authorization: Bearer {one}", f"X-API-Key: {two}"], 400),
        "two tenants, turned": ([f"X-API-Key: {two}", f"Authorization: Bearer {one}"], 400),
        "two authorizations": ([f"Authorization: Bearer {one}", f"Authorization: Bearer {two}"], 400),
        "two key headers": ([f"X-API-Key: {one}", f"X-API-Key: {two}"], 400),
        "a bad one beside": ([f"Authorization: Bearer {one}", "X-API-Key: nonsense"], 400),
        "another scheme beside": ([f"Authorization: Basic {one}", f"X-API-Key: {one}"], 400),
        "another service's header beside": ([f"Authorization: Bearer {one}", f"api-key: {two}"], 400),
        "another service's header, not for us": ([f"Authorization: Bearer {one}", "api-key: nonsense"], 200),
        "two in Basic": ([f"Authorization: Basic {base64.b64encode(f'{one}:{two}'.encode()).decode()}"], 400),
        "a list": ([f"Authorization: Bearer {one}, Bearer {two}"], 401),
        "a list of keys": ([f"X-API-Key: {one}, {two}"], 401),
        "a list of the same": ([f"X-API-Key: {one}, {one}"], 401),
        "in a cookie only": ([f"Cookie: key={one}; authorization={one}"], 401),
        "under other names": (
            [f"Api_Key: {one}", f"X_API_Key: {one}", f"X-Api.Key: {one}", f"Authorization_: Bearer {one}"],
            401,
        ),
        "for another proxy": ([f"Proxy-Authorization: Bearer {one}"], 401),
    }


@pytest.mark.parametrize("case", pairs("", ""))
async def test_two_credentials_are_one_or_a_conflict(gateway: Gateway, case: str) -> None:
    """H-10: there is no precedence; the same one twice is one; a bad one ends the decision, it never falls through."""
    lines, status = pairs(gateway.key, gateway.add_key(tenant_id="ten_b"))[case]
    (answer,) = answers(await gateway.raw(request(None, MODELS, *(line.encode() for line in lines), CLOSE)))
    assert answer.status == status
    assert [seen.all("x-tenant-id") for seen in gateway.upstream.seen] == ([["ten_a"]] if status == 200 else [])
    if status == 400:
        assert answer.code == "conflicting_credentials"


async def test_a_key_outside_the_header_is_no_key_and_is_not_logged(gateway: Gateway) -> None:
    """A-01: neither in the query nor in the path nor in Referer; what was tried stands in no log line."""
    key = gateway.key
    for target in (
        f"/v1/models?api_key={key}",
        f"/v1/models?access_token={key}",
        f"/v1/models/{key}",
        f"/{key}",
        f"/v1/{key}/x",
    ):
        answer = await gateway.ask("GET", target, [("Referer", f"http://a/?key={key}"), ("User-Agent", key)], key=None)
        assert answer.status in (401, 404)
        assert key.encode() not in answer.body
    beside = await gateway.ask("GET", f"/v1/models/{key}")  # the same key in its header: upstreams have logs, too
    assert (beside.status, beside.code) == (400, "credential_in_query")
    assert not gateway.upstream.seen
    assert len(gateway.lines) == 6
    assert key not in str(gateway.lines)


@pytest.mark.parametrize("agent", ["GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Prometheus/2.0"])
@pytest.mark.parametrize("target", ["/v1/models", "/ping", "/health", "/healthz", "/livez", "/readyz", "/metrics", "/"])
async def test_no_agent_and_no_health_path_is_a_way_in(gateway: Gateway, agent: str, target: str) -> None:
    """H-13, O-05 (oauth2-proxy GHSA-5hvv-m4w4-gf6v): 401, or 404 where nothing is."""
    answer = await gateway.ask("GET", target, [("User-Agent", agent)], key=None)
    assert answer.status == (401 if target == "/v1/models" else 404)
    assert not gateway.upstream.seen


@pytest.mark.parametrize("standing", [s for s in Standing if s is not Standing.GOOD])
async def test_a_credential_that_fell_from_grace_is_refused_though_well_formed(
    gateway: Gateway, standing: Standing
) -> None:
    """A-07: refused at the first request that asks."""
    key = gateway.add_key(standing=standing)
    assert is_well_formed(key.encode())
    assert (await gateway.ask(key=key)).status in (401, 403)
    assert not gateway.upstream.seen

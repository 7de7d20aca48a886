"""What nginx alone does with the shipped ``forward-auth.conf``: internal locations, orders to it, what it claims."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from policies.http.headers import IDENTITY
from policies.limits.rates import Rate
from tests.deploy.tap import SOURCE
from tests.e2e.site import Site
from tests.e2e.test_forward_auth_proxies import CLAIMS
from tests.gateway.harness import Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Site.built("nginx", tmp_path_factory.mktemp("nginx")) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(built: Site) -> AsyncIterator[Site]:
    yield built
    built.forget()


async def test_what_only_a_proxy_may_claim_is_overwritten_on_both_sides(site: Site) -> None:
    """Neither the gateway nor the transcriber hears a client's word on where it comes from or what it asks for."""
    forged = [(name, "/v1/models") for name in CLAIMS]
    refused = await site.edge.ask("POST", "/load", forged)
    assert (refused.status, refused.code) == (404, "unknown_route")
    admitted = await site.edge.ask("GET", "/v1/models?real", forged)
    assert admitted.status == 200
    (seen,) = site.seen
    assert [seen.all(f"X-Forwarded-{name}") for name in ("For", "Proto", "Host")] == [
        ["127.0.0.1"],
        ["http"],
        ["gateway.test"],
    ]
    assert not {claim.lower() for claim in CLAIMS[4:]} & seen.names()
    assert site.gateway.lines[-1]["remote_ip"] == "127.0.0.1"
    heard = [
        tuple(line.split(": ")) for line in site.tap.sent.decode().split("\r\n") if line.startswith("X-Forwarded-")
    ]
    for name, said in (("For", "127.0.0.1"), ("Proto", "http"), ("Host", "gateway.test")):
        assert [value for header, value in heard if header == f"X-Forwarded-{name}"] == [said, said]


async def test_the_transcriber_gives_nginx_no_orders_and_the_client_no_identity(site: Site) -> None:
    """X-Accel-Redirect would have nginx answer with another location; who is asking is none of the client's news."""

    async def order(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /elsewhere\r\nX-Tenant-ID: ten_a\r\nX-Request-ID: theirs\r\n"
        )
        writer.write(b"Content-Length: 2\r\n\r\nhi")

    site.gateway.upstream.respond = order
    answer = await site.edge.ask()
    assert (answer.status, answer.body) == (200, b"hi")
    assert answer["x-request-id"] == site.gateway.lines[-1]["request_id"]
    assert not answer.all("x-tenant-id")
    assert len(site.seen) == 1


async def test_forms_with_a_boundary_and_a_trace_each_are_one_question(site: Site) -> None:
    """What the gateway is asked is the same byte for byte, and so known again; the forms and traces are as sent."""
    kinds = [f"multipart/form-data; boundary={number}" for number in range(3)]
    each = "traceparent", "tracestate", "baggage", "Idempotency-Key"
    for kind in kinds:
        fields = [("Content-Type", kind), *((name, f"of-{kind[-1]}") for name in each)]
        answer = await site.edge.ask("POST", "/v1/audio/transcriptions", fields, b"--")
        assert answer.status == 200
    questions = bytes(site.tap.sent).removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")
    assert questions == questions[:1] * 3
    assert [seen.all("Content-Type") for seen in site.seen] == [[kind] for kind in kinds]
    assert [seen.all(name) for seen in site.seen for name in each] == [[f"of-{n}"] for n in range(3) for _ in each]


@pytest.mark.parametrize(
    "target", ["/auth/verify", "/auth/verify/caddy", "/auth/./verify", "/x/../auth/verify", "/auth%2fverify", "/adminx"]
)
async def test_where_nginx_asks_no_client_can(site: Site, target: str) -> None:
    """P-12: through nginx he would be a trusted peer, and could have his own question answered."""
    forged = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET"), ("X-Forwarded-Uri", "/v1/models")]
    answer = await site.edge.ask("GET", target, [*forged, ("X-Forwarded-Method", "GET")])
    assert answer.status in (400, 404)
    assert not site.seen


@pytest.mark.parametrize("target", ["/_tahoe/verify", "/x/../_tahoe/verify", "/%5ftahoe/verify"])
async def test_the_question_itself_cannot_be_asked_from_outside(site: Site, target: str) -> None:
    """The location is internal, whatever the spelling of the path that leads there."""
    answer = await site.edge.ask("GET", target)
    assert answer.status == 404
    assert not site.seen


async def test_a_peer_that_is_not_the_proxy_gets_no_decision(site: Site) -> None:
    """Asked directly, by somebody who also forges nginx's headers: 403, and the key is not even looked at."""
    forged = [("X-Original-URI", "/v1/models"), ("X-Original-Method", "GET"), ("X-Forwarded-For", SOURCE)]
    asked = site.gateway.keys.asked
    answer = await site.gateway.ask("GET", "/auth/verify", forged, key=site.gateway.add_key())
    assert (answer.status, answer["x-auth-code"]) == (403, "untrusted_proxy")
    assert not any(answer.all(name) for name in IDENTITY)
    assert site.gateway.keys.asked == asked


async def test_an_upload_that_is_under_way_is_refused_with_an_answer(site: Site) -> None:
    """Megabytes that nobody will read do not turn the 401 into a broken connection."""
    answer = await site.edge.ask("POST", "/v1/audio/transcriptions", body=b"x" * 4_000_000, key=None)
    assert answer.status == 401
    assert not site.seen


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ([(f"X-{n}", "x") for n in range(200)], 431, "request_headers_too_large"),
        ([("X-A", "a\x01b")], 400, "malformed_request"),
    ],
)
async def test_a_header_that_nginx_takes_and_the_gateway_does_not_is_the_clients_fault(
    site: Site, fields: list[tuple[str, str]], status: int, code: str
) -> None:
    """And no 500 of nginx's, which it makes of everything but yes, 401 and 403."""
    answer = await site.edge.ask("GET", "/v1/models", fields)
    assert (answer.status, answer.code) == (status, code)
    assert not site.seen


async def test_who_passes_learns_what_is_left(site: Site) -> None:
    """With an answer of 200 as well, the RateLimit fields reach the client."""
    key = site.gateway.add_key(key_rate=Rate(2, 60_000))
    answer = await site.edge.ask(key=key)
    assert (answer.status, answer["ratelimit-policy"]) == (200, '"key-requests";q=2;w=60')
    assert answer["ratelimit"].startswith('"key-requests";r=1;t=')

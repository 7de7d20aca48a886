"""The shipped ``proxy.conf`` on a real nginx: TLS in front of a gateway that carries the traffic."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy import nginx
from tests.deploy.tap import SOURCE, Tap, tapped
from tests.gateway.harness import Answer, Gateway, Options, Seen, running


@dataclass(frozen=True, slots=True)
class Edge:
    """An nginx with TLS, the wire behind it, and the gateway at the wire's end."""

    port: int
    trust: ssl.SSLContext
    tap: Tap
    gateway: Gateway

    async def ask(self, *lines: str, body: bytes = b"", key: str | None = "") -> Answer:
        """One request over TLS. ``lines`` begin with the request line; a key and the framing are added."""
        head = [*lines, "Connection: close"]
        if key is not None:
            head.append(f"Authorization: Bearer {key or self.gateway.key}")
        if body:
            head.append(f"Content-Length: {len(body)}")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost"
        )
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(30):
            answer = Answer.parse(await reader.read())
        writer.close()
        return answer


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    trusts_nginx = Options(trusted=(ipaddress.ip_network(SOURCE),))
    async with (
        running(trusts_nginx) as gateway,
        tapped(gateway.port) as tap,
        nginx.running(tmp_path, "proxy.conf", gateway=tap.port, transcriber=gateway.upstream.port) as port,
    ):
        yield Edge(port, ssl.create_default_context(cafile=tmp_path / "tls.crt"), tap, gateway)


async def test_the_gateway_hears_nginx_on_where_a_client_comes_from_and_never_the_client(edge: Edge) -> None:
    """Forged forwarding headers are overwritten; https and the port the client used come through."""
    answer = await edge.ask(
        "GET /v1/models?x=%2f HTTP/1.1", "Host: localhost:9443", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: http",
        "X-Forwarded-Host: evil.example", "X_Tenant_ID: forged", "X-Tenant-ID: forged",
    )  # fmt: skip
    assert answer.status == 200
    assert answer["strict-transport-security"] == "max-age=31536000"
    (seen,) = edge.gateway.upstream.seen
    assert seen.target == "/v1/models?x=%2f"
    assert seen.all("X-Forwarded-For") == [f"127.0.0.1, {SOURCE}"]
    assert (seen.all("X-Forwarded-Proto"), seen.all("X-Forwarded-Host")) == (["https"], ["localhost:9443"])
    assert b"forged" not in seen.head
    assert b"6.6.6.6" not in seen.head
    assert edge.gateway.lines[-1]["remote_ip"] == "127.0.0.1"


async def test_one_line_says_that_browsers_stay_with_https(edge: Edge) -> None:
    """RFC 6797 section 6.1: also where the answer has one, as the gateway's own pages have."""

    async def with_its_own(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n\r\n")

    edge.gateway.upstream.respond = with_its_own
    answer = await edge.ask("GET /v1/models HTTP/1.1", "Host: localhost")
    told = [value for name, value in answer.headers if name == "strict-transport-security"]
    assert told == ["max-age=31536000"]


async def test_an_upload_and_its_refusal_both_get_through(edge: Edge) -> None:
    """With a key the body arrives whole; without one the 401 does, although megabytes are still under way."""
    line, body = "POST /v1/audio/transcriptions HTTP/1.1", b"AUDIO" * 800_000
    admitted = await edge.ask(line, "Host: localhost", body=body)
    assert (admitted.status, edge.gateway.upstream.seen[0].body == body) == (200, True)
    refused = await edge.ask(line, "Host: localhost", body=body, key=None)
    assert (refused.status, refused.code) == (401, "missing_credential")
    assert len(edge.gateway.upstream.seen) == 1


@pytest.mark.parametrize("target", ["/v1/../v1/models", "//v1/models", "/v1/%2e%2e/v1/models", "/v1/models;x"])
async def test_nginx_hands_the_target_on_as_it_came_and_the_gateway_judges_that(edge: Edge, target: str) -> None:
    """What nginx normalises it normalises for itself alone: what is ambiguous stays so, and is refused."""
    answer = await edge.ask(f"GET {target} HTTP/1.1", "Host: localhost")
    assert (answer.status, answer.code) == (400, "ambiguous_target")


async def test_nginx_keeps_its_connection_to_the_gateway(edge: Edge) -> None:
    """Ten requests, admitted and refused, over one connection."""
    for number in range(10):
        await edge.ask("GET /v1/models HTTP/1.1", "Host: localhost", key="" if number % 2 else None)
    assert edge.tap.connections == 1

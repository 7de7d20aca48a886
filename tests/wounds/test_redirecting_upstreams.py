"""Wound: the gateway goes where somebody sends it (SSRF): a redirect, a proxy variable, a name in the request."""

import asyncio

import pytest

from gateway.configuration.origin import Origin
from gateway.upstreams.pool import UpstreamPool
from policies.account.usage import Outcome
from policies.routing.routes import PORTAL
from tests.gateway.harness import Gateway, Seen, running
from tests.policies.audio.build import wav


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_the_clients_to_follow(gateway: Gateway, status: int) -> None:
    """U-04: passed on as it is, and nobody is asked but the upstream, once.

    Audio that it sends elsewhere comes again, there: the first time it is free, as what is refused is.
    """

    async def away(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 %d Away\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n" % status)

    gateway.upstream.respond = away
    answer = await gateway.ask()
    assert (answer.status, answer["location"]) == (status, "http://169.254.169.254/")
    assert len(gateway.upstream.seen) == 1
    await gateway.ask("POST", "/v1/listen", [("Content-Type", "audio/wav")], wav(1.0))
    record = gateway.journal.records[-1]
    assert (record.measured.audio_ms, record.measured.walked_ms) == (0, 1000)
    assert record.outcome is Outcome.UPSTREAM_REFUSED


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("http://{host}/v1/models?x=%2f#y", "/v1/models?x=%2f#y"),
        ("HTTPS://{host}", "/"),
        ("http://{host}?x", "/?x"),
        ("/v1/models", "/v1/models"),
        ("http://{host}//evil.test/", None),
        ("http://{host}/\\evil.test/", None),
        ("http://{host}/\t/evil.test/", None),
        ("http://{host}@evil.test/", None),
        ("http://{host}.evil.test/", None),
        ("ftp://{host}/", None),
        ("//{host}/", None),
    ],
)
async def test_what_is_at_the_upstream_is_found_here(gateway: Gateway, said: str, heard: str | None) -> None:
    """U-04: services that name themselves in Location name what only we may know, and nobody else can reach.

    What would become another host's is left alone.
    """
    said = said.format(host=f"127.0.0.1:{gateway.upstream.port}")

    async def away(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(f"HTTP/1.1 307 Away\r\nX-A: b\r\nlocation:{said}\r\nContent-Length: 0\r\n\r\n".encode())

    gateway.upstream.respond = away
    answer = await gateway.ask()
    assert answer.all("location") == [said if heard is None else heard]
    assert answer["x-a"] == "b"


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"http://asr-2:9300/v1/jobs/7", b"/v1/jobs/7"),
        (b"http://ASR-3/v1/jobs/7", b"/v1/jobs/7"),
        (b"http://asr-3:80/", b"/"),
        (b"http://10.0.0.1:9300/x", b"/x"),
        (b"http://asr-2/", b"http://asr-2/"),
        (b"http://asr-4:9300/", b"http://asr-4:9300/"),
    ],
)
def test_an_upstream_may_name_any_of_its_addresses(said: bytes, heard: bytes) -> None:
    """The one that was asked, as it was looked up too, and the others; a port that need not be said may be."""
    origins = Origin.parse_all("http://asr-1:9300, http://asr-2:9300, http://asr-3")
    pool = UpstreamPool("asr", origins[0], 1.0, ip="10.0.0.1", siblings=origins)
    header = b"HTTP/1.1 202 Accepted\r\nContent-Location: %b\r\nX-A: %b\r\nLocation: %b\r\nContent-Length: 0"
    head = pool.familiar.read_head(header % (said, said, said))
    assert head.lines == [b"Content-Location: " + heard, b"X-A: " + said, b"Location: " + heard]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"Refresh: 5; url=http://asr-1:9300/v1/jobs/7", b"Refresh: 5; url=/v1/jobs/7"),
        (b"refresh: 0;URL='http://asr-1:9300'", b"refresh: 0;URL='/'"),
        (b'Refresh: 1 , http://ASR-1:9300/x"y', b'Refresh: 1 , /x"y'),
        (b"Refresh: 5; url=http://elsewhere/?url=http://asr-1:9300/", None),
        (b"Refresh: 5; url=http://asr-1:9300//evil.test/", None),
        (b"Refresh: 5", None),
        (
            b'Link: <http://asr-1:9300/v1/jobs?page=2>; rel="next", </v1/jobs>; rel="first", <http://b/>;rel=up',
            b'Link: </v1/jobs?page=2>; rel="next", </v1/jobs>; rel="first", <http://b/>;rel=up',
        ),
        (b"link:<http://asr-1:9300>;rel=self", b"link: </>;rel=self"),
        (b"Link: <http://asr-1:9300//evil.test/>; rel=next", None),
        (b"X-Link: <http://asr-1:9300/>", None),
    ],
)
def test_every_field_that_sends_somewhere_is_heeded(said: bytes, heard: bytes | None) -> None:
    """U-04: as nginx heeds Refresh beside Location; the next page of a list (RFC 8288) is where the first was."""
    pool = UpstreamPool("asr", Origin.parse_all("http://asr-1:9300")[0], 1.0)
    head = pool.familiar.read_head(b"HTTP/1.1 200 OK\r\n" + said + b"\r\nContent-Length: 0")
    assert head.lines == [said if heard is None else heard]


@pytest.mark.parametrize(
    ("name", "kept"), [(PORTAL, b"Location: https://localhost/authorize"), ("asr", b"Location: /authorize")]
)
def test_the_portal_sends_to_whom_it_says(name: str, kept: bytes) -> None:
    """An identity provider at localhost has the name by which sockets are asked: its log-in was looked for here."""
    pool = UpstreamPool(name, "unix:/run/portal.sock", 1.0)
    head = pool.familiar.read_head(b"HTTP/1.1 302 Found\r\nLocation: https://localhost/authorize\r\nContent-Length: 0")
    assert head.lines == [kept]


async def test_no_variable_of_the_environment_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """U-03: HTTP_PROXY and its kin, which ``Proxy:`` of a client becomes under CGI, are not looked at."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with running() as gateway:
        assert (await gateway.ask()).status == 200
        assert len(gateway.upstream.seen) == 1


@pytest.mark.parametrize(
    "target", ["/http://169.254.169.254/", "//169.254.169.254/", "http://169.254.169.254/", "/v1/models@evil.test"]
)
async def test_no_request_names_the_upstream(gateway: Gateway, target: str) -> None:
    """U-01."""
    names = ("X-Forwarded-Host", "X-Host", "X-Upstream", "Forwarded")
    answer = await gateway.ask("GET", target, [(name, "169.254.169.254") for name in names])
    assert answer.status in (400, 404)
    assert not gateway.upstream.seen

"""Wound: ``X-Forwarded-*`` and its kin believed from anyone (oauth2-proxy GHSA-7x63-xv5r-3p2x and CVE-2026-76835).

Nobody is trusted by default; a trusted peer's list is read from the right, to the first address that is not trusted.
"""

import asyncio
import ipaddress
import socket
import struct
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from gateway.configuration.sources import SettingsInvalid, load
from gateway.dataplane.inquiries import Reader, TrustedProxies
from tests.gateway.harness import Answer, Gateway, Options, running
from tests.storage.waiting import until
from tests.wounds.test_identity_headers import folded, spellings
from tests.wounds.wire import HERE, request

INSIDE = ipaddress.ip_network("10.0.0.0/8")
FORGED = [
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl",
    "X-Forwarded-Client-Cert", "X-Forwarded-User", "X-Original-URL", "X-Original-URI", "X-Original-Method",
    "X-Original-Host", "X-Rewrite-URL", "X-Real-IP", "X-Envoy-External-Address", "X-Envoy-Original-Path",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
]  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
async def test_a_stranger_says_nothing_about_earlier_hops(gateway: Gateway, name: str) -> None:
    """H-08: ignored, and gone or overwritten at the upstream, in every spelling."""
    value = {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6", "X-Forwarded-Proto": "https"}.get(name, "evil.test")
    fields = [(spelling, value) for spelling in spellings(name)]
    assert (await gateway.ask(headers=fields)).status == 200
    told = folded(gateway.upstream.seen[0])
    ours = {"x-forwarded-for": ["127.0.0.1"], "x-forwarded-proto": ["http"], "x-forwarded-host": ["gateway.test"]}
    assert {n: told.pop(n) for n in ours} == ours
    assert name.lower() not in told
    assert gateway.lines[0]["remote_ip"] == "127.0.0.1"


CHAINS = [
    ([], "127.0.0.1"),
    (["1.2.3.4"], "1.2.3.4"),
    (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
    (["6.6.6.6, 1.2.3.4, 10.0.0.9"], "1.2.3.4"),
    (["6.6.6.6", "1.2.3.4", "10.0.0.9 , 10.0.0.8"], "1.2.3.4"),
    (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
    (["2001:db8::1, 10.0.0.8"], "2001:db8::1"),
    (["1.2.3.4, nonsense, 10.0.0.8"], "10.0.0.8"),
    (["1.2.3.4, 6.6.6.6:80"], "6.6.6.6"),
    (["6.6.6.6, 1.2.3.4:4711, 10.0.0.8:80"], "1.2.3.4"),
    (["6.6.6.6, [2001:DB8::0001]:4711"], "2001:db8::1"),
    (["6.6.6.6, ::ffff:1.2.3.4, ::ffff:10.0.0.8"], "1.2.3.4"),
    (["1.2.3.4, fe80::1%eth0"], "127.0.0.1"),
    (["1.2.3.4, 10.0.0.8:99999999"], "127.0.0.1"),
    (["1.2.3.4, 010.0.0.8"], "127.0.0.1"),
    (["1.2.3.4,"], "127.0.0.1"),
    (["unknown"], "127.0.0.1"),
    (["1.2.3.4, \xff\xfe"], "127.0.0.1"),
    (["1.2.3.4" + ", 10.0.0.8" * 500], "1.2.3.4"),
]


@pytest.mark.parametrize(("chain", "client"), CHAINS, ids=[client for _, client in CHAINS])
async def test_a_trusted_peer_is_believed_up_to_the_first_stranger(chain: list[str], client: str) -> None:
    """H-08: the right-most address that is not a trusted proxy's; what stands left of a nonsense is not believed."""
    async with running(Options(trusted=(HERE, INSIDE))) as gateway:
        assert (await gateway.ask(headers=[("X-Forwarded-For", value) for value in chain])).status == 200
        assert gateway.lines[0]["remote_ip"] == client
        (told,) = gateway.upstream.seen[0].all("x-forwarded-for")
        assert told == ", ".join((*(value.strip() for value in chain), "127.0.0.1"))


@pytest.mark.parametrize(
    ("proto", "host", "told"),
    [
        ("https", "public.test", ("https", "public.test")),
        ("HTTPS", "public.test:8443", ("https", "public.test:8443")),
        ("javascript", "evil.test/x?", ("http", "gateway.test")),
        ("https, http", "a b", ("http", "gateway.test")),
        ("", "", ("http", "gateway.test")),
    ],
)
async def test_a_trusted_peers_scheme_and_host_pass_only_when_plain(
    proto: str, host: str, told: tuple[str, str]
) -> None:
    """Nothing that could break out of a URL is repeated, whoever says it."""
    async with running(Options(trusted=(HERE,))) as gateway:
        await gateway.ask(headers=[("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host), ("X-Forwarded-Port", "1")])
        (seen,) = gateway.upstream.seen
        assert (seen.all("x-forwarded-proto"), seen.all("x-forwarded-host")) == ([told[0]], [told[1]])
        assert "x-forwarded-port" not in seen.names()


async def test_a_peer_outside_the_list_stays_a_stranger() -> None:
    """H-08: a list that names others does not make this one trusted."""
    async with running(Options(trusted=(INSIDE,))) as gateway:
        await gateway.ask(headers=[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https")])
        assert gateway.lines[0]["remote_ip"] == "127.0.0.1"
        assert gateway.upstream.seen[0].all("x-forwarded-for") == ["127.0.0.1"]


@pytest.mark.parametrize(
    "everybody",
    [
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0/8,0.0.0.0/0",
        "::ffff:0.0.0.0/96",
        "0.0.0.0/1,128.0.0.0/1",
        "2000::/3",
        "0.0.0.0/7",
    ],
)
def test_trust_in_everybody_stops_the_start(everybody: str) -> None:
    """H-09."""
    with pytest.raises(SettingsInvalid, match="TRUSTED_PROXIES"):
        load(environ={"GATEWAY_TRUSTED_PROXIES": everybody})


def test_an_address_is_trusted_in_whatever_form_the_socket_gives_it() -> None:
    """H-09: a dual-stack listener writes an IPv4 peer as ``::ffff:10.0.0.1``; an empty list trusts nobody at all."""
    trusted = TrustedProxies((INSIDE,))
    peers = ("10.1.2.3", "::ffff:10.1.2.3", "::ffff:11.1.2.3", "fe80::1%eth0", "x", "")
    assert {peer: peer in trusted for peer in peers} == {
        "10.1.2.3": True, "::ffff:10.1.2.3": True, "::ffff:11.1.2.3": False, "fe80::1%eth0": False, "x": False,
        "": False,
    }  # fmt: skip
    assert not [peer for peer in ("127.0.0.1", "::1", "unix", "") if peer in TrustedProxies(())]
    assert [peer for peer in ("127.0.0.1", "::1", "unix", "") if peer in TrustedProxies((), files=True)] == ["unix"]


def test_a_client_has_one_address_however_it_connects() -> None:
    """Q-02: on a dual-stack listener too, so that limits, the log and the upstream know it under one name."""
    reader = Reader(frozenset(), TrustedProxies(()))
    for peer in ("1.2.3.4", "::ffff:1.2.3.4", "::FFFF:102:304"):
        known = reader.know(((b"Host", b"a"),), (1, 1), peer)
        assert known.caller.address == "1.2.3.4"
        assert b"X-Forwarded-For: 1.2.3.4\r\n" in known.passing


def test_a_socket_file_is_no_address_in_the_chain() -> None:
    """Services take the last entry for the client, or for a proxy, and none for a word."""
    reader = Reader(frozenset(), TrustedProxies((), files=True))
    known = reader.know(((b"Host", b"a"), (b"X-Forwarded-For", b"6.6.6.6, 1.2.3.4")), (1, 1), "unix")
    assert known.caller.address == "1.2.3.4"
    assert b"X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n" in known.passing


@pytest.mark.parametrize("trusted", [(), (INSIDE,)])
async def test_forwarded_passes_no_further_whoever_says_it(trusted: tuple[ipaddress.IPv4Network, ...]) -> None:
    """RFC 7239: read by us from nobody, so told by us to nobody; an upstream that reads it would believe the client."""
    async with running(Options(trusted=trusted and (HERE,))) as gateway:
        await gateway.ask(headers=[("Forwarded", "for=6.6.6.6;proto=https"), ("FORWARDED", "for=_secret")])
        (seen,) = gateway.upstream.seen
        assert "forwarded" not in seen.names()
        assert gateway.lines[0]["remote_ip"] == "127.0.0.1"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_whose_address_is_gone_is_nobody(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    """Who resets a connection before it is taken is asked for an address in vain; its request can still be read.

    On uvloop it had no address then, as a socket file has none, and was believed like one.
    """
    run(_reset_before_it_is_taken())


async def _reset_before_it_is_taken() -> None:
    async with running(Options(trusted=(INSIDE,))) as gateway:
        key = gateway.add_key(networks=(INSIDE,))
        for _ in range(3):
            assert (await gateway.ask()).status == 200  # there is a connection to the upstream that can be had at once
            with socket.create_connection(("127.0.0.1", gateway.port)) as client:
                client.sendall(request(key, b"GET /v1/models HTTP/1.1", b"X-Forwarded-For: 10.0.0.1"))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert (await gateway.ask()).status == 200
        await until(lambda: not gateway.metrics.connections)
        assert {line["remote_ip"] for line in gateway.lines} == {"127.0.0.1"}
        assert len(gateway.upstream.seen) == 4


@pytest.mark.parametrize("trusted", [(), (INSIDE,)])
async def test_a_socket_file_is_trusted_only_when_anybody_is(trusted: tuple[ipaddress.IPv4Network, ...]) -> None:
    """H-09: its file permissions let a neighbour in, but an empty list still believes nobody."""
    async with running(Options(trusted=trusted)) as gateway:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "s")
            listening = await asyncio.get_running_loop().create_unix_server(gateway.server, path)
            reader, writer = await asyncio.open_unix_connection(path)
            fields = (b"X-Forwarded-For: 1.2.3.4", b"Connection: close")
            writer.write(request(gateway.key, b"GET /v1/models HTTP/1.1", *fields))
            assert Answer.parse(await reader.read()).status == 200
            writer.close()
            listening.close()
        assert gateway.lines[0]["remote_ip"] == ("1.2.3.4" if trusted else "unix")

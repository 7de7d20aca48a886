"""Wound: connections that only stand there (D-10). One address cannot take all of them, nor they all open files."""

import asyncio
import contextlib
import ipaddress
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.dataplane import clients
from gateway.dataplane.clients import Census
from gateway.dataplane.inquiries import TrustedProxies
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.connection import UpstreamConnection
from gateway.upstreams.failures import OutOfFiles
from gateway.upstreams.pool import UpstreamPool
from policies.networks import customer
from policies.routing.upstreams import GOOD
from tests.gateway.harness import Gateway, Options, running
from tests.storage.waiting import until
from tests.wounds.wire import HERE, answers, request

NOBODY = TrustedProxies(())


async def stand(gateway: Gateway, count: int) -> list[asyncio.StreamWriter]:
    """So many connections that say nothing."""
    return [(await asyncio.open_connection("127.0.0.1", gateway.port))[1] for _ in range(count)]


async def leave(*held: asyncio.StreamWriter) -> None:
    """End them, and wait for it."""
    for one in held:
        one.transport.abort()
    for one in held:
        with contextlib.suppress(ConnectionError):
            await one.wait_closed()


@pytest.mark.parametrize(("limit", "options"), [
    ("address", Options(most_per_address=5)),
    ("total", Options(most=5, most_per_address=9)),
    ("total", Options(most=5, most_per_address=1, trusted=(HERE,))),
])  # fmt: skip
async def test_one_too_many_is_told_so_and_the_others_go_on(limit: str, options: Options) -> None:
    """503 with Retry-After, at once; the counter says which limit; a place that becomes free is taken."""
    async with running(options) as gateway:
        held = await stand(gateway, 4)
        fifth, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(gateway.key))
        assert (await fifth.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        reader, sixth = await asyncio.open_connection("127.0.0.1", gateway.port)
        async with asyncio.timeout(30):
            (answer,) = answers(await reader.read())
        assert (answer.status, answer.code, answer["connection"]) == (503, "too_many_connections", "close")
        assert answer["retry-after"] == "2"
        assert gateway.metrics.refused_connections[(limit,)] == 1
        assert gateway.metrics.connections == 5
        writer.write(request(gateway.key))
        assert (await fifth.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        held.pop().close()
        await until(lambda: gateway.metrics.connections == 4)
        assert (await gateway.ask()).status == 200
        await leave(*held, writer, sixth)
        await until(lambda: not gateway.metrics.connections)
        assert not gateway.server.census._by_address


async def test_a_request_that_was_sent_at_once_reads_the_refusal_too() -> None:
    """Most clients write before they read: what they get is the 503, and the upstream gets nothing."""
    async with running(Options(most_per_address=1)) as gateway:
        (held,) = await stand(gateway, 1)
        await until(lambda: gateway.metrics.connections == 1)
        answer = await gateway.ask()
        assert (answer.status, answer.code) == (503, "too_many_connections")
        assert not gateway.upstream.seen
        await leave(held)


async def test_a_trusted_proxy_is_no_client() -> None:
    """All clients come through it; only the total binds it."""
    async with running(Options(most_per_address=1, trusted=(HERE,))) as gateway:
        held = await stand(gateway, 10)
        assert (await gateway.ask()).status == 200
        await leave(*held)


async def test_one_address_does_not_take_anothers_place() -> None:
    """Five hundred from one address; another one is served (all of 127/8 is this machine)."""
    async with running(Options(most_per_address=20)) as gateway:
        held = await stand(gateway, 500)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.2", 0))
        writer.write(request(gateway.key))
        async with asyncio.timeout(30):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert gateway.metrics.connections == 21
        await leave(*held, writer)


def test_a_client_is_known_by_what_it_cannot_choose() -> None:
    """Q-04: an IPv4 address in either notation, and the /64 of an IPv6 one; a zone is a name of ours."""
    same = ({"10.0.0.1", "::ffff:10.0.0.1"}, {"2001:db8::1", "2001:db8::ffff:1", "2001:db8::1%eth0"})
    groups = [{customer(peer) for peer in peers} for peers in same]
    assert [len(group) for group in groups] == [1, 1]
    assert len({*groups[0], *groups[1], customer("2001:db8:0:1::1")}) == 3


def test_what_is_counted_in_is_counted_out_whoever_leaves() -> None:
    """Also where a trusted proxy stands in the same /64 as a client."""
    proxy = ipaddress.ip_network("2001:db8::1/128")
    metrics = Metrics()
    census = Census(metrics, TrustedProxies((proxy,)), most=100, most_per_address=1)
    assert census.enter("2001:db8::2", 9)
    assert not census.enter("2001:db8::3", 9)
    assert census.enter("2001:db8::1", 9)
    assert census.enter("unix", 9)
    census.leave("2001:db8::1")
    assert not census.enter("2001:db8::3", 9)
    for peer in ("2001:db8::2", "unix"):
        census.leave(peer)
    assert (metrics.connections, census._by_address) == (0, {})


def test_every_connection_has_a_file_left_for_the_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default, and any larger setting, leave as many open files as there are connections, and some more."""
    monkeypatch.setattr(clients, "open_files", lambda: 26)  # as a worker has at its start
    for files, most in ((1_024, 475), (20_000, 9_963), (10, 8), (10_000_000, 65_536), (resource.RLIM_INFINITY, 65_536)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        metrics = Metrics()
        assert Census(metrics, NOBODY).most == metrics.connections_most == most
        assert Census(Metrics(), NOBODY, most=65_536).most == most
        assert Census(Metrics(), NOBODY, most=5).most == 5
        assert Census(Metrics(), NOBODY).most_per_address == most // 4


def test_the_last_files_are_no_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever took the others: stores, journals and the answer to whoever comes now need some."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 1_024))
    metrics = Metrics()
    census = Census(metrics, NOBODY)
    assert census.enter("10.0.0.1", 1_007)
    assert not census.enter("10.0.0.1", 1_008)
    assert metrics.refused_connections == {("address",): 0, ("total",): 0, ("files",): 1, ("unheard",): 0}


@contextlib.contextmanager
def no_file_left() -> Iterator[None]:
    """Nothing more can be opened in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open() as next_one:
        lowest = next_one.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_without_a_file_for_the_upstream_a_request_is_503_and_the_upstream_not_to_blame() -> None:
    """Wound: EMFILE was taken for an upstream that cannot be reached; three of them set a good one aside."""
    async with running() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        await until(lambda: gateway.metrics.connections == 1)
        with no_file_left():
            writer.write(request(gateway.key))
            async with asyncio.timeout(30):
                (refused,) = answers(await reader.readuntil(b"}}"))
        assert (refused.status, refused.code, refused["retry-after"]) == (503, "too_many_connections", "2")
        assert gateway.metrics.refused_connections[("files",)] == 1
        assert not gateway.metrics.upstream_errors
        assert gateway.pool.health == GOOD
        assert (await gateway.ask()).status == 200
        writer.close()


async def test_that_no_file_is_left_is_said_where_nobody_can_be_counted() -> None:
    """Libuv accepts and closes who comes then, and the gateway hears nothing of it."""
    with capture_logs() as said:
        async with running() as gateway:
            for is_left in (True, False, False):
                gateway.server.stop_ticking()
                with contextlib.nullcontext() if is_left else no_file_left():
                    gateway.server._tick()
    assert [(line["log_level"], line["event"][:23]) for line in said] == [("warning", "no open file is left: c")]
    assert gateway.metrics.refused_connections["unheard",] == 2


async def test_connections_at_rest_make_room_for_one_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another address, or of another upstream, are given up before a request is refused."""
    async with running() as gateway:
        assert (await gateway.ask()).status == 200
        (resting,) = gateway.pool._idle
        connect = UpstreamPool.connect

        async def as_files_allow(pool: UpstreamPool) -> UpstreamConnection:
            if resting.is_open:
                raise OutOfFiles("no open file is left")
            return await connect(pool)

        monkeypatch.setattr(UpstreamPool, "connect", as_files_allow)
        monkeypatch.setattr(gateway.upstreams, "idle", lambda: None)
        monkeypatch.setattr(UpstreamPool, "idle", lambda _: None)
        assert (await gateway.ask()).status == 200
        assert gateway.upstream.connections == 2


async def test_a_storm_of_connections_that_reset_leaves_nothing() -> None:
    """They may end before they are accepted, or while they are turned away."""
    async with running(Options(most_per_address=3)) as gateway:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.send(b"GET / HT")
            await asyncio.sleep(0)
        await until(lambda: not gateway.metrics.connections and not gateway.server.heading)
        assert (await gateway.ask()).status == 200

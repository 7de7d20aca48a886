"""A stream lasts no longer than it may, and its end leaves nothing behind: no socket, no task, no unwritten byte."""

import asyncio
import contextlib
import gc
import json
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed

from policies.account.usage import INTERIM, Outcome
from policies.http.tickets import TICKET_BYTES, Ticket, mint_ticket
from policies.http.verdict import Refusal
from policies.http.websocket import BINARY, PING, PONG, TEXT, close_frame, frame
from policies.identity.principals import Standing
from policies.metering.streams import Ending
from policies.networks import network
from storage.ports import Invalidation
from tests.gateway.harness import PEPPER, digest
from tests.gateway.stream_harness import (
    MASK,
    RawSite,
    RawUpstream,
    Site,
    closed,
    opening,
    options_for,
    raw_site,
    site,
)  # fmt: skip
from tests.gateway.token_world import MEMBER, another_key, token_world

TICKET = mint_ticket(bytes(TICKET_BYTES))


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are looked at a hundred times a second: tests need not wait."""
    monkeypatch.setattr("gateway.dataplane.streams._TICK_S", 0.01)
    monkeypatch.setattr("gateway.dataplane.tunnel._REPLY_S", 0.1)


def change_keys(here: Site, change: Invalidation, **changes: object) -> None:
    """Change every key of the registry, and tell as the bus tells."""
    keys = here.gateway.keys.by_digest
    keys.update({digest: replace(principal, **changes) for digest, principal in keys.items()})
    here.gateway.snapshot.forget(change)
    here.gateway.streams.forget(change)


@pytest.mark.parametrize(
    ("standing", "change", "code"),
    [
        (Standing.REVOKED, Invalidation("ten_a", "key_1"), "api_key_revoked"),
        (Standing.REVOKED, Invalidation(), "api_key_revoked"),
        (Standing.TENANT_SUSPENDED, Invalidation("ten_a"), "tenant_suspended"),
        (Standing.USER_DISABLED, Invalidation("ten_a"), "user_disabled"),
    ],
)
async def test_a_credential_that_ends_takes_its_streams_with_it(
    standing: Standing, change: Invalidation, code: str
) -> None:
    """Within the second, with a message and a close code that say so; the upstream is only told that it is over."""
    async with site() as here, here.connect() as client:
        await client.send("x")
        await client.recv()
        began = asyncio.get_running_loop().time()
        change_keys(here, change, standing=standing)
        said = json.loads(await client.recv())
        assert said["type"] == "error"
        assert (said["error"]["code"], said["error"]["type"]) == (code, "invalid_request_error")
        close_code, reason = await closed(client)
        assert asyncio.get_running_loop().time() - began < 1
        assert close_code == 4001
        assert reason == f"{code}: {said['error']['message']}"[:123]
        await here.upstream_closed()
        assert here.upstream.closes[0][0] == 1001
        await here.settled()
        (record,) = here.gateway.journal.records
        assert (record.outcome, record.code, record.bytes_in) == (Outcome.DENIED, code, 1)
        assert here.gateway.metrics.stream_closes == {("4001", "gateway"): 1}


async def test_a_stream_ends_where_its_key_may_not_be_used_any_more() -> None:
    """A key that is bound to other networks, or to other routes, while its stream is open."""
    for bound, code in (
        ({"networks": (network("198.51.100.0/24"),)}, "address_not_allowed"),
        ({"only_routes": frozenset({"elsewhere"})}, Refusal.KEY_BOUND_ELSEWHERE.code),
    ):
        async with site() as here, here.connect() as client:
            change_keys(here, Invalidation("ten_a", "key_1"), networks=(network("127.0.0.0/8"),))
            change_keys(here, Invalidation("ten_a", "key_1"), **bound)
            assert code in await client.recv()
            assert (await closed(client))[0] == 4001


async def test_a_credential_that_ends_while_its_stream_is_being_opened_ends_it_too() -> None:
    """What is told before the upstream has agreed finds no stream yet."""
    async with site() as here:
        revoke = partial(change_keys, here, Invalidation("ten_a", "key_1"), standing=Standing.REVOKED)
        here.upstream.requests = SimpleNamespace(append=lambda _: revoke())  # type: ignore[assignment]
        async with here.connect() as client:
            assert "api_key_revoked" in await asyncio.wait_for(client.recv(), 10)
            assert (await closed(client))[0] == 4001


async def test_a_stream_that_is_for_everybody_is_asked_for_no_credential() -> None:
    """Whatever its client has sent as one."""
    async with site(access="public") as here, here.connect(key="of-another-service") as client:
        await here.gateway.streams._recheck(here.gateway.streams._open)
        await client.send("x")
        assert await client.recv() == "x"


async def test_what_bounds_a_tickets_stream_bounds_no_other_of_its_key() -> None:
    """All streams of a key are asked about at once, and each has its own end."""
    async with site() as here:
        credential = digest(PEPPER, here.gateway.key.encode())
        here.gateway.tickets.kept[TICKET.encode()] = Ticket(
            tenant_id="ten_a", key=credential, routes=("openai.realtime",), longest_s=60
        )
        async with here.connect(key=None, subprotocols=[TICKET]), here.connect():
            streams = here.gateway.streams
            of_ticket, of_key = sorted(streams._open, key=lambda tunnel: tunnel._ends_at)
            await streams._recheck([of_ticket, of_key])
            assert of_key._ends_at - of_ticket._ends_at > 60


async def test_a_change_that_does_not_concern_a_stream_leaves_it_alone() -> None:
    async with site() as here, here.connect() as client:
        here.gateway.streams.forget(Invalidation("ten_b"))
        here.gateway.streams.forget(Invalidation("ten_a", "key_2"))
        assert here.gateway.keys.asked == 1
        change_keys(here, Invalidation("ten_a", "key_1"), roles=("owner",))
        while here.gateway.keys.asked < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await client.send("x")
        assert await client.recv() == "x"


async def test_a_registry_that_cannot_be_asked_ends_nothing_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown is not no; and as soon as it is known, it counts."""
    monkeypatch.setattr("gateway.dataplane.streams._RETRY_S", 0.01)
    async with site() as here, here.connect() as client:
        here.gateway.keys.down = True
        change_keys(here, Invalidation("ten_a"), standing=Standing.REVOKED)
        while here.gateway.keys.asked < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await client.send("x")
        assert await client.recv() == "x"
        here.gateway.keys.down = False
        assert "api_key_revoked" in await client.recv()
        assert (await closed(client))[0] == 4001


def hasten(monkeypatch: pytest.MonkeyPatch) -> int:
    """When a key ends that has a fifth of a second left for a stream, and an hour for whoever is just opening one."""
    now = time.time() + 3600
    monkeypatch.setattr("gateway.dataplane.streams.time", SimpleNamespace(time=lambda: now))
    return int(now * 1000) + 200


async def test_a_key_that_expires_ends_its_stream_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here:
        key = here.gateway.add_key(expires_ms=hasten(monkeypatch))
        client = await here.connect(key=key)
        code, reason = await closed(client)
        assert code == 4001
        assert reason.startswith("api_key_expired: ")


async def test_a_key_that_is_given_an_end_ends_its_open_stream_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a key that is rotated: it works for the overlap, and no longer."""
    async with site() as here, here.connect() as client:
        change_keys(here, Invalidation("ten_a", "key_1"), expires_ms=hasten(monkeypatch))
        await client.send("x")
        assert await client.recv() == "x"
        code, reason = await closed(client)
        assert code == 4001
        assert reason.startswith("api_key_expired: ")


async def test_a_revocation_is_found_without_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream's credential is asked for again now and then."""
    monkeypatch.setattr("gateway.dataplane.streams._RECHECK_S", 0.02)
    async with site() as here:
        client = await here.connect()
        keys = here.gateway.keys.by_digest
        keys.update({d: replace(p, standing=Standing.REVOKED) for d, p in keys.items()})
        here.gateway.snapshot.forget(Invalidation())
        assert (await closed(client))[0] == 4001


@pytest.mark.parametrize(
    ("route", "code", "name"),
    [
        ({"stream_idle_s": 0.1}, 4010, "stream_idle"),
        ({"stream_longest_s": 0.1}, 4011, "stream_too_long"),
    ],
)
async def test_a_stream_ends_when_its_time_is_over(route: dict[str, float], code: int, name: str) -> None:
    """And is no failure of anybody."""
    async with site(**route) as here:
        client = await here.connect()
        close_code, reason = await closed(client)
        assert close_code == code
        assert reason.startswith(f"{name}: ")
        await here.settled()
        (record,) = here.gateway.journal.records
        assert (record.outcome, record.code) == (Outcome.OK, name)


async def test_messages_keep_a_stream_from_idling_and_pings_do_not() -> None:
    async with site(stream_idle_s=1.0) as here:
        client = await here.connect()
        for _ in range(6):
            await asyncio.sleep(0.2)  # the pause under test: shorter than the bound, six of them longer
            await client.send("x")
        assert await client.recv() == "x"
        began = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            while time.monotonic() < began + 60:
                await (await client.ping())
                await asyncio.sleep(0.02)
        assert client.close_code == 4010


async def test_a_silent_client_is_asked_and_one_that_answers_stays() -> None:
    async with raw_site(ping_s=0.3) as raw:
        client, upstream = await raw.open()
        ping = frame(PING, b"tahoe")
        for _ in range(3):
            assert await client.exactly(len(ping)) == ping
            client.send(frame(PONG, b"tahoe", MASK))
        began = time.monotonic()
        assert await client.rest() == ping
        assert time.monotonic() - began >= 0.3
        assert client.was_reset
        await upstream.rest()
        await raw.over()
        (record,) = raw.gateway.journal.records
        assert record.outcome is Outcome.CLIENT_GONE


async def test_a_ping_never_stands_inside_a_frame() -> None:
    async with raw_site(ping_s=0.03) as raw:
        client, upstream = await raw.open()
        message = frame(TEXT, bytes(300))
        upstream.send(message[:100])
        assert await client.exactly(100) == message[:100]
        await asyncio.sleep(0.1)  # three times as long as a ping would take
        upstream.send(message[100:])
        ping = frame(PING, b"tahoe")
        assert await client.exactly(len(message) - 100 + len(ping)) == message[100:] + ping


async def test_a_drain_ends_every_stream_and_those_that_are_just_being_opened() -> None:
    """1012 says: connect again."""
    async with site() as here:
        clients = [await here.connect() for _ in range(3)]
        here.gateway.streams.end_all(Ending.SHUTTING_DOWN)
        for client in clients:
            assert await closed(client) == (1012, "shutting_down: " + Ending.SHUTTING_DOWN.message)
        late = await here.connect()
        assert (await closed(late))[0] == 1012
        await here.gateway.server.drain(1.0, 1.0)
        assert here.gateway.metrics.open_streams == 0


async def test_an_upstream_that_hangs_at_the_end_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It never answers the client's close frame."""
    monkeypatch.setattr("gateway.dataplane.tunnel._HANDSHAKE_S", 0.05)
    async with raw_site() as raw:
        client, upstream = await raw.open()
        client.send(close_frame(1000, "", MASK))
        assert await client.rest() == b""
        assert await upstream.rest() == close_frame(1000, "", MASK)
        await raw.over()
        assert raw.gateway.journal.records[0].outcome is Outcome.OK


async def test_an_upstream_whose_host_vanishes_is_noticed_by_the_kernel() -> None:
    """It is sent no pings, as it may be busy for minutes; what its host does not acknowledge for a minute ends it."""
    async with raw_site() as raw:
        await raw.open()
        (tunnel,) = raw.gateway.streams._open
        sock = tunnel.upstream.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


async def test_half_a_connection_is_none() -> None:
    """RFC 6455 knows no half-open stream: who says that nothing more will come is gone."""
    async with raw_site() as raw:
        client, upstream = await raw.open()
        client.writer.write_eof()
        assert await upstream.rest() == b""
        await raw.over()


async def test_a_slow_reader_slows_the_sender_down_and_fills_no_memory() -> None:
    """What the upstream may still send stays in the kernel's buffers; and the other direction goes on meanwhile."""
    async with raw_site(idle_s=60) as raw:
        piece = frame(BINARY, bytes(1 << 20))
        raw.upstream.tail = piece  # it begins with what comes behind the handshake
        client, upstream = await raw.open()
        client.writer.transport.pause_reading()
        sent = 1
        with contextlib.suppress(TimeoutError):
            while sent < 200:
                async with asyncio.timeout(0.3):
                    upstream.send(piece)
                    await upstream.writer.drain()
                sent += 1
        assert sent < 40
        (tunnel,) = raw.gateway.streams._open
        assert tunnel.client.transport.get_write_buffer_size() < 1 << 20
        client.send(frame(TEXT, b"still here", MASK))
        assert await upstream.exactly(16) == frame(TEXT, b"still here", MASK)
        client.writer.transport.resume_reading()
        assert await client.exactly(sent * len(piece)) == piece * sent


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async with raw_site(idle_s=0.2) as raw:
        client, upstream = await raw.open()
        client.writer.transport.pause_reading()
        for _ in range(20):
            upstream.send(frame(BINARY, bytes(1 << 20)))
        await raw.over()
        (record,) = raw.gateway.journal.records
        assert record.outcome is Outcome.CLIENT_GONE


async def test_checkpoints_add_up_to_what_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record holds what came since the last; a silent stream writes none; the log has one line with the sums."""
    monkeypatch.setattr("gateway.dataplane.tunnel._CHECKPOINT_S", 0.03)
    async with site() as here:
        async with here.connect() as client:
            for size in (10, 2_000, 300_000):
                await client.send(bytes(size))
                await client.recv()
                count = len(here.gateway.journal.records)
                while len(here.gateway.journal.records) == count:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            count = len(here.gateway.journal.records)
            await asyncio.sleep(0.1)
            assert len(here.gateway.journal.records) == count
            await client.send(b"last")
            await client.recv()
        await here.settled()
        records = here.gateway.journal.records
        assert sum(record.bytes_in for record in records) == 302_014
        assert sum(record.bytes_out for record in records) == 302_014
        assert {record.status for record in records[:-1]} == {INTERIM}
        assert records[-1].status == 101
        assert [record.attempt for record in records] == list(range(1, len(records) + 1))
        assert len({record.event_id for record in records}) == len(records)
        assert {record.request_id for record in records} == {records[0].request_id}
        (line,) = here.gateway.lines
        assert line["bytes_in"] == 302_014
        assert sum(r.duration_us for r in records) == pytest.approx(line["duration_ms"] * 1000, rel=0.01)
        assert here.gateway.metrics.routes["openai.realtime"].bytes_in == 302_014


async def test_streams_leave_nothing_behind() -> None:
    """However they end: closed by either side, vanished, half-way through the opening."""
    async with raw_site() as raw:
        await asyncio.sleep(0)
        before = {id(task) for task in asyncio.all_tasks()}
        for number in range(200):
            client, upstream = await raw.open()
            match number % 4:
                case 0:
                    client.vanish()
                case 1:
                    upstream.vanish()
                case 2:
                    client.send(close_frame(1000, "", MASK))
                    await upstream.exactly(8)
                    upstream.send(close_frame(1000, ""))
                case _:
                    client.send(frame(BINARY, bytes(500), MASK)[:50])
                    upstream.writer.close()
            client.vanish()
        await raw.over()
        assert raw.gateway.streams._open == set()
        async with asyncio.timeout(30):
            while raw.gateway.server.connections or raw.gateway.metrics.inflight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        gc.collect()
        assert [o for o in gc.get_objects() if type(o).__name__ == "Tunnel"] == []
        left = [task for task in asyncio.all_tasks() if id(task) not in before and "_serve" not in repr(task)]
        assert left == []
        assert len(raw.gateway.journal.records) == 200


async def test_a_stream_outlives_its_token_but_neither_its_revocation_nor_its_subject() -> None:
    """A token lives for minutes and is there for openings; when it has lapsed, it is still known whose it was."""
    upstream = RawUpstream()
    await upstream.start()
    async with token_world(options_for(upstream.port, {})) as world:
        raw, later = RawSite(world.gateway, upstream), time.time() + 10_000
        try:
            token, other = world.token(), world.token(sub="usr_b")
            world.subjects.known["ten_a", "usr_b"] = replace(MEMBER, user_id="usr_b")
            client, _ = await raw.open(key=token)
            revoked, _ = await raw.open(key=other)
            world.gateway.proxy._gatekeeper._now_ms = lambda: int(later * 1000)
            world.gateway.snapshot._bearers._now_s = lambda: int(later)
            assert await world.status(token) == 401
            asked = world.subjects.asked
            change = Invalidation()
            world.gateway.snapshot.forget(change)
            world.gateway.streams.forget(change)
            while world.subjects.asked < asked + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert world.gateway.metrics.open_streams == 2
            world.state.hear(Invalidation(revoked="subject:usr_b"))
            world.gateway.streams.forget(Invalidation(revoked="subject:usr_b"))
            assert b"invalid_token: " in await revoked.rest()
            assert world.gateway.metrics.open_streams == 1
            world.subjects.known["ten_a", "usr_a"] = replace(MEMBER, standing=Standing.USER_DISABLED)
            change = Invalidation("ten_a", user_id="usr_a")
            world.gateway.snapshot.forget(change)
            world.gateway.streams.forget(change)
            assert b"user_disabled: " in await client.rest()
        finally:
            await raw.leave()
            await upstream.stop()


async def test_a_persons_ticket_ends_with_the_token_that_asked_and_so_do_its_streams() -> None:
    """Not with another token of the same log-in; and it is asked for each time, though it is known whose it is."""
    upstream = RawUpstream()
    await upstream.start()
    async with token_world(options_for(upstream.port, {})) as world:
        raw, kept = RawSite(world.gateway, upstream), world.gateway.tickets.kept
        many, once = mint_ticket(bytes(TICKET_BYTES), reusable=True), TICKET
        try:
            token = await world.gateway.snapshot._bearers.examine(world.token(jti="tok_asked").encode())
            ticket = Ticket(tenant_id="ten_a", routes=("openai.realtime",), longest_s=60, token=token)
            kept[many.encode()], kept[once.encode()] = ticket, ticket
            of_other, _ = await raw.open(key=world.token())
            streams = [(await raw.open(key=text))[0] for text in (once, many)]
            assert b"invalid_ticket" in await (await raw.send(opening(once))).rest()
            world.state.hear(Invalidation(revoked="token:tok_asked"))
            world.gateway.streams.forget(Invalidation(revoked="token:tok_asked"))
            for stream in streams:
                assert b"invalid_token: " in await stream.rest()
            assert b"invalid_token" in await (await raw.send(opening(many))).rest()
            assert world.gateway.metrics.open_streams == 1
            of_other.vanish()
        finally:
            await raw.leave()
            await upstream.stop()


async def test_a_ticket_is_worth_nothing_when_the_key_is_that_signed_its_token() -> None:
    """Whoever has a stolen signing key can ask for tickets as well."""
    async with token_world() as world:
        token = await world.gateway.snapshot._bearers.examine(world.token().encode())
        text = mint_ticket(bytes(TICKET_BYTES), reusable=True)
        world.gateway.tickets.kept[text.encode()] = Ticket(
            tenant_id="ten_a", routes=("openai.models",), longest_s=60, token=token
        )
        assert await world.status(text) == 200
        await world.keys.end(world.keys.found[0].id, datetime.now(UTC), lambda _, at: another_key(at))
        await world.state.refresh()
        assert await world.status(text) == 401

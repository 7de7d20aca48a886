"""Wound: an error branch that lets the request pass (Authelia CVE-2021-32637, authentik CVE-2024-47070).

A bug of ours in any stage is 500 while the client has seen nothing and a cut connection afterwards; before the relay
the upstream sees nothing of the request; it is settled all the same.
"""

import asyncio
from unittest.mock import Mock

import pytest

from policies.limits.rates import Rate
from tests.gateway.harness import Answer, Gateway, Seen
from tests.storage.waiting import until
from tests.wounds.wire import request

BEFORE_THE_RELAY = [
    "policies.routing.route_table.RouteTable.match",
    "gateway.dataplane.inquiries.Reader.read",
    "gateway.identity.snapshot.Snapshot.known",
    "gateway.identity.snapshot.Snapshot.identify",
    "gateway.identity.snapshot.digest",
    "tests.gateway.harness.MemoryKeys.identify_key",
    "gateway.dataplane.gatekeeper.authorise",
    "policies.authorise.charges",
    "policies.authorise.identity_lines",
    "tests.gateway.harness.SwitchableCounters.take",
    "gateway.dataplane.gatekeeper.conclude",
    "gateway.dataplane.gatekeeper.Gatekeeper.decide",
    "gateway.dataplane.proxy._unservable",
    "gateway.dataplane.relay.Relay.carry",
    "gateway.dataplane.passage.Passage.__init__",
    "gateway.upstreams.addresses.Upstream.idle",
    "gateway.upstreams.pool.UpstreamPool.connect",
    "gateway.dataplane.upload.meter_for",
    "gateway.dataplane.passage.Passage._begin",
    "gateway.upstreams.connection.UpstreamConnection.begin",
]
AT_THE_RELAY = [
    "gateway.upstreams.connection.UpstreamConnection.expect_answer",
    "gateway.upstreams.connection.UpstreamConnection.heard",
    "gateway.dataplane.passage.Passage.answer_whole",
    "gateway.dataplane.passage.Passage._answer_lines",
    "gateway.dataplane.passage.answer_reader",
    "gateway.dataplane.settlement.Settlement._record",
    "gateway.dataplane.settlement._common",
    "gateway.dataplane.settlement.encode",
    "gateway.dataplane.settlement.accounted",
    "tests.gateway.harness.MemoryJournal.append_all",
]


def broken(*_: object, **__: object) -> object:
    raise RuntimeError("a bug")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The application's log, where the bug must be told."""
    told = Mock()
    monkeypatch.setattr("gateway.dataplane.proxy._log", told)
    return told


async def ask(gateway: Gateway) -> bytes:
    key = gateway.add_key(key_rate=Rate(9, 60_000))
    fields = (b"Content-Type: application/octet-stream", b"Content-Length: 5", b"Connection: close")
    return await gateway.raw(request(key, b"POST /v1/audio/transcriptions HTTP/1.1", *fields, body=b"audio"))


@pytest.mark.parametrize("where", BEFORE_THE_RELAY)
async def test_a_bug_before_the_relay_is_500_and_nothing_passes(
    gateway: Gateway, where: str, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-12."""
    monkeypatch.setattr(where, broken)
    answer = Answer.parse(await ask(gateway))
    assert (answer.status, answer.code, answer["connection"]) == (500, "internal_error", "close")
    assert b"a bug" not in answer.body
    assert not gateway.upstream.seen
    assert log.exception.called
    assert gateway.metrics.inflight == 0
    assert [(line["status"], line["code"]) for line in gateway.lines] == [(500, "internal_error")]
    monkeypatch.undo()
    assert (await gateway.ask()).status == 200


@pytest.mark.parametrize(
    "where",
    [
        "gateway.dataplane.inquiries.Reader.know",
        "gateway.dataplane.proxy.usable_request_id",
        "gateway.dataplane.proxy.Exchange",
    ],
)
async def test_a_bug_before_there_is_an_exchange_ends_the_connection(
    gateway: Gateway, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to answer or settle with: no answer at all, and nothing passes."""
    with monkeypatch.context() as bug:
        bug.setattr(where, broken)
        assert await ask(gateway) == b""
    assert not gateway.upstream.seen
    assert (await gateway.ask()).status == 200


@pytest.mark.parametrize("where", AT_THE_RELAY)
async def test_a_bug_at_the_relay_is_500_and_settled_once(
    gateway: Gateway, where: str, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-12: the upstream may have done its work; the client still gets no answer that was not accounted for."""
    monkeypatch.setattr(where, broken)
    answer = Answer.parse(await ask(gateway))
    assert (answer.status, answer.code) == (500, "internal_error")
    assert log.exception.called
    assert gateway.metrics.inflight == 0
    assert len(gateway.journal.rows) <= 1
    monkeypatch.undo()
    assert (await gateway.ask()).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_bug_in_the_meter_ends_the_upload(
    gateway: Gateway, log: Mock, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the body streams, in a task of its own: 500, at once, and never a wait for an answer that cannot come."""
    monkeypatch.setattr("gateway.dataplane.upload.Upload._seen", broken)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000"
    writer.write(request(gateway.key, b"POST /v1/listen HTTP/1.1", framing))
    await until(lambda: gateway.upstream.connections > 0)
    writer.write(b"5\r\naudio\r\n" if chunked else b"audio")
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 500 ")
    assert log.exception.called
    await until(lambda: not gateway.metrics.inflight)
    assert len(gateway.journal.rows) == 1


async def test_a_bug_in_the_middle_of_an_answer_cuts_it(
    gateway: Gateway, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No 500 inside a body, no clean end."""
    begun = asyncio.Event()

    async def two_pieces(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await begun.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")

    gateway.upstream.respond = two_pieces
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key))
    await reader.readuntil(b"first\r\n")
    monkeypatch.setattr("gateway.dataplane.passage.Passage._passed", broken)
    begun.set()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as cut:
        await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    assert b"500" not in getattr(cut.value, "partial", b"")
    assert log.exception.called
    await until(lambda: not gateway.metrics.inflight)
    assert len(gateway.journal.rows) == 1


@pytest.mark.parametrize(
    "where", ["gateway.dataplane.proxy.responses.refusal", "gateway.dataplane.responses.challenge"]
)
async def test_a_bug_while_refusing_is_no_admission(
    gateway: Gateway, where: str, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes on, whatever the client gets to see."""
    monkeypatch.setattr(where, broken)
    data = await gateway.raw(
        request(None, b"POST /v1/listen HTTP/1.1", b"Content-Length: 5", b"Connection: close", body=b"audio")
    )
    assert data == b"" or Answer.parse(data).status == 500
    assert not gateway.upstream.seen
    assert gateway.metrics.inflight == 0


async def test_a_second_bug_in_telling_of_the_first_ends_the_connection_and_no_other(
    gateway: Gateway, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record cannot be made, nor the 500 in its place: no answer, and the next one is answered as ever."""
    gateway.metrics.inflight += 1  # as if another one were served: else no answer would wait for the end of the turn
    with monkeypatch.context() as bugs:
        bugs.setattr("gateway.dataplane.settlement._common", broken)
        bugs.setattr("gateway.dataplane.proxy.responses.refusal", broken)
        with pytest.raises(ConnectionResetError):
            await ask(gateway)
    assert log.exception.called
    async with asyncio.timeout(30):
        assert (await gateway.ask()).status == 200
    assert gateway.metrics.inflight == 1


async def test_a_bug_does_not_poison_the_next_request_of_another(
    gateway: Gateway, log: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty at once, every other one hits the bug: the others are answered as ever."""
    real = gateway.proxy._gatekeeper.decide
    count = 0

    async def every_other(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count % 2:
            raise RuntimeError("a bug")
        return await real(*arguments)

    monkeypatch.setattr(gateway.proxy._gatekeeper, "decide", every_other)
    statuses = [answer.status for answer in await asyncio.gather(*(gateway.ask() for _ in range(50)))]
    assert sorted(statuses) == [200] * 25 + [500] * 25
    assert len(gateway.upstream.seen) == 25

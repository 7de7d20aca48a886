"""A long body goes around the parser: nothing of it is lost, and nothing that follows is taken for a part of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine

import pytest
import uvloop

from gateway.dataplane.inflow import Inflow
from policies.account.usage import Outcome
from policies.limits.allowances import What
from tests.gateway.dataplane.test_audio_limits import limit
from tests.gateway.harness import OK, Answer, Gateway, running
from tests.storage.waiting import until
from tests.wounds.test_drain import draining
from tests.wounds.wire import answers, last, request, smuggled, statuses, targets

POST = b"POST /v1/listen HTTP/1.1"
BODY = random.Random(3).randbytes(3_000_000)
LENGTH = b"Content-Length: %d" % len(BODY)

Early = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[bool]]


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every read that went around the parser."""
    found: list[int] = []
    updated = Inflow.buffer_updated

    def noted(self: Inflow, nbytes: int) -> None:
        found.append(nbytes)
        updated(self, nbytes)

    monkeypatch.setattr(Inflow, "buffer_updated", noted)
    return found


def answering_after(size: int, answer: bytes, gone: asyncio.Event | None = None) -> Early:
    """An upstream that answers when it has read so much of a body, and then reads no more, or until the end."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        await reader.readexactly(size)
        writer.write(answer)
        while gone is not None and await reader.read(65_536):
            pass
        if gone is not None:
            gone.set()
        raise ConnectionError

    return early


async def test_the_connection_goes_on_behind_the_body(gateway: Gateway, reads: list[int]) -> None:
    """Two long uploads and a request behind them, all of it sent at once."""
    upload = request(gateway.key, POST, LENGTH, body=BODY)
    got = statuses(await gateway.raw(upload + upload + last(gateway.key)))
    assert got == [200, 200, 200]
    assert [seen.body == body for seen, body in zip(gateway.upstream.seen, (BODY, BODY, b""), strict=True)] == [
        True
    ] * 3
    assert [record.bytes_in for record in gateway.journal.records] == [len(BODY), len(BODY), 0]
    assert sum(reads) > len(BODY)


async def test_a_request_within_the_body_is_none(gateway: Gateway) -> None:
    """Not even when the upstream has answered and nobody wants the rest; the connection ends then."""
    gateway.upstream.early = answering_after(1_000_000, OK)
    hidden = smuggled(gateway.key)
    body = BODY[:-100_000] + hidden * (100_000 // len(hidden))
    sent = request(gateway.key, POST, b"Content-Length: %d" % len(body), body=body)
    got = await gateway.raw(sent)
    assert statuses(got) == [200]
    assert answers(got)[0]["connection"] == "close"
    assert not targets(gateway)


async def test_a_client_that_leaves_takes_the_upstream_with_it(gateway: Gateway, reads: list[int]) -> None:
    """One record, of what came."""
    gone = asyncio.Event()
    gateway.upstream.early = answering_after(2_000_000, b"", gone)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, LENGTH, body=BODY[:2_500_000]))
    await writer.drain()
    await until(lambda: sum(reads) > 1_000_000)
    writer.transport.abort()
    await asyncio.wait_for(gone.wait(), 30)
    await until(lambda: bool(gateway.journal.records))
    assert gateway.journal.records[0].outcome is Outcome.CLIENT_GONE
    assert gateway.metrics.inflight == 0


@pytest.mark.parametrize(("audio", "status"), [("100s/month", 200), ("80s/month", 429)])
async def test_what_is_reserved_grows_with_the_body(gateway: Gateway, audio: str, status: int) -> None:
    """A file of 93.75 s, whose header claims a fifth; bytes that nothing is reserved for do not reach the upstream."""
    key = gateway.add_key(allowances=(limit(What.AUDIO, audio),))
    size = len(BODY) - 44
    claim = (size // 5).to_bytes(4, "little")
    head = b"RIFF" + claim + b"WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data" + claim
    rest = (b"data" + (size // 5 - 8).to_bytes(4, "little")).ljust(size // 5, b"\1") * 5
    body = (head + rest).ljust(len(BODY), b"\1")
    got = Answer.parse(
        await gateway.raw(request(key, POST, LENGTH, b"Content-Type: audio/wav", b"Connection: close", body=body))
    )
    assert got.status == status
    assert gateway.holding.holds.held == 0
    assert [seen.body == body for seen in gateway.upstream.seen] == [True] * (status == 200)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_uploads_at_once_see_nothing_of_each_other(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    """They share a buffer: what a slow upstream has not taken must be out of it before another connection's read."""
    run(_see_nothing_of_each_other())


async def _see_nothing_of_each_other() -> None:
    length = 1_500_000
    mixed: list[set[int]] = []
    draw = random.Random(7)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        letters = set[int]()
        left = length
        while left:
            await asyncio.sleep(0)  # the others have their turn, so that writes are left over
            piece = await reader.readexactly(min(left, draw.choice((1_000, 65_536, 300_000))))
            letters |= set(piece)
            left -= len(piece)
        mixed.append(letters)
        writer.write(OK)
        return True

    async with running() as gateway:
        gateway.upstream.early = slow
        sent = [
            request(gateway.key, POST, b"Content-Length: %d" % length, b"Connection: close", body=bytes([n]) * length)
            for n in range(1, 9)
        ]
        got = await asyncio.gather(*map(gateway.raw, sent))
        assert [statuses(answer) for answer in got] == [[200]] * 8
        assert sorted(mixed, key=min) == [{n} for n in range(1, 9)]
        assert not gateway.server.reading


async def test_a_body_that_ends_too_soon_is_no_upload(gateway: Gateway, reads: list[int]) -> None:
    """The upstream never takes it for a whole one, though one byte alone is missing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, LENGTH, body=BODY[:-1]))
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: bool(gateway.journal.records))
    assert gateway.journal.records[0].outcome is Outcome.CLIENT_GONE
    assert not gateway.upstream.seen
    assert reads


async def test_what_stands_behind_the_body_is_judged_as_ever(gateway: Gateway, reads: list[int]) -> None:
    """Rubbish is 400, and an upgrade's body stays with the parser."""
    upload = request(gateway.key, POST, LENGTH, body=BODY)
    assert statuses(await gateway.raw(upload + b"\1\1\r\n\r\n")) == [200, 400]
    assert reads
    reads.clear()
    upgrade = request(gateway.key, POST, LENGTH, b"Connection: Upgrade", b"Upgrade: h2c", body=BODY)
    assert statuses(await gateway.raw(upgrade + smuggled(gateway.key))) == [200]
    assert not reads
    assert targets(gateway) == ["/v1/listen", "/v1/listen"]


async def test_a_drain_waits_for_the_rest(gateway: Gateway, reads: list[int]) -> None:
    """Of a body that is going around the parser."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(gateway.key, POST, LENGTH, body=BODY[:2_000_000]))
    await until(lambda: bool(reads))
    end = draining(gateway, idle_s=0.1)
    writer.write(BODY[2_000_000:])
    assert statuses(await reader.read()) == [200]
    writer.close()
    await asyncio.wait_for(end, 30)
    assert gateway.upstream.seen[0].body == BODY

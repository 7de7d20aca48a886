"""A long body goes around the parser: nothing of it is lost, and nothing that follows is taken for a part of it."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from gateway.dataplane.inflow import Inflow
from policies.allowances import What
from policies.usage import Outcome
from tests.gateway.dataplane.test_audio_limits import limit
from tests.gateway.harness import OK, Answer, Gateway
from tests.storage.waiting import until
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
    await asyncio.wait_for(gone.wait(), 5)
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

"""Frames that break the rules end the stream, and nothing of them reaches the other side (RFC 6455 section 5)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from policies.account.usage import Outcome
from policies.http.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FRAGMENT_WEIGHT,
    PING,
    PONG,
    TEXT,
    FrameWalker,
    close_frame,
    frame,
    masked,
)
from policies.identity.principals import Standing
from storage.ports import Invalidation
from tests.gateway.stream_harness import MASK, RawPeer, RawSite, raw_site

MOST = 10_000


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are looked at a hundred times a second, and peers are waited for a little: tests need not wait."""
    monkeypatch.setattr("gateway.dataplane.streams._TICK_S", 0.01)
    monkeypatch.setattr("gateway.dataplane.tunnel._BOUNDARY_S", 0.1)
    monkeypatch.setattr("gateway.dataplane.tunnel._REPLY_S", 0.02)


@pytest.fixture
async def raw() -> AsyncIterator[RawSite]:
    async with raw_site(max_message=MOST) as made:
        yield made


def sent(first: int, payload: bytes = b"", *, by_client: bool) -> bytes:
    """A frame with any first byte."""
    whole = frame(BINARY, payload, MASK if by_client else b"")
    return bytes((first,)) + whole[1:]


def read(data: bytes, *, of_client: bool) -> tuple[list[tuple[int, bytes]], int | None, bool]:
    """Messages, close code, and whether it ends between two frames: everything must be well-formed."""
    messages: list[tuple[int, bytes]] = []
    parts: list[bytes] = []

    def take(opcode: int, piece: bytes, last: bool) -> None:
        parts.append(piece)
        if last:
            messages.append((opcode, b"".join(parts)))
            parts.clear()

    walker = FrameWalker(masked=of_client, max_message=1 << 40, consume=take)
    assert walker.feed(data) == data
    assert walker.fault is None
    return messages, walker.close_code, walker.at_boundary


FAULTS = [
    (lambda c: sent(0xC1, b"x", by_client=c), 1002),
    (lambda c: sent(0x90 | BINARY, b"x", by_client=c), 1002),
    (lambda c: sent(0x83, by_client=c), 1002),
    (lambda c: sent(0x8B, by_client=c), 1002),
    (lambda c: sent(0x8F, by_client=c), 1002),
    (lambda c: sent(BINARY, b"x", by_client=not c), 1002),
    (lambda c: sent(PING, by_client=c), 1002),
    (lambda c: sent(0x80 | PING, bytes(126), by_client=c), 1002),
    (lambda c: sent(0x80, b"x", by_client=c), 1002),
    (lambda c: sent(TEXT, b"x", by_client=c) + sent(0x80 | TEXT, b"x", by_client=c), 1002),
    (lambda c: b"\x82" + bytes((0xFF if c else 0x7F,)) + b"\x80" + bytes(7) + MASK, 1002),
    (lambda c: b"\x82" + bytes((0xFE if c else 0x7E,)) + b"\x00\x7d" + MASK, 1002),
    (lambda c: sent(0x80 | CLOSE, b"\x03", by_client=c), 1002),
    *[(lambda c, code=code: close_frame(code, "", MASK if c else b""), 1002) for code in (0, 1005, 1006, 1015, 5000)],
    (lambda c: sent(0x80 | BINARY, bytes(MOST + 1), by_client=c), 1009),
    (lambda c: b"\x82" + bytes((0xFF if c else 0x7F,)) + b"\x7f" + b"\xff" * 7 + MASK, 1009),
    (lambda c: sent(BINARY, bytes(MOST), by_client=c) + sent(CONTINUATION, b"x", by_client=c), 1009),
    (lambda c: sent(BINARY, by_client=c) + sent(CONTINUATION, by_client=c) * (MOST // FRAGMENT_WEIGHT + 2), 1009),
]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("by_client", [True, False], ids=["client", "upstream"])
@pytest.mark.parametrize(("fault", "code"), FAULTS)
async def test_a_faulty_frame_ends_the_stream_and_goes_no_further(
    raw: RawSite, fault, code: int, by_client: bool, cut: bool
) -> None:
    """Both sides get a close frame in its place, and what each has received is well-formed to the end."""
    if cut and code == 1009:
        return  # thousands of segments, and the walker's own properties have it
    client, upstream = await raw.open()
    culprit, victim = (client, upstream) if by_client else (upstream, client)
    good = sent(0x80 | TEXT, b"good", by_client=by_client)
    data = good + fault(by_client) + good
    for piece in [data[i : i + 1] for i in range(len(data))] if cut else [data]:
        culprit.send(piece)
        if cut:
            await asyncio.sleep(0)
    at_victim, at_culprit = await asyncio.gather(victim.rest(), culprit.rest())
    messages, victims_code, whole = read(at_victim, of_client=by_client)
    assert whole
    assert messages[0] == (TEXT, b"good")
    assert all(b"good" not in payload for _, payload in messages[1:])
    _, culprits_code, _ = read(at_culprit, of_client=not by_client)
    assert culprits_code == code
    assert victims_code == (1001 if by_client else code)
    await raw.over()
    (record,) = raw.gateway.journal.records
    assert record.outcome is (Outcome.DENIED if by_client else Outcome.UPSTREAM_FAILED)
    assert record.code == ("protocol_error" if code == 1002 else "message_too_large")


async def test_pings_pass_and_a_flood_of_them_does_not(raw: RawSite) -> None:
    client, upstream = await raw.open()
    ping = frame(PING, b"?", MASK)
    client.send(ping)
    assert await upstream.exactly(len(ping)) == ping
    upstream.send(frame(PONG, b"?"))
    assert await client.exactly(3) == frame(PONG, b"?")
    client.send((frame(TEXT, b"", MASK) + ping * 10) * 200)
    at_upstream, at_client = await asyncio.gather(upstream.rest(), client.rest())
    assert read(at_client, of_client=False)[1] == 4008
    assert read(at_upstream, of_client=True)[1] == 1001


async def revoke(raw: RawSite) -> None:
    """The key that opened everything is revoked, and the bus says so."""
    for digest, principal in raw.gateway.keys.by_digest.items():
        changed = type(principal)(**{n: getattr(principal, n) for n in principal.__slots__} | {"standing": REVOKED})
        raw.gateway.keys.by_digest[digest] = changed
    change = Invalidation("ten_a", "key_1")
    raw.gateway.snapshot.forget(change)
    raw.gateway.streams.forget(change)
    (tunnel,) = raw.gateway.streams._open
    while tunnel.ending is None:  # noqa: ASYNC110  the registry is asked first
        await asyncio.sleep(0)


REVOKED = Standing.REVOKED


async def settle_down(peer: RawPeer, data: bytes) -> None:
    """Send, and see that it has passed the gateway: the loop of all three has turned a few times."""
    peer.send(data)
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_half_sent_message_is_not_corrupted_by_our_close(raw: RawSite) -> None:
    """The close frame waits for the frame's end, and what follows that is not let through."""
    client, upstream = await raw.open()
    message = frame(BINARY, b"audio" * 100, MASK)
    await settle_down(client, message[:100])
    answer = frame(TEXT, b"words" * 30)
    await settle_down(upstream, answer[:20])
    await revoke(raw)
    await settle_down(client, message[100:] + frame(TEXT, b"more", MASK))
    await settle_down(upstream, answer[20:] + frame(TEXT, b"more"))
    at_upstream, at_client = await asyncio.gather(upstream.rest(), client.rest())
    messages, code, whole = read(at_upstream, of_client=True)
    assert (messages, code, whole) == ([(BINARY, b"audio" * 100)], 1001, True)
    messages, code, whole = read(at_client, of_client=False)
    assert messages[0] == (TEXT, b"words" * 30)
    assert b'"api_key_revoked"' in messages[1][1]
    assert (len(messages), code, whole) == (2, 4001, True)


async def test_a_message_that_is_never_finished_is_cut_and_not_ended_cleanly(raw: RawSite) -> None:
    client, upstream = await raw.open()
    await settle_down(client, frame(BINARY, bytes(500), MASK)[:100])
    await settle_down(upstream, frame(TEXT, bytes(500))[:50])
    await revoke(raw)
    at_upstream, at_client = await asyncio.gather(upstream.rest(), client.rest())
    assert upstream.was_reset
    assert client.was_reset
    assert (len(at_upstream), len(at_client)) == (100, 50)


async def test_our_close_may_come_between_fragments_but_our_message_may_not(raw: RawSite) -> None:
    client, upstream = await raw.open()
    await settle_down(upstream, sent(TEXT, b"one", by_client=False))
    await revoke(raw)
    at_client = await client.rest()
    assert at_client.startswith(sent(TEXT, b"one", by_client=False) + b"\x88")
    assert int.from_bytes(at_client[7:9], "big") == 4001
    assert at_client[9:].startswith(b"api_key_revoked: ")
    await upstream.rest()


async def test_a_stream_that_dies_within_a_frame_is_cut_at_the_other_side(raw: RawSite) -> None:
    """A close frame would be read as the rest of the message."""
    client, upstream = await raw.open()
    await settle_down(upstream, frame(TEXT, bytes(500))[:50])
    upstream.vanish()
    assert len(await client.rest()) == 50
    assert client.was_reset
    await raw.over()


async def test_masking_is_never_undone_on_the_way(raw: RawSite) -> None:
    """Bytes pass as they are, whatever the masking key."""
    client, upstream = await raw.open()
    data = b"".join(frame(BINARY, bytes([n] * n), bytes((n, 0, 255 - n, 7))) for n in range(1, 200))
    client.send(data)
    assert await upstream.exactly(len(data)) == data
    assert masked(masked(b"abc", MASK), MASK) == b"abc"

"""Audio limits at the gateway: reserved before a body is read, extended as it passes, settled as it was measured."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from openai import AsyncOpenAI, RateLimitError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.dataplane.stream_end import NEVER
from policies.account.usage import Outcome
from policies.limits.allowances import Allowance, Scope, What
from policies.limits.holding import NOTHING_SPENT, Answer, Spent
from storage.ports import Invalidation, Unavailable
from tests.gateway.harness import Gateway, running
from tests.gateway.stream_harness import Site, closed, site
from tests.policies.audio.build import wav
from tests.storage.waiting import until

LISTEN = "/v1/listen"
WAV = [("Content-Type", "audio/wav")]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made


def limit(what: What, text: str, *, shadow: bool = False) -> Allowance:
    return replace(Allowance.parse(what, text), scope=Scope.KEY, shadow=shadow)


def left(gateway: Gateway) -> int:
    """Milliseconds left of the one allowance there is."""
    (tally,) = gateway.holding.holds._tallies.values()
    assert tally.used is not None
    return 60_000 - tally.used - sum(amount for amount, _ in tally.held.values())


MINUTE = limit(What.AUDIO, "60s/month")


async def test_what_was_measured_counts_to_the_millisecond(gateway: Gateway) -> None:
    """Whatever the guess was: of a body that comes whole, and of one that comes in pieces."""
    key = gateway.add_key(allowances=(MINUTE,))
    answer = await gateway.ask("POST", LISTEN, WAV, wav(2.5), key=key)
    assert (answer.status, left(gateway)) == (200, 57_500)
    assert answer["ratelimit-policy"] == '"key-audio-month";q=60;qu="audio-seconds"'
    assert (await gateway.ask("POST", LISTEN, WAV, wav(20.0), key=key)).status == 200
    assert left(gateway) == 37_500
    (first, second) = gateway.journal.records
    assert (first.measured.audio_ms, second.measured.audio_ms) == (2_500, 20_000)


async def test_what_cannot_fit_is_refused_before_its_body_is_read(gateway: Gateway) -> None:
    """By its length alone; and the official SDKs are told not to send it again."""
    key = gateway.add_key(allowances=(MINUTE,))
    head = (
        f"POST {LISTEN} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Type: audio/wav\r\n"
        "Content-Length: 200000000\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await gateway.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"X-Should-Retry: false\r\n" in answer
    assert gateway.lines[0]["code"] == "quota_exceeded"
    assert not gateway.upstream.seen
    assert left(gateway) == 60_000


async def test_a_guess_that_is_too_high_refuses_nobody(gateway: Gateway) -> None:
    """Stereo at 48 kHz is six times what speech takes a second: 55 s of it pass a limit of a minute."""
    key = gateway.add_key(allowances=(MINUTE,))
    body = wav(55.0, channels=2, rate=48_000)
    assert (await gateway.ask("POST", LISTEN, WAV, body, key=key)).status == 200
    assert left(gateway) == 5_000


async def test_a_small_file_that_is_long_is_found_out_before_anybody_hears_it(gateway: Gateway) -> None:
    """One that came whole, whose length says a second and whose frames say minutes (8 kHz, 8 bits)."""
    key = gateway.add_key(allowances=(limit(What.AUDIO, "10s/month"),))
    refused = await gateway.ask("POST", LISTEN, WAV, wav(25.0, rate=8_000, bits=8), key=key)
    assert (refused.status, gateway.lines[0]["code"]) == (429, "quota_exceeded")
    assert not gateway.upstream.seen
    assert gateway.holding.holds.held == 0


async def test_a_large_file_that_is_long_is_found_out_by_its_first_piece(gateway: Gateway) -> None:
    """The service is not even connected to."""
    key = gateway.add_key(allowances=(limit(What.AUDIO, "10s/month"),))
    body = wav(60.0, rate=8_000, bits=8)
    for headers in (WAV, [*WAV, ("Transfer-Encoding", "chunked")]):
        sent = body if headers is WAV else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        fields = [*headers, *([] if headers is not WAV else [("Content-Length", str(len(sent)))])]
        lines = [f"POST {LISTEN} HTTP/1.1", "Host: a", "Connection: close", f"X-API-Key: {key}"]
        lines += [f"{name}: {value}" for name, value in fields]
        answer = await gateway.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + sent)
        assert answer.startswith(b"HTTP/1.1 429 ")
    assert gateway.upstream.connections == 0
    assert gateway.holding.holds.held == 0


async def test_a_body_that_was_read_ahead_arrives_whole(gateway: Gateway) -> None:
    """By its length and chunked, invited or not."""
    key = gateway.add_key(allowances=(limit(What.AUDIO, "1000s/month"),))
    body = wav(30.0) + bytes(range(256)) * 10
    for framing in ("length", "chunked"):
        for expect in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            field = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
            head = f"POST {LISTEN} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Type: audio/wav\r\n{field}\r\n"
            writer.write(head.encode() + (b"Expect: 100-continue\r\n\r\n" if expect else b"\r\n"))
            if expect:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            for at in range(0, len(body), 100_000):
                piece = body[at : at + 100_000]
                writer.write(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            if framing == "chunked":
                writer.write(b"0\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
            assert gateway.upstream.seen[-1].body == body
    assert len(gateway.upstream.seen) == 4


async def test_an_upload_that_outgrows_its_limit_is_cut_short(gateway: Gateway) -> None:
    """Chunked, so that nothing is known at first; the upstream never sees its end, and nothing is held afterwards."""
    key = gateway.add_key(allowances=(MINUTE,))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST {LISTEN} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Type: audio/wav\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    body, sent = wav(600.0), 0
    while sent < len(body) and not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
        piece = body[sent : sent + 65_536]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        sent += len(piece)
        await asyncio.sleep(0)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 429 ")
    await until(lambda: bool(gateway.lines))
    assert not gateway.upstream.seen
    assert left(gateway) == 60_000
    (record,) = gateway.journal.records
    assert (record.outcome, record.status, record.code) == (Outcome.DENIED, 429, "quota_exceeded")
    assert record.measured.audio_ms == 0
    assert record.bytes_in <= sent
    assert gateway.metrics.ratelimit[("key-audio-month", "outgrown")] == 1


async def test_who_is_refused_for_what_is_left_is_told_so(gateway: Gateway) -> None:
    """A third of the allowance is left, so it is not used up: something shorter would pass."""
    key = gateway.add_key(allowances=(MINUTE,))
    assert (await gateway.ask("POST", LISTEN, WAV, wav(40.0), key=key)).status == 200
    refused = await gateway.ask("POST", LISTEN, WAV, wav(30.0), key=key)
    assert (refused.status, refused.code) == (429, "quota_exceeded")
    assert b"Too little of this period's allowance is left." in refused.body
    assert b"This request comes to more than is left of that." in refused.body
    assert (await gateway.ask("POST", LISTEN, WAV, wav(15.0), key=key)).status == 200


@pytest.mark.parametrize(("answer", "outcome"), [(200, Outcome.DENIED), (400, Outcome.UPSTREAM_REFUSED)])
async def test_an_upload_that_is_cut_short_while_it_is_answered_has_used_what_it_sent(
    gateway: Gateway, answer: int, outcome: Outcome
) -> None:
    """To the byte that the upstream had: some services answer as they hear.

    Given back, the audio could be had again, as often as one likes. What the upstream refused is free all the same.
    """
    heard = bytearray()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: bytes) -> bool:
        writer.write(b"HTTP/1.1 %d So\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" % answer)
        while size := int(await reader.readuntil(b"\r\n"), 16):
            heard.extend((await reader.readexactly(size + 2))[:-2])
        return True

    gateway.upstream.early = early
    key = gateway.add_key(allowances=(MINUTE,))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST {LISTEN}?encoding=linear16&sample_rate=16000 HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    second = b"7d00\r\n" + bytes(range(250)) * 128 + b"\r\n"
    writer.write(second)
    assert b"hello" in await reader.readuntil(b"hello")
    for _ in range(600):
        writer.write(second)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    await until(lambda: bool(gateway.lines))
    (record,) = gateway.journal.records
    assert (record.outcome, record.status, record.code) == (outcome, answer, "quota_exceeded")
    assert record.measured.walked_ms == (len(heard) + 16) // 32 > 50_000
    assert record.measured.audio_ms == (record.measured.walked_ms if outcome is Outcome.DENIED else 0)
    assert left(gateway) == 60_000 - record.measured.audio_ms


async def test_audio_that_the_upstream_failed_on_is_given_back(gateway: Gateway) -> None:
    async def fail(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: object) -> None:
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    key = gateway.add_key(allowances=(MINUTE,))
    gateway.upstream.respond = fail
    assert (await gateway.ask("POST", LISTEN, WAV, wav(20.0), key=key)).status == 500
    assert left(gateway) == 60_000


async def test_parallel_uploads_cannot_share_what_is_left(gateway: Gateway) -> None:
    """Each reserves what it will come to: of ten uploads of 20 s, three fit a minute."""
    gate = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: object) -> None:
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    gateway.upstream.respond = wait
    key = gateway.add_key(allowances=(MINUTE,))
    asks = [asyncio.ensure_future(gateway.ask("POST", LISTEN, WAV, wav(19.5), key=key)) for _ in range(10)]  # noqa: TID251
    await until(lambda: sum(ask.done() for ask in asks) == 7)
    gate.set()
    answers = [await ask for ask in asks]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 7
    assert left(gateway) == 1_500
    # What others only held may be had in a moment: the period's allowance was not used up.
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer["retry-after"] for answer in refused} == {"1"}
    assert not any("x-should-retry" in {name.lower() for name, _ in answer.headers} for answer in refused)
    late = await gateway.ask("POST", LISTEN, WAV, wav(19.5), key=key)
    assert (late.status, late["x-should-retry"]) == (429, "false")
    codes = [line["code"] for line in gateway.lines if line["status"] == 429]
    assert codes == ["audio_limit_exceeded"] * 7 + ["quota_exceeded"]


async def test_an_allowance_is_nearly_used_up_when_it_is_and_not_when_it_is_reserved(gateway: Gateway) -> None:
    """The event leaves with the settlement that brings it, and a guess that was too high brings none."""
    key = gateway.add_key(allowances=(MINUTE,))
    asked: list[int] = []

    async def see(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: object) -> None:
        asked.append(left(gateway))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (500 if len(asked) == 1 else 200))

    gateway.upstream.respond = see
    for seconds, told in ((55.0, []), (47.0, []), (2.0, [80]), (10.5, [80]), (0.6, [80, 100])):
        await gateway.ask("POST", LISTEN, WAV, wav(seconds), key=key)
        assert [event.per_cent for event in gateway.holding.events] == told
    assert asked[0] <= 5_000


async def test_a_request_without_audio_needs_none(gateway: Gateway) -> None:
    """A key whose audio is used up may still ask what models there are."""
    gateway.holding.account.before = 60_000
    key = gateway.add_key(allowances=(MINUTE,))
    assert (await gateway.ask("POST", LISTEN, WAV, wav(1.0), key=key)).status == 429
    assert (await gateway.ask(key=key)).status == 200


async def test_bytes_are_limited_as_they_come(gateway: Gateway) -> None:
    key = gateway.add_key(allowances=(limit(What.BYTES, "100KB/d"),))
    assert (await gateway.ask("POST", LISTEN, WAV, bytes(60_000), key=key)).status == 200
    refused = await gateway.ask("POST", LISTEN, WAV, bytes(60_000), key=key)
    assert (refused.status, gateway.lines[1]["code"]) == (429, "bytes_limit_exceeded")
    assert int(refused["retry-after"]) == pytest.approx(17_280, abs=60)
    never = await gateway.ask("POST", LISTEN, WAV, bytes(200_000), key=key)
    assert never["x-should-retry"] == "false"
    assert "retry-after" not in dict(never.headers)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dataplane.streams._TICK_S", 0.01)
    monkeypatch.setattr("gateway.dataplane.tunnel._CHECKPOINT_S", 0.02)


@pytest.fixture
async def here(quick: None) -> AsyncIterator[Site]:
    async with site() as made:
        yield made


async def test_streams_are_limited_apart_from_requests_and_their_places_come_back(here: Site) -> None:
    key = here.gateway.add_key(allowances=(limit(What.STREAMS, "1"), limit(What.CONCURRENCY, "1")))
    async with here.connect(key=key) as client:
        with pytest.raises(Exception, match="429"):
            await here.connect(key=key)
        await client.send("x")
        await client.recv()
    await until(lambda: not here.gateway.holding.holds.held)
    async with here.connect(key=key) as client:
        await client.send("x")
        client.transport.abort()
    await until(lambda: not here.gateway.holding.holds.held)


async def test_a_stream_ends_when_its_bytes_are_used_up(here: Site) -> None:
    """The close code says that a limit is reached, and the reason which."""
    key = here.gateway.add_key(allowances=(limit(What.BYTES, "100KB/d"), limit(What.STREAMS, "9")))
    async with here.connect(key=key) as client:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.send(bytes(4_000))
                await client.recv()
        code, reason = await closed(client)
    assert code == 4029
    assert reason is not None
    assert reason.startswith("bytes_limit_exceeded: ")
    await here.settled()
    assert here.gateway.holding.holds.held == 0


async def test_a_redis_that_lost_its_memory_is_no_reason_to_warn_a_stream(here: Site) -> None:
    """The account is asked what was used, and there is plenty."""
    key = here.gateway.add_key(allowances=(limit(What.BYTES, "1GB/month"),))
    async with here.connect(key=key) as client:
        await client.send("x")
        await client.recv()
        (tunnel,) = here.gateway.streams._open
        hold = tunnel._exchange.hold
        assert hold is not None
        here.gateway.holding.holds._tallies.clear()
        assert await hold.grow(Spent(0, 100_000), Spent(0, 1)) is None
        assert not hold.is_short


@pytest.mark.parametrize("was_in_shadow", [False, True])
async def test_a_limit_that_is_changed_is_changed_for_streams_under_way(quick: None, was_in_shadow: bool) -> None:
    """Lifted while one goes on it ends nothing; lowered, or in force again, it does at the next checkpoint."""

    async def listen(peer: ServerConnection) -> None:
        async for _ in peer:
            pass

    async with site(listen, meter="deepgram", dialect="deepgram") as here:
        gateway, (tight, wide) = here.gateway, (limit(What.AUDIO, text) for text in ("15s/month", "33s/month"))
        key = gateway.add_key(allowances=(replace(tight, shadow=was_in_shadow),))
        *_, (place, principal) = gateway.keys.by_digest.items()

        async def change(*allowances: Allowance) -> None:
            gateway.keys.by_digest[place] = replace(principal, allowances=allowances)
            gateway.snapshot.forget(Invalidation())
            gateway.streams.forget(Invalidation())
            (tunnel,) = gateway.streams._open
            now = allowances or (replace(tight, shadow=True),)
            await until(lambda: tuple(one.allowance for one in tunnel._exchange.hold._lease.demands) == now)
            assert tunnel.client.look_at < NEVER or not allowances

        async with here.connect("/v1/listen?encoding=linear16&sample_rate=16000", key=key) as client:
            for change_to in ((), (), (wide,)):
                await change(*change_to)
                for _ in range(3):
                    written = len(gateway.journal.records)
                    with contextlib.suppress(ConnectionClosed):
                        await client.send(bytes(96_000))
                    await until(lambda: len(gateway.journal.records) > written or client.close_code is not None)  # noqa: B023  now
            code, reason = await closed(client)
        await here.settled()
    assert code == 4029
    assert reason is not None
    assert reason.startswith("quota_exceeded: ")
    assert 24_000 <= sum(record.measured.audio_ms for record in gateway.journal.records) <= 27_000


RAW = {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}


@pytest.mark.parametrize(
    ("protocol", "dialect", "first", "is_warned"),
    [
        ("speechmatics", "openai", {"message": "StartRecognition", "audio_format": RAW}, True),
        ("whisperlive", "detail", {"uid": "u1", "audio_format": "int16"}, True),
        ("deepgram", "deepgram", {"type": "KeepAlive"}, False),
    ],
)
async def test_a_stream_that_uses_its_audio_up_is_warned_and_told_what_it_came_to(
    quick: None, protocol: str, dialect: str, first: dict[str, object], is_warned: bool
) -> None:
    """A warning where the protocol has one, a last message, and a close code whose reason has the final usage."""

    async def listen(peer: ServerConnection) -> None:
        async for _ in peer:
            pass

    async with site(listen, meter=protocol, dialect=dialect) as here:
        key, journal = here.gateway.add_key(allowances=(MINUTE,)), here.gateway.journal
        async with here.connect("/v1/listen?encoding=linear16&sample_rate=16000", key=key) as client:
            await client.send(json.dumps(first))
            while client.close_code is None:
                written = len(journal.records)
                with contextlib.suppress(ConnectionClosed):
                    await client.send(bytes(96_000))  # three seconds, and then the next checkpoint
                await until(lambda: len(journal.records) > written or client.close_code is not None)  # noqa: B023  now
            said = [json.loads(message) async for message in drained(client)]
        await here.settled()
    accounted = sum(record.measured.audio_ms for record in journal.records)
    assert ["nearly used up" in str(text) for text in said[:-1]] == [True] * is_warned
    assert said[-1]["usage"] == {"type": "duration", "seconds": accounted / 1000}
    # WhisperLive's client prints "invalid client uid" in place of whatever does not name its session.
    assert all(one.get("uid") == first.get("uid") for one in said)
    assert 48_000 <= accounted <= 60_000
    assert client.close_code == 4029
    assert str(client.close_reason).startswith(f"quota_exceeded: {accounted / 1000:.3f} s of audio. ")


async def test_a_burst_is_stopped_where_the_allowance_ends_and_not_at_the_next_checkpoint() -> None:
    """An hour of audio at once, of which there is a minute: one read and one message more pass at most."""

    async def listen(peer: ServerConnection) -> None:
        async for _ in peer:
            pass

    async with site(listen, meter="deepgram") as here:
        most_beyond = (262_144 + 128_000) // 32
        for allowed, sent in ((MINUTE, 60_000), (limit(What.AUDIO, "2h/month"), 3_600_000)):
            key, journal = here.gateway.add_key(user_id=f"usr_{sent}", allowances=(allowed,)), here.gateway.journal
            async with here.connect("/v1/listen?encoding=linear16&sample_rate=16000", key=key) as client:
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(900):
                        await client.send(bytes(128_000))
            await until(lambda: not here.gateway.holding.holds.held)
            accounted = sum(record.measured.audio_ms for record in journal.records if record.user_id == f"usr_{sent}")
            assert sent - 20_000 <= accounted <= sent + most_beyond
            assert (client.close_code == 4029) == (allowed == MINUTE)


async def test_a_burst_goes_no_further_while_more_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the store takes, and however often the service has room again meanwhile."""
    asked = asyncio.Event()
    answers: list[asyncio.Future[Answer]] = []

    def change(*_: object) -> asyncio.Future[Answer]:
        asked.set()
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    async def listen(peer: ServerConnection) -> None:
        async for _ in peer:
            pass

    async with site(listen, meter="deepgram") as here:
        monkeypatch.setattr(here.gateway.holding.holds, "change", change)
        key = here.gateway.add_key(allowances=(limit(What.AUDIO, "2h/month"),))
        async with here.connect("/v1/listen?encoding=linear16&sample_rate=16000", key=key) as client:
            (tunnel,) = here.gateway.streams._open
            assert tunnel._exchange.hold is not None
            here.gateway.streams.reserve(tunnel, tunnel._exchange.hold, NOTHING_SPENT)  # a checkpoint's, when it begins
            await asked.wait()
            for _ in range(4):
                await client.send(bytes(128_000))
            await until(lambda: tunnel.client.is_ahead)
            tunnel.upstream.pause_writing()
            tunnel.upstream.resume_writing()
            assert not tunnel.client.transport.is_reading()
            for place in range(2):
                await until(lambda place=place: len(answers) > place)
                answers[place].set_exception(Unavailable("Redis is down"))
            await until(tunnel.client.transport.is_reading)


async def drained(client: ClientConnection) -> AsyncIterator[str]:
    """What has come before the end."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield str(await client.recv())


# --- a stock client ---------------------------------------------------------------------------------------------------


async def test_the_official_sdk_sends_a_hopeless_upload_once_and_a_hasty_one_again(gateway: Gateway) -> None:
    """Its own default is two retries of every 429; X-Should-Retry says which are of no use."""
    used_up = gateway.add_key(allowances=(limit(What.AUDIO, "2s/month"),))
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=used_up) as client:
        with pytest.raises(RateLimitError, match="allowance is left") as caught:
            await client.audio.transcriptions.create(model="m", file=("a.wav", wav(30.0)))
    assert caught.value.code == "quota_exceeded"
    assert len(gateway.lines) == 1
    busy = gateway.add_key(allowances=(limit(What.CONCURRENCY, "1"),))
    gate = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: object) -> None:
        await gate.wait()
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"text":"ok"}')

    gateway.upstream.respond = wait
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=busy) as client:
        first = asyncio.ensure_future(client.audio.transcriptions.create(model="m", file=("a.wav", wav(1.0))))  # noqa: TID251
        await until(lambda: bool(gateway.upstream.seen))
        second = asyncio.ensure_future(client.audio.transcriptions.create(model="m", file=("a.wav", wav(1.0))))  # noqa: TID251
        await until(lambda: any(line["code"] == "concurrency_limit_exceeded" for line in gateway.lines))
        gate.set()
        assert [(await one).text for one in (first, second)] == ["ok", "ok"]

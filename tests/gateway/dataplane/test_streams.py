"""WebSockets through the gateway, with real clients and a real upstream."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from gateway.configuration.upstreams import UpstreamSettings
from gateway.dataplane.stream_end import unmasked
from policies.account.usage import AudioSource, Outcome
from policies.http.websocket import masked
from tests.certificates import LOCALHOST, make_certificate
from tests.gateway.harness import Options, running
from tests.gateway.stream_harness import PATH, Site, StreamUpstream, closed, site


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are looked at a hundred times a second: tests need not wait."""
    monkeypatch.setattr("gateway.dataplane.streams._TICK_S", 0.01)


@pytest.fixture
async def here() -> AsyncIterator[Site]:
    async with site() as made:
        yield made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_the_quick_unmasking_is_the_same(data: bytes, key: bytes) -> None:
    assert unmasked(data, key) == masked(data, key)


async def test_messages_pass_both_ways(here: Site) -> None:
    """Text, audio, empty and large ones, in fragments too; and the stream ends as its client ends it."""
    messages: list[str | bytes] = ["hello", bytes(range(256)) * 13, "", b"", "ö" * 50_000, bytes(1_000_000)]
    async with here.connect() as client:
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        await client.send([b"one ", b"two ", b"three"])
        assert await client.recv() == b"one two three"
        assert here.gateway.metrics.open_streams == 1
        assert here.gateway.metrics.inflight == 0
        await client.close(4321, "enough")
    assert (client.close_code, client.close_reason) == (4321, "enough")
    await here.settled()
    assert here.upstream.closes == [(4321, "enough")]
    assert here.gateway.metrics.open_streams == 0
    assert here.gateway.metrics.inflight == 0


async def test_aiohttp_speaks_through_it_too(here: Site) -> None:
    """With compression offered: nobody agrees to it."""
    headers = {"X-API-Key": here.gateway.key}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(here.gateway.url + PATH, headers=headers, compress=15) as client,
    ):
        await client.send_bytes(bytes(5_000))
        assert (await client.receive_bytes()) == bytes(5_000)
        await client.send_str("x" * 70_000)
        assert await client.receive_str() == "x" * 70_000
        assert client.compress == 0
    (request,) = here.upstream.requests
    assert "Sec-WebSocket-Extensions" not in request.headers


async def test_an_upstream_may_speak_tls(tmp_path: Path) -> None:
    """And vanish there too."""
    certificate, secret = make_certificate(tmp_path, LOCALHOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    upstream = StreamUpstream(tls=context)
    await upstream.start()
    settings = UpstreamSettings(
        addresses=(f"https://127.0.0.1:{upstream.port}",), ca_file=certificate, server_name="localhost"
    )
    async with running(Options(upstream_settings=settings)) as gateway:
        here = Site(gateway, upstream)
        async with here.connect() as client:
            for message in ("over tls", bytes(300_000)):
                await client.send(message)
                assert await client.recv() == message

        async def vanish(peer):
            await peer.recv()
            peer.transport.abort()

        upstream.script = vanish
        client = await here.connect()
        await client.send("x")
        assert (await closed(client))[0] == 1014
    await upstream.stop()


async def test_the_record_holds_what_passed(here: Site) -> None:
    async with here.connect() as client:
        await client.send(bytes(3_200))
        await client.recv()
        await client.send("four")
        await client.recv()
    await here.settled()
    (record,) = here.gateway.journal.records
    assert (record.status, record.outcome, record.method, record.attempt) == (101, Outcome.OK, "GET", 1)
    assert (record.bytes_in, record.bytes_out, record.tenant_id) == (3_204, 3_204, "ten_a")
    assert record.upstream_us <= record.duration_us
    (line,) = here.gateway.lines
    assert (line["status"], line["close_code"], line["bytes_in"]) == (101, 1000, 3_204)
    assert here.gateway.metrics.stream_closes == {("1000", "client"): 1}


async def test_who_has_no_key_is_told_before_the_upgrade(here: Site) -> None:
    """The upstream never hears of it."""
    for key, status in ((None, 401), ("thk_live_0000000000000000000000000000", 401)):
        with pytest.raises(InvalidStatus) as caught:
            await here.connect(key=key)
        assert caught.value.response.status_code == status
        assert b"error" in caught.value.response.body
    assert here.upstream.requests == []


async def test_a_peer_that_vanishes_leaves_nothing_open(here: Site) -> None:
    client = await here.connect()
    await client.send("x")
    client.transport.abort()
    await here.settled()
    await here.upstream_closed()
    assert here.upstream.closes[0][0] == 1006
    (record,) = here.gateway.journal.records
    assert record.outcome is Outcome.CLIENT_GONE
    assert record.bytes_in == 1


async def test_an_upstream_that_vanishes_is_told_to_the_client(here: Site) -> None:
    async def vanish(peer):
        await peer.recv()
        peer.transport.abort()

    here.upstream.script = vanish
    client = await here.connect()
    await client.send("x")
    assert '"upstream_gone"' in await client.recv()
    code, reason = await closed(client)
    assert code == 1014
    assert reason == "upstream_gone: The transcription service broke off."
    await here.settled()
    assert here.gateway.journal.records[0].outcome is Outcome.UPSTREAM_FAILED


async def test_the_audio_of_a_stream_is_in_its_record(here: Site) -> None:
    """By the protocol that the route names: base64 in JSON there, binary here, and a keep-alive is free."""
    second = base64.b64encode(bytes(48_000)).decode()
    async with here.connect("/v1/realtime?model=whisper-1") as client:
        for _ in range(2):
            await client.send(json.dumps({"type": "input_audio_buffer.append", "audio": second}))
            await client.recv()
    async with here.connect("/v1/listen?encoding=mulaw&sample_rate=8000") as client:
        for message in (bytes(8_000), '{"type": "KeepAlive"}', bytes(4_000)):
            await client.send(message)
            await client.recv()
    await here.settled(2)
    measured = [record.measured for record in here.gateway.journal.records]
    assert [(one.audio_ms, one.source, one.codec) for one in measured] == [
        (2_000, AudioSource.WALKED, "pcm_s16le"),
        (1_500, AudioSource.WALKED, "pcm_mulaw"),
    ]
    assert measured[0].model == "whisper-1"


async def test_what_was_forwarded_before_a_client_hung_up_is_accounted(here: Site) -> None:
    client = await here.connect("/v1/listen?encoding=linear16&sample_rate=16000")
    await client.send(bytes(32_000))
    await client.recv()
    client.transport.abort()
    await here.settled()
    (record,) = here.gateway.journal.records
    assert (record.outcome, record.measured.audio_ms) == (Outcome.CLIENT_GONE, 1_000)

"""Wound: asynchronous transcription that is free.

Deepgram fetches ``url`` and sends the result to ``callback``; Speechmatics and Gladia do alike. The request carries no
audio and its answer an id, so whoever meters either of them bills nothing, however many hours are transcribed.
"""

import asyncio
import tomllib
from pathlib import Path

import pytest

from gateway.configuration.reserved import ROUTES as RESERVED
from policies.account.usage import AudioSource, Outcome
from policies.routing.route_table import RouteTable
from tests.gateway.harness import Gateway, Options, Seen, running
from tests.gateway.job_service import BY_URL, JSON, answer
from tests.policies.audio.build import wav
from tests.policies.metering.test_elsewhere import PASSES_BY
from tests.storage.waiting import until

LISTEN = "/v1/listen"
CALLBACK = f"{LISTEN}?callback=https%3A%2F%2Fclient.example%2Fdone"
TABLE = Path("config/routes.toml")


async def accepts(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
    writer.write(answer(b'{"request_id": "7f3e"}'))


@pytest.fixture
async def g(gateway: Gateway) -> Gateway:
    gateway.upstream.respond = accepts
    return gateway


@pytest.mark.parametrize("case", PASSES_BY)
async def test_audio_by_url_whose_result_goes_elsewhere_is_refused_and_nobody_works_on_it(
    g: Gateway, case: str
) -> None:
    query, content_type, body = PASSES_BY[case]
    refused = await g.ask("POST", f"{LISTEN}?{query}", [("Content-Type", content_type)], body)
    assert (refused.status, g.lines[0]["code"]) == (403, "callback_not_measured")
    assert not g.upstream.seen
    (record,) = g.journal.records
    assert (record.outcome, record.measured.audio_ms) == (Outcome.DENIED, 0)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_slowly_as_well(g: Gateway, framing: str) -> None:
    """The body comes in two pieces, and the upstream has had the first: it never sees the end."""
    pieces = (b'{"url": "https://cdn.example/a.wav", "call', b'back": "https://client.example"}')
    reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
    size = f"Content-Length: {sum(map(len, pieces))}" if framing == "length" else "Transfer-Encoding: chunked"
    writer.write(f"POST {LISTEN} HTTP/1.1\r\nHost: a\r\nX-API-Key: {g.key}\r\n{size}\r\n\r\n".encode())
    for piece in pieces:
        writer.write(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        await until(lambda: g.upstream.connections > 0)
    async with asyncio.timeout(30):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
    writer.close()
    assert not g.upstream.seen


async def test_an_upload_with_a_callback_is_billed_as_it_was_walked(g: Gateway) -> None:
    """Nothing of its result comes back here, and nothing of it is needed."""
    assert (await g.ask("POST", CALLBACK, [("Content-Type", "audio/wav")], wav(3.0))).status == 200
    (record,) = g.journal.records
    assert (record.measured.audio_ms, record.measured.source) == (3_000, AudioSource.WALKED)


async def test_audio_by_url_is_measured_by_the_answer_that_has_the_result(g: Gateway) -> None:
    """And where that tells no length, it is flagged and counted."""
    assert (await g.ask("POST", LISTEN, JSON, BY_URL)).status == 200
    (record,) = g.journal.records
    assert (record.measured.source, record.measured.discrepant) == (AudioSource.UNMEASURED, True)
    assert g.metrics.unmeasured == {("deepgram.listen",): 1}


async def test_a_route_may_let_them_pass_and_then_they_are_flagged_and_counted() -> None:
    table = tomllib.loads(TABLE.read_text())
    next(route for route in table["routes"] if route["name"] == "deepgram.listen")["unmeasured_callbacks"] = True
    async with running(Options(routes=RouteTable.compile(table).with_own(RESERVED))) as g:
        g.upstream.respond = accepts
        assert (await g.ask("POST", CALLBACK, JSON, BY_URL)).status == 200
        (record,) = g.journal.records
        assert (record.measured.source, record.measured.discrepant) == (AudioSource.UNMEASURED, True)
        assert g.metrics.unmeasured == {("deepgram.listen",): 1}

"""Wound: an upload that was refused when its body was measured had used up one of the period's requests.

In front of a gateway of four workers 500 uploads at one time, of which 19 fitted into what was left of the audio, and
some more tries took all 300 requests of the day, though 74 were served. The account said 74, and so did the counter
once Redis had been restarted.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from policies.account.usage import Outcome
from policies.limits.allowances import Allowance, Scope, What
from tests.gateway.harness import Answer, Gateway, running
from tests.policies.audio.build import wav


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running() as made:
        yield made


def _limit(what: What, text: str) -> Allowance:
    return replace(Allowance.parse(what, text), scope=Scope.KEY)


async def _upload(gateway: Gateway, key: str, body: bytes) -> Answer:
    """Of a length that is not said, so that it is known only when it is measured."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/listen HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\nContent-Type: audio/wav\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
        + body
        + b"\r\n0\r\n\r\n"
    )
    try:
        return Answer.parse(await reader.read())
    finally:
        writer.close()


def _used(gateway: Gateway, name: str) -> int:
    (used,) = (tally.used for key, tally in gateway.holding.holds._tallies.items() if name in key)
    return used or 0


async def test_what_a_limit_refuses_takes_no_request_of_a_period(gateway: Gateway) -> None:
    """As the account has it: what was denied is no request there."""
    key = gateway.add_key(allowances=(_limit(What.AUDIO, "60s/month"), _limit(What.REQUESTS, "3/month")))
    refused = [await _upload(gateway, key, wav(70.0, rate=200)) for _ in range(5)]
    assert {one.status for one in refused} == {429}
    assert {record.outcome for record in gateway.journal.records} == {Outcome.DENIED}
    assert (await _upload(gateway, key, wav(2.0, rate=200))).status == 200
    assert _used(gateway, "requests") == 1
    assert gateway.holding.holds.held == 0


async def test_what_the_upstream_fails_is_a_request_of_the_period(gateway: Gateway) -> None:
    """It was admitted and worked on; its audio is free all the same."""
    await gateway.upstream.stop()
    key = gateway.add_key(allowances=(_limit(What.AUDIO, "60s/month"), _limit(What.REQUESTS, "3/month")))
    assert (await _upload(gateway, key, wav(2.0, rate=200))).status == 502
    assert (_used(gateway, "requests"), _used(gateway, "audio")) == (1, 0)

"""Usage records reach the stream and the endpoint: all of them, with ids that never change, whatever is away."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from gateway.usage_sinks import STREAM, HttpSink, StreamSink, UsageSinks, http_session
from storage.ports import Unavailable
from storage.postgres.pool import Pool
from storage.postgres.usage import PostgresLedger
from storage.postgres.usage_unsent import UsageUnsent
from storage.redis.client import client
from tests.storage.test_ledger import keep
from tests.storage.usage_samples import record


@dataclass
class Endpoint:
    """Somebody's metering service."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """What it answers first; 204 afterwards."""
    requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), json.loads(await request.read())))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204, headers={"Location": "/elsewhere"})

    @property
    def ids(self) -> list[str]:
        return [event["id"] for _, events in self.requests for event in events]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    app = web.Application()
    app.router.add_post("/api/v1/events", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/api/v1/events"))
        yield made


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[Pool]:
    opened = Pool(migrated_url)
    yield opened
    await opened.close()


@pytest.fixture
async def http(endpoint: Endpoint) -> AsyncIterator[HttpSink]:
    async with http_session() as session:
        yield HttpSink(session, endpoint.url, "om_token")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    opened = client(redis_url)
    yield opened
    await opened.aclose()


async def prepared(pool: Pool, *sinks: Any) -> UsageSinks:
    unsent = UsageUnsent(pool, "me")
    await unsent.configure([sink.name for sink in sinks])
    return UsageSinks(sinks, unsent, "https://gw.example")


async def test_records_are_posted_in_batches_of_cloudevents(pool: Pool, http: HttpSink, endpoint: Endpoint) -> None:
    sinks = await prepared(pool, http)
    kept = [record() for _ in range(450)]
    await keep(PostgresLedger(pool), *kept)
    assert await sinks.round(http)
    assert not await sinks.round(http)
    assert [len(events) for _, events in endpoint.requests] == [200, 200, 50]
    assert endpoint.ids == [one.event_id for one in kept]
    headers, (event, *_) = endpoint.requests[0]
    assert headers["Content-Type"] == "application/cloudevents-batch+json"
    assert headers["Authorization"] == "Bearer om_token"
    assert event["source"] == "https://gw.example"
    assert sinks.sent == {"http": 450}
    assert sinks.lags() == {"http": 0.0}


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500, 503])
async def test_what_is_not_answered_with_2xx_is_sent_again_with_the_same_ids(
    pool: Pool, http: HttpSink, endpoint: Endpoint, status: int
) -> None:
    sinks = await prepared(pool, http)
    await keep(PostgresLedger(pool), *(record() for _ in range(250)))
    endpoint.statuses = [204, status]
    with pytest.raises(Unavailable, match=str(status)):
        await sinks.round(http)
    assert sinks.lags()["http"] > 0
    assert sinks.sent == {"http": 0}
    assert await sinks.round(http)
    assert endpoint.ids[:200] == endpoint.ids[250:450]
    assert len(set(endpoint.ids)) == 250


async def test_an_endpoint_that_is_away_costs_the_stream_and_shipping_nothing(pool: Pool, redis: Redis) -> None:
    async with http_session() as session:
        away, stream = HttpSink(session, "http://user:secret@127.0.0.1:1/", ""), StreamSink(redis)
        sinks = await prepared(pool, away, stream)
        await keep(PostgresLedger(pool), record(event_id="evt_1"))
        with pytest.raises(Unavailable) as trouble:
            await sinks.round(away)
        assert "secret" not in str(trouble.value)
        assert await sinks.round(stream)
    ((_, fields),) = await redis.xrange(STREAM)
    assert fields[b"id"] == b"evt_1"
    assert fields[b"type"] == b"audio.transcribed"
    assert json.loads(fields[b"event"])["data"]["audio_ms"] == 2_500


async def test_a_redis_that_is_away_is_waited_for(pool: Pool) -> None:
    nobody = client("redis://127.0.0.1:1/0")
    stream = StreamSink(nobody)
    sinks = await prepared(pool, stream)
    await keep(PostgresLedger(pool), record())
    with pytest.raises(Unavailable):
        await sinks.round(stream)
    assert sinks.lags()["stream"] > 0
    await nobody.aclose()

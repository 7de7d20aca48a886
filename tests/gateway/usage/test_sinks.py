"""Usage records reach the stream and the endpoint: all of them, with ids that never change, whatever is away."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.usage.sinks import STREAM, HttpSink, StreamSink, UsageSinks, http_session
from storage.journal.writer import Journal
from storage.ports import Unavailable
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.postgres.usage.unsent import UsageUnsent
from storage.redis.client import client
from storage.usage_rows import encode
from tests.gateway import sending
from tests.storage.accounts import keep
from tests.storage.usage_samples import record
from tests.storage.waiting import until


@dataclass
class Endpoint:
    """Somebody's metering service."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """What it answers first; 204 afterwards."""
    requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = field(default_factory=list)
    _took: Callable[[], object] = lambda: None

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), json.loads(await request.read())))
        self._took()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204, headers={"Location": "/elsewhere"})

    def kill_at(self, count: int, victim: asyncio.subprocess.Process, late_s: float) -> None:
        """When it has taken so many requests, and before it answers the last one or a little later."""

        def took() -> None:
            if len(self.requests) == count:
                victim.kill() if not late_s else asyncio.get_running_loop().call_later(late_s, victim.kill)

        self._took = took

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, events in self.requests for event in events]

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    app = web.Application()
    app.router.add_post("/api/v1/events", made.take)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/api/v1/events"))
        yield made


@pytest.fixture
async def http(endpoint: Endpoint) -> AsyncIterator[HttpSink]:
    async with http_session() as session:
        yield HttpSink(session, endpoint.url, "om_token")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    opened = client(redis_url)
    yield opened
    await opened.aclose()


async def test_a_database_that_is_away_is_said_once_for_each_reason(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a line every second for as long as it was away."""
    answers = [Unavailable("refused"), Unavailable("refused"), Unavailable("starting up"), Unavailable("starting up")]

    async def configure(_: Sequence[str]) -> Sequence[str]:
        if answers:
            raise answers.pop(0)
        return []

    unsent = UsageUnsent(pool, "me")
    monkeypatch.setattr(unsent, "configure", configure)
    monkeypatch.setattr("gateway.usage.sinks._PAUSE_S", 0.0)
    with capture_logs() as lines:
        await UsageSinks([], unsent, "https://gw.example").run()
    assert [line["reason"] for line in lines] == ["refused", "starting up"]


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


@asynccontextmanager
async def sender(journals: Path, *urls: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ships and sends, killed at the latest here."""
    started = await asyncio.create_subprocess_exec(sys.executable, sending.__file__, str(journals), *urls)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def test_kill_9_of_who_ships_and_sends_passes_nothing_over(
    tmp_path: Path, pool: Pool, endpoint: Endpoint, redis: Redis, migrated_url: str, redis_url: str
) -> None:
    """Also between the endpoint's taking and its answer: each sink has all, and what comes twice is the same."""
    await UsageUnsent(pool, sending.HOLDER).configure(["http", "stream"])
    journal = Journal(tmp_path / "journal")
    kept = [record() for _ in range(3000)]
    for one in kept:
        journal.append(encode(one))
    urls = migrated_url, redis_url, endpoint.url
    for late_s in (0.0, 0.005):
        async with sender(tmp_path / "journal", *urls) as victim:
            endpoint.kill_at(len(endpoint.requests) + 3, victim, late_s)
            await victim.wait()
    assert 0 < len(set(endpoint.ids)) < len(kept)
    journal.close()
    async with sender(tmp_path / "journal", *urls), asyncio.timeout(60):
        await until(lambda: not list((tmp_path / "journal").iterdir()))
        while await pool.read("SELECT FROM platform.usage_unsent"):  # noqa: ASYNC110  nothing would set an event
            await asyncio.sleep(0.01)
    streamed = [json.loads(fields[b"event"]) for _, fields in await redis.xrange(STREAM)]
    for events in (endpoint.events, streamed):
        assert len({json.dumps(event) for event in events}) == len(kept)
        assert {event["id"] for event in events} == {one.event_id for one in kept}
    assert len(endpoint.ids) > len(kept)  # at least once, not exactly: the receiver keeps ids
    assert await PostgresLedger(pool).reconcile() == []


async def test_a_redis_that_is_away_is_waited_for(pool: Pool) -> None:
    nobody = client("redis://127.0.0.1:1/0")
    stream = StreamSink(nobody)
    sinks = await prepared(pool, stream)
    await keep(PostgresLedger(pool), record())
    with pytest.raises(Unavailable):
        await sinks.round(stream)
    assert sinks.lags()["stream"] > 0
    await nobody.aclose()

"""Sends usage records on as CloudEvents: to a Redis stream, to an HTTP endpoint in the shape that OpenMeter takes.

At least once, with the record's own id each time. Sinks know nothing of each other, and shipping nothing of them: one
that is away lags, and its records wait in PostgreSQL.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import aiohttp
import orjson
import structlog
from redis.asyncio import Redis

from gateway.configuration.settings import Settings
from policies.account.usage import UsageRecord
from policies.account.usage_event import usage_event
from storage.ports import StorageError, Unavailable
from storage.postgres.pool import Pool
from storage.postgres.usage.unsent import UsageUnsent
from storage.redis.client import asking, client

_log = structlog.get_logger("gateway.usage_sinks")

STREAM: Final = "platform:usage"
_STREAM_LENGTH: Final = 100_000
_CHUNK: Final = 200
"""Events of one request, and of one pipeline: some hundred kilobytes at the most."""
_TIMEOUT_S: Final = 15.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0

Events = Sequence[Mapping[str, Any]]


class Sink(Protocol):
    """Takes events, all of them or raises Unavailable; then it is asked again with the same, and may get some twice."""

    name: str

    async def send(self, events: Events) -> None:
        """Raises Unavailable."""


class StreamSink:
    """The Redis stream, trimmed to about 100 000: for whoever listens, not for whoever was away."""

    name = "stream"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def send(self, events: Events) -> None:
        """See Sink."""
        with asking():
            async with self._redis.pipeline(transaction=False) as pipe:
                for event in events:
                    fields: dict[Any, Any] = {"id": event["id"], "type": event["type"], "event": orjson.dumps(event)}
                    pipe.xadd(STREAM, fields, maxlen=_STREAM_LENGTH, approximate=True)
                await pipe.execute()


class HttpSink:
    """An endpoint that takes ``application/cloudevents-batch+json`` and says 2xx when it has them."""

    name = "http"

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Content-Type": "application/cloudevents-batch+json", "User-Agent": "tahoe-gateway"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def send(self, events: Events) -> None:
        """See Sink."""
        try:
            async with self._session.post(
                self._url, data=orjson.dumps(events), headers=self._headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Its text may hold the address, and that a password.
            raise Unavailable(f"The endpoint of usage_http_url does not answer: {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise Unavailable(f"The endpoint of usage_http_url answers {status}")


class UsageSinks:
    """``source`` names the installation, the same in every replica."""

    def __init__(self, sinks: Sequence[Sink], unsent: UsageUnsent, source: str) -> None:
        self._sinks = sinks
        self._unsent = unsent
        self._source = source
        self._oldest: dict[str, float] = {}
        self.sent: dict[str, int] = {sink.name: 0 for sink in sinks}

    def lags(self) -> Mapping[str, float]:
        """Seconds, by sink; whichever replica sends. They grow while nobody can say."""
        now = time.time()
        return {name: max(0.0, now - oldest) if oldest else 0.0 for name, oldest in self._oldest.items()}

    async def run(self) -> None:
        """Send until cancelled."""
        await self._configure()
        await asyncio.gather(*(self._serve(sink) for sink in self._sinks))

    async def round(self, sink: Sink) -> bool:
        """Send what is next; whether there was something. Raises StorageError."""
        oldest = await self._unsent.oldest(sink.name)
        self._oldest[sink.name] = oldest.timestamp() if oldest is not None else 0.0
        unsent = await self._unsent.take(sink.name) if oldest is not None else None
        if unsent is None:
            return False
        for chunk in _chunks(unsent.records):
            await sink.send([usage_event(record, self._source) for record in chunk])
        await self._unsent.taken(unsent)
        self.sent[sink.name] += len(unsent.records)
        return True

    async def _configure(self) -> None:
        told = ""
        while True:
            try:
                gone = await self._unsent.configure([sink.name for sink in self._sinks])
            except StorageError as error:
                if (reason := str(error)) != told:
                    _log.warning("usage sinks wait for PostgreSQL", reason=reason)
                    told = reason
                await asyncio.sleep(_PAUSE_S)
                continue
            if gone:
                _log.warning("usage sinks are set no more; what they had not taken was forgotten", sinks=gone)
            return

    async def _serve(self, sink: Sink) -> None:
        pause_s = _PAUSE_S
        while True:
            try:
                if not await self.round(sink):
                    await asyncio.sleep(_PAUSE_S)
            except StorageError as error:
                if pause_s in (_PAUSE_S, _LONGEST_PAUSE_S):
                    _log.warning("a usage sink lags", sink=sink.name, reason=str(error))
            except Exception:  # noqa: BLE001  a fault of ours with one sink must not end the other
                _log.exception("a round of a usage sink failed", sink=sink.name)
            else:
                pause_s = _PAUSE_S
                continue
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _chunks(records: Sequence[UsageRecord]) -> Iterator[Sequence[UsageRecord]]:
    return (records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK))


@contextlib.asynccontextmanager
async def usage_sinks(settings: Settings, pool: Pool, redis_url: str) -> AsyncIterator[UsageSinks]:
    """Those that the settings name, with what they need held open."""
    async with contextlib.AsyncExitStack() as stack:
        sinks: list[Sink] = []
        if settings.usage_stream:
            redis = client(redis_url, most=2)
            stack.push_async_callback(redis.aclose)
            sinks.append(StreamSink(redis))
        if settings.usage_http_url is not None:
            token = settings.usage_http_token.get_secret_value() if settings.usage_http_token is not None else ""
            session = await stack.enter_async_context(http_session())
            sinks.append(HttpSink(session, settings.usage_http_url.get_secret_value(), token))
        # The state directory has one owner at a time: who starts anew in it goes on at once.
        holder = f"{socket.gethostname()}:{settings.state_dir}"
        yield UsageSinks(sinks, UsageUnsent(pool, holder), settings.base_url)


def http_session() -> aiohttp.ClientSession:
    """It keeps no cookies and is not moved by proxies in the environment."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False
    )

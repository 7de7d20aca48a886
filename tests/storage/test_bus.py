"""The promises of storage.ports.Bus, kept by Redis pub/sub."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from storage.ports import Invalidation, Unavailable
from storage.redis.bus import CHANNEL, RedisBus
from tests.storage.waiting import until

ANYTHING = Invalidation()
KEY = Invalidation(tenant_id="ten_a", key_id="key_a")
TENANT = Invalidation(tenant_id="ten_a")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def listening(bus: RedisBus) -> AsyncIterator[AsyncGenerator[Invalidation, None]]:
    """A listener whose subscription is confirmed."""
    async with aclosing(bus.listen()) as changes:
        assert await anext(changes) == ANYTHING
        yield changes


async def subscribers(redis: Redis) -> list[str]:
    return [client["id"] for client in await redis.client_list(_type="pubsub")]


async def test_what_is_published_is_heard_by_every_listener_in_order(redis_url: str) -> None:
    async with listening(RedisBus(redis_url)) as one, listening(RedisBus(redis_url)) as other:
        bus = RedisBus(redis_url)
        for change in (KEY, TENANT, ANYTHING, KEY):
            await bus.publish(change)
        for listener in (one, other):
            assert [await anext(listener) for _ in range(4)] == [KEY, TENANT, ANYTHING, KEY]


async def test_publishing_to_nobody_is_no_error(redis_url: str) -> None:
    await RedisBus(redis_url).publish(KEY)


async def test_a_killed_connection_is_replaced_and_said_so(redis_url: str, redis: Redis) -> None:
    """Something may have been missed meanwhile: every new subscription begins with "anything may have changed"."""
    bus = RedisBus(redis_url)
    async with listening(bus) as changes:
        for _ in range(3):
            for client in await subscribers(redis):
                await redis.client_kill_filter(_id=client)
            assert await anext(changes) == ANYTHING
            await bus.publish(KEY)
            assert await anext(changes) == KEY


async def test_a_listener_waits_for_a_server_that_is_not_there_yet(redis_url: str, tmp_path: Path) -> None:
    """And for one that goes away and comes back, however often."""
    there = tmp_path / "redis"
    async with aclosing(RedisBus(f"unix://{there}").listen()) as changes:
        for _ in range(2):
            waiting = asyncio.get_running_loop().create_task(anext(changes))
            await asyncio.wait([waiting], timeout=0.2)
            assert not waiting.done()
            async with relay(redis_url, there):
                assert await waiting == ANYTHING
                await RedisBus(redis_url).publish(KEY)
                assert await anext(changes) == KEY


async def test_a_server_that_fell_silent_is_given_up(redis_url: str, tmp_path: Path) -> None:
    """A host that vanished sends no reset. A quiet one that is alive is kept."""
    there = tmp_path / "redis"
    async with relay(redis_url, there) as line, listening(RedisBus(f"unix://{there}", quiet=0.3)) as changes:
        waiting = asyncio.get_running_loop().create_task(anext(changes))
        await until(lambda: line.heard.count(b"PING") >= 2)
        assert not waiting.done()
        assert line.connections == 1
        line.mute()
        assert await waiting == ANYTHING
        assert line.connections == 2


@pytest.mark.parametrize(
    "message",
    ["", "nonsense", "[]", "null", "7", '"x"', "{}", '{"tenant_id": "a"}', '{"tenant_id": 1, "key_id": 2}',
     '{"tenant_id": null, "key_id": "a"}', b"\xff\xfe", "[" * 100_000, '{"tenant_id": "a", "key_id": ["b"]}'],
)  # fmt: skip
async def test_what_cannot_be_understood_means_anything(redis_url: str, redis: Redis, message: str | bytes) -> None:
    async with listening(RedisBus(redis_url)) as changes:
        await redis.publish(CHANNEL, message)
        assert await anext(changes) == ANYTHING


async def test_fields_of_a_newer_release_are_no_obstacle(redis_url: str, redis: Redis) -> None:
    async with listening(RedisBus(redis_url)) as changes:
        await redis.publish(CHANNEL, json.dumps({"tenant_id": "ten_a", "key_id": "key_a", "shade": "blue"}))
        assert await anext(changes) == KEY


async def test_other_channels_are_not_heard(redis_url: str, redis: Redis) -> None:
    async with listening(RedisBus(redis_url)) as changes:
        await redis.publish(f"{CHANNEL}:other", "x")
        await RedisBus(redis_url).publish(KEY)
        assert await anext(changes) == KEY


async def test_closing_the_iterator_ends_the_connection(redis_url: str, redis: Redis) -> None:
    async with listening(RedisBus(redis_url)):
        assert len(await subscribers(redis)) == 1
    await gone(redis)


async def test_cancelling_the_listener_ends_the_connection(redis_url: str, redis: Redis) -> None:
    subscribed = asyncio.Event()

    async def listen() -> None:
        async for _ in RedisBus(redis_url).listen():
            subscribed.set()

    task = asyncio.get_running_loop().create_task(listen())
    await subscribed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(redis)


async def gone(redis: Redis) -> None:
    while await subscribers(redis):  # noqa: ASYNC110  the event is in the server
        await asyncio.sleep(0)


async def test_a_cancelled_publisher_leaves_no_connection_behind(redis_url: str, redis: Redis) -> None:
    """One reply behind is somebody else's reply (CVE-2023-28858): nothing that was cancelled is used again."""
    loop = asyncio.get_running_loop()
    bus = RedisBus(redis_url)
    async with listening(bus) as changes:
        for step in range(40):
            task = loop.create_task(bus.publish(TENANT))
            loop.call_later(step / 10_000, task.cancel)
            await asyncio.gather(task, return_exceptions=True)
        await bus.publish(KEY)
        heard = [await anext(changes)]
        while heard[-1] != KEY:
            heard.append(await anext(changes))
        assert set(heard) <= {KEY, TENANT}
    while len(await redis.client_list()) > 1:  # noqa: ASYNC110  the event is in the server
        await asyncio.sleep(0)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nonexistent/redis", "redis://no.such.host.invalid"])
async def test_publishing_to_a_dead_server_is_unavailable(url: str) -> None:
    with pytest.raises(Unavailable, match="cannot be told"):
        await RedisBus(url).publish(KEY)


async def test_publishing_to_a_silent_server_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        bus = RedisBus(f"redis://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.1)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable):
            await bus.publish(KEY)
        assert asyncio.get_running_loop().time() - began < 10


async def test_a_wrong_password_is_unavailable_and_not_shown(redis_url: str) -> None:
    scheme, rest = redis_url.split("://")
    with pytest.raises(Unavailable) as told:
        await RedisBus(f"{scheme}://nobody:sesame@{rest}").publish(KEY)
    assert "sesame" not in str(told.value)


async def test_options_in_the_address_do_not_make_the_bus_deaf(redis_url: str) -> None:
    mark = "&" if "?" in redis_url else "?"
    bus = RedisBus(f"{redis_url}{mark}protocol=3&decode_responses=True&max_connections=3&socket_timeout=0.01")
    async with listening(bus) as changes:
        await bus.publish(KEY)
        assert await anext(changes) == KEY


@pytest.mark.parametrize("url", ["http://127.0.0.1", "", "127.0.0.1:6379", "redis://127.0.0.1?colour=green"])
def test_a_bad_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://|Redis address"):
        RedisBus(url)


class Relay:
    """Hands bytes on in both directions until it is muted; connections made later are heard again."""

    def __init__(self, redis_url: str) -> None:
        self.connections = 0
        self.heard = b""
        self._redis = Redis.from_url(redis_url).connection_pool.connection_kwargs
        self._writers: list[asyncio.StreamWriter] = []
        self._muted: set[asyncio.StreamWriter] = set()

    def mute(self) -> None:
        """Lose, from now on, what arrives on the connections that are open."""
        self._muted.update(self._writers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        if "path" in self._redis:
            far_reader, far_writer = await asyncio.open_unix_connection(self._redis["path"])
        else:
            far_reader, far_writer = await asyncio.open_connection(self._redis["host"], self._redis["port"])
        self._writers += [writer, far_writer]
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                if writer not in self._muted:
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def relay(redis_url: str, path: Path) -> AsyncIterator[Relay]:
    """A Unix socket at ``path`` that leads to Redis."""
    made = Relay(redis_url)
    server = await asyncio.start_unix_server(made.serve, path)
    try:
        yield made
    finally:
        server.close()
        path.unlink()
        made.cut()

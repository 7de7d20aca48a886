"""Wound: an address that takes requests and answers none was given one every five seconds for as long as it stayed so.

The answer to an upload may take ten minutes, so nothing is heard of a trial for that long: more than a hundred requests
hung at a dead address while a healthy one had little to do.
"""

import asyncio
import contextlib

from policies.routing.upstreams import Rules
from tests.gateway.harness import RecordingUpstream
from tests.gateway.upstreams.test_addresses import in_front_of, recorders
from tests.storage.waiting import until

ASIDE_S = 0.05


async def test_trials_that_nobody_answers_come_later_and_later() -> None:
    """The fifth comes after fifteen times the first pause, not after four; other requests are answered elsewhere."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with recorders(2) as (dead, good), in_front_of(dead, good) as gateway, asyncio.TaskGroup() as clients:
        loop, upstreams = asyncio.get_running_loop(), gateway.upstreams
        upstreams._rules = Rules(faults=1, aside_s=ASIDE_S)
        dead.respond = never
        (pool,) = (one for one in upstreams.addresses if one.address.endswith(f":{dead.port}"))
        upstreams.failed(pool, TimeoutError("no answer in time"))  # type: ignore[arg-type]
        asked, began = [], None
        while len(dead.seen) < 5:
            asked.append(clients.create_task(gateway.ask()))
            await until(lambda: len(dead.seen) + len(good.seen) == len(asked))
            began = began or (loop.time() if dead.seen else None)
        assert began is not None
        assert loop.time() - began > ASIDE_S * (1 + 2 + 4 + 8) * 0.9
        waiting = [task for task in asked if not task.done()]
        for task in waiting:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting)
        assert {task.result().status for task in asked if not task.cancelled()} == {200}


async def test_with_all_checks_failing_the_address_that_answers_is_found() -> None:
    """The first one in the list breaks every request; the health path of both is at fault."""

    async def hang_up(_: object, writer: asyncio.StreamWriter, __: object) -> None:
        writer.close()

    async def unwell(_: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        if not head.startswith(b"GET /health"):
            return False
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True

    async with recorders(2) as (bad, good):
        bad.respond = hang_up
        for one in (bad, good):
            one.early = unwell
        settings = {"health_path": "/health", "health_interval": 0.1, "health_timeout": 1.0}
        async with in_front_of(bad, good, **settings) as gateway:
            await until(lambda: not any(pool.health.passing for pool in gateway.upstreams.addresses))
            statuses = [(await gateway.ask()).status for _ in range(10)]
        assert (statuses.count(502), len(bad.seen)) == (1, 1)
        assert _served(good) == 9


def _served(upstream: RecordingUpstream) -> int:
    return sum(seen.target == "/v1/models" for seen in upstream.seen)

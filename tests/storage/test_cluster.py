"""Limits on a Redis Cluster: a command never spans slots, and goes to the node that has its slot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from policies.limits.allowances import Allowance, What
from policies.limits.holding import Demand, Spent
from policies.limits.rates import Charge, Rate
from storage.redis.counters import RedisCounters
from storage.redis.holds import RedisHolds
from storage.redis.nodes import slot_of
from tests.ports import free_port
from tests.storage.own_redis import OwnRedis, own_redis

SHARES = ((0, 5_460), (5_461, 10_922), (10_923, 16_383))


async def _state(node: Redis) -> bytes:
    return await node.execute_command("CLUSTER", "INFO")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[OwnRedis]]:
    """Three nodes, each with a third of the slots."""
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            nodes.append(
                await stack.enter_async_context(
                    own_redis(directory, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
                )
            )
        clients = [await stack.enter_async_context(node.client()) for node in nodes]
        for client, (first, last) in zip(clients, SHARES, strict=True):
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, client in zip(nodes[1:], clients[1:], strict=True):
            bus = dict(await client.config_get("cluster-port"))["cluster-port"]
            await clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.tcp_url.rpartition(":")[2], bus)
        async with asyncio.timeout(60):
            for client in clients:
                while "cluster_state:ok" not in str(await _state(client)):  # noqa: ASYNC110  a cluster tells nobody
                    await asyncio.sleep(0.02)
        yield nodes


def test_slots_are_those_of_the_specification() -> None:
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"rate:{ten_a}") == slot_of(b"limit:{ten_a}::audio:") == slot_of(b"ten_a")
    assert slot_of(b"{}x") == slot_of(b"{}x")
    assert slot_of(b"{}x") != slot_of(b"")


async def test_takes_of_many_tenants_are_exact_on_a_cluster_and_follow_its_slots(cluster: list[OwnRedis]) -> None:
    """In one loop iteration, from whichever node the URL names; the first ones are redirected, later ones are not.

    While a slot moves, and when it has moved, the old node says where it is.
    """
    charges = [(Charge("limit", f"rate:{{ten_{n}}}", Rate(3, 86_400_000)),) for n in range(12)]
    assert len({slot_of(one.key.encode()) * 3 // 16_384 for (one,) in charges}) == 3
    for node in cluster:
        counters = RedisCounters(node.tcp_url, timeout=10.0)
        answers = await asyncio.gather(*(counters.take(one) for one in charges))
        assert {answer.levels[0].remaining for answer in answers} == {2 - cluster.index(node)}
        await counters.close()
    counters = RedisCounters(cluster[0].tcp_url, timeout=10.0)
    answers = await asyncio.gather(*(counters.take(one) for one in charges * 2))
    assert all(answer.refused_by is not None for answer in answers)
    assert len(counters._nodes._slots) >= 6
    await counters.close()

    counters = RedisCounters(cluster[0].tcp_url, timeout=10.0)
    charges = (Charge("limit", "rate:{moving}", Rate(5, 86_400_000)),)
    slot = slot_of(b"moving")
    assert (await counters.take(charges)).levels[0].remaining == 4
    source = next(n for n, (first, last) in enumerate(SHARES) if first <= slot <= last)
    target = (source + 1) % 3
    async with cluster[source].client() as old, cluster[target].client() as new:
        (old_id, new_id) = [str(await one.execute_command("CLUSTER", "MYID"), "ascii") for one in (old, new)]
        await new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        await old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        port = cluster[target].tcp_url.rpartition(":")[2]
        await old.execute_command("MIGRATE", "127.0.0.1", port, "rate:{moving}", 0, 5_000)
        assert (await counters.take(charges)).levels[0].remaining == 3  # ASK
        for one in (new, old):
            await one.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        assert (await counters.take(charges)).levels[0].remaining == 2  # MOVED
        assert (await counters.take(charges)).levels[0].remaining == 1
    await counters.close()


async def _ends(cluster: list[OwnRedis]) -> dict[bytes, float]:
    """When each lease ends, by the key that holds it."""
    ends = {}
    for node in cluster:
        async with node.client() as client:
            for key in await client.keys("*:held"):
                ((_, ends[key]),) = await client.zrange(key, 0, -1, withscores=True)
    return ends


async def test_leases_and_quotas_are_held_on_a_cluster(cluster: list[OwnRedis]) -> None:
    holds = RedisHolds(cluster[0].tcp_url, lease_s=3.0, timeout=10.0)
    month = Allowance.parse(What.AUDIO, "100s/month")
    leases = []
    for n in range(6):
        wanted = (
            Demand(Allowance.parse(What.CONCURRENCY, "1"), f"limit:{{ten_{n}}}::concurrency:", 1),
            Demand(month, f"limit:{{ten_{n}}}::audio::month:2026-11-01", 60_000, 4_000_000_000_000),
        )
        assert (await holds.hold(wanted)).answer.unknown
        await holds.tell(wanted[1], 10_000)
        leases.append((wanted, (await holds.hold(wanted)).lease))
    ends = await _ends(cluster)
    assert len(ends) == 2 * len(leases)
    async with asyncio.timeout(30):
        while not all(later > ends[one] for one, later in (await _ends(cluster)).items()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # until every node was told to renew its own
    for wanted, lease in leases:
        refused = await holds.hold(wanted)
        assert refused.lease is None
        assert [figure.left for figure in refused.answer.figures] == [0, 30_000]
        lease.settle(Spent(audio_ms=30_000))
    while holds._owed:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for wanted, _ in leases:
        assert [figure.left for figure in (await holds.look(wanted)).figures] == [1, 60_000]
    await holds.close()

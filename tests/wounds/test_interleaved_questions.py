"""Wound: an answer that is another client's, a limit that counts too little, where a proxy asks for many at once.

A proxy's connections carry the questions of all its clients in turn. Chance decides who asks on which connection, what
comes in pieces or in rows, when the limiter answers, late or not at all, whose key is revoked meanwhile or changed, and
when a connection breaks. Whoever is told yes is told of itself, and may; what was said is what was recorded.
"""

import asyncio
import ipaddress
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from policies.identity.principals import Standing
from policies.limits.rates import Charge, Rate, Taken
from storage.ports import Invalidation, Unavailable, Waiter
from tests.gateway.dataplane.test_recall import question
from tests.gateway.dataplane.test_repeats import Errands, answer
from tests.gateway.harness import Answer, Gateway, Options, running
from tests.storage.waiting import until

KEYS, CONNECTIONS, TURNS, BURST = 8, 5, 200, 130


class Limiter:
    """The gateway's counters, with answers that come when chance has it."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self._count = gateway.counters.take_now
        self._chance = chance
        self.lost = 0

    def take_for(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        loop, fate = asyncio.get_running_loop(), self._chance.random()
        if fate < 0.5:
            self._tell(charges, waiter)
        elif fate < 0.97:
            loop.call_later(self._chance.random() / 500, self._tell, charges, waiter)
        else:
            self.lost += 1
            loop.call_soon(self._fail, waiter)

    async def take(self, charges: tuple[Charge, ...]) -> Taken:
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self.take_for(charges, future)
        return await future

    def _tell(self, charges: tuple[Charge, ...], waiter: Waiter[Taken]) -> None:
        if not waiter.done():
            waiter.set_result(self._count(charges))

    @staticmethod
    def _fail(waiter: Waiter[Taken]) -> None:
        if not waiter.done():
            waiter.set_exception(Unavailable("Redis is down"))


@dataclass
class Client:
    """One of the proxy's: its key, and whether it may. ``tenant`` changes when its key does."""

    number: int
    key: str
    digest: bytes
    tenant: str
    data: bytes
    good: bool = True
    admitted: Counter[str] = field(default_factory=Counter)
    """By tenant: each has a limit of its own."""

    def check(self, said: Answer) -> None:
        """It was told of itself alone, and yes only if it may."""
        if said.status == 200:
            assert self.good
            self.admitted[self.tenant] += 1
            assert (said["x-api-key-id"], said["x-tenant-id"]) == (f"key_{self.number + 2}", self.tenant)
        else:
            assert not said.all("x-tenant-id")
            assert said["x-auth-status"] == ("429" if self.good else "401")


class World:
    """A gateway, a proxy's clients, and what they were told."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        self.gateway, self.chance = gateway, chance
        self.ids: list[str] = []
        self.broken = 0
        self.clients = [self._client(number) for number in range(KEYS)]
        self.changing = asyncio.Lock()

    def _client(self, number: int) -> Client:
        known = set(self.gateway.keys.by_digest)
        key = self.gateway.add_key(tenant_id=f"ten_{number}", key_rate=Rate(BURST, 86_400_000))
        (digest,) = set(self.gateway.keys.by_digest) - known
        return Client(number, key, digest, f"ten_{number}", question(self.gateway, key=key))

    async def connection(self) -> None:
        """One of the proxy's connections; it comes again when it breaks."""
        left = TURNS
        while left:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
            try:
                while left:
                    left -= 1
                    if self.chance.random() < 0.03:
                        writer.write(self.chance.choice(self.clients).data)
                        writer.transport.abort()
                        self.broken += 1
                        break
                    async with self.changing:  # nobody's key changes while the question is out
                        pass
                    await self._ask(reader, writer)
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 1 if self.chance.random() < 0.97 else self.chance.randrange(2, 5)
        row = self.chance.choices(self.clients[: KEYS // 2] * 3 + self.clients, k=number)
        data = b"".join(client.data for client in row)
        cut = self.chance.randrange(1, len(data)) if self.chance.random() < 0.1 else len(data)
        self.asking += 1
        try:
            writer.write(data[:cut])
            if cut < len(data):
                await asyncio.sleep(0)
                writer.write(data[cut:])
            for client in row:
                said = await answer(reader)
                client.check(said)
                self.ids.append(said["x-request-id"])
        finally:
            self.asking -= 1

    asking = 0

    async def change(self) -> None:
        """Now and then a key is revoked, good again, or another tenant's; told over the bus, as ever."""
        for done in range(10):
            await until(lambda goal=done: len(self.ids) > goal * 80)  # type: ignore[misc]
            async with self.changing:
                await until(lambda: not self.asking)
                client = self.chance.choice(self.clients)
                keys = self.gateway.keys.by_digest
                if self.chance.random() < 0.5:
                    client.good = not client.good
                else:
                    client.tenant += "x"
                standing = Standing.GOOD if client.good else Standing.REVOKED
                keys[client.digest] = replace(keys[client.digest], standing=standing, tenant_id=client.tenant)
                self.gateway.snapshot.forget(Invalidation())


@pytest.mark.parametrize("seed", range(3))
async def test_each_is_told_of_itself_and_what_was_said_is_what_was_recorded(seed: int) -> None:
    chance = random.Random(seed)
    async with running(Options(trusted=(ipaddress.ip_network("127.0.0.1/32"),))) as gateway:
        errands, world, limiter = Errands(gateway), World(gateway, chance), Limiter(gateway, chance)
        gateway.proxy._gatekeeper._counters = limiter  # type: ignore[assignment]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(world.connection())
            tasks.create_task(world.change())
        await until(lambda: not gateway.metrics.inflight)
        assert errands.begun > len(world.ids) / 10
        assert len(set(world.ids)) == len(world.ids)
        records, lines = {r.request_id: r for r in gateway.journal.records}, gateway.lines
        assert set(world.ids) <= {str(line["request_id"]) for line in lines}
        assert len(world.ids) <= len(lines) <= len(world.ids) + world.broken
        assert {str(line["door"]) for line in lines} == {"forward_auth"}
        assert set(world.ids) <= set(records)
        for client in world.clients:
            assert all(yes <= BURST + limiter.lost for yes in client.admitted.values())
        figures = gateway.metrics.route("openai.models")
        assert sum(figures.requests.values()) == len(lines)

"""What is settled within one turn of the loop is journalled before any answer of that turn, whoever comes first."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.dataplane.exchange import Caller, Exchange
from gateway.dataplane.settlement import Settlement
from gateway.outbox import Outbox
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from policies.identity.principals import Method, Principal, Standing
from policies.routing.routes import Access, Route
from storage.journal.writer import JournalFull
from storage.usage_rows import decode

ROUTE = Route(name="models", path="/v1/models", methods=("GET",), access=Access.CREDENTIAL, scope="transcribe")
ACME = Principal(
    method=Method.API_KEY, standing=Standing.GOOD, tenant_id="acme", tenant_slug="acme", user_id="", key_id="key",
    scopes=frozenset({"transcribe"}),
)  # fmt: skip


class World:
    """A settlement and everything that it writes to, in the order in which it happens; journal and client too."""

    def __init__(self, log: Path, room: int) -> None:
        self.happened: list[str] = []
        self.room = room
        self.log = log
        self.metrics = Metrics()
        self.access_log = AccessLog(os.open(log, os.O_WRONLY), self.metrics)
        self.settlement = Settlement(self.metrics, self.access_log, self, "test-")
        self.outbox = Outbox(self.settlement.write_down)

    def append(self, row: bytes) -> None:
        """As the journal: there is room, or there is none."""
        if self.append_all([row]) == 0:
            raise JournalFull("there is no room")

    def append_all(self, rows: Sequence[bytes]) -> int:
        """The first ones, as long as there is room."""
        kept = rows[: self.room]
        self.room -= len(kept)
        self.happened += [f"record of {decode(row).request_id}" for row in kept]
        return len(kept)

    def flush(self) -> None:
        """As a client's connection: the answer leaves."""
        self.happened.append("answer")

    def lines(self) -> list[dict[str, object]]:
        """The access log so far."""
        self.settlement.tell()
        self.access_log.flush()
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    log = tmp_path / "log"
    log.touch()
    return World(log, getattr(request, "param", 100))


def exchange(name: str) -> Exchange:
    made = Exchange(name, "GET", "/v1/models", Caller("192.0.2.1", "curl"))
    made.route, made.principal, made.status = ROUTE, ACME, 200
    return made


def unwanted(_: Exchange) -> None:
    pytest.fail("this answer has a record")


async def test_the_records_of_a_turn_come_before_its_answers(world: World) -> None:
    """Whoever asked first: what a client has seen complete is in the journal."""
    for name in ("one", "two", "three"):
        world.outbox.put(world)
        world.settlement.settle_soon(exchange(name), unwanted)
    assert not world.happened
    await asyncio.sleep(0)
    assert world.happened == ["record of one", "record of two", "record of three", "answer", "answer", "answer"]
    assert [line["request_id"] for line in world.lines()] == ["one", "two", "three"]


async def test_whoever_cannot_wait_for_the_end_of_the_turn_has_the_records_first_as_well(world: World) -> None:
    world.settlement.settle_soon(exchange("one"), unwanted)
    world.outbox.put(world)
    world.outbox.flush()
    assert world.happened == ["record of one", "answer"]
    await asyncio.sleep(0)
    assert world.happened == ["record of one", "answer"]


async def test_each_is_settled_once_however_often_it_is_told(world: World) -> None:
    one = exchange("one")
    for _ in range(2):
        world.settlement.settle_soon(one, unwanted)
        world.settlement.settle(one)
    await asyncio.sleep(0)
    world.settlement.settle(one)
    await asyncio.sleep(0)
    assert world.happened == ["record of one"]
    assert len(world.lines()) == 1


@pytest.mark.parametrize("world", [2], indirect=True)
async def test_those_whose_records_have_no_room_are_told_of_in_the_log(world: World) -> None:
    for name in ("one", "two", "three", "four"):
        world.settlement.settle_soon(exchange(name), unwanted)
    await asyncio.sleep(0)
    assert world.happened == ["record of one", "record of two"]
    assert [(line["request_id"], "cause" in line) for line in world.lines()] == [
        ("one", False), ("two", False), ("three", True), ("four", True),
    ]  # fmt: skip
    assert world.metrics.journal_full[("record",)] == 2


async def test_an_answer_whose_record_cannot_be_made_is_retracted_and_no_other(world: World) -> None:
    """A bug with one request is not the others' price, and never a yes without a record: ``test_bugs_never_pass``."""
    retracted: list[Exchange] = []
    faulty = exchange("faulty")
    faulty.path = None  # type: ignore[assignment]  the bug
    world.settlement.settle_soon(exchange("one"), unwanted)
    world.settlement.settle_soon(faulty, retracted.append)
    world.settlement.settle_soon(exchange("two"), unwanted)
    await asyncio.sleep(0)
    assert world.happened == ["record of one", "record of two"]
    assert retracted == [faulty]

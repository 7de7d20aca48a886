"""The account through a minute in which everything is killed: what clients saw acknowledged, no more and no less."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.accounted import Polls, Traffic, audio_of, service
from tests.e2e.running import Process, children, command, command_line, serving

LASTS_S = 60.0
REQUESTS = 20_000
PAUSES_S = 0.5, 4.5
EXPORT = "usage", "export", "--from", "1d", "--tenant"
VICTIMS = {
    "worker": "-m gateway.processes.worker",
    "portal": "-m gateway.processes.portal",
    "postgres": "bin/postgres -D",
    "session": "postgres: ",
    "valkey": "valkey-server",
}


@dataclass
class Blows:
    """Kills at random, workers three times as often, and what was in flight at each."""

    gateway: Process
    traffic: Traffic
    polls: Polls
    chance: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    at_risk: set[str] = field(default_factory=set)
    polls_at_risk: set[str] = field(default_factory=set)
    _next: list[str] = field(default_factory=list)

    def strike(self) -> None:
        """``kill -9`` for one process of one kind, if one is there."""
        if not self._next:
            self._next = [*VICTIMS, "worker", "worker"]
            self.chance.shuffle(self._next)
        kind = self._next.pop()
        pids = [pid for pid in children(self.gateway.process.pid) if VICTIMS[kind] in command_line(pid)]
        if pids:
            self.at_risk |= self.traffic.in_flight  # nothing is sent between this line and the kill
            self.polls_at_risk |= self.polls.in_flight
            os.kill(self.chance.choice(pids), signal.SIGKILL)
            self.struck[kind] += 1


async def a_minute_of_murder(traffic: Traffic, polls: Polls, blows: Blows) -> None:
    clock = asyncio.get_running_loop().time
    until = clock() + LASTS_S

    def killing() -> bool:
        return clock() < until or blows.struck.keys() != VICTIMS.keys()

    async with asyncio.timeout(4 * LASTS_S), asyncio.TaskGroup() as group:
        group.create_task(traffic.run())
        group.create_task(polls.run())
        while killing() or len(traffic.answered) < REQUESTS:
            if killing():
                blows.strike()
            await asyncio.sleep(blows.chance.uniform(*PAUSES_S))
        traffic.stop()
        polls.stop()


def told(state: Path, *words: str) -> str:
    """What a command says."""
    done = command(state, *words)
    assert "Not in these figures" not in done.stderr
    return done.stdout


def compare(traffic: Traffic, blows: Blows, rows: list[dict[str, Any]]) -> None:
    """Answers and records, one by one."""
    of = {row["request_id"]: row for row in rows}
    assert len(of) == len(rows) == len({row["event_id"] for row in rows})
    for name, status in traffic.answered.items():
        if status == 200 or name in of:  # what the gateway refused before it knew who asked is in no account
            assert (of[name]["status"], of[name]["audio_ms"]) == (status, audio_of(name) if status == 200 else 0)
    unanswered = of.keys() - traffic.answered.keys()
    assert unanswered <= traffic.cut & blows.at_risk
    assert len(unanswered) <= len(traffic.cut) <= traffic.clients * blows.struck["worker"]


def compare_polls(polls: Polls, blows: Blows, rows: list[dict[str, Any]]) -> None:
    """The same for requests whose ids are the gateway's, so that those of unanswered ones are not known."""
    of = {row["request_id"]: row["status"] for row in rows}
    assert len(of) == len(rows) == len({row["event_id"] for row in rows})
    for name, status in polls.answered.items():
        if status == 200 or name in of:
            assert of[name] == status
    assert len(of.keys() - polls.answered.keys()) <= len(polls.cut & blows.polls_at_risk)
    assert Counter(polls.answered.values())[200] >= REQUESTS / 10


@pytest.mark.timeout(5 * LASTS_S)
async def test_the_ledger_is_what_clients_saw_through_a_minute_of_kill_9(tmp_path: Path) -> None:
    """20 000 requests: an answer that arrived whole has one record, with its status and its audio to the millisecond.

    A record without an answer is of a request that was in flight when a worker was killed: at most one for each of the
    connections. Beside them others poll, the same bytes each time, which the gateway serves in a way of its own.
    """
    state = tmp_path / "state"
    async with service() as upstream:
        with serving(state, upstream, workers="2") as (gateway, url, key):
            told(state, "limits", "set", "--tenant", "a", "--requests", "9000000/m", "--audio", "90000h/d")
            told(state, "tenant", "create", "b")
            told(state, "limits", "set", "--tenant", "b", "--requests", "9000000/m")
            key_b = json.loads(told(state, "key", "create", "--tenant", "b", "--name", "polls", "--json"))["key"]
            port = int(url.rpartition(":")[2])
            traffic, polls = Traffic(port, key), Polls(port, key_b, clients=4, rate=100.0)
            blows = Blows(gateway, traffic, polls, random.Random(6))
            await a_minute_of_murder(traffic, polls, blows)
            rows, polled = ([json.loads(line) for line in told(state, *EXPORT, tenant).splitlines()] for tenant in "ab")
            books = json.loads(told(state, "usage", "reconcile", "--json"))
    assert books == {"agree": True, "differences": []}
    assert len(traffic.answered) >= REQUESTS
    compare(traffic, blows, rows)
    compare_polls(polls, blows, polled)

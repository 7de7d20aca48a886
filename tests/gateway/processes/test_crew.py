"""The workers: started, watched, started again; what one of them counted before it was killed stays counted."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.configuration.blueprint import Blueprint
from gateway.configuration.sources import load
from gateway.processes import crew as crew_module
from gateway.processes import members as members_module
from gateway.processes.control import Gone
from gateway.processes.crew import Crew
from gateway.processes.members import Process, StartFailed
from gateway.processes.serving import Farewell
from gateway.processes.sockets import listen, listen_privately, port_of
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from storage.ports import Invalidation
from tests.storage.waiting import until

AUTOGROUP = Path("/proc/self/autogroup")
REFUSED = ("missing_credential",)
ASK = b"GET /v1/models HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n"


def blueprint(tmp_path: Path, workers: int) -> Blueprint:
    """Stores that are not there: workers start without them, and refuse who sends no credential all the same."""
    settings = load({"workers": workers, "state_dir": tmp_path, "drain_timeout": 60, "log_level": "warning"}, None, {})
    return Blueprint(settings, "postgresql://127.0.0.1:1/none", "redis://127.0.0.1:1", "s" * 40)


def test_a_blueprint_arrives_as_it_was(tmp_path: Path) -> None:
    """Over JSON; secrets, networks, rates and paths included."""
    settings = load(
        {
            "state_dir": tmp_path, "secret_key": "correct-horse-battery-staple-0123456789", "default_requests": "600/m",
            "trusted_proxies": "10.0.0.0/8,::1", "routes_file": "/etc/r.toml", "database_url": "postgresql://u:p@h/d",
            "redis_url": "rediss://:p@h", "upstream": "unix:/run/asr.sock", "upstream_timeout": 1.5,
        }, None, {},
    )  # fmt: skip
    sent = Blueprint(settings, "postgresql://u:p@h/d", "rediss://:p@h", "s" * 40)
    assert Blueprint.from_message(orjson.loads(orjson.dumps(sent.to_message()))) == sent


# --- real processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


async def ask(port: int) -> bytes:
    """One request without a credential."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    answer = await reader.read()
    writer.close()
    return answer


async def status(port: int, path: str) -> int:
    """The status of a page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK.replace(b"/v1/models", path.encode()))
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def counted(crew: Crew) -> int:
    """What the page would say."""
    return (await crew.metrics()).denials[REFUSED]


async def test_a_killed_worker_is_replaced_and_no_counter_goes_down(tmp_path: Path, tasks: Tasks) -> None:
    """Requests go on being answered; the figures of the dead one are kept, once; draining ends all of them."""
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        crew = Crew(blueprint(tmp_path, 2), [listening], tasks)
        await crew.start()
        assert crew.up() == {"1": True, "2": True}
        port = port_of(listening)
        for _ in range(20):
            assert (await ask(port)).startswith(b"HTTP/1.1 401 ")
        assert await counted(crew) == 20
        crew.forget(Invalidation(tenant_id="ten_a"))

        killed = crew._members[0]
        with capture_logs() as log:
            os.kill(killed._process.pid, signal.SIGKILL)
            seen = [await counted(crew)]
            while crew._members[0] is killed or not crew._members[0].up:
                seen.append(await counted(crew))
                await asyncio.sleep(0.01)
            await until(lambda: len(log) == 2)
        assert seen == [20] * len(seen)
        assert [line["event"] for line in log] == ["worker died", "worker started"]
        assert log[0]["exit_status"] == -signal.SIGKILL
        for _ in range(10):
            assert (await ask(port)).startswith(b"HTTP/1.1 401 ")
        assert await counted(crew) == 30

        processes = [member._process for member in crew._members]
        await crew.drain()
        assert [process.returncode for process in processes] == [0, 0]
        assert crew.up() == {"1": False, "2": False}


async def test_who_waits_for_a_worker_that_is_starved_is_answered_at_the_end(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It declines when it comes to it: figures are not waited for so long, but the close would reset its queue."""
    monkeypatch.setattr(members_module, "_FIGURES_S", 0.0)
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        crew = Crew(blueprint(tmp_path, 1), [listening], tasks)
        await crew.start()
        (worker,) = crew._members
        assert (await ask(port_of(listening))).startswith(b"HTTP/1.1 401 ")
        os.kill(worker._process.pid, signal.SIGSTOP)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listening))
        writer.write(ASK)
        asyncio.get_running_loop().call_later(0.1, os.kill, worker._process.pid, signal.SIGCONT)
        await crew.decline()
        listening.shutdown(socket.SHUT_RDWR)
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        writer.close()
        await crew.drain()


async def test_without_processes_the_one_worker_is_in_the_parent(tmp_path: Path, tasks: Tasks) -> None:
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening:
        crew = Crew(blueprint(tmp_path, 0), [listening], tasks)
        await crew.start()
        assert crew.up() == {"0": True}
        assert (await ask(port_of(listening))).startswith(b"HTTP/1.1 401 ")
        assert await counted(crew) == 1
        assert await counted(crew) == 1
        crew.forget(Invalidation())
        await crew.drain()
        assert crew.up() == {"0": False}
        assert await counted(crew) == 1


async def test_a_worker_that_cannot_be_started_is_a_sentence(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members_module.sys, "executable", "/nowhere/python")
    with pytest.raises(StartFailed, match="worker 1 could not be started: No such file or directory"):
        await Crew(blueprint(tmp_path, 1), [], tasks).start()


async def test_a_worker_that_dies_at_once_is_a_sentence(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members_module.sys, "executable", "/bin/false")
    with pytest.raises(StartFailed, match="worker 1 ended with status 1 as it started"):
        await Crew(blueprint(tmp_path, 1), [], tasks).start()


# --- processes that do as they are told -------------------------------------------------------------------------------


@dataclass
class Puppet:
    """A worker process: it starts, dies and answers when a test says so."""

    number: int
    startable: bool = True
    figures: dict[str, Any] | None = None
    count: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False
    streams_ended: bool = False
    kind: str = "worker"

    @property
    def up(self) -> bool:
        """Whether it serves."""
        return self.startable and not self.dead.is_set()

    async def open(self) -> None:
        """Start."""
        if not self.startable:
            self.dead.set()
            raise StartFailed("no")

    async def accept(self, numbers: Sequence[int]) -> None:
        """Listen."""
        self.accepting = True
        self.sockets = list(numbers)

    async def decline(self) -> None:
        """Stop listening."""
        self.accepting = False

    def kill(self) -> None:
        """End at once."""
        self.dead.set()

    async def ask_figures(self) -> None:
        """As a process is asked."""
        if self.up:
            metrics = Metrics()
            metrics.denials[REFUSED] = self.count
            metrics.inflight = 1
            self.figures = metrics.snapshot()

    def forget(self, _: Invalidation) -> None:
        """Nothing is known."""

    async def ended(self) -> int:
        """Wait for the end."""
        await self.dead.wait()
        return -9

    def end_streams(self) -> None:
        """Whoever was replaced ends them when the next change is due."""
        self.streams_ended = True

    async def drain(self, farewell: Farewell) -> None:
        """End."""
        self.drained = True
        self.farewell = farewell
        self.dead.set()


@dataclass
class Puppets:
    """A crew of them; ``made`` in the order of their starts."""

    crew: Crew
    made: list[Puppet] = field(default_factory=list)
    startable: bool = True
    startable_after: int | None = None
    """Only so many of all that are made can be started."""


@pytest.fixture
async def puppets(tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> Puppets:
    monkeypatch.setattr(crew_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(crew_module, "_LONGEST_PAUSE_S", 0.04)
    made = Puppets(Crew(blueprint(tmp_path, 2), [], tasks))

    def make(_: Blueprint, number: int) -> Puppet:
        startable = made.startable and (made.startable_after is None or len(made.made) < made.startable_after)
        made.made.append(Puppet(number, startable))
        return made.made[-1]

    monkeypatch.setattr(made.crew, "_make", make)
    await made.crew.start()
    return made


async def test_a_counter_never_goes_down_through_any_number_of_deaths(puppets: Puppets) -> None:
    """Between a death and the next start a process is still a member: it must not be counted as living and as dead."""
    last = 0
    for turn in range(1, 6):
        for puppet in puppets.made[-2:]:
            puppet.count += 10 * turn
        now = await counted(puppets.crew)
        assert now == last + 20 * turn
        last = now
        starts = len(puppets.made)
        victims = puppets.made[-2:]
        for victim in victims:
            victim.dead.set()
        while len(puppets.made) < starts + 2 or not all(puppets.crew.up().values()):
            assert await counted(puppets.crew) == last
            await asyncio.sleep(0)
        figures = await puppets.crew.metrics()
        assert (figures.denials[REFUSED], figures.inflight) == (last, 2)


async def test_a_worker_that_will_not_come_up_is_tried_again_later_and_later(puppets: Puppets) -> None:
    puppets.startable = False
    with capture_logs() as log:
        puppets.made[0].dead.set()
        await until(lambda: len(puppets.made) >= 6)
        assert puppets.crew.up() == {"1": False, "2": True}
        puppets.startable = True
        await until(lambda: all(puppets.crew.up().values()))
    assert {line["event"] for line in log} == {"worker died", "worker did not start", "worker started"}


async def test_nothing_is_started_while_the_crew_drains(puppets: Puppets) -> None:
    """Also when a worker died a moment before, and its pause is not over."""
    puppets.made[0].dead.set()
    await asyncio.sleep(0)
    await puppets.crew.drain()
    await asyncio.sleep(0.03)
    assert len(puppets.made) == 2
    assert all(puppet.drained for puppet in puppets.made)


async def test_others_stand_in_for_a_worker_that_is_down(puppets: Puppets) -> None:
    """Its socket's queue is served meanwhile; when it is back it has its socket for itself again."""
    puppets.crew._sockets = [socket.socket(), socket.socket()]
    for one in puppets.crew._sockets:
        one.close()
    await puppets.crew._spread()
    first, second = puppets.made
    assert (first.sockets, second.sockets) == ([0], [1])
    puppets.startable = False
    first.dead.set()
    await until(lambda: second.sockets == [0, 1])
    puppets.startable = True
    await until(lambda: second.sockets == [1])
    assert puppets.made[-1].sockets == [0]


@pytest.mark.parametrize(
    ("workers", "sockets", "shares"),
    [
        (0, 1, [[0]]),
        (2, 2, [[0], [1]]),
        (3, 2, [[0], [1], [0]]),
        (2, 5, [[0, 2, 4], [1, 3]]),
        (1, 3, [[0, 1, 2]]),
    ],
)
def test_every_socket_has_a_worker_and_every_worker_a_socket(
    tmp_path: Path, tasks: Tasks, workers: int, sockets: int, shares: list[list[int]]
) -> None:
    """Also after a reload that changed the number of workers: sockets are made at the start alone."""
    crew = Crew(blueprint(tmp_path, workers), [None] * sockets, tasks)
    members = [Puppet(number) for number in (range(1, workers + 1) if workers else [0])]
    assert [crew._sockets_of(member) for member in members] == shares


async def test_replaced_workers_leave_when_the_new_ones_serve_and_stay_counted(
    puppets: Puppets, tmp_path: Path
) -> None:
    """All new ones are let in, then all old ones drained; no figure is lost, none of the old is started again."""
    for puppet in puppets.made:
        puppet.count = 10
    assert await counted(puppets.crew) == 20
    old = list(puppets.made)
    await puppets.crew.replace(blueprint(tmp_path, 3))
    fresh = puppets.made[2:]
    assert [puppet.accepting for puppet in fresh] == [True] * 3
    await puppets.crew.left()
    assert all(puppet.streams_ended for puppet in old)
    await until(lambda: not puppets.crew._leaving)
    assert all(puppet.drained for puppet in old)
    assert not any(puppet.drained for puppet in fresh)
    assert await counted(puppets.crew) == 20
    assert puppets.crew.up() == {"1": True, "2": True, "3": True}
    assert len(puppets.made) == 5


async def test_one_new_worker_that_does_not_come_up_changes_nothing(puppets: Puppets, tmp_path: Path) -> None:
    """The others that had come up are ended, and the old ones are kept alive as before."""
    puppets.startable_after = 3
    with pytest.raises(StartFailed):
        await puppets.crew.replace(blueprint(tmp_path, 2))
    assert [puppet.up for puppet in puppets.made] == [True, True, False, False]
    assert not puppets.made[0].drained
    assert puppets.crew.up() == {"1": True, "2": True}
    puppets.startable_after = None
    puppets.made[0].dead.set()
    await until(lambda: len(puppets.made) == 5 and puppets.made[4].accepting)


async def test_a_worker_that_dies_while_others_are_made_ready_comes_back_or_makes_room(
    puppets: Puppets, tmp_path: Path
) -> None:
    """Whatever is started for it, the new ones are what serves in the end, and nothing stays behind."""
    puppets.made[0].dead.set()
    await puppets.crew.replace(blueprint(tmp_path, 2))
    await puppets.crew.left()
    serving = [puppet for puppet in puppets.made if puppet.up]
    assert len(serving) == 2
    assert all(puppet.accepting for puppet in serving)


async def test_figures_that_arrive_after_the_death_are_not_counted_twice(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is retired with what it said last before its end was noticed."""

    class Channel:
        async def ask(self, *_: object) -> dict[str, Any]:
            process._process.returncode = -9
            return {"late": True}

    @dataclass
    class Ended:
        returncode: int | None = None

    process = Process(blueprint(tmp_path, 1), [], 1, tasks)
    process._process, process._channel, process.figures = Ended(), Channel(), {"early": True}
    process._ready.set()
    await process.ask_figures()
    assert process.figures == {"early": True}


async def test_a_worker_that_does_not_answer_keeps_its_last_figures(tmp_path: Path, tasks: Tasks) -> None:
    class Channel:
        async def ask(self, *_: object) -> None:
            raise Gone("no answer")

    process = Process(blueprint(tmp_path, 1), [], 1, tasks)
    process._process, process._channel, process.figures = type("P", (), {"returncode": None})(), Channel(), {"early": 1}
    process._ready.set()
    await process.ask_figures()
    assert process.figures == {"early": 1}


async def test_the_portal_is_kept_alive_beside_the_workers(tmp_path: Path, tasks: Tasks) -> None:
    """It is no worker; killed it comes back on the same socket, and its death stops no worker."""
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening, listen_privately(tmp_path, "portal.sock") as private:
        made = replace(blueprint(tmp_path, 1), portal_socket=private.getsockname())
        crew = Crew(made, [listening], tasks, private)
        await crew.start()
        assert crew.up() == {"1": True}
        await crew.ping_portal()
        first = crew._members[-1]
        os.kill(first._process.pid, signal.SIGKILL)
        assert await status(port_of(listening), "/auth/nix") in (404, 502)
        await until(lambda: crew._members[-1] is not first and crew._members[-1].up)
        await crew.ping_portal()
        assert await status(port_of(listening), "/auth/nix") == 404
        await crew.drain()
        with pytest.raises(Gone):
            await crew.ping_portal()
        assert crew._members[-1]._process.returncode == 0


def _niceness(pid: int) -> int:
    """Of the process's session (sched(7)): ``/autogroup-14 nice 0``."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])


@pytest.mark.skipif(
    not AUTOGROUP.exists() or not AUTOGROUP.read_text(),
    reason="this kernel does not weigh sessions (sched(7), autogroup)",
)
async def test_the_portal_weighs_less_than_a_worker(tmp_path: Path, tasks: Tasks) -> None:
    """As a session of its own: what hashes passwords gives way to requests, and nobody else's niceness changes."""
    ours = _niceness(os.getpid())
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening, listen_privately(tmp_path, "portal.sock") as private:
        crew = Crew(replace(blueprint(tmp_path, 1), portal_socket=private.getsockname()), [listening], tasks, private)
        await crew.start()
        worker, portal = (member._process.pid for member in crew._members)
        assert [os.getsid(worker), os.getsid(portal)] == [worker, portal]
        assert [_niceness(worker), _niceness(portal)] == [0, 10]
        assert _niceness(os.getpid()) == ours
        await crew.drain()


async def test_without_processes_the_portal_is_in_the_parent_too(tmp_path: Path, tasks: Tasks) -> None:
    with listen("127.0.0.1:0", "GATEWAY_LISTEN") as listening, listen_privately(tmp_path, "portal.sock") as private:
        crew = Crew(replace(blueprint(tmp_path, 0), portal_socket=private.getsockname()), [listening], tasks, private)
        await crew.start()
        await crew.ping_portal()
        assert await status(port_of(listening), "/auth/nix") == 404
        await crew.drain()
        with pytest.raises(Gone):
            await crew.ping_portal()

"""The workers and the portal: started, watched, started again when they die, replaced, asked for figures, drained."""

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence

import structlog

from gateway.configuration.blueprint import Blueprint
from gateway.processes.members import InProcess, Member, PortalProcess, Process, StartFailed
from gateway.processes.serving import Farewell
from gateway.tasks import Tasks
from gateway.telemetry.metrics import Metrics
from storage.ports import Invalidation

_log = structlog.get_logger("gateway.crew")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 10.0
"""A worker that lived this long was well: its death starts the back-off anew."""
_LAST_CALL_S = 1.0
"""At the end: how long an unused connection stays open for a request that may be on its way."""
_FAREWELL_S = 10.0
"""The same when others have taken over and nobody waits for the end."""
_CLOSING_S = 4.0
"""What the close handshakes of streams may take of the drain time."""


class Crew:
    """All workers, and the portal if it is given a socket. With ``workers = 0`` there is one, and no process."""

    def __init__(
        self,
        blueprint: Blueprint,
        sockets: list[socket.socket],
        tasks: Tasks,
        portal_socket: socket.socket | None = None,
    ) -> None:
        self._blueprint = blueprint
        self._sockets = sockets
        self._tasks = tasks
        self._portal_socket = portal_socket
        self._members: list[Member] = []
        """The workers, and the portal last."""
        self._leaving: list[Member] = []
        self._retired = Metrics()
        self._draining = False
        self._opening: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    # --- beginning, and beginning anew -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all, and return when all serve. Raises StartFailed."""
        self._members = self._make_all(self._blueprint)
        await asyncio.gather(*(member.open() for member in self._members))
        await self._let_in(self._members)

    async def replace(self, blueprint: Blueprint) -> None:
        """Put others in the place of all, made after another blueprint; no connection is lost by it.

        The new ones share the listening sockets with the old ones, whose queues outlive both. They are let at them when
        all are ready; the old ones are drained in the background, see :meth:`left`. Raises StartFailed, and then
        nothing has changed.
        """
        async with self._changing:
            if self._draining:
                raise StartFailed("the gateway is being stopped")
            fresh = self._make_all(blueprint)
            self._opening = asyncio.get_running_loop().create_task(_open_in_turn(fresh), name="opening of new workers")
            try:
                await self._opening
            except asyncio.CancelledError:
                raise StartFailed("the gateway is being stopped") from None
            finally:
                self._opening = None
            old, self._members, self._blueprint = self._members, fresh, blueprint
            self._leaving += old
            await self._let_in(fresh, instead_of=old)
            self._tasks.start(self._see_off(old, blueprint.settings.drain_timeout), "farewell to the old workers")

    async def _let_in(self, members: Sequence[Member], instead_of: Sequence[Member] = ()) -> None:
        """The portal first: what workers ask of it goes to the new one, and nothing is on its way when the old ends."""
        for member in members:
            if member.kind == "portal":
                await member.accept([0])
                for old in instead_of:
                    if old.kind == "portal":
                        await old.decline()
        await self._spread()
        for member in members:
            self._tasks.start(self._keep(member), f"keeper of {member.kind} {member.number}")

    async def _spread(self) -> None:
        """Every worker that is up accepts from its own sockets, and from those of workers that are not."""
        workers = [member for member in self._members if member.kind == "worker"]
        orphaned = {number for member in workers if not member.up for number in self._sockets_of(member)}
        for member in workers:
            if member.up:
                await member.accept(sorted({*self._sockets_of(member), *orphaned}))

    def _sockets_of(self, member: Member) -> list[int]:
        """A member's sockets, by their places in the list.

        After a reload there may be more workers than sockets, or fewer.
        """
        workers, place = max(1, self._blueprint.settings.workers), max(0, member.number - 1)
        own = [number for number in range(len(self._sockets)) if number % workers == place]
        return own or [place % len(self._sockets)] if self._sockets else []

    async def _see_off(self, old: Sequence[Member], drain_s: float) -> None:
        """Streams go on for nearly as long as requests may: whoever is in the midst of a call can come to its end."""
        farewell = Farewell(within_s=drain_s, idle_s=_FAREWELL_S, streams_s=max(0.0, drain_s - _CLOSING_S))
        for kind in ("worker", "portal"):
            await asyncio.gather(*(member.drain(farewell) for member in old if member.kind == kind))

    async def left(self) -> None:
        """Wait until all that were replaced have ended. Their streams are not waited for: they end now."""
        self._end_old_streams()
        await asyncio.gather(*(member.ended() for member in self._leaving))

    def _end_old_streams(self) -> None:
        for member in self._leaving:
            member.end_streams()

    def _make_all(self, blueprint: Blueprint) -> list[Member]:
        count = blueprint.settings.workers
        if not count:
            return self._make_in_process(blueprint)
        members: list[Member] = [self._make(blueprint, number) for number in range(1, count + 1)]
        if self._portal_socket is not None:
            members.append(PortalProcess(blueprint, [self._portal_socket], 1, self._tasks))
        return members

    def _make_in_process(self, blueprint: Blueprint) -> list[Member]:
        from gateway.processes.worker import Worker  # noqa: PLC0415  with processes the parent needs none of it

        members: list[Member] = [InProcess(Worker(blueprint, self._sockets), "worker")]
        if self._portal_socket is not None:
            from gateway.processes.portal import Portal  # noqa: PLC0415  the same

            members.append(InProcess(Portal(blueprint, [self._portal_socket]), "portal"))
        return members

    def _make(self, blueprint: Blueprint, number: int) -> Member:
        return Process(blueprint, self._sockets, number, self._tasks)

    # --- watching ----------------------------------------------------------------------------------------------------

    async def _keep(self, member: Member) -> None:
        """Start a member again whenever it dies, later and later while that keeps happening."""
        pause = _FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            status = await member.ended()
            self._retire(member)
            if self._draining or member not in self._members:
                return
            _log.error(f"{member.kind} died", worker=member.number, exit_status=status)
            await self._spread()
            if time.monotonic() - started > _STEADY_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause)
            if self._draining or member not in self._members:
                return
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            member = await self._restart(member)

    async def _restart(self, dead: Member) -> Member:
        fresh = self._make_again(dead)
        self._members[self._members.index(dead)] = fresh
        try:
            await fresh.open()
        except StartFailed as error:
            _log.error(f"{fresh.kind} did not start", worker=fresh.number, reason=str(error))
            return fresh
        if fresh in self._members:
            await (self._spread() if fresh.kind == "worker" else fresh.accept([0]))
            _log.info(f"{fresh.kind} started", worker=fresh.number)
        return fresh

    def _make_again(self, dead: Member) -> Member:
        if dead.kind == "portal":
            assert self._portal_socket is not None
            return PortalProcess(self._blueprint, [self._portal_socket], dead.number, self._tasks)
        return self._make(self._blueprint, dead.number)

    def _retire(self, member: Member) -> None:
        if member.figures is not None:
            self._retired.merge(member.figures, alive=False)
            member.figures = None  # counted once, though it stays a member until another takes its place
        if member in self._leaving:
            self._leaving.remove(member)

    # --- questions ---------------------------------------------------------------------------------------------------

    def up(self) -> Mapping[str, bool]:
        """Each worker by number, and whether it serves."""
        return {str(member.number): member.up for member in self._members if member.kind == "worker"}

    async def ping_portal(self) -> None:
        """Whether the portal answers. Raises Gone."""
        for member in self._members:
            if member.kind == "portal":
                await member.ping()

    async def metrics(self) -> Metrics:
        """The figures of all that live, leave or died, merged."""
        await asyncio.gather(*(member.ask_figures() for member in self._all()))
        merged = Metrics()
        merged.merge(self._retired.snapshot(), alive=False)
        for member in self._all():
            if member.figures is not None:
                merged.merge(member.figures, alive=member.up)
        return merged

    def _all(self) -> list[Member]:
        return [*self._members, *self._leaving]

    def forget(self, change: Invalidation) -> None:
        """Tell every worker of a change."""
        for member in self._all():
            member.forget(change)

    # --- the end -----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End all workers now; what they had journalled is in the account all the same."""
        for member in self._all():
            member.kill()

    async def decline(self) -> None:
        """Let nobody take a new connection, so that the listening socket can be closed under them."""
        self._draining = True
        if self._opening is not None:
            self._opening.cancel()
        async with self._changing:
            await asyncio.gather(*(member.decline() for member in self._members if member.kind == "worker"))

    async def drain(self) -> None:
        """End all, politely first. What is being made ready is not waited for."""
        await self.decline()
        async with self._changing:
            farewell = Farewell(within_s=self._blueprint.settings.drain_timeout, idle_s=_LAST_CALL_S)
            self._end_old_streams()
            for kind in ("worker", "portal"):  # the portal last: what workers have in flight may be its to answer
                await asyncio.gather(*(member.drain(farewell) for member in self._members if member.kind == kind))
            await self.left()


async def _open_in_turn(members: Sequence[Member]) -> None:
    """One after the other: those that serve need the processor meanwhile. Nothing is left of them if one fails."""
    try:
        for member in members:
            await member.open()
    except BaseException:
        for member in members:
            member.kill()
        await asyncio.gather(*(member.drain(Farewell(within_s=0.0, idle_s=0.0)) for member in members))
        raise

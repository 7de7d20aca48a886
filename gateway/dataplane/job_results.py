"""Results that nobody asks for: the gateway asks for them itself, so that the account is told how long their audio was.

A job by URL is accounted from its result. When nine tenths of its time are over and no client has had that, the service
is asked as the client would ask it, once an hour until it tells: on the route with ``job_done``, with the upstream's
credential and the identity of whoever made the job. What was never told is written down as unmeasured in the end. A job
whose audio was uploaded is asked about when it is a day old as well: it may have failed, and is free then.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from random import uniform

import structlog

from gateway.dataplane.jobs import Jobs, JobState
from gateway.telemetry.metrics import Metrics
from gateway.upstreams.addresses import Upstream
from gateway.upstreams.failures import UpstreamError
from policies.http.headers import identity
from policies.identity.principals import Method, Principal, Standing
from policies.jobs import Job, Ownership, path_of, results_of
from policies.routing.route_table import RouteTable
from policies.routing.routes import Route
from storage.ports import JobBook, StorageError

_log = structlog.get_logger("gateway.jobs")

_LOOK_S = 60.0
_ANSWER_S = 60.0
"""How long an answer may take, all of it."""


class JobResults:
    """One worker's share; the book gives each job to one worker at a time."""

    def __init__(
        self,
        jobs: Jobs,
        book: JobBook,
        routes: RouteTable,
        upstreams: Mapping[str, Upstream],
        metrics: Metrics,
        assertion: Callable[[Principal, str], str],
    ) -> None:
        self._jobs = jobs
        self._book = book
        self._routes = results_of(routes.routes)
        self._upstreams = upstreams
        self._metrics = metrics
        self._assertion = assertion
        """Signs for a principal and an upstream."""

    async def run(self) -> None:
        """Look again and again, for ever, where the table has jobs at all."""
        silent = False
        while self._routes:
            await asyncio.sleep(_LOOK_S * uniform(0.8, 1.2))  # noqa: S311  not in step with the other workers
            try:
                await self.look()
                silent = False
            except StorageError as error:
                if not silent:
                    _log.warning("results of jobs cannot be looked after; tried again soon", reason=str(error))
                silent = True

    async def look(self) -> None:
        """Ask for what is due, and close what is over. Raises StorageError."""
        for job, ownership in await self._book.unheard():
            route = self._routes.get(job.kind)
            if route is not None:
                await self._ask(route, job, ownership)
        for job, ownership, record in await self._book.lower_noted():
            self._jobs.taken_back(job, ownership, record)
        for job, ownership in await self._book.close_overdue():
            self._jobs.count(job.kind, "never_told")
            self._metrics.unmeasured[(ownership.route,)] += 1
            _log.warning(
                "nobody asked for a job's result, and its service did not tell: its audio is not measured",
                kind=job.kind, job_id=job.id, tenant_id=ownership.tenant_id,
            )  # fmt: skip

    async def _ask(self, route: Route, job: Job, ownership: Ownership) -> None:
        path, request_id = path_of(route, job), uuid.uuid4().hex
        if not path:
            return
        state = JobState(self._jobs, route, job, ownership, None, request_id)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._hear(route, self._question(route, path, ownership, request_id), state)
        except (UpstreamError, TimeoutError) as error:
            reason = str(error) or f"no whole answer within {_ANSWER_S:g} s"
            _log.warning("a job's result cannot be asked for now", kind=job.kind, job_id=job.id, reason=reason)

    async def _hear(self, route: Route, question: bytes, state: JobState) -> None:
        """Raises UpstreamError. What is not a good answer tells nothing."""
        connection = await self._upstreams[route.upstream].take(new=True)
        try:
            connection.begin(question % connection.pool.host_line, bodyless_answer=False, idle_s=route.idle_s)
            connection.flush()
            await connection.answered()
            if not 200 <= connection.status < 300:
                return
            while not state.is_told and (piece := await connection.read()):
                state.feed(piece)
            await state.conclude()
        finally:
            connection.close()

    def _question(self, route: Route, path: str, ownership: Ownership, request_id: str) -> bytes:
        """The request's head, with a place for the lines of the connection."""
        maker = Principal(
            method=Method.NONE,
            standing=Standing.GOOD,
            tenant_id=ownership.tenant_id,
            tenant_slug="",
            user_id=ownership.user_id,
            key_id=ownership.key_id,
            scopes=frozenset({route.scope}),
        )
        signed = self._assertion(maker, route.upstream)
        lines = [
            "User-Agent: tahoe-gateway",
            "Accept-Encoding: identity",
            "Connection: close",
            f"X-Request-ID: {request_id}",
            *(f"{name}: {value}" for name, value in identity(maker, signed).items() if value),
        ]
        head = "".join(f"{line}\r\n" for line in lines) + "\r\n"
        return f"GET {path} HTTP/1.1\r\n".encode().replace(b"%", b"%%") + b"%b" + head.encode().replace(b"%", b"%%")

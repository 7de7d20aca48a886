"""Jobs that a service works on: whose each one is, and what is accounted when it is done.

Who made a job is stored before the client has seen its id whole, so that no worker says 404 to its maker; and a job
that came without its audio (by URL) is accounted before the client has seen the first answer that holds the result,
once, whichever worker it passes and however often. Until then such an answer is held, up to a bound; all others pass as
ever.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.telemetry.metrics import Metrics
from gateway.upstreams.connection import UpstreamConnection
from policies.account.usage import AudioSource, Measured, Outcome, UsageRecord
from policies.admission import Admit, Hold
from policies.audio.sources import most_held_ms
from policies.authorise import Permit
from policies.corrections import Added, Lowered, still_counted, told
from policies.http.verdict import Deny, Refusal
from policies.jobs import (
    Job,
    Ownership,
    Picker,
    id_in,
    is_done,
    is_pending,
    is_settled,
    name_of,
    named_in,
    record_of,
    refusal_of,
    state_of,
)
from policies.limits.holding import NOTHING_SPENT, Demand, Spent
from policies.routing.routes import Route
from storage.ports import JobBook, StorageError

_log = structlog.get_logger("gateway.jobs")

_MOST_KNOWN = 10_000
_FRESH_S = 1.0
"""How long an owner that was read is believed: when a service gives an id twice the first one must not read on."""
_HELD_NEW = 65_536
"""Bytes of an answer in which the id of a new job is looked for."""
_HELD_STATE = 1_048_576
"""Bytes held of an answer until it is known what is to be accounted; beyond them it passes while it is read."""


class Repayer(Protocol):
    """Where limits are counted."""

    def repay(self, amounts: Sequence[tuple[Demand, int]]) -> None:
        """See :meth:`storage.redis.holds.RedisHolds.repay`."""


class NewJob:
    """Reads the answer that makes a job, and stores whose it is."""

    __slots__ = (
        "_body_bytes", "_goes_elsewhere", "_hold", "_jobs", "_measure", "_permit", "_picker", "_request_id",
        "is_pending", "name",
    )  # fmt: skip

    most = _HELD_NEW
    goes_on = False

    def __init__(
        self,
        jobs: "Jobs",
        permit: Permit,
        measure: Callable[[], Measured],
        hold: Hold | None,
        request_id: str,
        *,
        body_bytes: int,
        goes_elsewhere: bool,
    ) -> None:
        self._body_bytes = body_bytes
        self._hold = hold
        self._jobs = jobs
        self._permit = permit
        self._measure = measure
        self._goes_elsewhere = goes_elsewhere
        self.is_pending = False
        """Whether the job's own record tells its audio, so that this request's need not."""
        self.name = ""
        """The job that this request made, as its record has it."""
        self._request_id = request_id
        self._picker = Picker((permit.route.job,))

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        self._picker.feed(chunk)

    @property
    def is_told(self) -> bool:
        """Whether nothing more needs to be read."""
        return bool(self._picker.found)

    async def conclude(self) -> Deny | None:
        """Store whose it is; a refusal in place of the answer where that cannot be done."""
        route, principal = self._permit.route, self._permit.principal
        job = Job(route.job_kind, id_in(self._picker.found.get(route.job)))
        if not job.id:
            self._jobs.count(job.kind, "unrecognised")
            _log.warning("a new job's id is not where the route says", route=route.name, request_id=self._request_id)
            return None
        measured = self._measure()
        ownership = Ownership(
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            route=route.name,
            accounted_ms=measured.audio_ms,
            floor_ms=measured.audio_ms if measured.source is AudioSource.WALKED else measured.walked_ms or 0,
            most_ms=most_held_ms(self._body_bytes),
            model=measured.model,
            channels=measured.channels,
            counted=self._hold.audio if self._hold is not None else (),
            made_ms=int(time.time() * 1000),
            settled=is_settled(measured),
            pending=is_pending(measured, goes_elsewhere=self._goes_elsewhere),
        )
        deny = await self._jobs.bind(job, ownership, self._permit, self._request_id)
        if deny is None:
            self.name = name_of(job)
        self.is_pending = ownership.pending and deny is None
        return deny


class JobState:
    """Reads what a service says of a job that is not settled, and settles it when it is done."""

    __slots__ = ("_hold", "_job", "_jobs", "_ownership", "_picker", "_request_id", "_route")

    most = _HELD_STATE
    goes_on = True
    is_pending = False
    name = ""

    def __init__(
        self, jobs: "Jobs", route: Route, job: Job, ownership: Ownership, hold: Hold | None, request_id: str
    ) -> None:
        self._hold = hold
        self._jobs = jobs
        self._route = route
        self._job = job
        self._ownership = ownership
        self._request_id = request_id
        self._picker = Picker((state_of(route), route.job_audio))

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        if not self.is_told:
            self._picker.feed(chunk)

    @property
    def is_told(self) -> bool:
        """Whether nothing more needs to be read: it is not done, or done with a length."""
        state = self._picker.found.get(state_of(self._route))
        return state is not None and (not is_done(self._route, state) or self._route.job_audio in self._picker.found)

    async def conclude(self) -> Deny | None:
        """Settle it if it is done; a refusal in place of the answer where that cannot be done."""
        found = self._picker.found
        state = found.get(state_of(self._route))
        if state is None:
            self._jobs.count(self._job.kind, "unrecognised")
        due = told(self._route, self._ownership, state, found.get(self._route.job_audio))
        if due is None:
            return None
        if isinstance(due, Lowered):
            return await self._jobs.lower(self._job, self._ownership, due)
        settled = await self._jobs.settle(self._job, self._ownership, due, self._request_id)
        if isinstance(settled, Deny):
            return settled
        if settled and self._hold is not None and due.measured is not None:
            self._hold.settle(Spent(due.measured.audio_ms, 0))
        return None


class Latecomer:
    """Reads on in an answer that was too long to be held, after the bytes that were read already."""

    __slots__ = ("_again", "_watch")

    reported_ms = tokens = None

    def __init__(self, watch: NewJob | JobState, again: int) -> None:
        self._watch = watch
        self._again = again

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer, from its beginning."""
        known, self._again = self._again, max(self._again - len(chunk), 0)
        if known < len(chunk):
            self._watch.feed(chunk[known:])

    async def conclude(self, *, whole: bool) -> None:
        """The answer has passed ``whole``, or has ended early: settle what is known."""
        if whole or self._watch.is_told:
            await self._watch.conclude()


async def hear(watch: NewJob | JobState, upstream: UpstreamConnection) -> Deny | Latecomer | None:
    """Hold an answer, up to a bound, until what it says of the job is stored. It can be read from its beginning again.

    Gives a refusal to be sent in its place, or who has to read on in it while it passes. Raises UpstreamError.
    """
    held = bytearray()
    while not watch.is_told and len(held) < watch.most and (piece := await upstream.read()):
        watch.feed(piece)
        held += piece
    late = None
    if watch.is_told or upstream.body_done or not watch.goes_on:
        deny = await watch.conclude()
        if deny is not None:
            return deny
    else:
        late = Latecomer(watch, len(held))
    upstream.put_back(bytes(held))
    return late


class Jobs:
    """One worker's view of the book; what it remembers is only whose a job is, never that it is nobody's."""

    def __init__(
        self, book: JobBook, metrics: Metrics, limits: Repayer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._known: dict[Job, tuple[Ownership, float]] = {}

    def count(self, kind: str, event: str) -> None:
        """Note what became of a job."""
        self._metrics.jobs[(kind, event)] += 1

    async def judge(self, admit: Admit, path: str, *, is_seen: bool = True) -> Admit | Deny:
        """Whether the job of a request may be asked about by its tenant, or a new one be kept.

        Limits were taken before, so that guessing ids is limited as well. ``is_seen`` is False where the answer does
        not pass here.
        """
        route, principal = admit.permit.route, admit.permit.principal
        try:
            refusal = await self._refusal(route, principal.tenant_id, path, is_seen=is_seen)
        except StorageError as error:
            _log.warning("owners of jobs cannot be asked", reason=str(error))
            refusal = Refusal.STORE_UNAVAILABLE
        if refusal is None:
            return admit
        if admit.hold is not None:
            admit.hold.settle(NOTHING_SPENT)
        self.count(route.job_kind, refusal.code)
        return Deny(refusal=refusal, principal=principal)

    async def _refusal(self, route: Route, tenant_id: str, path: str, *, is_seen: bool) -> Refusal | None:
        if route.job:
            if not is_seen:
                return Refusal.JOB_UNSEEN
            await self._book.ping()  # else the service would work on a job that is nobody's
            return None
        job = named_in(route, path)
        refusal = refusal_of(await self._owner(job), tenant_id, route, is_seen=is_seen)
        if refusal is Refusal.JOB_NOT_SETTLED:  # by another worker, perhaps
            self._known.pop(job, None)
            refusal = refusal_of(await self._owner(job), tenant_id, route, is_seen=is_seen)
        return refusal

    async def _owner(self, job: Job) -> Ownership | None:
        known = self._known.get(job)
        if known is not None and known[1] > self._clock():
            return known[0]
        ownership = await self._book.owner(job)
        self._remember(job, ownership)
        return ownership

    def _remember(self, job: Job, ownership: Ownership | None) -> None:
        self._known.pop(job, None)
        if ownership is None:
            return
        if len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[job] = ownership, self._clock() + _FRESH_S

    async def watch(
        self,
        permit: Permit,
        path: str,
        measure: Callable[[], Measured],
        hold: Hold | None,
        request_id: str,
        *,
        body_bytes: int,
        goes_elsewhere: bool,
    ) -> NewJob | JobState | None:
        """What is to read a good answer on this route; None when nothing needs to be known. Raises StorageError.

        ``hold`` is what the request holds of its limits: audio that is accounted with it is taken from them.
        ``body_bytes`` have come with it.
        ``goes_elsewhere``: the result does not pass here.
        """
        route = permit.route
        if route.job:
            return NewJob(self, permit, measure, hold, request_id, body_bytes=body_bytes, goes_elsewhere=goes_elsewhere)
        if not route.job_done:
            return None
        job = named_in(route, path)
        ownership = await self._owner(job)
        if ownership is None or ownership.settled:
            return None
        return JobState(self, route, job, ownership, hold, request_id)

    async def bind(self, job: Job, ownership: Ownership, permit: Permit, request_id: str) -> Deny | None:
        """Store whose a new job is."""
        try:
            kept = await self._book.bind(job, ownership, permit.route.job_days)
        except StorageError as error:
            self.count(job.kind, "lost")
            _log.error(
                "a job was made and its owner could not be stored: nobody can ask for its result",
                kind=job.kind, job_id=job.id, tenant_id=ownership.tenant_id, request_id=request_id, reason=str(error),
            )  # fmt: skip
            return Deny(refusal=Refusal.JOB_NOT_KEPT, principal=permit.principal)
        self._remember(job, kept)
        if kept.contested:
            self.count(job.kind, "contested")
            _log.error(
                "a service gave one job id to two tenants: it is closed to both",
                kind=job.kind, job_id=job.id, tenant_id=ownership.tenant_id, request_id=request_id,
            )  # fmt: skip
            return Deny(refusal=Refusal.JOB_NOT_KEPT, principal=permit.principal)
        if kept.settled and not ownership.settled:
            self.count(job.kind, "repeated")
            _log.warning(
                "a service gave its tenant the id of a job again that is accounted: it will not be accounted twice",
                kind=job.kind, job_id=job.id, tenant_id=ownership.tenant_id, request_id=request_id,
            )  # fmt: skip
            return None
        self.count(job.kind, "made")
        return None

    async def settle(self, job: Job, ownership: Ownership, due: Added, request_id: str) -> bool | Deny:
        """Account what a job came to: once, however many ask at one time. Whether this was the time."""
        measured, outcome = due
        record = None
        if measured is not None:
            record = record_of(job, ownership, measured, request_id, int(time.time() * 1000), outcome)
        try:
            is_first = await self._book.settle(job, record)
        except StorageError as error:
            self.count(job.kind, "unsettled")
            _log.warning("a job's audio cannot be accounted now", job_id=job.id, kind=job.kind, reason=str(error))
            return Deny(refusal=Refusal.ACCOUNT_UNAVAILABLE)
        self._known.pop(job, None)
        if is_first:
            self.count(job.kind, "settled" if outcome is Outcome.OK else "failed")
        if is_first and measured is not None:
            self._metrics.route(ownership.route).audio_ms[measured.source] += measured.audio_ms
            if measured.source is AudioSource.UNMEASURED:
                self._metrics.unmeasured[(ownership.route,)] += 1
        return is_first

    async def lower(self, job: Job, ownership: Ownership, lowered: Lowered) -> Deny | None:
        """Take back what a job was accounted with too much: at once, or when the account has what is taken back."""
        try:
            record = await self._book.lower(job, lowered)
        except StorageError as error:
            self.count(job.kind, "unsettled")
            _log.warning("a job's audio cannot be taken back now", job_id=job.id, kind=job.kind, reason=str(error))
            return None  # it owes nothing: there is no reason to keep the answer back, and it is asked about again
        self._known.pop(job, None)
        if record is not None:
            self.taken_back(job, ownership, record)
        return None

    def taken_back(self, job: Job, ownership: Ownership, record: UsageRecord) -> None:
        """Follow up a correction that this process has booked, in the limits and the figures."""
        ms = -record.measured.audio_ms
        self.count(job.kind, "failed" if record.outcome is Outcome.UPSTREAM_FAILED else "lowered")
        self._metrics.credited_s[(ownership.route,)] += ms / 1000
        if ownership.counted:
            self._limits.repay(still_counted(ownership.counted, ms, record.ended_ms - ownership.made_ms))

"""Whose a job is: services that answer with an id, to be asked about later, know no tenants.

The id is learnt from the answer that makes the job, and from then on only the tenant that made it may name it; to
everybody else it does not exist (OWASP API1:2023, broken object level authorization). An id that two tenants were given
belongs to nobody: either the service gives ids twice, or it gave away somebody's job.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import quote, unquote

from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord
from policies.http.inquiry import is_plain_path
from policies.http.verdict import Refusal
from policies.limits.holding import Demand
from policies.metering.json_depth import Shallows
from policies.metering.json_stream import JsonStream, Path
from policies.routing.routes import Route

LONGEST_ID = 256
"""Characters. No service has longer ones."""

_NO_ID = frozenset({"", "null", "true", "false"})
_ID = re.compile(r"[\x21-\x7e]+")


class Job(NamedTuple):
    """``kind`` is the namespace of the id, by the route table."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Who made a job, by which route, and what has been accounted for it so far."""

    tenant_id: str
    key_id: str
    user_id: str
    route: str
    accounted_ms: int
    floor_ms: int = 0
    """What of that was walked: no result makes it less."""
    most_ms: int = 0
    """What the upload's bytes can hold: a report of more is not believed against what was walked."""
    model: str = ""
    channels: int | None = None
    counted: tuple[Demand, ...] = ()
    """The limits of audio that it was counted in."""
    settled: bool
    """Whether all of its audio is accounted: nothing that an answer says changes that any more."""
    contested: bool = False
    """Whether another tenant was given the same id."""
    made_ms: int = field(default=0, compare=False)
    """When, in milliseconds since the epoch, by the clock of whoever is asked."""
    pending: bool = False
    """Whether the account has nothing of its audio yet but that it is to come."""

    @property
    def is_measured(self) -> bool:
        """Whether its audio is accounted, so that a result need not tell it. It may still fail, and be free then."""
        return self.settled or (not self.pending and 0 < self.accounted_ms <= self.floor_ms)


def name_of(job: Job) -> str:
    """As records have it."""
    return f"{job.kind}:{job.id}"


def results_of(routes: Sequence[Route]) -> dict[str, Route]:
    """For each kind, the route whose answer tells when a job is done and how long its audio is."""
    return {
        route.job_kind: route
        for route in reversed(routes)  # the first one of a kind
        if route.job_done and "GET" in route.methods and route.path.count("{") == 1
    }


def named_in(route: Route, path: str) -> Job:
    """The job that a plain path names, on a route with ``owned``. The id is as the service reads it."""
    place = route.path.split("/").index(f"{{{route.owned}}}")
    return Job(route.job_kind, unquote(path.split("/")[place]))


def path_of(route: Route, job: Job) -> str:
    """The other way: where a client asks for a job. Empty for an id that no client can name, such as ``..``.

    A service may take ids from its clients, and the gateway asks with the service's credential: for jobs, and no more.
    """
    path = route.path.replace(f"{{{route.owned}}}", quote(job.id, safe=""))
    return path if is_plain_path(path) else ""


def refusal_of(ownership: Ownership | None, tenant_id: str, route: Route, *, is_seen: bool = True) -> Refusal | None:
    """Why the tenant may not use the route on this job; None: it may.

    ``is_seen`` is False where the answer does not pass here (forward-auth): then nothing can be accounted from it.
    """
    if ownership is None or ownership.contested or not tenant_id or ownership.tenant_id != tenant_id:
        return Refusal.NOT_FOUND
    if not ownership.is_measured and (route.job_settled or not is_seen):
        return Refusal.JOB_NOT_SETTLED
    return None


def is_settled(measured: Measured) -> bool:
    """Whether a result can change nothing: what was walked is silence, and no failure makes that less."""
    return measured.source is AudioSource.WALKED and not measured.audio_ms


def is_pending(measured: Measured, *, goes_elsewhere: bool) -> bool:
    """Whether only the result will tell the audio. Where that is sent elsewhere, the audio is unmeasured at once."""
    return measured.source in (AudioSource.UNMEASURED, AudioSource.NONE) and not goes_elsewhere


def record_of(
    job: Job,
    ownership: Ownership,
    measured: Measured,
    request_id: str,
    now_ms: int,
    outcome: Outcome = Outcome.OK,
) -> UsageRecord:
    """The record of a job beside that of the request that made it: for the same caller, on the same route."""
    measured = replace(
        measured,
        model=ownership.model or measured.model,
        channels=measured.channels or ownership.channels,
        job=name_of(job),
        before_ms=ownership.accounted_ms if measured.before_ms is None else measured.before_ms,
    )
    return UsageRecord(
        tenant_id=ownership.tenant_id,
        key_id=ownership.key_id,
        user_id=ownership.user_id,
        route=ownership.route,
        outcome=outcome,
        event_id=f"job:{name_of(job)}:{now_ms}",  # an id may come again when it has been forgotten
        method="GET",
        code="",
        request_id=request_id,
        status=INTERIM,  # it is no request of its own
        bytes_in=0,
        bytes_out=0,
        duration_us=0,
        upstream_us=0,
        attempt=1,
        ended_ms=now_ms,
        measured=measured,
    )


NEVER_TOLD = Measured(source=AudioSource.UNMEASURED, discrepant=True)
"""What is measured of a job whose result told no length, or whose result nobody has seen in its time."""


class Picker:
    """Reads some short values out of a JSON answer, in any cuts. ``wanted`` are dotted names, such as ``job.id``."""

    __slots__ = ("_left", "_shallows", "_stream", "found")

    def __init__(self, wanted: Sequence[str]) -> None:
        self._left: dict[Path, str] = {tuple(name.split(".")): name for name in wanted if name}
        self.found: dict[str, str] = {}
        self._shallows = Shallows(max(map(len, self._left)))
        self._stream = JsonStream(self._take)

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        if self._left:
            self._stream.feed(self._shallows.feed(chunk))

    def _take(self, path: Path, value: str) -> None:
        name = self._left.pop(path, None)
        if name is not None:
            self.found[name] = value


def id_in(value: str | None) -> str:
    """The id, or an empty text for what cannot be one."""
    if value is None or value in _NO_ID or len(value) > LONGEST_ID or not _ID.fullmatch(value):
        return ""
    return value


def is_done(route: Route, value: str | None) -> bool:
    """Whether this is the state in which a job has its result."""
    return value is not None and value == route.job_done.partition("=")[2]


def has_failed(route: Route, value: str | None) -> bool:
    """Whether this is the state in which a job never has a result: nothing is owed for it."""
    return value is not None and bool(route.job_failed) and value == route.job_failed.partition("=")[2]


def state_of(route: Route) -> str:
    """The dotted name of the state."""
    return route.job_done.partition("=")[0]

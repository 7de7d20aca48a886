"""The record of one request: facts only, in integers. What it costs is a rating rule's business, applied later."""

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple


class Outcome(enum.StrEnum):
    """How a request ended; the ``outcome`` label of ``gateway_requests_total``."""

    OK = "ok"
    DENIED = "denied"
    """The gateway refused it, or cut it off: the upstream never saw its end."""
    UPSTREAM_REFUSED = "upstream_refused"
    """The upstream answered 4xx; or sent audio elsewhere, 3xx."""
    UPSTREAM_FAILED = "upstream_failed"
    """The upstream answered 5xx, was unreachable, too slow, or died in the middle."""
    CLIENT_GONE = "client_gone"
    GATEWAY_FAILED = "gateway_failed"
    """A fault of the gateway itself, or of a store it needs."""


INTERIM = 100
"""The status of a record that is not the last one of its stream. It is no request of its own: only the last is."""


class AudioSource(enum.StrEnum):
    """Where ``audio_ms`` comes from, best first; the ``source`` label of ``gateway_audio_seconds_total``."""

    WALKED = "walked"
    """Counted from the container's own frames as they passed."""
    REPORTED = "reported"
    """The upstream's figure."""
    ESTIMATED = "estimated"
    """Bytes over an assumed bit rate."""
    PENDING = "pending"
    """The request made a job: a record of the job's own tells its audio later, or that nobody knows it."""
    UNMEASURED = "unmeasured"
    """The request named its audio by URL, and no answer has told its length."""
    NONE = "none"
    """The request carried no audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the meter saw. Times in whole milliseconds; ``None`` where a source had nothing to say."""

    audio_ms: int = 0
    """Below 0 only in what corrects a job: it takes back what was accounted before, and never more."""
    source: AudioSource = AudioSource.NONE
    walked_ms: int | None = None
    reported_ms: int | None = None
    estimated_ms: int | None = None
    discrepant: bool = False
    """Walked and reported (or claimed by the header) differ by more than 2 %."""
    channels: int | None = None
    container: str = ""
    codec: str = ""
    model: str = ""
    language: str = ""
    response_format: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """What the upstream says that it used, where it counts in tokens."""
    job: str = ""
    """The job that the service made of the request, or that this record corrects: ``kind:id``."""
    before_ms: int | None = None
    """In a record about a job: what had been accounted of it before this record."""

    def so_far(self) -> "Measured":
        """Of a stream that goes on: what the upstream has not got to yet is no discrepancy, or may not stay one."""
        late = self.walked_ms is not None and self.reported_ms is not None and self.reported_ms < self.walked_ms
        return replace(self, discrepant=False) if late else self

    def since(self, before: "Measured") -> "Measured":
        """The same facts, with the times that have been added since an earlier figure."""
        return replace(
            self,
            audio_ms=self.audio_ms - before.audio_ms,
            walked_ms=_added(self.walked_ms, before.walked_ms),
            reported_ms=_added(self.reported_ms, before.reported_ms),
            estimated_ms=_added(self.estimated_ms, before.estimated_ms),
            input_tokens=_added(self.input_tokens, before.input_tokens),
            output_tokens=_added(self.output_tokens, before.output_tokens),
        )


def _added(now: int | None, before: int | None) -> int | None:
    return None if now is None else now - (before or 0)


NOT_AUDIO = Measured()


def accounted(measured: Measured, outcome: Outcome, *, begun: bool = False) -> Measured:
    """What goes into the account: audio that the upstream refused or failed on is free, its walked figure stays a fact.

    A client that left gets no such gift: what it sent was forwarded and worked on. Nor does one that a limit cut off
    when its answer had ``begun``: else it could have what the limit has left, again and again. Without an answer it is
    free, since the upstream never saw its end.
    """
    charged = outcome in (Outcome.OK, Outcome.CLIENT_GONE) or (begun and outcome is Outcome.DENIED)
    if measured.source is not AudioSource.NONE and not charged:
        return replace(measured, audio_ms=0, source=AudioSource.NONE)
    return measured


class UsageRecord(NamedTuple):
    """One settled request of one tenant, as the ledger keeps it: texts first, then figures, in the ledger's order.

    ``event_id`` is unique for ever and made by the gateway; ``request_id`` may be the client's and need not be unique.
    ``ended_ms`` is the instant of settlement, milliseconds since the Unix epoch; durations are whole microseconds. A
    named tuple, because one is made for every request: a frozen dataclass takes four times as long.
    """

    tenant_id: str
    key_id: str
    user_id: str
    route: str
    outcome: Outcome
    event_id: str
    method: str
    code: str
    """The refusal's stable code, empty where nothing was refused."""
    request_id: str
    status: int
    bytes_in: int
    bytes_out: int
    duration_us: int
    upstream_us: int
    attempt: int
    ended_ms: int
    measured: Measured

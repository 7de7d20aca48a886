"""What a job's result makes of what the account has of it already.

Audio that was uploaded is accounted as it passes, before anybody knows what becomes of the job. Its result may say that
it was more, that it was less than was estimated, or that the service failed: then it is free. Records are never
changed; another one says what is added or, with audio below 0, taken back. What is taken back is known to be in the
account: the record of the request that made the job is looked up first, and the correction is made of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from policies.account.usage import NOT_AUDIO, AudioSource, Measured, Outcome, UsageRecord
from policies.audio.sources import is_heard_more
from policies.audio.walker import LONGEST_MS
from policies.jobs import NEVER_TOLD, Job, Ownership, has_failed, is_done, record_of
from policies.limits.allowances import Allowance, What
from policies.limits.holding import Demand
from policies.routing.routes import Route


class Added(NamedTuple):
    """What is due beside what was accounted, for a record of its own; ``measured`` is None where nothing is."""

    measured: Measured | None
    outcome: Outcome


class Lowered(NamedTuple):
    """It comes to ``to_ms`` in all, which is less than was accounted."""

    to_ms: int
    outcome: Outcome


def told(route: Route, ownership: Ownership, state: str | None, seconds: str | None) -> Added | Lowered | None:
    """What a job's state and the length in its result mean for the account; None while the job goes on."""
    if has_failed(route, state):
        if ownership.accounted_ms:
            return Lowered(0, Outcome.UPSTREAM_FAILED)
        return Added(NOT_AUDIO, Outcome.UPSTREAM_FAILED)
    if not is_done(route, state):
        return None
    reported_ms = _milliseconds(seconds)
    if ownership.pending or not ownership.accounted_ms:
        return Added(_due(ownership, reported_ms), Outcome.OK)
    if reported_ms is None:
        return Added(None, Outcome.OK)
    if ownership.is_measured:
        if not is_heard_more(ownership.accounted_ms, reported_ms, ownership.most_ms):
            return Added(None, Outcome.OK)
        return Added(replace(_due(ownership, reported_ms), discrepant=True), Outcome.OK)
    in_all_ms = max(reported_ms, ownership.floor_ms)
    if in_all_ms < ownership.accounted_ms:
        return Lowered(in_all_ms, Outcome.OK)
    return Added(_due(ownership, in_all_ms), Outcome.OK)


def correction_of(
    job: Job, ownership: Ownership, first: UsageRecord, lowered: Lowered, now_ms: int
) -> UsageRecord | None:
    """The record that takes back what ``first``, the request that made the job, was accounted with too much.

    None where that is nothing. It has the request id of ``first``, so that whoever looks for that finds both.
    """
    before_ms = first.measured.audio_ms
    if before_ms <= lowered.to_ms:
        return None
    measured = replace(first.measured, audio_ms=lowered.to_ms - before_ms, before_ms=before_ms)
    if lowered.outcome is Outcome.OK:
        measured = replace(measured, source=AudioSource.REPORTED, reported_ms=lowered.to_ms)
    elif measured.source is AudioSource.PENDING:
        measured = replace(measured, source=AudioSource.NONE)
    return record_of(job, ownership, measured, first.request_id, now_ms, lowered.outcome)


def counted_in(demands: Sequence[Demand]) -> tuple[Demand, ...]:
    """Those among a request's limits that count its audio."""
    return tuple(demand for demand in demands if demand.allowance.what is What.AUDIO)


def still_counted(demands: Sequence[Demand], audio_ms: int, age_ms: int) -> list[tuple[Demand, int]]:
    """How much of audio that was counted ``age_ms`` ago each limit still has: only so much can be given back to it.

    A window runs off evenly. Were all of it given back, what had run off already would be an allowance beyond the
    limit's own, to be gathered with uploads that fail, which cost nothing. A calendar period has all of it until it
    ends.
    """
    return [
        (demand, audio_ms if demand.allowance.calendar else max(audio_ms - _run_off(demand.allowance, age_ms), 0))
        for demand in demands
    ]


def _run_off(allowance: Allowance, age_ms: int) -> int:
    return -(-max(age_ms, 0) * allowance.count // allowance.period_ms)


def written(demands: Sequence[Demand]) -> list[dict[str, Any]]:
    """Limits of audio as plain data: what is needed to give something back to their counters."""
    return [
        {
            "key": demand.key,
            "count": demand.allowance.count,
            "period_ms": demand.allowance.period_ms,
            "calendar": demand.allowance.calendar,
            "ends_ms": demand.ends_ms,
        }
        for demand in demands
    ]


def read(demands: Sequence[Mapping[str, Any]]) -> tuple[Demand, ...]:
    """The other way."""
    return tuple(
        Demand(
            Allowance(what=What.AUDIO, count=one["count"], period_ms=one["period_ms"], calendar=one["calendar"]),
            one["key"],
            0,
            one["ends_ms"],
        )
        for one in demands
    )


def _milliseconds(seconds: str | None) -> int | None:
    """None for what is no length of audio."""
    try:
        reported_ms = round(float(seconds) * 1000) if seconds is not None else -1
    except (ValueError, OverflowError):
        return None
    return reported_ms if 0 <= reported_ms <= LONGEST_MS else None


def _due(ownership: Ownership, reported_ms: int | None) -> Measured:
    """What is still to be accounted for a job that is done, by its result's own figure."""
    if reported_ms is None:
        return NEVER_TOLD
    audio_ms = max(reported_ms - ownership.accounted_ms, 0)
    return Measured(audio_ms=audio_ms, source=AudioSource.REPORTED, reported_ms=reported_ms)

"""What a result makes of an account: more, less or nothing, and never less than was walked."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.usage import INTERIM, NOT_AUDIO, AudioSource, Measured, Outcome
from policies.corrections import (
    Added,
    Lowered,
    correction_of,
    counted_in,
    read,
    still_counted,
    told,
    written,
)
from policies.jobs import NEVER_TOLD, Job, Ownership
from policies.limits.allowances import Allowance, What
from policies.limits.holding import Demand
from policies.routing.routes import Route
from tests.storage.usage_samples import record

ROUTE = Route(
    name="r", path="/v2/jobs/{id}", methods=("GET",), owned="id", job_kind="k", job_done="status=done",
    job_failed="status=error", job_audio="duration",
)  # fmt: skip
JOB = Job("k", "abc")
BY_URL = Ownership(
    tenant_id="ten_acme", key_id="key_1", user_id="usr_1", route="m", accounted_ms=0, settled=False, pending=True
)
WALKED = replace(BY_URL, accounted_ms=2_500, floor_ms=2_500, most_ms=60_000, pending=False)
ESTIMATED = replace(WALKED, floor_ms=1_000)
FAILED = Outcome.UPSTREAM_FAILED


def added(audio_ms: int, reported_ms: int) -> Added:
    return Added(Measured(audio_ms=audio_ms, source=AudioSource.REPORTED, reported_ms=reported_ms), Outcome.OK)


UNTOLD = ["null", "-1", "nan", "inf", "1e400", "1e12", "", None]


@pytest.mark.parametrize(
    ("made", "state", "seconds", "due"),
    [
        (BY_URL, "done", "281", added(281_000, 281_000)),
        (BY_URL, "done", "9.9635", added(9_964, 9_964)),
        (BY_URL, "done", "0", added(0, 0)),
        (BY_URL, "error", "281", Added(NOT_AUDIO, FAILED)),
        (BY_URL, "queued", "281", None),
        (BY_URL, None, "281", None),
        *((BY_URL, "done", seconds, Added(NEVER_TOLD, Outcome.OK)) for seconds in UNTOLD),
        (WALKED, "done", "2.5", Added(None, Outcome.OK)),
        (WALKED, "done", "1", Added(None, Outcome.OK)),
        (WALKED, "done", None, Added(None, Outcome.OK)),
        # It heard more than the container admitted to, as far as the bytes can hold that.
        (WALKED, "done", "60", Added(replace(added(57_500, 60_000).measured, discrepant=True), Outcome.OK)),
        (WALKED, "done", "60.001", Added(None, Outcome.OK)),
        (WALKED, "done", "3", Added(None, Outcome.OK)),  # whole seconds, rounded up
        (WALKED, "error", None, Lowered(0, FAILED)),
        (WALKED, "queued", "1", None),
        (ESTIMATED, "done", "4", added(1_500, 4_000)),
        (ESTIMATED, "done", "2", Lowered(2_000, Outcome.OK)),
        (ESTIMATED, "done", "0.5", Lowered(1_000, Outcome.OK)),
        *((ESTIMATED, "done", seconds, Added(None, Outcome.OK)) for seconds in UNTOLD),
        (ESTIMATED, "error", "2", Lowered(0, FAILED)),
        # A URL beside audio that came with it: what the result says of both, and no less than what came.
        (replace(ESTIMATED, pending=True), "done", "4", added(1_500, 4_000)),
        (replace(ESTIMATED, pending=True), "done", "1", added(0, 1_000)),
        (replace(ESTIMATED, pending=True), "error", "1", Lowered(0, FAILED)),
    ],
)
def test_a_result_adds_or_takes_back_what_it_says(
    made: Ownership, state: str | None, seconds: str | None, due: Added | Lowered | None
) -> None:
    """What was walked is the least; an estimate stands where nobody tells; what failed is free."""
    assert told(ROUTE, made, state, seconds) == due


def first(**changes: object):
    """The record of the upload."""
    made = record()
    return made._replace(measured=replace(made.measured, job="k:abc", **changes))


def test_what_is_taken_back_says_of_what_and_by_whom() -> None:
    """The maker's record on the route where it made the job; found with the upload by its request id, or by the job."""
    made = first(source=AudioSource.ESTIMATED, channels=2, model="nova-3")
    taken = correction_of(JOB, WALKED, made, Lowered(0, FAILED), 77)
    assert taken is not None
    assert (taken.tenant_id, taken.key_id, taken.user_id, taken.route) == ("ten_acme", "key_1", "usr_1", "m")
    assert (taken.event_id, taken.request_id, taken.status, taken.ended_ms) == (
        "job:k:abc:77", made.request_id, INTERIM, 77
    )  # fmt: skip
    assert taken.outcome is FAILED
    said = taken.measured
    assert (said.audio_ms, said.before_ms, said.source) == (-2_500, 2_500, AudioSource.ESTIMATED)
    assert (said.job, said.channels, said.model) == ("k:abc", 2, "nova-3")


def test_an_estimate_is_lowered_to_what_the_service_reports() -> None:
    taken = correction_of(JOB, ESTIMATED, first(source=AudioSource.ESTIMATED), Lowered(1_900, Outcome.OK), 77)
    assert taken is not None
    said = taken.measured
    assert (said.audio_ms, said.before_ms, said.source, said.reported_ms) == (-600, 2_500, AudioSource.REPORTED, 1_900)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([Outcome.OK, FAILED]))
def test_nothing_is_taken_back_that_the_account_does_not_have(has: int, to_ms: int, outcome: Outcome) -> None:
    """Whatever was foreseen when the job was made: a request whose answer broke off was not charged."""
    taken = correction_of(JOB, WALKED, first(audio_ms=has), Lowered(to_ms, outcome), 77)
    assert max(has - to_ms, 0) == (0 if taken is None else -taken.measured.audio_ms)


@pytest.mark.parametrize(
    ("text", "age_s", "left_ms"),
    [("60s/h", 0, 40_000), ("60s/h", -5, 40_000), ("60s/h", 600, 30_000), ("60s/h", 2_400, 0), ("60s/h", 86_400, 0),
     ("60s/month", 86_400, 40_000)],
)  # fmt: skip
def test_a_limit_has_back_what_has_not_run_off(text: str, age_s: int, left_ms: int) -> None:
    """Else uploads that fail, and are free, would save up an allowance for later."""
    demand = Demand(Allowance.parse(What.AUDIO, text), "limit:{t}::audio:", 7, 99)
    assert still_counted([demand], 40_000, age_s * 1000) == [(demand, left_ms)]


def test_limits_of_audio_are_read_as_they_were_written() -> None:
    """As far as giving back needs: their counters, and how those count."""
    demands = (
        Demand(Allowance.parse(What.AUDIO, "60s/h"), "limit:{t}::audio:", 7),
        Demand(Allowance.parse(What.AUDIO, "1h/month"), "limit:{t}::audio::month:2026-11-01", 7, 99),
        Demand(Allowance.parse(What.BYTES, "1GB/h"), "limit:{t}::bytes:", 7),
    )
    again = read(written(counted_in(demands)))
    assert [(one.key, one.ends_ms, one.allowance) for one in again] == [
        (one.key, one.ends_ms, one.allowance) for one in demands[:2]
    ]

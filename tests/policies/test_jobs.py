"""Whose a job is, what of an answer says so, and what a result is still to be accounted for."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.usage import AudioSource, Measured
from policies.http.verdict import Refusal
from policies.jobs import (
    LONGEST_ID,
    Job,
    Ownership,
    Picker,
    id_in,
    is_done,
    is_settled,
    named_in,
    path_of,
    refusal_of,
)
from policies.routing.routes import Route

READS = Route(
    name="r", path="/v2/jobs/{id}/transcript", methods=("GET",), owned="id", job_kind="k", job_done="job.status=done",
    job_audio="job.duration",
)  # fmt: skip
RESULT = replace(READS, job_settled=True)
MINE = Ownership(tenant_id="ten_a", key_id="key_1", user_id="", route="m", accounted_ms=0, settled=False)
DONE = replace(MINE, settled=True)
WALKED = replace(MINE, accounted_ms=2_000, floor_ms=2_000)

JUDGED = [
    (MINE, "ten_a", READS, True, None),
    (MINE, "ten_b", READS, True, Refusal.NOT_FOUND),
    (MINE, "", READS, True, Refusal.NOT_FOUND),
    (None, "ten_a", READS, True, Refusal.NOT_FOUND),
    (replace(MINE, contested=True), "ten_a", READS, True, Refusal.NOT_FOUND),
    (replace(MINE, tenant_id=""), "", READS, True, Refusal.NOT_FOUND),
    (MINE, "ten_a", RESULT, True, Refusal.JOB_NOT_SETTLED),
    (MINE, "ten_b", RESULT, True, Refusal.NOT_FOUND),
    (DONE, "ten_a", RESULT, True, None),
    (WALKED, "ten_a", RESULT, True, None),
    (replace(WALKED, floor_ms=1), "ten_a", RESULT, True, Refusal.JOB_NOT_SETTLED),
    (replace(WALKED, pending=True), "ten_a", RESULT, True, Refusal.JOB_NOT_SETTLED),
    (WALKED, "ten_a", READS, False, None),
    (MINE, "ten_a", READS, False, Refusal.JOB_NOT_SETTLED),
    (DONE, "ten_a", READS, False, None),
    (DONE, "ten_b", READS, False, Refusal.NOT_FOUND),
]


@pytest.mark.parametrize(("owner", "tenant", "route", "is_seen", "refusal"), JUDGED)
def test_a_job_is_its_makers_and_to_others_it_is_not_there(
    owner: Ownership | None, tenant: str, route: Route, is_seen: bool, refusal: Refusal | None
) -> None:
    assert refusal_of(owner, tenant, route, is_seen=is_seen) is refusal


@pytest.mark.parametrize(
    ("segment", "job_id"), [("abc", "abc"), ("a%3Ab", "a:b"), ("a%20", "a "), ("A", "A"), ("007", "007"), ("%ff", "�")]
)
def test_the_id_is_what_the_service_reads_in_the_path(segment: str, job_id: str) -> None:
    """Undecoded, another spelling of somebody's id would be another id here and the same one there."""
    assert named_in(READS, f"/v2/jobs/{segment}/transcript") == Job("k", job_id)


IDS = [
    ("id", {"id": "abc"}, "abc"),
    ("id", {"id": 17}, "17"),
    ("job.id", {"job": {"id": "x"}, "id": "no"}, "x"),
    ("id", {"config": {"id": "theirs", "more": {"id": "theirs"}}, "id": "mine"}, "mine"),
    ("id", {"text": '"id":"theirs"', "id": "mine"}, "mine"),
    ("id", {"words": [{"id": "theirs"}], "id": "mine"}, "mine"),
    ("id", {"id": ["theirs"]}, ""),
    ("id", [{"id": "theirs"}], ""),
    ("job.id", {"job": [{"id": "theirs"}]}, ""),
    ("id", {"id": None}, ""),
    ("id", {"id": True}, ""),
    ("id", {"id": ""}, ""),
    ("id", {"id": "a b"}, ""),
    ("id", {"id": "a\n"}, ""),
    ("id", {"id": "é"}, ""),
    ("id", {"id": "x" * (LONGEST_ID + 1)}, ""),
    ("id", {"id": {"id": "no"}}, ""),
    ("id", {}, ""),
]


@pytest.mark.parametrize(("name", "answer", "job_id"), IDS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_id_is_read_where_the_route_says_in_any_cuts(name: str, answer: object, job_id: str, size: int) -> None:
    picker, text = Picker((name,)), json.dumps(answer).encode()
    for start in range(0, len(text), size):
        picker.feed(text[start : start + size])
    assert id_in(picker.found.get(name)) == job_id


@pytest.mark.parametrize(
    ("job_id", "path"),
    [
        ("a:b", "/v2/jobs/a%3Ab/transcript"),
        ("a%2f", "/v2/jobs/a%252f/transcript"),
        *((odd, "") for odd in ("..", ".", "../../admin", "a/b", "a\\b", "..;a")),
    ],
)
def test_the_gateway_asks_for_no_job_whose_id_is_another_path(job_id: str, path: str) -> None:
    """A service that takes ids from its clients must not have the gateway ask it for anything else."""
    assert path_of(READS, Job("k", job_id)) == path
    assert not path or named_in(READS, path) == Job("k", job_id)


@given(st.binary(), st.integers(1, 9))
def test_no_answer_makes_the_reader_raise(data: bytes, size: int) -> None:
    picker = Picker(("job.id", "status"))
    for start in range(0, len(data), size):
        picker.feed(data[start : start + size])
    id_in(picker.found.get("job.id"))


def test_only_what_was_walked_and_is_silent_is_settled_from_the_beginning() -> None:
    """No result makes it more, and none makes it less; all else may still be corrected, or be free."""
    assert [source for source in AudioSource if is_settled(Measured(source=source))] == [AudioSource.WALKED]
    assert not is_settled(Measured(source=AudioSource.WALKED, audio_ms=1))


def test_a_job_is_done_in_one_state_alone() -> None:
    assert [state for state in ("done", "Done", "running", "", None) if is_done(READS, state)] == ["done"]

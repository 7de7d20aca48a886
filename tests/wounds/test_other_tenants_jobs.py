"""Wound: a job's id is enough to read, change or delete it (OWASP API1:2023).

whisperX-FastAPI lists and deletes anybody's tasks; without ``client_ref`` so do all users of one Speechmatics account.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from policies.limits.rates import Rate
from tests.gateway.harness import Options, running
from tests.gateway.job_service import BY_URL, JSON, Workers, answer, workers


@pytest.fixture
async def w() -> AsyncIterator[Workers]:
    async with workers() as made:
        yield made


SAME_ID = [("X-Request-ID", "the-same-for-both")]
QUESTIONS = [
    ("GET", "/v2/transcript/{id}"),
    ("DELETE", "/v2/transcript/{id}"),
    ("GET", "/v2/transcript/{id}/srt"),
    ("GET", "/v2/transcript/{id}/sentences"),
    ("GET", "/v2/transcript/{id}?x=1"),
]


@pytest.mark.parametrize(("method", "target"), QUESTIONS)
async def test_another_tenants_job_is_not_there(w: Workers, method: str, target: str) -> None:
    """404 through every worker, as for an id that never was: not a byte of difference, and the service is not asked."""
    job_id, other = await w.make(), w.of_other_tenant()
    await w.first.ask("GET", f"/v2/transcript/{job_id}")
    before = len(w.asked)
    for worker in (w.first, w.second):
        theirs = await worker.ask(method, target.format(id=job_id), SAME_ID, key=other)
        unknown = await worker.ask(method, target.format(id="job-0"), SAME_ID, key=other)
        assert (theirs.status, theirs.code) == (404, "not_found")
        assert theirs.body == unknown.body
        assert {n for n, _ in theirs.headers} == {n for n, _ in unknown.headers}
    assert len(w.asked) == before


@pytest.mark.parametrize(
    "spelling", ["JOB-1", "job-1%20", "job-1%00", "job-1%2525", "job%2D1", "job-1/", "job-1/../job-1", "%6Aob-1", "all"]
)
async def test_no_spelling_of_an_id_passes_by_its_owner(w: Workers, spelling: str) -> None:
    """Refused, or an id that nobody has: it is compared as the service would read it."""
    await w.make()
    before = len(w.asked)
    for key in ("", w.of_other_tenant()):
        assert (await w.first.ask("GET", f"/v2/transcript/{spelling}", key=key)).status in (400, 404)
    assert len(w.asked) == before


async def test_an_id_that_a_service_gives_twice_is_closed_to_both(w: Workers) -> None:
    """A service that counts from one again after a restart would show the first tenant the second one's text."""
    await w.make()
    other = w.of_other_tenant()
    w.service.made = 0
    again = await w.first.ask("POST", "/v2/transcript", JSON, BY_URL, key=other)
    assert (again.status, again.code) == (503, "job_not_kept")
    for key in ("", other):
        assert (await w.first.ask("GET", "/v2/transcript/job-1", key=key)).status == 404
    assert w.first.metrics.jobs[("assemblyai", "contested")] == 1


async def test_the_first_owner_of_such_an_id_reads_no_second_longer_through_another_worker(w: Workers) -> None:
    """It was half a minute, in which the first tenant could read the second one's text."""
    job_id, other = await w.make(), w.of_other_tenant()
    polled = f"/v2/transcript/{job_id}"
    assert (await w.second.ask("GET", polled)).status == 200
    w.service.made = 0
    await w.first.ask("POST", "/v2/transcript", JSON, BY_URL, key=other)
    async with asyncio.timeout(30):
        while (await w.second.ask("GET", polled)).status != 404:
            pass


async def test_what_a_client_writes_into_its_job_makes_no_other_id_its_own(w: Workers) -> None:
    """Services repeat texts and settings of the request in the answer, before the id."""
    w.service.sent["/v2/transcript"] = answer(
        rb'{"config": {"id": "victim", "metadata": [{"id": "victim"}]}, "text": "\"id\": \"victim\"", "id": "job-5"}'
    )
    await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    assert [job.id for job in w.book.rows] == ["job-5"]


@pytest.mark.parametrize("target", ["/v2/transcript", "/v2/jobs", "/task/all", "/task"])
async def test_nobody_lists_everybodys_jobs(w: Workers, target: str) -> None:
    assert (await w.first.ask("GET", target)).status in (404, 405)
    assert not w.asked


async def test_jobs_of_one_kind_are_not_those_of_another(w: Workers) -> None:
    """An id of one service says nothing of the same id at the next."""
    job_id = await w.make()
    for target in (f"/v2/jobs/{job_id}", f"/task/{job_id}"):
        assert (await w.first.ask("GET", target)).status == 404


async def test_guesses_are_limited_like_all_requests() -> None:
    """404 costs what 200 costs, so that ids cannot be tried without end."""
    async with running(Options(default_rate=Rate(3, 60_000))) as gateway:
        statuses = [(await gateway.ask("GET", f"/v2/transcript/{n}")).status for n in range(5)]
    assert statuses == [404, 404, 404, 429, 429]

"""Jobs by URL whose result no client asks for: the gateway asks; what is never told is written down as unmeasured."""

import json
from collections.abc import AsyncIterator

import pytest

from gateway.dataplane.job_results import JobResults
from policies.account.usage import INTERIM, AudioSource, Outcome
from policies.identity.principals import Principal
from policies.jobs import Job
from policies.limits.allowances import What
from tests.gateway.job_service import BY_URL, JSON, Workers, answer, limited, upload, workers
from tests.policies.audio.build import wav


@pytest.fixture
async def w() -> AsyncIterator[Workers]:
    async with workers() as made:
        yield made


def signed(principal: Principal, upstream: str) -> str:
    """In place of a signature: for whom, at which upstream, and what for."""
    return f"{principal.key_id}@{upstream}:{','.join(principal.scopes)}"


def results(w: Workers) -> JobResults:
    one = w.second
    return JobResults(
        one.proxy._jobs, w.book, one.proxy._gatekeeper.routes, {"default": one.upstreams}, one.metrics, signed
    )


async def late(w: Workers) -> Job:
    """A job that nobody has asked about, with little time left."""
    job = Job("assemblyai", await w.make())
    w.book.late.add(job)
    return job


async def test_the_gateway_asks_as_the_client_would(w: Workers) -> None:
    """With its maker's identity and the service's own credential; and the result is accounted to its maker, once."""
    job = await late(w)
    for _ in range(2):
        await results(w).look()
        w.book.late.add(job)
    (record,) = w.book.accounted
    assert (record.tenant_id, record.key_id, record.route) == ("ten_a", "key_1", "assemblyai.transcribe")
    assert (record.measured.audio_ms, record.measured.source, record.status) == (281_000, AudioSource.REPORTED, INTERIM)
    (asked,) = w.second.upstream.seen
    assert (asked.method, asked.target) == ("GET", f"/v2/transcript/{job.id}")
    assert (asked.all("x-tenant-id"), asked.all("x-api-key-id"), asked.all("x-user-id")) == (
        ["ten_a"],
        ["key_1"],
        ["usr_a"],
    )
    assert asked.all("x-gateway-assertion") == ["key_1@default:transcribe"]
    assert asked.all("x-request-id") == [record.request_id]
    assert not {"authorization", "x-api-key"} & set(asked.names())
    assert (await w.first.ask("GET", f"/v2/transcript/{job.id}")).status == 200
    assert len(w.book.accounted) == 1


@pytest.mark.parametrize(
    ("job_id", "targets"),
    [("b%?x=1", ["/v2/transcript/b%25%3Fx%3D1"]), ("..", []), ("../../admin", []), ("a/../b", []), ("..;x", [])],
)
async def test_an_id_is_asked_for_as_one_segment_or_not_at_all(w: Workers, job_id: str, targets: list[str]) -> None:
    """A service that takes ids from its clients: many undo %2F before they look where a path leads."""
    w.service.sent["/v2/transcript"] = answer(json.dumps({"id": job_id}).encode())
    await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    w.book.late.add(Job("assemblyai", job_id))
    await results(w).look()
    assert [asked.target for asked in w.second.upstream.seen] == targets


@pytest.mark.parametrize("case", ["not found", "not done", "no service"])
async def test_what_is_never_told_is_unmeasured_when_its_time_is_over(w: Workers, case: str) -> None:
    """In the account, once, and counted."""
    job = await late(w)
    if case == "not found":
        w.service.sent[f"/v2/transcript/{job.id}"] = answer(b"{}", b"404 Not Found")
    elif case == "not done":
        w.service.state = "processing"
    else:
        await w.second.upstream.stop()
    await results(w).look()
    assert not w.book.accounted
    w.book.over.add(job)
    for _ in range(2):
        await results(w).look()
    (record,) = w.book.accounted
    assert (record.event_id.rpartition(":")[0], record.status) == (f"job:assemblyai:{job.id}", INTERIM)
    assert (record.measured.audio_ms, record.measured.source, record.measured.discrepant) == (
        0, AudioSource.UNMEASURED, True,
    )  # fmt: skip
    assert w.second.metrics.unmeasured == {("assemblyai.transcribe",): 1}
    assert w.second.metrics.jobs[("assemblyai", "never_told")] == 1


async def test_a_job_that_failed_is_free_and_not_unmeasured(w: Workers) -> None:
    job = await late(w)
    w.service.state = "error"
    await results(w).look()
    w.book.over.add(job)
    await results(w).look()
    (record,) = w.book.accounted
    assert (record.outcome, record.measured.source) == (Outcome.UPSTREAM_FAILED, AudioSource.NONE)
    assert not w.second.metrics.unmeasured


async def test_what_an_uploaded_job_cost_is_taken_back_when_the_account_has_it(w: Workers) -> None:
    """A job may fail before the record of its upload has left the worker's journal."""
    key = w.first.add_key(allowances=(limited(What.AUDIO, "60s/month"),))
    await upload(w, wav(20.0), key)
    w.service.sent["/v2/jobs/job-1"] = answer(b'{"job": {"id": "job-1", "status": "rejected"}}')
    assert (await w.first.ask("GET", "/v2/jobs/job-1", key=key)).status == 200
    await results(w).look()
    assert not w.book.accounted
    w.book.shipped = w.first.journal.records
    for _ in range(2):
        await results(w).look()
    assert [record.measured.audio_ms for record in w.book.accounted] == [-20_000]
    assert w.second.metrics.credited_s[("speechmatics.create",)] == 20.0


async def test_the_gateway_finds_out_that_an_uploaded_job_failed(w: Workers) -> None:
    """Whose client asks for the transcript alone, or is told by a webhook."""
    await upload(w, wav(1.0))
    w.book.shipped = w.first.journal.records
    w.service.sent["/v2/jobs/job-1"] = answer(b'{"job": {"id": "job-1", "status": "rejected"}}')
    w.book.late.add(Job("speechmatics", "job-1"))
    await results(w).look()
    assert [record.measured.audio_ms for record in w.book.accounted] == [-1_000]

"""Jobs through real sockets: learnt from the answer that makes them, their maker's alone, accounted once."""

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.dataplane.jobs import _HELD_STATE
from policies.account.usage import INTERIM, NOT_AUDIO, AudioSource, Outcome
from policies.jobs import Job
from policies.limits.allowances import What
from tests.gateway.harness import Answer, Gateway, Options, Seen, running
from tests.gateway.job_service import BY_URL, JSON, Workers, answer, limited, upload, workers
from tests.policies.audio.build import wav
from tests.storage.memory_jobs import MemoryJobs
from tests.storage.waiting import until
from tests.wounds.wire import request

KIND = b"Content-Type: application/json"
HERE = ipaddress.ip_network("127.0.0.0/8")


@pytest.fixture
async def w() -> AsyncIterator[Workers]:
    async with workers() as made:
        yield made


async def test_a_job_made_through_one_worker_is_there_through_the_other(w: Workers) -> None:
    job_id = await w.make()
    assert w.owner(job_id) == "ten_a"
    for one in (w.second, w.first):
        polled = await one.ask("GET", f"/v2/transcript/{job_id}")
        assert (polled.status, json.loads(polled.body)["text"]) == (200, "secret")


async def test_a_job_by_url_is_accounted_once_however_often_it_is_asked_about(w: Workers) -> None:
    """To the key that made it, on the route where it did, as audio and not as a request."""
    job_id = await w.make()
    assert [record.measured.source for record in w.first.journal.records] == [AudioSource.PENDING]
    await asyncio.gather(*(one.ask("GET", f"/v2/transcript/{job_id}") for one in (w.first, w.second) * 3))
    (record,) = w.book.accounted
    assert record.event_id == f"job:assemblyai:{job_id}:{record.ended_ms}"
    assert (record.tenant_id, record.key_id, record.measured.model) == ("ten_a", "key_1", "best")
    assert (record.route, record.status, record.outcome) == ("assemblyai.transcribe", INTERIM, Outcome.OK)
    assert (record.measured.audio_ms, record.measured.source) == (281_000, AudioSource.REPORTED)
    told = [one.metrics.route("assemblyai.transcribe").audio_ms[AudioSource.REPORTED] for one in (w.first, w.second)]
    assert sum(told) == 281_000


async def test_a_job_that_is_not_done_is_not_accounted(w: Workers) -> None:
    job_id = await w.make()
    for state in ("queued", "processing", "throttled"):
        w.service.state = state
        assert (await w.first.ask("GET", f"/v2/transcript/{job_id}")).status == 200
    assert not w.book.accounted


async def test_a_job_that_failed_is_settled_and_free(w: Workers) -> None:
    job_id = await w.make()
    w.service.state = "error"
    for _ in range(2):
        assert (await w.first.ask("GET", f"/v2/transcript/{job_id}")).status == 200
    (record,) = w.book.accounted
    assert record.outcome is Outcome.UPSTREAM_FAILED
    assert record.measured == replace(NOT_AUDIO, job=f"assemblyai:{job_id}", before_ms=0, model="best")
    assert w.first.metrics.jobs[("assemblyai", "failed")] == 1


async def test_a_result_without_a_length_is_settled_as_not_measured(w: Workers) -> None:
    """Once, and flagged, so that it can be found."""
    job_id = await w.make()
    w.service.seconds = None
    for _ in range(2):
        assert (await w.first.ask("GET", f"/v2/transcript/{job_id}")).status == 200
    (record,) = w.book.accounted
    assert (record.measured.audio_ms, record.measured.source) == (0, AudioSource.UNMEASURED)
    assert record.measured.discrepant


async def test_other_forms_of_a_result_open_when_it_is_accounted(w: Workers) -> None:
    """Subtitles do not tell how long the audio is: asked for first, they would make it free."""
    job_id = await w.make()
    early = await w.second.ask("GET", f"/v2/transcript/{job_id}/srt")
    assert (early.status, early.code) == (409, "job_not_settled")
    await w.first.ask("GET", f"/v2/transcript/{job_id}")
    assert (await w.second.ask("GET", f"/v2/transcript/{job_id}/srt")).status == 200
    assert (await w.first.ask("GET", f"/v2/transcript/{job_id}/vtt")).status == 200


async def test_audio_that_was_uploaded_with_the_job_is_not_accounted_again(w: Workers) -> None:
    """It was walked as it came, so it is accounted with its making, and its results are open at once."""
    await upload(w, wav(1.0))
    assert (await w.second.ask("GET", "/v2/jobs/job-1/transcript")).status == 200
    w.service.sent["/v2/jobs/job-1"] = answer(b'{"job": {"id": "job-1", "status": "done", "duration": 1}}')
    assert (await w.second.ask("GET", "/v2/jobs/job-1")).status == 200
    assert not w.book.accounted
    (record,) = w.first.journal.records
    assert (record.measured.audio_ms, record.measured.source) == (1_000, AudioSource.WALKED)
    assert record.measured.job == "speechmatics:job-1"
    assert w.book.rows[Job("speechmatics", "job-1")].settled


async def test_an_upload_of_which_its_result_heard_more_is_accounted_with_that_as_well(w: Workers) -> None:
    """A container that hides sound from the walker is no cheaper where the answer is a job."""
    await upload(w, wav(1.0))
    w.service.sent["/v2/jobs/job-1"] = answer(b'{"job": {"id": "job-1", "status": "done", "duration": 61}}')
    for _ in range(2):
        assert (await w.second.ask("GET", "/v2/jobs/job-1")).status == 200
    (record,) = w.book.accounted
    assert (record.measured.audio_ms, record.measured.before_ms) == (60_000, 1_000)
    assert record.measured.discrepant


REJECTED = answer(b'{"job": {"id": "job-1", "status": "rejected"}}')


async def test_an_uploaded_job_that_fails_later_is_free(w: Workers) -> None:
    """What it cost is taken back, once, and its limits have it again, whoever asks and by whichever worker."""
    key = w.first.add_key(allowances=(limited(What.AUDIO, "60s/month"),))
    await upload(w, wav(20.0), key)
    (tally,) = w.first.holding.holds._tallies.values()
    assert tally.used == 20_000
    w.book.shipped = w.first.journal.records
    w.service.sent["/v2/jobs/job-1"] = REJECTED
    asked = await asyncio.gather(*(one.ask("GET", "/v2/jobs/job-1", key=key) for one in (w.first,) * 3))
    assert [one.status for one in asked] == [200] * 3
    (record,) = w.book.accounted
    assert (record.measured.audio_ms, record.measured.before_ms) == (-20_000, 20_000)
    assert (record.outcome, record.request_id) == (
        Outcome.UPSTREAM_FAILED, w.first.journal.records[0].request_id
    )  # fmt: skip
    assert (await w.second.ask("GET", "/v2/jobs/job-1", key=w.first.key)).status == 200
    assert len(w.book.accounted) == 1
    assert tally.used == 0
    assert w.first.metrics.credited_s[("speechmatics.create",)] == 20.0
    assert w.first.metrics.jobs[("speechmatics", "failed")] == 1


async def test_failures_that_are_found_late_save_up_no_allowance(w: Workers) -> None:
    """A window counts what was used lately; what an upload two hours ago had of it has run off."""
    key = w.first.add_key(allowances=(limited(What.AUDIO, "60s/h"),))
    await upload(w, wav(20.0), key)
    (made,) = w.first.journal.records
    w.book.shipped = [made._replace(ended_ms=made.ended_ms + 2 * 3_600_000)]  # it is corrected a moment after that
    (tally,) = w.first.holding.holds._tallies.values()
    before = tally.tat_ms
    w.service.sent["/v2/jobs/job-1"] = REJECTED
    assert (await w.first.ask("GET", "/v2/jobs/job-1")).status == 200
    assert [record.measured.audio_ms for record in w.book.accounted] == [-20_000]
    assert tally.tat_ms == before > 0


async def test_an_estimate_is_lowered_to_what_the_service_heard(w: Workers) -> None:
    """Bytes that no walker knows are weighed; the result tells how long they were."""
    await upload(w, b"FLV\x01" + bytes(4_000_000))
    (made,) = w.book.shipped = w.first.journal.records
    assert made.measured.source is AudioSource.ESTIMATED
    w.service.sent["/v2/jobs/job-1"] = answer(b'{"job": {"id": "job-1", "status": "done", "duration": 12}}')
    assert (await w.first.ask("GET", "/v2/jobs/job-1")).status == 200
    (record,) = w.book.accounted
    assert made.measured.audio_ms + record.measured.audio_ms == 12_000
    assert (record.outcome, record.measured.source) == (Outcome.OK, AudioSource.REPORTED)


async def test_a_failure_that_the_book_cannot_note_is_answered_and_noted_later(w: Workers) -> None:
    """It owes nothing, so nothing is held back for it."""
    await upload(w, wav(1.0))
    w.book.shipped = w.first.journal.records
    w.service.sent["/v2/jobs/job-1"] = REJECTED
    w.book.fails_to_settle = True
    assert (await w.first.ask("GET", "/v2/jobs/job-1")).status == 200
    assert not w.book.accounted
    w.book.fails_to_settle = False
    assert (await w.first.ask("GET", "/v2/jobs/job-1")).status == 200
    assert [record.measured.audio_ms for record in w.book.accounted] == [-1_000]


async def test_the_owner_is_stored_before_the_client_sees_the_id(w: Workers) -> None:
    """The answer comes in two pieces, cut inside the id; while the book is slow, nothing of the id's end is out."""
    writing, release = asyncio.Event(), asyncio.Event()
    bind = w.book.bind

    async def slowly(*args: object) -> object:
        writing.set()
        await release.wait()
        return await bind(*args)

    w.book.bind = slowly

    async def in_pieces(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"id": "job', b'-77", ', b'"status": "queued"}'):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    w.first.upstream.respond = in_pieces
    reader, writer = await asyncio.open_connection("127.0.0.1", w.first.port)
    length = b"Content-Length: %d" % len(BY_URL)
    writer.write(request(w.first.key, b"POST /v2/transcript HTTP/1.1", b"Connection: close", KIND, length, body=BY_URL))
    async with asyncio.timeout(30):
        await writing.wait()
        assert not reader._buffer
        release.set()
        got = Answer.parse(await reader.read())
    writer.close()
    assert json.loads(got.body) == {"id": "job-77", "status": "queued"}
    assert w.owner("job-77") == "ten_a"


async def test_a_job_whose_owner_cannot_be_stored_is_not_handed_out(w: Workers) -> None:
    """503 with the request's id; the log has the job's, and nobody can ask for it."""
    w.book.fails_to_bind = True
    made = await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    assert (made.status, made.code) == (503, "job_not_kept")
    assert b"job-1" not in made.body
    assert w.first.metrics.jobs[("assemblyai", "lost")] == 1
    w.book.fails_to_bind = False
    assert (await w.first.ask("GET", "/v2/transcript/job-1")).status == 404


async def test_no_job_is_made_while_owners_cannot_be_stored(w: Workers) -> None:
    """The service would work, and be paid, for nobody."""
    w.book.down = True
    made = await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    assert (made.status, made.code, w.asked) == (503, "store_unavailable", [])
    w.book.down = False
    assert (await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)).status == 200


async def test_while_the_book_is_down_only_what_is_known_is_answered(
    w: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and never open: the worker that knows the owner goes on for a second (here a minute), the other cannot."""
    monkeypatch.setattr("gateway.dataplane.jobs._FRESH_S", 60.0)
    job_id = await w.make()
    w.book.down = True
    unknown = await w.second.ask("GET", f"/v2/transcript/{job_id}")
    assert (unknown.status, unknown.code) == (503, "store_unavailable")
    w.service.state = "processing"
    assert (await w.first.ask("GET", f"/v2/transcript/{job_id}")).status == 200


async def test_a_result_that_cannot_be_accounted_is_not_served(w: Workers) -> None:
    job_id = await w.make()
    w.book.fails_to_settle = True
    polled = await w.first.ask("GET", f"/v2/transcript/{job_id}")
    assert (polled.status, polled.code) == (503, "account_unavailable")
    assert b"secret" not in polled.body
    w.book.fails_to_settle = False
    assert (await w.first.ask("GET", f"/v2/transcript/{job_id}")).status == 200
    assert len(w.book.accounted) == 1


@pytest.mark.parametrize("status", [b"400 Bad Request", b"500 Oops", b"302 Found"])
async def test_a_job_that_was_not_made_is_nobodys(w: Workers, status: bytes) -> None:
    w.service.sent["/v2/transcript"] = answer(b'{"id": "job-9"}', status)
    await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    assert not w.book.rows


@pytest.mark.parametrize("body", [b"", b"no json", b'{"id": null}', b'{"other": "job-9"}', b'{"x": "' + b"y" * 70_000])
async def test_an_answer_without_an_id_passes_as_it_is(w: Workers, body: bytes) -> None:
    """And is counted: the route does not fit the service."""
    w.service.sent["/v2/transcript"] = answer(body)
    made = await w.first.ask("POST", "/v2/transcript", JSON, BY_URL)
    assert (made.status, made.body) == (200, body)
    assert w.first.metrics.jobs[("assemblyai", "unrecognised")] == 1
    assert not w.book.rows


async def test_a_long_result_passes_whole_and_is_settled_behind_its_bound(w: Workers) -> None:
    """What is held of it is bounded; the length stands behind a text of megabytes."""
    job_id = await w.make()
    w.service.text = "word " * (_HELD_STATE // 2)
    polled = await w.first.ask("GET", f"/v2/transcript/{job_id}")
    assert json.loads(polled.body)["text"] == w.service.text
    await until(lambda: bool(w.book.accounted))
    assert [record.measured.audio_ms for record in w.book.accounted] == [281_000]


async def test_a_client_that_hangs_up_early_has_seen_nothing_unaccounted(w: Workers) -> None:
    """The text comes before the length: held back until that is there, it cannot be read and left unpaid."""
    job_id = await w.make()
    held = asyncio.Event()

    async def stops(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: Seen) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n")
        writer.write(b'{"status": "completed", "text": "secret')
        await writer.drain()
        held.set()

    w.first.upstream.respond = stops
    reader, writer = await asyncio.open_connection("127.0.0.1", w.first.port)
    writer.write(request(w.first.key, f"GET /v2/transcript/{job_id} HTTP/1.1".encode(), b"Connection: close"))
    async with asyncio.timeout(30):
        await held.wait()
        assert (await w.first.ask("GET", "/nowhere")).status == 404  # the loop has gone round meanwhile
        assert not reader._buffer
    writer.close()
    await until(lambda: w.first.metrics.inflight == 0)
    assert not w.book.accounted


async def test_answers_about_jobs_are_asked_for_whole_and_plain(w: Workers) -> None:
    """A compressed answer, or a part of it, would not say what has to be known; other routes are left alone."""
    fields = [("Accept-Encoding", "gzip"), ("Range", "bytes=0-9")]
    await w.first.ask("POST", "/v2/transcript", [*JSON, *fields], BY_URL)
    await w.first.ask("GET", "/v2/transcript/job-1", fields)
    await w.first.ask("GET", "/v1/models/x/y", fields)
    *jobs, other = w.first.upstream.seen
    assert [seen.all("accept-encoding") for seen in jobs] == [["identity"]] * 2
    assert not any(seen.all("range") for seen in jobs)
    assert (other.all("accept-encoding"), other.all("range")) == (["gzip"], ["bytes=0-9"])


async def test_forward_auth_knows_owners_and_makes_no_jobs() -> None:
    """It sees no answer: it can neither learn an id nor account a result."""
    async with workers(Options(trusted=(HERE,))) as w:
        job_id = await w.make()
        other = w.of_other_tenant()

        async def verify(gateway: Gateway, method: str, uri: str, key: str = "") -> tuple[int, list[str]]:
            told = await gateway.ask(
                "GET", "/auth/verify", [("X-Original-URI", uri), ("X-Original-Method", method)], key=key
            )
            return told.status, told.all("x-auth-code")

        assert await verify(w.first, "POST", "/v2/transcript") == (403, ["job_unseen"])
        assert await verify(w.second, "GET", f"/v2/transcript/{job_id}") == (403, ["job_not_settled"])
        assert await verify(w.second, "GET", f"/v2/transcript/{job_id}", other) == (403, ["not_found"])
        await w.first.ask("GET", f"/v2/transcript/{job_id}")
        assert await verify(w.second, "GET", f"/v2/transcript/{job_id}") == (200, [])
        assert await verify(w.second, "GET", f"/v2/transcript/{job_id}", other) == (403, ["not_found"])


async def test_owners_are_read_once_for_many_polls(w: Workers) -> None:
    """Clients poll every few seconds, and the book need not hear of each."""
    job_id = await w.make()
    await w.second.ask("GET", f"/v2/transcript/{job_id}")
    asked = w.book.asked
    await w.second.ask("GET", f"/v2/transcript/{job_id}")
    for _ in range(5):
        await w.second.ask("GET", f"/v2/transcript/{job_id}")
    assert w.book.asked <= asked + 1


async def test_other_routes_never_ask_the_book() -> None:
    book = MemoryJobs()
    book.down = True
    async with running(Options(jobs=book)) as gateway:
        assert (await gateway.ask()).status == 200
    assert book.asked == 0


def test_the_name_of_a_job_is_its_kind_and_its_id() -> None:
    assert Job("a", "1") != Job("b", "1")


async def test_audio_limits_are_charged_with_the_result(w: Workers) -> None:
    """Once as well; then they stop further jobs, and no result is kept back."""
    key = w.first.add_key(allowances=(limited(What.AUDIO, "60s/month"),))
    job_id, later = await w.make(key), await w.make(key)
    w.service.seconds = 40
    for _ in range(3):
        assert (await w.first.ask("GET", f"/v2/transcript/{job_id}", key=key)).status == 200
    (tally,) = w.first.holding.holds._tallies.values()
    assert tally.used == 40_000
    assert (await w.first.ask("GET", f"/v2/transcript/{later}", key=key)).status == 200
    assert tally.used == 80_000
    assert (await w.first.ask("GET", f"/v2/transcript/{later}", key=key)).status == 200
    refused = await w.first.ask("POST", "/v2/transcript", JSON, BY_URL, key=key)
    assert (refused.status, refused.code) == (429, "quota_exceeded")


async def test_a_question_about_anothers_job_gives_its_place_back(
    w: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused after the limits were taken, it holds nothing of them; nor where it fails by a bug of ours."""
    key = w.first.add_key(tenant_id="ten_b", allowances=(limited(What.CONCURRENCY, "1"),))
    for _ in range(3):
        assert (await w.first.ask("GET", "/v2/transcript/job-1", key=key)).status == 404
    assert w.first.holding.holds.held == 0

    async def bug(_: Job) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(w.book, "owner", bug)
    for _ in range(2):
        assert (await w.first.ask("GET", "/v2/transcript/job-1", key=key)).status == 500
    assert w.first.holding.holds.held == 0


async def test_a_job_that_a_service_gives_again_is_the_same_job(w: Workers) -> None:
    """A repeated request is accounted once; a service that counts anew does the same, so it is told."""
    job_id = await w.make()
    await w.first.ask("GET", f"/v2/transcript/{job_id}")
    w.service.made = 0
    assert await w.make() == job_id
    assert (await w.second.ask("GET", f"/v2/transcript/{job_id}")).status == 200
    assert len(w.book.accounted) == 1
    assert w.first.metrics.jobs[("assemblyai", "repeated")] == 1

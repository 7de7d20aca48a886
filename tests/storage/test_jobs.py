"""The promises of storage.ports.JobBook, kept by PostgreSQL and by the dictionary that the tests of the doors use."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord
from policies.corrections import Lowered
from policies.jobs import NEVER_TOLD, Job, Ownership
from policies.limits.allowances import Allowance, What
from policies.limits.holding import Demand
from storage.ports import JobBook, Unavailable
from storage.postgres.pool import Pool
from storage.postgres.usage.jobs import PostgresJobs
from storage.postgres.usage.ledger import PostgresLedger
from tests.storage.accounts import exported, keep
from tests.storage.memory_jobs import MemoryJobs
from tests.storage.usage_samples import ACME, OTHER, record

JOB = Job("k", "abc")
MINE = Ownership(tenant_id=ACME, key_id="key_1", user_id="usr_1", route="m", accounted_ms=7, most_ms=9, settled=False)
UPLOADED = replace(MINE, accounted_ms=2_500, floor_ms=2_500, model="whisper-1", channels=1)
FAILED = Lowered(0, Outcome.UPSTREAM_FAILED)
THEIRS = replace(MINE, tenant_id=OTHER, key_id="key_2")
RESULT = record(
    tenant_id=ACME,
    event_id="job:k:abc",
    status=INTERIM,
    measured=Measured(audio_ms=281_000, source=AudioSource.REPORTED),
)
EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


@pytest.fixture(params=["postgres", "memory"])
def book(request: pytest.FixtureRequest) -> JobBook:
    return MemoryJobs() if request.param == "memory" else PostgresJobs(request.getfixturevalue("pool"))


async def test_an_owner_is_known_as_it_was_kept(book: JobBook) -> None:
    await book.ping()
    assert await book.owner(JOB) is None
    made = replace(MINE, made_ms=int(time.time() * 1000))
    assert await book.bind(JOB, made, 14) == MINE
    known = await book.owner(JOB)
    assert known == MINE
    assert abs(known.made_ms - made.made_ms) < 60_000
    assert await book.owner(Job("other", JOB.id)) is None
    assert await book.owner(Job(JOB.kind, "ABC")) is None


async def test_the_same_tenant_may_be_given_an_id_again(book: JobBook) -> None:
    """Some services answer a repetition with the job that there is; whose it is and what is settled stays."""
    await book.bind(JOB, MINE, 14)
    await book.settle(JOB, RESULT)
    kept = await book.bind(JOB, replace(MINE, key_id="key_9"), 14)
    assert kept == replace(MINE, settled=True)


async def test_an_id_given_to_two_tenants_is_nobodys(book: JobBook) -> None:
    await book.bind(JOB, MINE, 14)
    for again in (THEIRS, MINE, THEIRS):
        assert (await book.bind(JOB, again, 14)) == replace(MINE, contested=True)
    assert not await book.settle(JOB, RESULT)


async def test_a_job_is_settled_once_whoever_asks(book: JobBook) -> None:
    await book.bind(JOB, MINE, 14)
    assert sorted(await asyncio.gather(*(book.settle(JOB, RESULT) for _ in range(5)))) == [False] * 4 + [True]
    assert (await book.owner(JOB)) == replace(MINE, settled=True)
    assert not await book.settle(Job("k", "unknown"), RESULT)


async def test_what_was_settled_at_the_beginning_stays_so(book: JobBook) -> None:
    await book.bind(JOB, replace(MINE, settled=True), 14)
    assert not await book.settle(JOB, RESULT)


async def test_settling_and_accounting_are_one_transaction(pool: Pool) -> None:
    """The account has the job once, as audio and not as a request, and its books agree."""
    book, ledger = PostgresJobs(pool), PostgresLedger(pool)
    await book.bind(JOB, MINE, 14)
    with pytest.raises(Exception, match="beyond all reason"):
        await book.settle(JOB, RESULT._replace(bytes_in=10**16))
    assert (await book.owner(JOB)) == MINE
    assert await book.settle(JOB, RESULT)
    assert not await book.settle(JOB, RESULT)
    totals = await ledger.totals(ACME, *EVER)
    assert (totals.audio_ms, totals.requests) == (281_000, 0)
    assert await ledger.reconcile() == []


async def test_what_nobody_asked_for_is_told_to_one_asker_and_closed_when_its_time_is_over(pool: Pool) -> None:
    """Settled jobs are not, nor what was accounted with its making; a contested one is only closed. The books agree."""
    book, ledger = PostgresJobs(pool), PostgresLedger(pool)
    pending = replace(MINE, accounted_ms=0, pending=True)
    for name, made in {"a": pending, "settled": replace(pending, settled=True), "estimated": MINE}.items():
        await book.bind(Job("k", name), made, 10)
    for made in (pending, THEIRS):
        await book.bind(Job("k", "contested"), made, 10)
    assert list(await book.unheard()) == list(await book.close_overdue()) == []
    await shift(pool, "9 days 1 hour")
    told = [*await book.unheard(), *await book.unheard()]
    assert sorted(job.id for job, _ in told) == ["a", "estimated"]
    assert (Job("k", "a"), pending) in told
    await shift(pool, "1 hour")
    assert len(await book.unheard()) == 2
    await shift(pool, "1 day")
    await book.bind(Job("k", "more"), MINE, 10)
    assert list(await book.unheard()) == []
    both = await asyncio.gather(book.close_overdue(), PostgresJobs(pool).close_overdue())
    assert sorted(job.id for closed in both for job, _ in closed) == ["a", "contested"]
    told = {(one.measured, one.status, one.key_id) for one in await exported(ledger, ACME)}
    assert told == {
        (replace(NEVER_TOLD, job=f"k:{name}", before_ms=0), INTERIM, "key_1") for name in ("a", "contested")
    }
    assert await ledger.reconcile() == []


async def test_an_id_that_comes_again_leaves_what_is_known_of_the_first_job(pool: Pool) -> None:
    """Another tenant's now: the first one's audio is written down as unmeasured before its row goes."""
    book = PostgresJobs(pool)
    await book.bind(JOB, replace(MINE, pending=True), 14)
    await shift(pool, "15 days")
    assert await book.bind(JOB, THEIRS, 14) == THEIRS
    never_told = replace(NEVER_TOLD, job="k:abc", before_ms=7)
    assert [record.measured for record in await exported(PostgresLedger(pool), ACME)] == [never_told]
    assert await book.owner(JOB) == THEIRS


async def shift(pool: Pool, interval: str) -> None:
    """Let so much time pass for all jobs."""
    async with pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.jobs SET created_at = created_at - $1::text::interval,"
            " expires_at = expires_at - $1::text::interval, ask_at = ask_at - $1::text::interval,"
            " lower_at = lower_at - $1::text::interval",
            interval,
        )


def uploaded(**changes: object) -> UsageRecord:
    """The record of the request that made the job, just now."""
    made = record(ended_ms=int(time.time() * 1000), request_id="up", **changes)
    return made._replace(measured=replace(made.measured, job="k:abc"))


async def test_a_job_that_failed_is_taken_back_once_and_only_what_the_account_has(pool: Pool) -> None:
    """Whoever finds it and however often; its record waits for that of the upload, which may still be in a journal."""
    book, other, ledger = PostgresJobs(pool), PostgresJobs(pool), PostgresLedger(pool)
    counted = (Demand(Allowance.parse(What.AUDIO, "1h/month"), "limit:{a}", 0, 99),)
    await book.bind(JOB, replace(UPLOADED, counted=counted), 14)
    assert await book.lower(JOB, FAILED) is None
    assert (await book.owner(JOB)) == replace(UPLOADED, counted=counted, settled=True)
    assert await book.lower(JOB, FAILED) is None
    assert not await book.settle(JOB, RESULT)
    assert list(await book.lower_noted()) == []
    made = uploaded()
    await keep(ledger, made)
    await shift(pool, "1 minute 1 second")
    (booked,) = [*await book.lower_noted(), *await other.lower_noted()]
    assert booked[0] == JOB
    assert booked[1].counted == counted
    assert [one.measured.audio_ms for one in await exported(ledger, ACME)] == [2_500, -2_500]
    assert booked[2] == (await exported(ledger, ACME))[1]
    await shift(pool, "2 hours")
    assert list(await book.lower_noted()) == []
    totals = await ledger.totals(ACME, *EVER)
    assert (totals.audio_ms, totals.requests) == (0, 1)
    assert await ledger.reconcile() == []


async def test_one_of_many_who_find_a_failure_takes_it_back(pool: Pool) -> None:
    book, ledger = PostgresJobs(pool), PostgresLedger(pool)
    await book.bind(JOB, UPLOADED, 14)
    await keep(ledger, uploaded())
    found = await asyncio.gather(*(book.lower(JOB, FAILED) for _ in range(5)))
    assert sorted(one is not None for one in found) == [False] * 4 + [True]
    assert await ledger.reconcile() == []


async def test_what_was_not_charged_is_not_taken_back(pool: Pool) -> None:
    """Of another tenant's record neither, nor of a correction; the job is settled all the same."""
    book, ledger = PostgresJobs(pool), PostgresLedger(pool)
    await book.bind(JOB, UPLOADED, 14)
    uncharged = uploaded(outcome=Outcome.UPSTREAM_FAILED)
    await keep(
        ledger, uncharged._replace(measured=replace(uncharged.measured, audio_ms=0)), uploaded(tenant_id=OTHER),
        RESULT._replace(ended_ms=uncharged.ended_ms, measured=replace(RESULT.measured, job="k:abc", before_ms=0)),
    )  # fmt: skip
    assert await book.lower(JOB, FAILED) is None
    await shift(pool, "2 hours")
    assert list(await book.lower_noted()) == []
    rows = await pool.read("SELECT settled_at IS NOT NULL AS settled FROM platform.jobs")
    assert [row["settled"] for row in rows] == [True]


async def test_uploaded_jobs_are_asked_about_after_a_day_and_again_in_the_end(pool: Pool) -> None:
    """So that a failure that no client asks about is found while somebody waits for it."""
    book = PostgresJobs(pool)
    await book.bind(JOB, UPLOADED, 10)
    await book.bind(Job("k", "url"), replace(MINE, accounted_ms=0, pending=True), 10)
    told = []
    for passed in ("23 hours", "2 hours", "3 days", "4 days 22 hours", "2 hours"):
        await shift(pool, passed)
        told.append(sorted(job.id for job, _ in await book.unheard()))
    assert told == [[], ["abc"], [], [], ["abc", "url"]]


async def test_jobs_that_have_had_their_time_are_forgotten(pool: Pool) -> None:
    """Their ids may come again, for anybody; old rows go with new ones."""
    book = PostgresJobs(pool)
    for number in range(30):
        await book.bind(Job("k", str(number)), MINE, 14)
    await book.bind(JOB, MINE, 14)
    async with pool.operator() as connection:
        await connection.execute("UPDATE platform.jobs SET expires_at = now() - interval '1 s'")
    assert await book.owner(JOB) is None
    assert await book.bind(JOB, THEIRS, 14) == THEIRS
    assert await book.owner(JOB) == THEIRS
    await book.bind(Job("k", "more"), MINE, 14)
    assert [row["job_id"] for row in await pool.read("SELECT job_id FROM platform.jobs ORDER BY 1")] == ["abc", "more"]


async def test_a_tenants_scope_sees_its_own_jobs_and_changes_none(pool: Pool) -> None:
    book = PostgresJobs(pool)
    await book.bind(JOB, MINE, 14)
    await book.bind(Job("k", "theirs"), THEIRS, 14)
    async with pool.tenant(ACME) as connection:
        assert await connection.fetchval("SELECT array_agg(job_id) FROM platform.jobs") == ["abc"]
    with pytest.raises(Unavailable, match="permission denied"):
        async with pool.tenant(ACME) as connection:
            await connection.execute("UPDATE platform.jobs SET tenant_id = $1", OTHER)


async def test_a_store_that_cannot_be_asked_says_so() -> None:
    closed = Pool("postgresql://nobody@127.0.0.1:1/none", connect_timeout=1.0)
    book = PostgresJobs(closed)
    for asked in (book.ping(), book.owner(JOB), book.bind(JOB, MINE, 14), book.settle(JOB, RESULT), book.unheard()):
        with pytest.raises(Unavailable):
            await asked
    await closed.close()

"""The account's daily care: books compared once among replicas, old raw records removed and their sums kept."""

import asyncio
from datetime import timedelta

import pytest

from storage.ports import RawRemoved, Unavailable
from storage.postgres.pool import Pool
from storage.postgres.usage.care import UsageCare
from storage.postgres.usage.ledger import PostgresLedger
from tests.storage.accounts import EVER, exported, keep
from tests.storage.usage_samples import ACME, DAY_MS, NOON, NOON_MS, OTHER, record

DAY = timedelta(days=1)
LONG_AGO = NOON - 100 * DAY


@pytest.fixture
def care(pool: Pool) -> UsageCare:
    return UsageCare(pool)


async def days_of_records(pool: Pool) -> set[str]:
    rows = await pool.read("SELECT DISTINCT tableoid::regclass::text AS name FROM platform.usage_events")
    return {row["name"].removeprefix("platform.usage_events_") for row in rows}


async def test_books_are_compared_once_however_many_replicas_see_that_it_is_due(
    ledger: PostgresLedger, care: UsageCare, migrated_url: str
) -> None:
    await keep(ledger, record())
    other = Pool(migrated_url)
    assert await care.reconciled() is None
    answers = await asyncio.gather(*(each.reconcile(LONG_AGO) for each in (care, UsageCare(other)) * 2))
    await other.close()
    assert sorted(answers, key=str) == [None, None, None, []]
    done = await care.reconciled()
    assert done is not None
    assert done.differences == 0
    assert await care.reconcile(done.at) is None
    assert await care.reconcile(done.at + DAY) == []


async def test_what_differs_is_counted_where_every_replica_reads_it(
    pool: Pool, ledger: PostgresLedger, care: UsageCare
) -> None:
    await keep(ledger, record())
    async with pool.operator() as connection:
        await connection.execute("UPDATE platform.usage_daily SET audio_ms = audio_ms - 1")
    found = await care.reconcile(LONG_AGO)
    assert found is not None
    assert len(found) == 1
    done = await care.reconciled()
    assert done is not None
    assert done.differences == 1


async def test_a_replica_that_dies_over_it_leaves_it_to_another(
    pool: Pool, ledger: PostgresLedger, care: UsageCare
) -> None:
    """Neither a lock nor a time of its own stays behind."""
    await keep(ledger, record())
    async with pool.operator() as busy:
        (pid,) = await busy.fetchrow("SELECT pg_backend_pid()")
        await busy.execute("LOCK TABLE platform.usage_hourly IN ACCESS EXCLUSIVE MODE")
        dying = asyncio.create_task(care.reconcile(LONG_AGO))  # noqa: TID251  awaited below
        waiting = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
        async with asyncio.timeout(30):
            while not (stuck := await pool.read(waiting, pid)):  # noqa: ASYNC110  nothing would set an event
                await asyncio.sleep(0)
        await pool.read("SELECT pg_terminate_backend($1)", stuck[0]["pid"])
        with pytest.raises(Unavailable):
            await dying
    assert await care.reconciled() is None
    assert await care.reconcile(LONG_AGO) == []


async def test_whole_days_leave_their_sums_stay_and_the_books_still_agree(
    pool: Pool, ledger: PostgresLedger, care: UsageCare
) -> None:
    await keep(ledger, *(record(ended_ms=NOON_MS - back * DAY_MS) for back in (0, 1, 61, 62, 63, 90)))
    before = await ledger.totals(ACME, *EVER)
    # Partitions of the days behind each of these are there as well: two days ahead are made with each.
    assert await care.remove_raw(NOON - 62 * DAY) >= 2
    assert await days_of_records(pool) == {"20261126", "20261125", "20260926", "20260925"}
    assert await ledger.totals(ACME, *EVER) == before
    assert await ledger.reconcile() == []
    assert await care.remove_raw(NOON - 62 * DAY) == 0


async def test_of_removed_days_the_sums_are_still_compared_with_each_other(
    pool: Pool, ledger: PostgresLedger, care: UsageCare
) -> None:
    await keep(ledger, record(ended_ms=NOON_MS - 90 * DAY_MS), record())
    await care.remove_raw(NOON - 62 * DAY)
    async with pool.operator() as connection:
        await connection.execute(
            "UPDATE platform.usage_daily SET audio_ms = audio_ms + 1 WHERE bucket < $1", LONG_AGO + 50 * DAY
        )
    (difference,) = await ledger.reconcile()
    assert difference.where.startswith("usage_daily 2026-08-28")


async def test_an_export_is_never_a_part_that_passes_for_the_whole(ledger: PostgresLedger, care: UsageCare) -> None:
    kept = record()
    await keep(ledger, record(ended_ms=NOON_MS - 90 * DAY_MS), kept, record(tenant_id=OTHER))
    await care.remove_raw(NOON - 62 * DAY)
    with pytest.raises(RawRemoved, match=r"2026-0\d-\d\d"):
        await exported(ledger)
    assert await exported(ledger, since=NOON - 2 * DAY) == [kept]
    assert len(await exported(ledger, OTHER)) == 1  # it had nothing then


async def test_a_record_that_comes_after_its_day_was_removed_is_accounted(
    ledger: PostgresLedger, care: UsageCare
) -> None:
    """From a journal that lay on a disk for months."""
    late = record(ended_ms=NOON_MS - 90 * DAY_MS)
    await keep(ledger, record(ended_ms=NOON_MS - 90 * DAY_MS))
    await care.remove_raw(NOON - 62 * DAY)
    with pytest.raises(Unavailable):  # its partition was there once, as this shipper remembers
        await keep(ledger, late)
    await keep(ledger, late)
    assert (await ledger.totals(ACME, *EVER)).requests == 2
    assert await ledger.reconcile() == []
    assert await care.remove_raw(NOON - 62 * DAY) >= 1
    assert await ledger.reconcile() == []


async def test_a_day_that_is_being_read_is_left_and_nobody_waits_long(
    pool: Pool, ledger: PostgresLedger, care: UsageCare
) -> None:
    await keep(ledger, record(ended_ms=NOON_MS - 90 * DAY_MS))
    async with pool.operator() as reader:
        await reader.fetch("SELECT FROM platform.usage_events")
        with pytest.raises(Unavailable, match="lock"):
            await care.remove_raw(NOON - 62 * DAY)
        assert len(await exported(ledger)) == 1
    assert await care.remove_raw(NOON - 62 * DAY) >= 1

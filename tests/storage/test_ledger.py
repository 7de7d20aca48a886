"""The promises of storage.ports.Ledger, kept by PostgreSQL."""

import asyncio
import gc
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.account.usage import AudioSource, Measured, Outcome, UsageRecord
from policies.limits.allowances import What
from storage.ports import Difference, Rejected, StorageError, Unavailable, UsageOf, UsageTotals
from storage.postgres.history import MIGRATIONS
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.usage_rows import CURRENT, encode
from tests.storage.accounts import EVER, at, exported, keep, totals
from tests.storage.usage_samples import ACME, DAY_MS, HOUR_MS, NOON, NOON_MS, OTHER, STORABLE, record, records

# Shipping


async def test_rows_are_inserted_once_between_two_positions(ledger: PostgresLedger) -> None:
    first, second = record(), record()
    assert await ledger.shipped("j") == 0
    assert await ledger.ship("j", 0, 100, [encode(first)])
    assert not await ledger.ship("j", 0, 100, [encode(first)])
    assert await ledger.shipped("j") == 100
    assert await ledger.ship("j", 100, 200, [encode(second)])
    assert not await ledger.ship("j", 0, 300, [encode(first), encode(second), encode(record())])
    assert await exported(ledger) == [first, second]


async def test_a_position_that_the_ledger_has_not_reached_is_refused(ledger: PostgresLedger) -> None:
    """After a restore from an old backup, what lies between would be lost."""
    assert not await ledger.ship("j", 100, 200, [encode(record())])
    assert await ledger.shipped("j") == 0
    assert await ledger.ship("j", 0, 50, [encode(record())])
    assert not await ledger.ship("j", 100, 200, [encode(record())])
    assert len(await exported(ledger)) == 1


async def test_a_position_moves_without_rows(ledger: PostgresLedger) -> None:
    assert await ledger.ship("j", 0, 70, [])
    assert await ledger.shipped("j") == 70
    assert await ledger.reconcile() == []


async def breaking_in_the_midst_of_a_copy(url: str) -> list[dict[str, Any]]:
    """What asyncio complains of."""
    complaints: list[dict[str, Any]] = []
    loop, free = asyncio.get_running_loop(), threading.Event()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    pool = Pool(url)
    ledger = PostgresLedger(pool)
    assert await ledger.ship("j", 0, 50, [encode(record())])  # its day is there from now on
    threads = ThreadPoolExecutor(1)
    loop.set_default_executor(threads)
    threads.submit(free.wait)
    try:
        async with pool.operator() as locking, asyncio.TaskGroup() as group:
            await locking.execute("LOCK TABLE platform.usage_events IN ACCESS EXCLUSIVE MODE")
            shipping = group.create_task(failing(ledger.ship("j", 50, 100, [encode(record())])))
            while not (await pool.read(_KILL_COPY))[0]["killed"]:  # a transaction sees one moment of others
                pass
            await asyncio.wait([shipping], timeout=30)  # the end is heard while all threads are busy
            free.set()
    finally:
        free.set()
    assert isinstance(shipping.result(), Unavailable)
    assert await ledger.shipped("j") == 50
    await pool.close()
    del shipping
    gc.collect()
    return complaints


def test_a_connection_that_breaks_in_the_midst_of_a_copy_leaves_no_complaint(emptied_url: str) -> None:
    """Also where the rows could not be read as yet, because all threads are busy: nobody asked for its future.

    On the loop that gateways run on, which raises where asyncio's own passes over what is written to a closed socket.
    """
    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(breaking_in_the_midst_of_a_copy(emptied_url)) == []
    finally:
        loop.close()


_KILL_COPY = """
    SELECT count(pg_terminate_backend(pid, 60000)) AS killed FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'COPY %' AND wait_event_type = 'Lock'
"""


async def failing(asked: Awaitable[object]) -> Exception | None:
    """What it fails of."""
    try:
        await asked
    except Exception as error:  # noqa: BLE001  the answer
        return error
    return None


async def test_of_many_who_ship_the_same_rows_one_succeeds(ledger: PostgresLedger) -> None:
    rows = [encode(record()) for _ in range(100)]
    for position in range(3):
        answers = await asyncio.gather(*(ledger.ship("j", position, position + 1, rows) for _ in range(5)))
        assert sorted(answers) == [False] * 4 + [True]
    assert (await ledger.totals(ACME, *EVER)).requests == 300


async def test_shippers_of_different_journals_meet_in_the_roll_ups_without_a_deadlock(ledger: PostgresLedger) -> None:

    chance = random.Random(4)

    def batch() -> list[bytes]:
        hours = chance.choices(range(60), k=500)
        return [encode(record(key_id=f"key_{chance.randrange(20)}", ended_ms=NOON_MS + n * HOUR_MS)) for n in hours]

    await asyncio.gather(*(ledger.ship(f"j{number}", 0, 1, batch()) for number in range(12)))
    assert (await ledger.totals(ACME, *EVER)).requests == 6000
    assert await ledger.reconcile() == []


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(encode(record()).replace(b"\t200\t", b"\t99999999999\t"), id="out of range for its column"),
        pytest.param(encode(record()).replace(b"\t2500\t", b"\t0x\t", 1), id="no number"),
        pytest.param(encode(record()).replace(b"\n", b"\tmore\n"), id="too many fields"),
        pytest.param(encode(record()).replace(b"\t\\N\n", b"\n"), id="too few fields"),
        pytest.param(encode(record()).replace(b"whisper", b"whi\xffsper"), id="no utf-8"),
        pytest.param(encode(record()).replace(b"whisper", b"whi\0sper"), id="nul"),
        pytest.param(encode(record()).replace(b"whisper-1", rb"\N"), id="null where none may be"),
        pytest.param(encode(record()).replace(b"2026-11-26", b"2026-13-26"), id="no date"),
        pytest.param(
            encode(record()).replace(b"key_1", random.randbytes(9000).hex().encode()), id="too long for an index"
        ),
        pytest.param(encode(record(bytes_in=10**17)), id="beyond all reason"),
    ],
)
async def test_a_poisoned_row_is_rejected_and_nothing_of_its_batch_is_kept(
    ledger: PostgresLedger, poison: bytes
) -> None:
    with pytest.raises(Rejected):
        await ledger.ship("j", 0, 100, [encode(record()), poison, encode(record())])
    assert await ledger.shipped("j") == 0
    assert await exported(ledger) == []
    assert await ledger.ship("j", 0, 100, [encode(record())])
    assert await ledger.reconcile() == []


async def test_a_row_of_a_newer_encoding_is_not_rejected_but_waits(ledger: PostgresLedger) -> None:
    with pytest.raises(StorageError, match="newer gateway") as raised:
        await ledger.ship("j", 0, 100, [encode(record()), b"4" + encode(record())[1:]])
    assert not isinstance(raised.value, Rejected)
    assert await ledger.shipped("j") == 0


async def test_a_ledger_that_is_away_is_unavailable() -> None:
    pool = Pool("postgresql://nobody@/none?host=/nowhere")
    ledger = PostgresLedger(pool)
    with pytest.raises(Unavailable):
        await ledger.ship("j", 0, 1, [encode(record())])
    with pytest.raises(Unavailable):
        await ledger.shipped("j")


async def test_a_database_without_migrations_is_unavailable_and_rejects_nothing(database_url: str) -> None:
    pool = Pool(database_url)
    with pytest.raises(Unavailable, match="gateway migrate"):
        await PostgresLedger(pool).ship("j", 0, 1, [encode(record())])
    await pool.close()


# Days


async def partitions(pool: Pool) -> list[str]:
    rows = await pool.read(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'platform.usage_events'::regclass ORDER BY name"
    )
    return [row["name"].removeprefix("platform.usage_events_") for row in rows]


async def test_days_are_made_when_they_are_needed_and_a_little_ahead(pool: Pool, ledger: PostgresLedger) -> None:
    midnight = NOON_MS + 12 * HOUR_MS
    await keep(ledger, record(ended_ms=midnight - 1), record(ended_ms=midnight))
    assert await partitions(pool) == ["20261126", "20261127", "20261128", "20261129"]
    rows = await pool.read("SELECT tableoid::regclass::text AS day FROM platform.usage_events ORDER BY ended_at")
    assert [row["day"][-8:] for row in rows] == ["20261126", "20261127"]
    assert await ledger.totals(ACME, at(midnight), at(midnight + DAY_MS)) == totals([record()])


async def test_a_late_record_finds_its_old_day(pool: Pool, ledger: PostgresLedger) -> None:
    late = record(ended_ms=NOON_MS - 400 * DAY_MS)
    await keep(ledger, record())
    await keep(ledger, late)
    assert await exported(ledger, until=NOON - timedelta(days=399)) == [late]
    assert await ledger.reconcile() == []


@pytest.mark.parametrize("ended_ms", [0, 253_402_300_799_999], ids=["epoch", "year 9999"])
async def test_a_clock_that_is_far_off_costs_no_record(ledger: PostgresLedger, ended_ms: int) -> None:
    await keep(ledger, record(ended_ms=ended_ms))
    rows = await ledger.breakdown(ACME, EVER[0], EVER[1] + timedelta(hours=23, minutes=59, seconds=59.9995), "day")
    assert [found for _, found in rows] == [totals([record()])]


async def test_two_ledgers_make_the_same_new_day_at_once(migrated_url: str) -> None:
    pools = [Pool(migrated_url) for _ in range(4)]
    await asyncio.gather(*(keep(PostgresLedger(pool), record()) for pool in pools))
    assert await partitions(pools[0]) == ["20261126", "20261127", "20261128"]
    for pool in pools:
        await pool.close()


async def test_a_day_that_was_dropped_is_made_again(pool: Pool, ledger: PostgresLedger) -> None:
    await keep(ledger, record())
    async with pool.operator() as connection:
        await connection.execute("DROP TABLE platform.usage_events_20261126")
    with pytest.raises(Unavailable, match="made again"):
        await ledger.ship("j", 0, 1, [encode(record())])
    assert await ledger.ship("j", 0, 1, [encode(record())])


async def test_a_new_day_does_not_wait_for_a_reader(pool: Pool, ledger: PostgresLedger) -> None:
    """An export may take hours; midnight must not wait for it, nor others behind midnight."""
    await keep(ledger, record())
    async with pool.tenant(ACME) as reader:
        await reader.fetch("SELECT * FROM platform.usage_events")
        async with asyncio.timeout(30):
            await keep(ledger, record(ended_ms=NOON_MS + 30 * DAY_MS))


# Tenants


async def test_a_tenant_sees_its_own_account(ledger: PostgresLedger) -> None:
    mine, theirs = record(), record(tenant_id=OTHER)
    await keep(ledger, mine, theirs)
    assert await exported(ledger) == [mine]
    assert await ledger.totals(OTHER, *EVER) == totals([theirs])


@pytest.mark.parametrize("table", ["usage_events", "usage_hourly", "usage_daily"])
async def test_row_level_security_shows_nothing_without_a_tenant(
    pool: Pool, ledger: PostgresLedger, table: str
) -> None:
    await keep(ledger, record(), record(tenant_id=OTHER), record(tenant_id=""))
    sql = f"SELECT DISTINCT tenant_id FROM platform.{table}"
    async with pool.tenant(ACME) as connection:
        assert [row["tenant_id"] for row in await connection.fetch(sql)] == [ACME]
    async with pool.operator() as connection:
        await connection.execute("SET LOCAL ROLE platform_app")
        assert await connection.fetch(sql) == []
    async with pool.operator() as connection:
        await connection.execute(
            "SELECT set_config('platform.tenant', '', true), set_config('role', 'platform_app', true)"
        )
        assert await connection.fetch(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM platform.usage_events_20261126",
        "SELECT * FROM platform.journals",
        "DELETE FROM platform.usage_events",
        "UPDATE platform.usage_hourly SET audio_ms = 0",
        "INSERT INTO platform.usage_daily SELECT * FROM platform.usage_daily",
        "SELECT platform.make_usage_day('2026-01-01')",
    ],
)
async def test_a_tenants_scope_reads_its_account_and_nothing_else(pool: Pool, ledger: PostgresLedger, sql: str) -> None:
    await keep(ledger, record())
    with pytest.raises(StorageError, match="permission denied"):
        async with pool.tenant(ACME) as connection:
            await connection.execute(sql)


async def test_a_partition_is_closed_even_to_who_was_granted_it(pool: Pool, ledger: PostgresLedger) -> None:
    await keep(ledger, record(tenant_id=OTHER))
    async with pool.operator() as connection:
        await connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA platform TO platform_app")
    async with pool.tenant(ACME) as connection:
        assert await connection.fetch("SELECT * FROM platform.usage_events_20261126") == []


# Questions

MOMENTS = st.integers(0, 4 * 24 * 4).map(lambda quarter: NOON_MS - DAY_MS + quarter * HOUR_MS // 4)
EDGES = st.tuples(MOMENTS, st.sampled_from([-1, 0, 1])).map(sum)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    given_records=st.lists(
        st.builds(
            UsageRecord._replace,
            records(texts=st.sampled_from(["", "a", "b"])),
            tenant_id=st.sampled_from([ACME, OTHER]),
            ended_ms=EDGES,
        ),
        max_size=30,
    ),
    ranges=st.lists(st.tuples(EDGES, EDGES), min_size=5, max_size=5),
)
async def test_totals_and_breakdowns_are_those_of_the_records(
    pool: Pool, given_records: Sequence[UsageRecord], ranges: Sequence[tuple[int, int]]
) -> None:
    run = f"-{uuid.uuid4().hex}"  # examples share one database
    kept = [one._replace(tenant_id=one.tenant_id + run) for one in given_records]
    ledger = PostgresLedger(pool)
    await keep(ledger, *kept)
    labels = {
        "key": lambda one: one.key_id,
        "user": lambda one: one.user_id,
        "route": lambda one: one.route,
        "day": lambda one: f"{at(one.ended_ms):%Y-%m-%d}",
        "hour": lambda one: f"{at(one.ended_ms):%Y-%m-%dT%H:00Z}",
    }
    for first, last in ranges:
        inside = [one for one in kept if one.tenant_id == ACME + run and first <= one.ended_ms < last]
        since, until = at(first), at(last)
        assert await ledger.totals(ACME + run, since, until) == totals(inside)
        for by, label in labels.items():
            groups: defaultdict[str, list[UsageRecord]] = defaultdict(list)
            for one in inside:
                groups[label(one)].append(one)
            expected = [(name, totals(group)) for name, group in sorted(groups.items())]
            assert await ledger.breakdown(ACME + run, since, until, by) == expected
        in_order = sorted(inside, key=lambda one: (one.ended_ms, one.event_id))
        assert sorted(map(repr, await exported(ledger, ACME + run, since, until))) == sorted(map(repr, in_order))


async def test_nothing_adds_up_to_zeros(ledger: PostgresLedger) -> None:
    assert await ledger.totals(ACME, *EVER) == UsageTotals()
    assert await ledger.totals(ACME, EVER[1], EVER[0]) == UsageTotals()
    assert await ledger.breakdown(ACME, *EVER, "day") == []


async def test_a_question_that_makes_no_sense_is_a_value_error(ledger: PostgresLedger) -> None:
    with pytest.raises(ValueError, match="choose one of key, user, route, outcome, model, day, hour"):
        await ledger.breakdown(ACME, *EVER, "colour")
    with pytest.raises(ValueError, match="time zone"):
        await ledger.totals(ACME, NOON.replace(tzinfo=None), NOON)
    with pytest.raises(ValueError, match="time zone"):
        await exported(ledger, since=NOON.replace(tzinfo=None))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records(texts=STORABLE))
async def test_a_record_comes_back_as_it_was(pool: Pool, given_record: UsageRecord) -> None:
    tenant = f"ten_{uuid.uuid4().hex}"
    kept = given_record._replace(tenant_id=tenant, ended_ms=NOON_MS + given_record.ended_ms % DAY_MS)
    ledger = PostgresLedger(pool)
    await keep(ledger, kept)
    assert await exported(ledger, tenant) == [kept]


async def test_an_export_is_in_order_of_time_whatever_the_order_of_arrival(ledger: PostgresLedger) -> None:
    kept = [record(ended_ms=NOON_MS + number * 1_234_567 % (3 * DAY_MS)) for number in range(2500)]
    await keep(ledger, *kept)
    assert await exported(ledger) == sorted(kept, key=lambda one: (one.ended_ms, one.event_id))


async def test_an_export_can_be_left_in_the_middle(pool: Pool, ledger: PostgresLedger) -> None:
    await keep(ledger, *(record() for _ in range(1500)))
    for _ in range(6):  # more often than the pool has connections
        export = ledger.export(ACME, *EVER)
        await anext(export)
        await export.aclose()
    await pool.ping()


# Reconciliation


async def test_books_that_agree_have_no_differences(ledger: PostgresLedger) -> None:
    await keep(ledger, *(record(ended_ms=NOON_MS + number * HOUR_MS, status=404) for number in range(30)))
    assert await ledger.reconcile() == []


async def tamper(pool: Pool, sql: str) -> None:
    async with pool.operator() as connection:
        await connection.execute(sql)


TOTAL = totals([record(), record()])
LESS = replace(TOTAL, audio_ms=TOTAL.audio_ms - 1)
DIMENSIONS = (
    "tenant_id='ten_acme' key_id='key_1' user_id='' route='openai.transcriptions' outcome='ok' model='whisper-1'"
)
HOURLY = f"usage_hourly 2026-11-26T12:00Z {DIMENSIONS}"
DAILY = f"usage_daily 2026-11-26T00:00Z {DIMENSIONS}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "UPDATE platform.usage_hourly SET audio_ms = audio_ms - 1",
            [Difference(where=HOURLY, expected=TOTAL, found=LESS)],
        ),
        (
            "UPDATE platform.usage_daily SET audio_ms = audio_ms - 1",
            [Difference(where=DAILY, expected=TOTAL, found=LESS)],
        ),
        ("DELETE FROM platform.usage_daily", [Difference(where=DAILY, expected=TOTAL, found=UsageTotals())]),
        (
            "UPDATE platform.usage_hourly SET upstream_us = 1",
            [
                Difference(
                    where=f"{HOURLY}: duration_us, upstream_us 241000, 1 instead of 241000, 238000",
                    expected=TOTAL,
                    found=TOTAL,
                )
            ],
        ),
        (
            "TRUNCATE platform.usage_events",
            [
                Difference(where=HOURLY, expected=UsageTotals(), found=TOTAL),
                Difference(where=DAILY, expected=UsageTotals(), found=TOTAL),
            ],
        ),
        (
            "DROP TABLE platform.usage_events_20261126",
            [
                Difference(where=HOURLY, expected=UsageTotals(), found=TOTAL),
                Difference(where=DAILY, expected=UsageTotals(), found=TOTAL),
            ],
        ),
        (
            "DELETE FROM platform.journals",
            [
                Difference(
                    where="requests shipped from journals, against requests in usage_hourly",
                    expected=UsageTotals(),
                    found=UsageTotals(requests=2),
                )
            ],
        ),
    ],
)
async def test_every_difference_is_found_and_located(
    pool: Pool, ledger: PostgresLedger, sql: str, expected: list[Difference]
) -> None:
    await keep(ledger, record(), record())
    await tamper(pool, sql)
    assert await ledger.reconcile() == expected


async def test_a_record_that_is_there_twice_is_found(pool: Pool, ledger: PostgresLedger) -> None:
    twice = record(event_id="evt_twice")
    await keep(ledger, twice, record())
    await keep(ledger, twice)
    assert await ledger.reconcile() == [
        Difference(
            where="usage_events has event_id='evt_twice' 2 times",
            expected=totals([twice]),
            found=totals([twice, twice]),
        )
    ]


async def test_a_bucket_that_no_day_of_records_has_is_found(pool: Pool, ledger: PostgresLedger) -> None:
    await keep(ledger, record())
    await tamper(
        pool, "INSERT INTO platform.usage_hourly SELECT (jsonb_populate_record(h, '{\"bucket\": \"2020-01-01\"}')).*"
        " FROM platform.usage_hourly h"
    )  # fmt: skip
    where = [difference.where for difference in await ledger.reconcile()]
    assert where[0].startswith("usage_hourly 2020-01-01T00:00Z")
    assert len(where) == 2  # and the journals know of one record less


async def test_reconciling_while_records_arrive_finds_nothing(pool: Pool, ledger: PostgresLedger) -> None:
    """A batch is in all books or in none."""

    async def arrive() -> None:
        for _ in range(30):
            await keep(ledger, *(record(ended_ms=NOON_MS + n * HOUR_MS) for n in range(20)))

    arriving = asyncio.create_task(arrive())  # noqa: TID251  awaited below
    while not arriving.done():
        assert await ledger.reconcile() == []
    await arriving


async def test_the_table_has_the_columns_of_the_encoding_and_the_time_of_arrival(pool: Pool) -> None:
    rows = await pool.read(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'platform.usage_events'::regclass AND attnum > 0"
    )
    assert {row["attname"] for row in rows} == {*CURRENT.names, "recorded_at"}


async def test_what_was_used_of_an_allowance_is_found_by_whose_it_is(ledger: PostgresLedger) -> None:
    """Of a tenant, a user, a key or a route, in a period that begins in the middle of an hour, as India's days do."""
    kept = [
        record(
            ended_ms=NOON_MS + minutes * 60_000,
            key_id=f"key_{minutes % 2}", user_id=f"usr_{minutes % 3}", route=f"r{minutes % 5}", bytes_in=minutes + 1,
            outcome=Outcome.DENIED if minutes % 7 == 0 else Outcome.OK,
        )
        for minutes in range(0, 240, 3)
    ]  # fmt: skip
    await keep(ledger, *kept, kept[1]._replace(tenant_id=OTHER))
    since, until = at(NOON_MS + 30 * 60_000), at(NOON_MS + 210 * 60_000)
    for names in ({}, {"key_id": "key_1"}, {"user_id": "usr_0"}, {"route": "r3"}, {"route": "r3", "key_id": "key_0"}):
        found = [
            one for one in kept
            if since <= at(one.ended_ms) < until and all(getattr(one, name) == value for name, value in names.items())
        ]  # fmt: skip
        assert found
        expected = totals(found)
        figures = {
            What.AUDIO: expected.audio_ms,
            What.BYTES: expected.bytes_in,
            What.REQUESTS: expected.requests - expected.denied,
        }
        for what, figure in figures.items():
            of = UsageOf(tenant_id=ACME, what=what, since=since, until=until, **names)
            assert await ledger.used(of) == figure


async def test_the_migration_that_brings_unmeasured_counts_what_there_is(pool: Pool, ledger: PostgresLedger) -> None:
    """From raw records, so that the books of a database of before agree after it."""
    unknown = Measured(source=AudioSource.UNMEASURED)
    kept = [record(), record(measured=unknown), record(measured=unknown, ended_ms=NOON_MS + DAY_MS)]
    await keep(ledger, *kept)
    fill = (MIGRATIONS / "0022_usage_unmeasured.sql").read_text().partition("UPDATE")
    async with pool.operator() as connection:
        await connection.execute("UPDATE platform.usage_hourly SET unmeasured = 0")
        await connection.execute("UPDATE platform.usage_daily SET unmeasured = 0")
        await connection.execute(fill[1] + fill[2])
    assert (await ledger.totals(ACME, *EVER)) == totals(kept)
    assert totals(kept).unmeasured == 2
    assert await ledger.reconcile() == []

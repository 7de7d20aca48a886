"""What sinks have not taken: all that is committed, in batches, to one sender at a time, until it was taken."""

import asyncio
import uuid

import pytest

from policies.account.usage import UsageRecord
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.postgres.usage.unsent import UsageUnsent
from storage.usage_rows import encode
from tests.storage.accounts import keep
from tests.storage.usage_samples import HOUR_MS, NOON_MS, in_encoding, record


@pytest.fixture
async def unsent(pool: Pool) -> UsageUnsent:
    made = UsageUnsent(pool, "me")
    await made.configure(["one", "two"])
    return made


async def drained(unsent: UsageUnsent, sink: str) -> list[UsageRecord]:
    got: list[UsageRecord] = []
    while (batch := await unsent.take(sink)) is not None:
        got += batch.records
        await unsent.taken(batch)
    return got


async def test_each_sink_gets_every_record_of_a_tenant(ledger: PostgresLedger, unsent: UsageUnsent) -> None:
    kept = [record(ended_ms=NOON_MS + n * HOUR_MS) for n in range(50)]
    for one in kept:
        await keep(ledger, one, record(tenant_id=""))
    assert await unsent.oldest("one") is not None
    assert await drained(unsent, "one") == kept
    assert await unsent.oldest("one") is None
    assert await drained(unsent, "two") == kept


async def test_what_was_not_taken_comes_again_also_to_a_process_that_starts_anew(
    pool: Pool, ledger: PostgresLedger, unsent: UsageUnsent
) -> None:
    await keep(ledger, record())
    first = await unsent.take("one")
    assert first is not None
    again = UsageUnsent(pool, "me")
    await again.configure(["one", "two"])
    assert await again.take("one") == first
    await again.taken(first)
    assert await again.take("one") is None


async def test_one_replica_sends_until_its_hold_ends(pool: Pool, ledger: PostgresLedger, unsent: UsageUnsent) -> None:
    await keep(ledger, record())
    other = UsageUnsent(pool, "other")
    assert await unsent.take("one") is not None
    assert await other.take("one") is None
    assert await other.take("two") is not None
    async with pool.operator() as connection:
        await connection.execute("UPDATE platform.usage_sinks SET held_until = now()")
    assert await other.take("one") is not None
    assert await unsent.take("one") is None


async def test_a_transaction_that_commits_late_is_not_passed_over(
    pool: Pool, ledger: PostgresLedger, unsent: UsageUnsent
) -> None:
    """Its records are older than those that were sent already, and have lower numbers."""
    late, early = record(), record()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def claim(*_: object) -> bool:
        entered.set()
        await leave.wait()
        return True

    slow = asyncio.create_task(ledger.book([encode(late)], claim))  # noqa: TID251  awaited below
    await entered.wait()
    await keep(ledger, early)
    assert await drained(unsent, "one") == [early]
    leave.set()
    assert await slow
    assert await drained(unsent, "one") == [late]


async def test_a_transaction_that_fails_leaves_nothing_to_send(ledger: PostgresLedger, unsent: UsageUnsent) -> None:
    async def claim(*_: object) -> bool:
        return False

    assert not await ledger.book([encode(record())], claim)
    assert await unsent.take("one") is None


async def test_a_round_is_bounded_and_a_large_batch_goes_alone(ledger: PostgresLedger, unsent: UsageUnsent) -> None:
    for size in (600, 300, 200, 1500, 1):
        rows = [encode(record(ended_ms=NOON_MS + n)) for n in range(size)]
        assert await ledger.ship(uuid.uuid4().hex, 0, 1, rows)
    sizes = []
    while (batch := await unsent.take("one")) is not None:
        sizes.append(len(batch.records))
        await unsent.taken(batch)
    assert sizes == [900, 200, 1500, 1]


async def test_rows_of_all_encodings_and_any_order_are_found(ledger: PostgresLedger, unsent: UsageUnsent) -> None:
    kept = [record(ended_ms=NOON_MS + n) for n in (5, 1, 9, 3)]
    old = [in_encoding(number, made) for number, made in zip((1, 2), kept[1:], strict=False)]
    assert await ledger.ship("j", 0, 1, [encode(kept[0]), *old, encode(kept[3])])
    got = await drained(unsent, "one")
    assert sorted({one.event_id for one in got}) == sorted(one.event_id for one in kept)


async def test_without_sinks_nothing_is_noted_and_one_that_left_forgets(
    pool: Pool, ledger: PostgresLedger, unsent: UsageUnsent
) -> None:
    await keep(ledger, record())
    assert await unsent.configure(["two"]) == ["one"]
    assert await unsent.oldest("one") is None
    assert await unsent.oldest("two") is not None
    assert await unsent.configure([]) == ["two"]
    await keep(ledger, record())
    assert await pool.read("SELECT FROM platform.usage_unsent") == []

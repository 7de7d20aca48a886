"""What is kept for a while only: published events, ended deliveries, answers to repeated requests."""

from collections.abc import Sequence

from policies.account.events import Event
from storage.postgres.events.outbox import Outbox
from storage.postgres.idempotency import IdempotencyBook
from storage.postgres.pool import Pool


async def change(pool: Pool, sql: str) -> None:
    async with pool.operator() as connection:
        await connection.execute(sql)


async def test_events_leave_a_month_after_they_were_published_and_never_before(pool: Pool) -> None:
    outbox = Outbox(pool, "https://gateway.example")
    await change(
        pool,
        "INSERT INTO platform.outbox (event_id, tenant_id, type, subject, at, data)"
        " SELECT 'evt_' || n, '', 'key.created', '', now() - interval '90 days', '{}' FROM generate_series(1, 3) AS n",
    )

    async def send(_: Sequence[Event]) -> None: ...

    assert await outbox.forget_old() == 0  # old, and still not published
    assert await outbox.publish(send, limit=2) == 2
    assert await outbox.forget_old() == 0
    await change(pool, "UPDATE platform.outbox SET published_at = published_at - interval '31 days'")
    assert await outbox.forget_old() == 2
    assert await outbox.publish(send) == 1


async def test_deliveries_leave_a_month_after_they_ended(pool: Pool) -> None:
    await change(
        pool,
        """
        INSERT INTO platform.webhooks (id, tenant_id, url, description, events, secret)
        VALUES ('whk_1', '', 'https://hook.example', '', '{}', '');
        INSERT INTO platform.deliveries (tenant_id, webhook_id, event_id, type, body, ended_at, created_at)
        VALUES ('', 'whk_1', 'ended long ago', 't', '', now() - interval '31 days', now() - interval '90 days'),
            ('', 'whk_1', 'ended', 't', '', now() - interval '29 days', now() - interval '90 days'),
            ('', 'whk_1', 'waits', 't', '', NULL, now() - interval '90 days')
        """,
    )
    await Outbox(pool, "https://gateway.example").forget_old()
    left = await pool.read("SELECT event_id FROM platform.deliveries ORDER BY event_id")
    assert [row["event_id"] for row in left] == ["ended", "waits"]


async def test_answers_to_repeated_requests_leave_after_a_day(pool: Pool) -> None:
    book = IdempotencyBook(pool)
    first, second = b"1" * 32, b"2" * 32
    assert await book.begin(first, b"f" * 32) is None
    await book.keep(first, 201, b"made")
    found = await book.begin(first, b"f" * 32)
    assert found is not None
    assert found.body == b"made"
    await change(pool, "UPDATE platform.idempotency SET begun_at = now() - interval '25 hours'")
    assert await book.begin(second, b"f" * 32) is None
    await book.keep(second, 201, b"made")
    assert len(await pool.read("SELECT FROM platform.idempotency")) == 1
    assert await book.begin(first, b"f" * 32) is None  # begun anew

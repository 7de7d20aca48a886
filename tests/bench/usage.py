"""Whether usage grows with raw records: ``python -m tests.bench.usage [--millions 1 10] [--rounds N]``.

Raw records of 1 000 tenants over 30 days, made by PostgreSQL itself, with their sums by hour and by day; then, for each
number of millions, what one tenant's usage takes: of whole hours, which no raw record is read for, and until this very
moment, for which those of the hour that goes on are. A database of its own, one connection, warm.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.embedded import attached
from storage.postgres.migrate import migrate
from storage.postgres.pool import Pool
from storage.postgres.usage.columns import DIMENSIONS, MEASURES, RAW_MEASURES, names
from storage.postgres.usage.ledger import PostgresLedger
from storage.postgres.usage.series import PostgresUsageSeries

TENANTS, DAYS, TENANT = 1_000, 30, "ten_1"

_RAW = f"""
    INSERT INTO platform.usage_events (ended_at, audio_ms, bytes_in, bytes_out, duration_us, upstream_us, walked_ms,
        status, attempt, encoding, discrepant, tenant_id, key_id, user_id, route, outcome, event_id, method, code,
        request_id, source, container, codec, model, language, response_format)
    SELECT $1::timestamptz + n * (interval '{DAYS} days' / $3::int), 3000, 96000, 200, 90000, 88000, 3000,
        200, 1, 1, false, 'ten_' || n % {TENANTS}, 'key_' || n % {2 * TENANTS}, '', 'openai.transcriptions', 'ok',
        n::text, 'POST', '', n::text, 'walked', 'wav', 'pcm_s16le', 'whisper-1', '', 'json'
    FROM generate_series($2::int + 1, $3::int) n
"""
_SUMS = f"""
    INSERT INTO platform.usage_{{book}} (bucket, {names(DIMENSIONS)}, {names(MEASURES)})
    SELECT date_trunc('{{unit}}', ended_at, 'UTC'), {names(DIMENSIONS)}, {RAW_MEASURES}
    FROM platform.usage_events GROUP BY 1, {names(DIMENSIONS)}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as place:
        asyncio.run(_all(Path(place) / "state", options))


async def _all(state: Path, options: argparse.Namespace) -> None:
    async with attached(state) as (database, _):
        await migrate(database)
        pool = Pool(database, max_size=1, command_timeout=3600.0)
        for millions in options.millions:
            until = await _seed(pool, millions * 1_000_000)
            await _measure(pool, until, millions, options.rounds)
        await pool.close()


async def _seed(pool: Pool, records: int) -> datetime:
    """All records anew, as evenly over the days as ever so many are; the end of them."""
    until = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    since = until - timedelta(days=DAYS)
    async with pool.operator() as connection:
        await connection.execute("TRUNCATE platform.usage_events, platform.usage_hourly, platform.usage_daily")
        for day in range(DAYS + 1):
            await connection.execute("SELECT platform.make_usage_day($1::date)", (since + timedelta(days=day)).date())
        await connection.execute(_RAW, since, 0, records)
        for book, unit in (("hourly", "hour"), ("daily", "day")):
            await connection.execute(_SUMS.format(book=book, unit=unit))
    for table in ("events", "hourly", "daily"):
        await pool.read(f"VACUUM ANALYZE platform.usage_{table}")
    return until


async def _measure(pool: Pool, until: datetime, millions: int, rounds: int) -> None:
    series, ledger = PostgresUsageSeries(pool), PostgresLedger(pool)
    hour = until.replace(minute=0)
    month = timedelta(days=DAYS - 1)

    def by_hour(end: datetime) -> Callable[[], Awaitable[object]]:
        return lambda: series.sums(TENANT, end - month, end, bucket="1h", by=None, most=50_000)

    for name, ask in (
        ("29 days by hour, whole hours", by_hour(hour)),
        ("29 days by hour, half an hour at each end", by_hour(until)),
        ("29 days, total, half an hour at each end", lambda: ledger.totals(TENANT, until - month, until)),
    ):
        await ask()
        took = []
        for _ in range(rounds):
            started = time.perf_counter()
            await ask()
            took.append((time.perf_counter() - started) * 1000)
        print(f"{millions:4} M records: {name:45} median {statistics.median(took):6.1f}, most {max(took):6.1f} ms")


if __name__ == "__main__":
    main()

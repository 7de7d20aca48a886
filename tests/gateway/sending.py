"""Ships journals and sends them on until it is killed. A script: ``sending.py JOURNALS DATABASE_URL REDIS_URL URL``."""

import asyncio
import sys
from pathlib import Path

from gateway.usage.sinks import HttpSink, StreamSink, UsageSinks, http_session
from storage.journal.archive import Archive
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.postgres.usage.unsent import UsageUnsent
from storage.redis.client import client
from storage.shipper import Shipper

HOLDER = "me"
BATCH_ROWS = 300


async def main(journals: Path, database_url: str, redis_url: str, url: str) -> None:
    pool = Pool(database_url)
    archive = Archive(journals.parent / "archive", keep_days=lambda: 1, limit_bytes=1 << 30)
    shipper = Shipper(journals, PostgresLedger(pool), archive, poll_s=0.001, gather_s=0.0, batch_rows=BATCH_ROWS)
    async with http_session() as session, asyncio.TaskGroup() as group:
        sinks = HttpSink(session, url, ""), StreamSink(client(redis_url))
        group.create_task(shipper.run())
        group.create_task(UsageSinks(sinks, UsageUnsent(pool, HOLDER), "https://gw.example").run())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))

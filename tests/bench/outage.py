"""PostgreSQL was away for an hour: how long until the account has everything, and what the wait costs.

    python -m tests.bench.outage [--rate N] [--minutes N] [--workers N]

Real journals, filled by a process of their own with the records of an hour at 500 requests a second (1.8 million), which
goes on writing at that rate; the real shipper, in this process, whose ledger begins to answer; the embedded PostgreSQL,
as durable as it is served. Printed are the time until the lag is back to what it always is, the bytes on the disk, the
memory of the shipping process, and how long the comparison with the archive takes.
"""

import argparse
import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from policies.account.usage import AudioSource, Measured, Outcome, UsageRecord
from storage.archive_comparison import archive_differences
from storage.embedded import EmbeddedServers
from storage.journal.archive import Archive
from storage.journal.directory import size_of
from storage.journal.writer import Journal
from storage.ports import Unavailable
from storage.postgres.migrate import migrate
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.shipper import Shipper
from storage.usage_rows import encode

LIMIT = 4 << 30
"""The default of journal_max_bytes."""
USUAL = 1_000
"""Records that wait on any other day, two seconds' worth."""
MB = 1e6


class Ledger(PostgresLedger):
    """A ledger that is away until it is let back."""

    away = True

    async def ship(self, journal_id: str, position: int, end: int, rows: Sequence[bytes]) -> bool:
        """See the port."""
        if self.away:
            raise Unavailable("away")
        return await super().ship(journal_id, position, end, rows)

    async def shipped(self, journal_id: str) -> int:
        """See the port."""
        if self.away:
            raise Unavailable("away")
        return await super().shipped(journal_id)


def main() -> None:
    """Run it; exit 1 when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    sys.exit(asyncio.run(measure(parser.parse_args())))


async def measure(options: argparse.Namespace) -> int:
    """An outage, and what follows. How many differences there are."""
    with tempfile.TemporaryDirectory(prefix="gateway-outage-") as place:
        journals = Path(place) / "state" / "journal"
        servers = await EmbeddedServers.start(Path(place) / "state")
        try:
            await migrate(servers.database_url)
            ledger = Ledger(Pool(servers.database_url))
            archive = Archive(journals.parent / "archive", keep_days=lambda: 1, limit_bytes=LIMIT)
            shipper = Shipper(journals, ledger, archive)
            shipping = asyncio.create_task(shipper.run())  # noqa: TID251  cancelled below
            with writing(journals, options) as (filled, stop):
                await asyncio.to_thread(filled.wait)
                await catch_up(shipper, ledger, journals)
                stop.set()
            shipping.cancel()
            await shipper.drain()
            return await tell(ledger, archive, journals)
        finally:
            await servers.stop()


async def catch_up(shipper: Shipper, ledger: Ledger, journals: Path) -> None:
    """From the moment in which PostgreSQL is back."""
    await asyncio.sleep(6.0)  # the shipper's longest pause between two tries
    pending, before, began = shipper.pending_records, _resident(), time.monotonic()
    print(f"{pending} records wait, {size_of(journals) / MB:.0f} MB on the disk")
    ledger.away = False
    while shipper.pending_records > USUAL:  # noqa: ASYNC110  nothing sets an event
        await asyncio.sleep(0.1)
    took = time.monotonic() - began
    print(f"back to {shipper.pending_records} after {took:.1f} s, {shipper.shipped / took:.0f} records/s")
    print(f"memory of the shipping process: {before:.0f} MB before, at most {_most_resident():.0f} MB")


async def tell(ledger: PostgresLedger, archive: Archive, journals: Path) -> int:
    """What it takes afterwards, and how many differences there are."""
    archive.tidy()
    kept = archive.segments()
    print(f"archive: {len(kept)} segments, {sum(one.size for one in kept) / MB:.0f} MB compressed")
    began = time.monotonic()
    found = [one async for one in archive_differences(archive, journals, ledger)]
    print(f"compared with the archive in {time.monotonic() - began:.1f} s: {len(found)} differences")
    began = time.monotonic()
    found += await ledger.reconcile()
    print(f"compared with the sums in {time.monotonic() - began:.1f} s: {len(found)} differences in all")
    return len(found)


@contextmanager
def writing(journals: Path, options: argparse.Namespace) -> Iterator[tuple[Event, Event]]:
    """A process that writes; events that say when it has filled the journals, and tell it to end."""
    context = multiprocessing.get_context("spawn")
    filled, stop = context.Event(), context.Event()
    writer = context.Process(target=write, args=(journals, options, filled, stop))
    writer.start()
    try:
        yield filled, stop
    finally:
        stop.set()
        writer.join()


def write(journals: Path, options: argparse.Namespace, filled: Event, stop: Event) -> None:
    """Fill a journal for each worker with what came during the outage, then go on at the same rate."""
    asyncio.run(_write(journals, options, filled, stop))


async def _write(journals: Path, options: argparse.Namespace, filled: Event, stop: Event) -> None:
    opened = [Journal(journals, limit_bytes=LIMIT) for _ in range(options.workers)]
    total = options.rate * options.minutes * 60
    first_ms = int(time.time() * 1000) - options.minutes * 60_000
    began = time.monotonic()
    for number in range(total):
        append(opened, number, first_ms + number * 1000 // options.rate)
    print(f"{total} records appended in {time.monotonic() - began:.1f} s, one thread, segments included")
    keeping = [asyncio.create_task(one.keep()) for one in opened]  # noqa: TID251  cancelled below
    filled.set()
    while not stop.is_set():
        for number in range(options.rate // 20):
            append(opened, total + number, int(time.time() * 1000))
        total += options.rate // 20
        await asyncio.sleep(0.05)
    for task in keeping:
        task.cancel()
    for journal in opened:
        journal.close()


def append(journals: Sequence[Journal], number: int, ended_ms: int) -> None:
    """One request of one of 200 keys."""
    journal = journals[number % len(journals)]
    measured = Measured(
        audio_ms=2_500 + number % 60_000, source=AudioSource.WALKED, walked_ms=2_500 + number % 60_000, channels=1,
        container="wav", codec="pcm_s16le", model="whisper-1", language="en", response_format="json",
    )  # fmt: skip
    record = UsageRecord(
        f"ten_{number % 50:020d}", f"key_{number % 200:020d}", "", "openai.transcriptions", Outcome.OK,
        f"{journal.journal_id}-{journal.records + 1}", "POST", "", f"0193{number:08x}-7abc-8def-0123-{number:012x}",
        200, 80_044 + number % 9_999, 67, 120_500, 119_000, 1, ended_ms, measured,
    )  # fmt: skip
    journal.append(encode(record))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


def _most_resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


if __name__ == "__main__":
    main()

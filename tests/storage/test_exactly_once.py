"""From the append to the account, through the death of every process on the way: nothing is lost, nothing double."""

import asyncio
import os
import random
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from storage.embedded import EmbeddedServers
from storage.journal import format as layout
from storage.journal.writer import Journal
from storage.ports import Unavailable
from storage.postgres.migrate import migrate
from storage.postgres.pool import Pool
from storage.postgres.usage.ledger import PostgresLedger
from storage.shipper import Shipper
from storage.usage_rows import encode
from tests.storage import shipping
from tests.storage.background import running
from tests.storage.journal import appender
from tests.storage.journal.reading import archive_of
from tests.storage.usage_samples import record
from tests.storage.waiting import until

SMALL = 64 * 1024


async def events(pool: Pool) -> list[str]:
    return [row["event_id"] for row in await pool.read("SELECT event_id FROM platform.usage_events ORDER BY event_id")]


def names(directory: Path) -> list[str]:
    """The journals that are left. A segment that a killed writer was just making is removed a minute later."""
    return [path.name for path in directory.glob("*.journal")]


def shipper(directory: Path, pool: Pool) -> Shipper:
    return Shipper(directory, PostgresLedger(pool), archive_of(directory), poll_s=0.005, gather_s=0.0, batch_rows=200)


@asynccontextmanager
async def process(script: str, *arguments: str | Path, stdin: int = DEVNULL) -> AsyncIterator[Process]:
    """A script that runs until it is killed, here at the latest."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, script, *map(str, arguments), stdin=stdin, stdout=PIPE
    )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def test_kill_9_of_the_writers_under_load(tmp_path: Path, pool: Pool) -> None:
    """Test M-01: every append that returned is in the account, once."""
    said: dict[str, int] = {}

    async def write_and_die(name: str, enough: int) -> None:
        async with process(appender.__file__, tmp_path, name) as writer:
            assert writer.stdout
            while said.get(name, -1) < enough:
                said[name] = int(await writer.stdout.readline())
            writer.kill()
            rest = (await writer.stdout.read()).split(b"\n")[:-1]
            said[name] = max([said[name], *map(int, rest)])

    one = shipper(tmp_path, pool)
    async with running(one):
        await asyncio.gather(*(write_and_die(f"w{number}", 200 + 400 * number) for number in range(3)))
    await one.drain()
    found = await events(pool)
    for name, last in said.items():
        numbers = sorted(int(event.partition("_")[2]) for event in found if event.startswith(name))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > last
    assert await PostgresLedger(pool).reconcile() == []
    assert names(tmp_path) == []


async def test_a_journal_that_is_cut_off_under_its_writer(tmp_path: Path, pool: Pool) -> None:
    """The writer dies of it, since it writes to memory; what is left is in the account, and the rest told exactly."""
    async with process(appender.__file__, tmp_path, "w") as writer:
        assert writer.stdout
        while line := await writer.stdout.readline():
            if line.endswith(b"00\n") and int(line) > 500:
                for file in tmp_path.glob("*.journal"):
                    if layout.unpack_header(file.read_bytes()[:64]).records:  # not one that is just being made
                        os.truncate(file, 8192)
        assert await writer.wait() == -signal.SIGBUS
    appended = max(layout.unpack_header(file.read_bytes()[:64]).records for file in tmp_path.glob("*.journal"))
    one = shipper(tmp_path, pool)
    await one.drain()
    found = await events(pool)
    assert 0 < len(found) < appended
    assert len(found) + one.lost_records == appended
    assert await PostgresLedger(pool).reconcile() == []


async def test_kill_9_of_the_shipper_again_and_again(tmp_path: Path, pool: Pool, migrated_url: str) -> None:
    """Test M-04: whether the answer to a commit arrived or not."""
    journal = Journal(tmp_path, segment_bytes=SMALL)
    kept = [record() for _ in range(1500)]
    for one in kept:
        journal.append(encode(one))
    chance = random.Random(4)
    for _ in range(6):
        async with process(shipping.__file__, tmp_path, migrated_url, stdin=PIPE) as victim:
            assert victim.stdin
            assert victim.stdout
            for _ in range(chance.randrange(1, 15)):
                await victim.stdout.readline()
                victim.stdin.write(b"\n")
            await asyncio.sleep(chance.random() * 0.004)  # anywhere in the next transaction
            victim.kill()
    before = len(await events(pool))
    assert 0 < before < len(kept)
    journal.close()
    await shipper(tmp_path, pool).drain()
    assert await events(pool) == sorted(one.event_id for one in kept)
    assert await PostgresLedger(pool).reconcile() == []
    assert names(tmp_path) == []


async def test_shippers_of_two_processes_and_two_of_one(tmp_path: Path, pool: Pool, migrated_url: str) -> None:
    journal = Journal(tmp_path, segment_bytes=SMALL)
    kept = [record() for _ in range(2000)]
    two = shipper(tmp_path, pool)
    async with process(shipping.__file__, tmp_path, migrated_url) as other:
        assert other.stdout
        for each in kept[:500]:
            journal.append(encode(each))
        await other.stdout.readline()
        async with running(shipper(tmp_path, pool)) as one:
            for number, each in enumerate(kept[500:]):
                journal.append(encode(each))
                if number % 20 == 0:
                    await two.drain()
            journal.close()
            await until(lambda: not names(tmp_path))
    assert 0 < one.shipped + two.shipped < len(kept)
    assert await events(pool) == sorted(each.event_id for each in kept)
    assert await PostgresLedger(pool).reconcile() == []


async def test_postgresql_dies_and_restarts_in_the_middle(tmp_path: Path) -> None:
    """Test M-03, F-02: appending never waits for it, shipping comes back by itself."""
    servers = await EmbeddedServers.start(tmp_path / "state")
    try:
        await migrate(servers.database_url)
        pool = Pool(servers.database_url, connect_timeout=1.0)
        await survive(tmp_path / "journal", pool, servers)
        await pool.close()
    finally:
        await servers.stop()


async def survive(directory: Path, pool: Pool, servers: EmbeddedServers) -> None:
    journal = Journal(directory, segment_bytes=SMALL)
    kept = []
    one = shipper(directory, pool)

    async def append(count: int) -> None:
        for _ in range(count):
            kept.append(record())
            journal.append(encode(kept[-1]))
            await asyncio.sleep(0)

    async with running(one):
        for blow in (signal.SIGKILL, signal.SIGINT):
            shipped = one.shipped
            await append(500)
            await until(lambda shipped=shipped: one.shipped > shipped)
            await until(lambda: servers.postgres_pid is not None)  # it may answer before its keeper notes it
            assert servers.postgres_pid
            os.kill(servers.postgres_pid, blow)
            await append(500)
        await until(lambda: one.shipped > shipped + 500, 60.0)
    journal.close()
    await drained(one)
    assert await events(pool) == sorted(each.event_id for each in kept)
    assert await PostgresLedger(pool).reconcile() == []


async def drained(one: Shipper) -> None:
    """Drain, however often the server is away."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await one.drain()
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_gateways_on_copies_of_a_state_directory_share_what_was_copied(tmp_path: Path, pool: Pool) -> None:
    """Copied while it was written to: what both ship is there once, and what the original writes on is there, too."""
    own, copy = tmp_path / "own", tmp_path / "copy"
    own.mkdir()
    expected = []

    def write(journal: Journal, name: str) -> None:
        for number in range(300):
            expected.append(f"{name}_{number:03}")
            journal.append(encode(record(event_id=expected[-1])))

    with closing(Journal(own, segment_bytes=SMALL)) as original:
        write(original, "before")
        shutil.copytree(own, copy)
        with closing(Journal(copy, segment_bytes=SMALL)) as second:
            write(second, "copy")
            async with running(shipper(own, pool)), running(shipper(copy, pool)):
                write(original, "after")
                await asyncio.gather(shipper(own, pool).drain(), shipper(copy, pool).drain())
                write(original, "later")
    await asyncio.gather(shipper(copy, pool).drain(), shipper(own, pool).drain())
    assert await events(pool) == sorted(expected)
    assert names(own) == names(copy) == []

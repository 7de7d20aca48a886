"""The promises of storage.ports.Counters, kept by Redis and by one process alone; then what only Redis has.

Time is a test's to set: the script is told to read it from a key instead of asking ``TIME``, and nothing else in it is
changed but the expiry of its keys, which goes by the server's real clock.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from policies.limits.rates import FREE, Charge, Rate, Taken
from storage.local_counters import LocalCounters
from storage.ports import Counters, Unavailable
from storage.redis import counters as redis_counters
from storage.redis.counters import RedisCounters
from storage.redis.line import Script
from tests.storage.own_redis import OwnRedis, hurry, own_redis
from tests.storage.scripted_redis import Command, obliging, scripted
from tests.storage.waiting import until

ROOT = Path(__file__).parents[2]
CLOCK = "test:clock"
START_US = 1_790_000_000_000_000
_TOLD_TIME = (
    redis_counters._TAKE.text
    .replace(b"redis.call('TIME')", b"redis.call('LRANGE', 'test:clock', 0, -1)")
    .replace(b"'PX', max(ceil(ahead / 1000), SECOND_MS) + 1", b"'PX', 3600000")
)  # fmt: skip
_numbers = count()


def charge(rate: str, key: str = "", name: str = "limit") -> Charge:
    """A charge on a counter that no other test has."""
    return Charge(name, key or f"rate:{{t{next(_numbers)}}}", Rate.parse(rate))


def never_refills(burst: int) -> Charge:
    """A limit that a test cannot outlast."""
    return charge(f"{burst}/d")


@dataclass
class Subject:
    """An implementation, and its time."""

    counters: Counters
    set_us: Callable[[int], Awaitable[None]]
    now_us: int = START_US

    async def wait(self, ms: float) -> None:
        """Let time pass, or go back."""
        self.now_us += round(ms * 1000)
        await self.set_us(self.now_us)

    async def take(self, *charges: Charge) -> Taken:
        """One request."""
        return await self.counters.take(charges)


@pytest.fixture
def told_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _TOLD_TIME.count(CLOCK.encode()) == 1
    assert b"TIME')" not in _TOLD_TIME
    assert _TOLD_TIME.count(b"'PX', 3600000") == 1
    monkeypatch.setattr(redis_counters, "_TAKE", Script(_TOLD_TIME))


@pytest.fixture
async def redis_subject(redis_url: str, told_time: None) -> AsyncIterator[Subject]:
    counters = RedisCounters(redis_url, timeout=10.0)
    async with Redis.from_url(redis_url) as client:

        async def set_us(now: int) -> None:
            async with client.pipeline() as both:
                await both.delete(CLOCK).rpush(CLOCK, now // 1_000_000, now % 1_000_000).execute()

        await set_us(START_US)
        yield Subject(counters, set_us)
    await counters.close()


def local_subject(sharers: int = 1) -> Subject:
    async def set_us(_: int) -> None:
        """Read from the subject itself."""

    subject = Subject(LocalCounters(lambda: (subject.now_us - START_US) / 1000, sharers), set_us)
    return subject


@pytest.fixture(params=["redis", "local"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return local_subject() if request.param == "local" else request.getfixturevalue("redis_subject")


# --- both -------------------------------------------------------------------------------------------------------------


async def test_a_burst_passes_and_not_one_more(subject: Subject) -> None:
    limit = charge("5/m")
    for left in (4, 3, 2, 1, 0):
        taken = await subject.take(limit)
        (level,) = taken.levels
        assert (taken.refused_by, taken.retry_ms, level.charge, level.remaining) == (None, 0, limit, left)
        assert level.reset_ms == pytest.approx(60_000 - left * 12_000, abs=1)
    refused = await subject.take(limit)
    assert (refused.refused_by, refused.retry_ms) == (limit, 12_000)
    assert (refused.levels[0].remaining, refused.levels[0].reset_ms) == (0, 60_000)


async def test_no_charge_is_free(subject: Subject) -> None:
    assert await subject.take() == FREE


async def test_it_refills_evenly_and_never_beyond_the_burst(subject: Subject) -> None:
    limit = charge("2/s")
    await subject.take(limit)
    await subject.take(limit)
    await subject.wait(499.9)
    assert (await subject.take(limit)).refused_by == limit
    await subject.wait(0.1)
    assert (await subject.take(limit)).refused_by is None
    assert (await subject.take(limit)).refused_by == limit
    await subject.wait(3_600_000)
    assert [(await subject.take(limit)).refused_by for _ in range(3)] == [None, None, limit]


async def test_retry_after_suffices_and_a_millisecond_less_does_not(subject: Subject) -> None:
    """Q-07; also for intervals that are no whole number of milliseconds, and for days."""
    for rate in ("3/s", "7/m", "1/d", "700/h", "999/d"):
        limit = charge(rate)
        while (refused := await subject.take(limit)).refused_by is None:
            pass
        await subject.wait(refused.retry_ms - 1)
        assert (await subject.take(limit)).refused_by == limit, rate
        await subject.wait(1)
        assert (await subject.take(limit)).refused_by is None, rate


async def test_a_take_is_all_or_nothing(subject: Subject) -> None:
    """The limit that has room is not charged when another one refuses."""
    wide, narrow = charge("10/d", name="wide"), charge("1/d", name="narrow")
    assert (await subject.take(wide, narrow)).refused_by is None
    for _ in range(3):
        refused = await subject.take(wide, narrow)
        assert refused.refused_by == narrow
        assert [level.remaining for level in refused.levels] == [9, 0]
    assert (await subject.take(wide)).levels[0].remaining == 8


async def test_the_limit_that_holds_out_longest_is_named(subject: Subject) -> None:
    hour, second = charge("1/h", name="hour"), charge("1/s", name="second")
    await subject.take(second, hour)
    refused = await subject.take(second, hour)
    assert (refused.refused_by, refused.retry_ms) == (hour, 3_600_000)
    await subject.wait(1_000)
    assert (await subject.take(second)).refused_by is None


async def test_counters_are_apart(subject: Subject) -> None:
    one, two = charge("1/d"), charge("1/d")
    assert (await subject.take(one)).refused_by is None
    assert (await subject.take(two)).refused_by is None
    assert (await subject.take(one)).refused_by == one


async def test_a_clock_that_is_set_back_locks_nobody_out(subject: Subject) -> None:
    """Q-08: a failover, or a step of the clock: nobody waits longer than the limit itself makes them wait."""
    limit = charge("10/s")
    for _ in range(10):
        await subject.take(limit)
    await subject.wait(-86_400_000)
    refused = await subject.take(limit)
    assert (refused.refused_by, refused.retry_ms) == (limit, 100)
    await subject.wait(100)
    assert (await subject.take(limit)).refused_by is None


async def test_a_limit_that_was_raised_helps_at_once(subject: Subject) -> None:
    old = charge("1/d")
    new = charge("600/m", old.key)
    await subject.take(old)
    assert (await subject.take(new)).retry_ms == 100
    await subject.wait(100)
    assert (await subject.take(new)).refused_by is None


RATES = ["1/s", "2/s", "5/s", "1/m", "6/m", "60/m", "600/m", "1000/s", "4/h", "3600/h", "1/d"]
"""Of an interval of whole microseconds, so that no answer hangs on how a store rounds."""
_limits = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(RATES))
_requests = st.lists(_limits, min_size=1, max_size=3, unique_by=lambda limit: limit[0])
_step = st.tuples(
    st.one_of(st.just(0), st.integers(0, 2_000_000), st.sampled_from([1_000, 100_000, 500_000, 1_000_000, 60_000_000])),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
)


@given(
    kinds=st.lists(_requests, min_size=3, max_size=3),
    steps=st.lists(_step, min_size=1, max_size=12),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_redis_and_one_process_alone_give_the_same_answers(
    redis_subject: Subject, kinds: list[list[tuple[str, str]]], steps: list[tuple[int, list[int]]]
) -> None:
    """Any limits, any mix of requests in one loop iteration, any pauses: the same admissions, levels and waits.

    One key has one rate in all requests, as it has in the product. Equal requests of one iteration count as a group.
    """
    example = next(_numbers)
    rate_of = {key: rate for kind in kinds for key, rate in kind}
    charges = [
        tuple(Charge(key, f"rate:{{e{example}}}:{key}", Rate.parse(rate_of[key])) for key, _ in kind) for kind in kinds
    ]
    local = local_subject()
    for pause_us, wanted in steps:
        await redis_subject.wait(pause_us / 1000)
        local.now_us += pause_us
        asked = sorted(wanted, key=wanted.index)  # groups in the order of their first request
        answers = await asyncio.gather(*(redis_subject.counters.take(charges[kind]) for kind in asked))
        for kind, answer in zip(asked, answers, strict=True):
            _compare(answer, await local.take(*charges[kind]))


def _compare(told: Taken, expected: Taken) -> None:
    assert (told.refused_by is None) is (expected.refused_by is None)
    assert told.retry_ms == pytest.approx(expected.retry_ms, abs=1)
    for mine, theirs in zip(told.levels, expected.levels, strict=True):
        assert mine.charge == theirs.charge
        assert mine.remaining == pytest.approx(theirs.remaining, abs=1)
        # In one iteration each is told the time to full as it is when all of its group have been served.
        assert mine.reset_ms >= theirs.reset_ms - 1
        assert mine.reset_ms <= mine.charge.rate.period_ms


@pytest.mark.parametrize("rate", ["7/s", "6/s", "700/m", "3/m", "999/h", "7/d"])
async def test_a_burst_in_one_iteration_is_exact_for_any_interval(redis_subject: Subject, rate: str) -> None:
    """Q-03: a tenant's limit under requests of many keys, which are as many groups, in one run of the script."""
    tenant = charge(rate)
    burst = tenant.rate.count
    takes = [redis_subject.counters.take((tenant, never_refills(9))) for _ in range(burst + 5)]
    answers = await asyncio.gather(*takes)
    assert [answer.refused_by for answer in answers] == [None] * burst + [tenant] * 5
    assert [answer.levels[0].remaining for answer in answers] == [*reversed(range(burst)), 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("rate", "part"), [("600/m", "150/m"), ("7/s", "1/s"), ("4/h", "1/h"), ("1/m", "1/240000ms")])
async def test_processes_that_count_apart_hold_the_limit_together(rate: str, part: str) -> None:
    """While Redis is down each of four workers allows its part, and says so."""
    together = 0
    limit = charge(rate)
    for subject in [local_subject(sharers=4) for _ in range(4)]:
        while (taken := await subject.take(limit)).refused_by is None:
            together += 1
        assert str(taken.refused_by.rate) == part
        assert (taken.refused_by.name, taken.refused_by.key) == (limit.name, limit.key)
    assert together <= max(limit.rate.count, 4)


async def test_a_process_alone_keeps_a_bounded_number_of_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q-10: those that have refilled go first, as forgetting them changes no answer."""
    monkeypatch.setattr("storage.local_counters._MOST", 100)
    subject = local_subject()
    kept = charge("1/d")
    await subject.take(kept)
    for _ in range(1_000):
        await subject.take(charge("1/s"))
        await subject.wait(20)
    assert len(subject.counters._tats) <= 100
    assert (await subject.take(kept)).refused_by == kept
    for _ in range(200):
        await subject.take(never_refills(1))
    assert len(subject.counters._tats) <= 100


# --- Redis alone ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def counters(redis_url: str) -> AsyncIterator[RedisCounters]:
    made = RedisCounters(redis_url, timeout=10.0)
    yield made
    await made.close()


async def calls(redis: Redis) -> int:
    """How often a script was run."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def test_takes_of_one_iteration_travel_together(counters: RedisCounters, redis: Redis) -> None:
    """After a quiet time the first one goes ahead alone; what comes with it goes together, and in busy times all do."""
    shared = (charge("30/d"),)
    await counters.take((charge("1/d"),))
    before = await calls(redis)
    await asyncio.gather(*(counters.take((never_refills(1),)) for _ in range(10)))
    assert await calls(redis) - before == 2
    answers = await asyncio.gather(*(counters.take(shared if n % 2 else (never_refills(1),)) for n in range(100)))
    assert await calls(redis) - before == 3
    assert sum(answer.refused_by is None for answer in answers) == 80
    assert [answer.levels[0].remaining for answer in answers[1::2]] == [*reversed(range(30))] + [0] * 20


HAMMER = """
import asyncio, json, sys
from policies.limits.rates import Charge, Rate
from storage.redis.counters import RedisCounters
from storage.redis.line import Script

async def main():
    counters = RedisCounters(sys.argv[1], timeout=30.0)
    charges = (
        Charge("tenant", "rate:{hammered}", Rate(150, 86_400_000)),
        Charge("key", f"rate:{{hammered}}:{sys.argv[2]}", Rate(60, 86_400_000)),
    )
    await counters.ping()
    sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
    passed = 0
    for size in (1, 7, 20, 3, 29, 40):
        taken = await asyncio.gather(*(counters.take(charges) for _ in range(size)))
        passed += sum(one.refused_by is None for one in taken)
    print(json.dumps(passed))
    await counters.close()

asyncio.run(main())
"""


async def test_four_processes_on_one_key_are_admitted_exactly_up_to_the_limit(redis_url: str) -> None:
    """Q-03: 400 requests, 150 of them pass, and no process more than its own 60."""
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", HAMMER, redis_url, str(number), cwd=ROOT, stdin=pipe, stdout=pipe
        )
        for number in range(4)
    ]
    for process in processes:
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"go\n")
    passed = [json.loads((await process.communicate())[0]) for process in processes]
    assert sum(passed) == 150
    assert max(passed) <= 60


async def test_every_key_ends_by_itself_and_a_refusal_leaves_none(counters: RedisCounters, redis: Redis) -> None:
    """Q-10: when the burst is full again, and within the limit's own period whatever happens."""
    minute, day = charge("60/m"), charge("1/d")
    await counters.take((minute,))
    assert 0 < await redis.pttl(minute.key) <= 1_001
    await counters.take((day,))
    assert 0 < await redis.pttl(day.key) <= 86_400_001
    fresh = charge("5/m")
    assert (await counters.take((day, fresh))).refused_by == day
    assert not await redis.exists(fresh.key)


async def test_a_limit_that_is_full_again_at_once_leaves_its_counter_for_a_second(redis: Redis) -> None:
    """Else it has expired by the next run, and that each time is written to the append-only file."""
    fast = charge("900000/m")
    words = (fast.key, 1, 1, fast.rate.period_ms * 1000, fast.rate.count)
    async with redis.pipeline(transaction=True) as together:  # no time passes within
        together.eval(redis_counters._TAKE.text.decode(), 1, *words)
        together.pttl(fast.key)
        assert 2 < (await together.execute())[1] <= 1_001


async def test_the_servers_clock_counts(counters: RedisCounters, redis: Redis) -> None:
    limit = charge("1/h")
    await counters.take((limit,))
    seconds, microseconds = await redis.time()
    ahead = int(await redis.get(limit.key)) - (seconds * 1_000_000 + microseconds)
    assert 3_590_000_000 < ahead <= 3_600_000_000


async def test_a_killed_connection_is_replaced(counters: RedisCounters, redis: Redis) -> None:
    limit = never_refills(10)
    for left in (9, 8, 7):
        assert (await counters.take((limit,))).levels[0].remaining == left
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not counters._main.wire.is_open)


async def test_a_forgotten_script_is_sent_again(counters: RedisCounters, redis: Redis) -> None:
    """Q-09: SCRIPT FLUSH, or a server that restarted."""
    limit = never_refills(10)
    await counters.take((limit,))
    await redis.script_flush()
    answers = await asyncio.gather(*(counters.take((limit,)) for _ in range(3)))
    assert sorted(answer.levels[0].remaining for answer in answers) == [6, 7, 8]


async def test_forgotten_counters_begin_anew(counters: RedisCounters, redis: Redis) -> None:
    """Q-09: FLUSHALL."""
    limit = never_refills(1)
    await counters.take((limit,))
    await redis.flushdb()
    assert (await counters.take((limit,))).refused_by is None


async def test_a_key_of_another_kind_is_unavailable_and_left_alone(counters: RedisCounters, redis: Redis) -> None:
    """F-01: what the store holds cannot be read; nobody is told yes or no."""
    limit = charge("1/d")
    await redis.rpush(limit.key, "x")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await counters.take((limit,))
    assert await redis.type(limit.key) == "list"
    await redis.delete(limit.key)
    assert (await counters.take((limit,))).refused_by is None


async def test_a_caller_who_gave_up_takes_nothing_from_the_others(counters: RedisCounters) -> None:
    """F-05: those who wait on get their own answers, in order."""
    charges = (never_refills(10),)
    takes = [asyncio.ensure_future(counters.take(charges)) for _ in range(6)]  # noqa: TID251  cancelled below
    for number in (0, 3):
        takes[number].cancel()
    answers = await asyncio.gather(*takes, return_exceptions=True)
    assert [answer.levels[0].remaining for answer in answers if isinstance(answer, Taken)] == [8, 7, 5, 4]
    assert (await counters.take(charges)).levels[0].remaining == 3


async def test_a_storm_of_callers_who_give_up_leaves_the_survivors_their_own(counters: RedisCounters) -> None:
    """F-05, CVE-2023-28858: whenever somebody leaves, nobody is handed somebody else's answer."""
    mine = [(never_refills(40),) for _ in range(5)]

    async def ask(number: int) -> tuple[int, Taken]:
        return number, await counters.take(mine[number])

    seen: list[tuple[int, Taken]] = []
    for turn in range(30):
        tasks = [asyncio.get_running_loop().create_task(ask(number)) for number in range(5)]
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        tasks[turn % 5].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        seen += [answer for answer in done if isinstance(answer, tuple)]
    assert len(seen) >= 120
    for number, taken in seen:
        assert taken.levels[0].charge is mine[number][0]


async def test_ping_asks_and_close_ends(redis_url: str) -> None:
    counters = RedisCounters(redis_url)
    await counters.ping()
    await counters.take((never_refills(1),))
    await counters.ping()
    wire = counters._main.wire
    await counters.close()
    assert not wire.is_open


async def test_closing_while_connecting_tells_those_who_wait() -> None:
    async with scripted(_mute) as script:
        counters = RedisCounters(script.url, timeout=10.0)
        take = asyncio.ensure_future(counters.take((charge("1/d"),)))  # noqa: TID251  awaited below
        await until(lambda: script.connections == 1)
        await counters.close()
        with pytest.raises(Unavailable):
            await take


# --- Redis in trouble -------------------------------------------------------------------------------------------------


async def _mute(_: Command) -> None:
    return None


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    async with own_redis(tmp_path) as server:
        yield server


async def refused(counters: RedisCounters, match: str) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match=match):
            await counters.take((charge("1/d"),))


async def test_a_server_that_hangs_is_unavailable_in_time_and_comes_back(own: OwnRedis) -> None:
    """F-01, F-06: an open connection first, then new ones that the kernel still accepts."""
    for url in (own.url, own.tcp_url):
        counters = RedisCounters(url)
        await counters.take((charge("1/d"),))
        hurry(counters._nodes)
        own.freeze()
        await refused(counters, "does not answer in time")
        await refused(counters, "no answer in time|a moment ago")
        own.thaw()
        async with asyncio.timeout(30):
            while True:
                try:
                    taken = await counters.take((charge("1/d"),))
                    break
                except Unavailable:
                    await asyncio.sleep(0.02)
        assert taken.refused_by is None
        await counters.close()


async def test_a_server_that_is_gone_is_not_tried_on_every_tick(own: OwnRedis) -> None:
    """F-06: no thundering herd; a hundred takes are one attempt."""
    counters = RedisCounters(own.tcp_url, timeout=30.0)
    own.process.kill()
    own.process.wait()
    outcomes = await asyncio.gather(*(counters.take((charge("1/d"),)) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    await refused(counters, "a moment ago")


async def test_a_server_without_room_is_unavailable_and_serves_again_when_it_has_some(own: OwnRedis) -> None:
    """Q-09: OOM with ``noeviction``."""
    counters = RedisCounters(own.url, timeout=10.0)
    await counters.take((charge("1/d"),))
    async with own.client() as client:
        await client.config_set("maxmemory", 1)
        await refused(counters, "OOM")
        await client.config_set("maxmemory", 0)
    assert (await counters.take((charge("1/d"),))).refused_by is None
    await counters.close()


async def test_what_refills_within_a_minute_is_not_written_to_the_disk(tmp_path: Path) -> None:
    """A burst is all that a restart can give away; the counters of hours and days survive it."""
    minute, hour = charge("60/m"), charge("60/h")
    async with own_redis(tmp_path, "--appendonly", "yes") as server, server.client() as client:
        counters = RedisCounters(server.url, timeout=10.0)
        await counters.take((minute, hour))
        written = b"".join(file.read_bytes() for file in tmp_path.glob("appendonlydir/*.aof"))
        assert hour.key.encode() in written
        assert minute.key.encode() not in written
        assert await client.exists(minute.key)
        await counters.close()


async def test_a_demoted_server_is_left_for_the_one_that_its_name_leads_to_now(own: OwnRedis) -> None:
    """F-01, F-06: READONLY after a failover; the connection is given up, the next take looks the name up again."""
    counters = RedisCounters(own.tcp_url, timeout=10.0)
    await counters.take((charge("1/d"),))
    async with own.client() as client:
        await client.replicaof("127.0.0.1", "1")
        await refused(counters, "READONLY")
        assert not counters._main.wire.is_open
        await client.replicaof("NO", "ONE")
    assert (await counters.take((charge("1/d"),))).refused_by is None
    await counters.close()


@pytest.mark.parametrize("path", ["", "user:wrong@", ":wrong@"])
async def test_a_wrong_password_is_unavailable_and_not_repeated(own: OwnRedis, path: str) -> None:
    """Q-09; what the server says goes on, what we sent does not."""
    async with own.client() as client:
        await client.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "+@all")
        await client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
    counters = RedisCounters(own.tcp_url.replace("//", f"//{path}"), timeout=10.0)
    with pytest.raises(Unavailable, match=r"NOAUTH|WRONGPASS") as caught:
        await counters.take((charge("1/d"),))
    assert "wrong" not in str(caught.value).lower().replace("wrongpass", "")
    with pytest.raises(Unavailable, match=r"NOAUTH|WRONGPASS"):
        await counters.ping()
    right = RedisCounters(own.tcp_url.replace("//", "//user:right@"), timeout=10.0)
    assert (await right.take((charge("1/d"),))).refused_by is None
    await right.close()


async def test_a_server_that_never_answers_anything_is_unavailable_in_time() -> None:
    async with scripted(_mute) as script:
        counters = RedisCounters(script.url, timeout=0.1)
        await refused(counters, "no answer in time")
        with pytest.raises(Unavailable):
            await counters.ping()


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    """CVE-2023-28858: the connection is given up with the question, so what follows is asked on another one."""
    late: list[bytes] = []

    async def answer(command: Command) -> bytes | None:
        if command[0] == b"EVALSHA" and not late:
            late.append(b"*5\r\n:0\r\n:1\r\n:77\r\n:0\r\n:77\r\n")  # a refusal that was meant for the first question
            return None
        return await obliging(command)

    async with scripted(answer) as script:
        counters = RedisCounters(script.url, timeout=0.1)
        await refused(counters, "does not answer in time")
        script.writers[0].write(late[0])
        taken = await counters.take((charge("1/d"),))
        assert (taken.refused_by, taken.levels[0].remaining, script.connections) == (None, 9, 2)
        await counters.close()


async def test_takes_gather_while_an_answer_is_due() -> None:
    """A server that is far or busy is asked for many at a time, and nobody waits longer than its time-out."""
    go = asyncio.Event()

    async def answer(command: Command) -> bytes | None:
        if command[0] == b"EVALSHA":
            await go.wait()
            return b"*5\r\n:%b\r\n:0\r\n:0\r\n:9\r\n:1\r\n" % command[4]
        return await obliging(command)

    async with scripted(answer) as script:
        counters, one = RedisCounters(script.url, timeout=10.0), (charge("1/d"),)
        takes = [counters.take(one)]
        await until(lambda: any(command[0] == b"EVALSHA" for command in script.asked))
        for _ in range(7):
            takes.append(counters.take(one))
            await asyncio.sleep(0)
        go.set()
        assert all(taken.refused_by is None for taken in await asyncio.gather(*takes))
        assert [command[4] for command in script.asked if command[0] == b"EVALSHA"] == [b"1", b"7"]
        go.clear()
        hung = [counters.take(one)]
        await asyncio.sleep(0)
        hung.append(counters.take(one))
        await asyncio.sleep(0)
        script.writers[0].transport.abort()
        outcomes = await asyncio.gather(*hung, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        await counters.close()


async def test_every_take_of_a_broken_connection_is_told() -> None:
    """Many loop iterations may be waiting for one connection."""

    async def answer(command: Command) -> bytes | None:
        return None if command[0] == b"EVALSHA" else await obliging(command)

    async with scripted(answer) as script:
        counters = RedisCounters(script.url, timeout=10.0)
        takes = []
        for _ in range(5):
            takes.append(asyncio.ensure_future(counters.take((charge("1/d"),))))  # noqa: TID251  awaited below
            await asyncio.sleep(0)
        await until(lambda: any(command[0] == b"EVALSHA" for command in script.asked))
        script.writers[0].transport.abort()
        for outcome in await asyncio.gather(*takes, return_exceptions=True):
            assert isinstance(outcome, Unavailable)
        await counters.close()


def test_an_address_that_is_none_is_found_at_once() -> None:
    for url in ("http://x", "unix://", "redis://:secret@x:y"):
        with pytest.raises(ValueError, match="Redis") as caught:
            RedisCounters(url)
        assert "secret" not in str(caught.value)


def test_both_are_the_port() -> None:
    implementations: Sequence[Counters] = (RedisCounters("redis://x"), LocalCounters(lambda: 0.0))
    assert len(implementations) == 2

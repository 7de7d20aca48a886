"""The promises of storage.ports.Holds, kept by Redis and by one process alone; then what only Redis has.

As in test_counters, the scripts are told the time by the test; keys still expire by the server's real clock.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from policies.limits.allowances import Allowance, Kind, What
from policies.limits.holding import NEVER, NOTHING_SPENT, Answer, Demand, Lease, Spent, Step, Tally, apply
from storage.held import HeldLease
from storage.local_holds import LocalHolds
from storage.ports import Held, Holds, Unavailable
from storage.redis import holds as redis_holds
from storage.redis.holds import RedisHolds
from storage.redis.line import Script
from tests.storage.own_redis import OwnRedis, hurry, own_redis, relax
from tests.storage.waiting import until

ROOT = Path(__file__).parents[2]
START_MS = 1_900_000_000_000
ENDS_MS = START_MS + 10_000_000
LEASE_S = 30.0
_numbers = count()


def _told(script: Script) -> Script:
    text = script.text.replace(b"redis.call('TIME')", b"redis.call('LRANGE', 'test:clock', 0, -1)")
    return Script(text)


def limit(what: What, text: str, *, shadow: bool = False) -> Allowance:
    return replace(Allowance.parse(what, text), shadow=shadow)


def demand(what: What, text: str, want: int = 1, *, key: str = "", shadow: bool = False) -> Demand:
    """A demand on a counter that no other test has."""
    allowance = limit(what, text, shadow=shadow)
    ends_ms = ENDS_MS if allowance.kind is Kind.QUOTA else 0
    return Demand(allowance, key or f"limit:{{t{next(_numbers)}}}", want, ends_ms)


def audio(text: str, want_s: float = 0, *, shadow: bool = False) -> Demand:
    return demand(What.AUDIO, text, round(want_s * 1000), shadow=shadow)


@dataclass
class Subject:
    """An implementation, and its time."""

    holds: Holds
    set_ms: Callable[[int], Awaitable[None]]
    now_ms: int = START_MS

    async def wait(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
        await self.set_ms(self.now_ms)

    async def hold(self, *demands: Demand) -> Held:
        return await self.holds.hold(demands)

    async def admitted(self, *demands: Demand) -> Lease:
        held = await self.hold(*demands)
        assert held.answer.admitted
        assert held.lease is not None
        return held.lease

    async def left(self, one: Demand) -> int:
        """Units left of one limit."""
        return (await self.hold(replace(one, want=0))).answer.figures[0].left


@pytest.fixture
async def redis_subject(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Subject]:
    monkeypatch.setattr(redis_holds, "_HOLD", _told(redis_holds._HOLD))
    monkeypatch.setattr(redis_holds, "_RENEW", _told(redis_holds._RENEW))
    holds = RedisHolds(redis_url, LEASE_S, timeout=10.0)
    async with Redis.from_url(redis_url) as client:

        async def set_ms(now: int) -> None:
            async with client.pipeline() as both:
                await both.delete("test:clock").rpush("test:clock", now // 1000, now % 1000 * 1000).execute()

        await set_ms(START_MS)
        yield Subject(holds, set_ms)
    await holds.close()


@pytest.fixture
def local_subject() -> Subject:
    async def set_ms(_: int) -> None:
        """Read from the subject itself."""

    subject = Subject(LocalHolds(lambda: float(subject.now_ms)), set_ms)
    return subject


@pytest.fixture(params=["redis", "local"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.getfixturevalue(f"{request.param}_subject")


# --- both -------------------------------------------------------------------------------------------------------------


async def test_a_place_is_held_until_it_is_given_back(subject: Subject) -> None:
    places = demand(What.CONCURRENCY, "2")
    one, two = await subject.admitted(places), await subject.admitted(places)
    refused = await subject.hold(places)
    assert (refused.answer.refused_by, refused.lease) == (0, None)
    assert refused.answer.retry_ms == 1_000
    one.settle(Spent())
    await subject.admitted(places)
    assert (await subject.hold(places)).lease is None
    two.settle(Spent())
    assert await subject.left(places) == 1


async def test_giving_back_twice_is_giving_back_once(subject: Subject) -> None:
    places = demand(What.CONCURRENCY, "2")
    one = await subject.admitted(places)
    await subject.admitted(places)
    one.settle(Spent())
    one.settle(Spent())
    await subject.admitted(places)
    assert (await subject.hold(places)).lease is None


async def test_a_refused_request_takes_nothing(subject: Subject) -> None:
    """Whichever limit it is that refuses: neither a request of the rate, nor a place, nor audio."""
    rate, places = demand(What.REQUESTS, "10/d"), demand(What.CONCURRENCY, "1")
    window, month = audio("100s/d", 10), audio("100s/month", 10)
    await subject.holds.tell(month, 0)
    everything = (rate, places, window, month)
    lease = await subject.admitted(*everything)
    refused = await subject.hold(*everything)
    assert refused.answer.refused_by == 1
    assert [await subject.left(one) for one in everything] == [9, 0, 90_000, 90_000]
    lease.settle(Spent(audio_ms=4_000))
    assert [await subject.left(one) for one in everything] == [9, 1, 96_000, 96_000]
    refused = await subject.hold(rate, places, window, replace(month, want=97_000))
    assert refused.answer.refused_by == 3
    assert [await subject.left(one) for one in everything] == [9, 1, 96_000, 96_000]


async def test_what_was_spent_counts_and_the_rest_comes_back(subject: Subject) -> None:
    window = audio("3600s/h", 600)
    lease = await subject.admitted(window)
    assert await subject.left(window) == 3_000_000
    lease.settle(Spent(audio_ms=1_200_000))
    assert await subject.left(window) == 2_400_000
    await subject.wait(600)
    assert await subject.left(window) == 3_000_000
    await subject.wait(3_600)
    assert await subject.left(window) == 3_600_000


async def test_what_was_reserved_does_not_refill_while_it_is_held(subject: Subject) -> None:
    """A slow upload of an hour: its audio counts when it is over, and the window holds all the same."""
    window = audio("60s/m", 60)
    lease = await subject.admitted(window)
    if isinstance(subject.holds, RedisHolds):
        await subject.wait(LEASE_S - 1)
    else:
        await subject.wait(3_600)
    assert (await subject.hold(window)).answer.refused_by == 0
    lease.settle(Spent(audio_ms=60_000))
    refused = await subject.hold(window)
    assert (refused.answer.refused_by, refused.answer.retry_ms) == (0, 60_000)


async def test_what_has_to_fit_is_asked_for_and_not_reserved(subject: Subject) -> None:
    """Of a body that is still to be measured, as much is known."""
    one = audio("100s/h")
    first, second = [await subject.admitted(replace(one, least=60_000)) for _ in range(2)]
    assert await subject.left(one) == 100_000
    assert (await first.extend(Spent(60_000), NOTHING_SPENT)).admitted
    refused = await second.extend(Spent(60_000), NOTHING_SPENT)
    assert not refused.admitted
    assert refused.retry_ms == 720_000
    again = (await subject.hold(replace(one, least=60_000))).answer
    assert (again.refused_by, again.retry_ms) == (0, 720_000)
    assert (await subject.hold(replace(one, least=100_001))).answer.retry_ms == NEVER
    first.settle(Spent(10_000))
    second.settle(NOTHING_SPENT)
    assert await subject.left(one) == 90_000


async def test_more_than_the_whole_allowance_never_fits_and_says_so(subject: Subject) -> None:
    refused = await subject.hold(audio("60s/m", 61))
    assert (refused.answer.refused_by, refused.answer.retry_ms) == (0, NEVER)


async def test_retry_after_suffices_and_a_millisecond_less_does_not(subject: Subject) -> None:
    window = audio("100s/m", 70)
    (await subject.admitted(window)).settle(Spent(audio_ms=70_000))
    refused = await subject.hold(window)
    await subject.wait((refused.answer.retry_ms - 1) / 1000)
    assert (await subject.hold(window)).lease is None
    await subject.wait(0.001)
    await subject.admitted(window)


async def test_a_reservation_grows_with_the_stream_and_is_refused_at_the_limit(subject: Subject) -> None:
    window, places = audio("60s/d", 10), demand(What.STREAMS, "1")
    lease = await subject.admitted(window, places)
    assert not lease.exceeds(Spent(audio_ms=10_000))
    assert lease.exceeds(Spent(audio_ms=10_001))
    assert (await lease.extend(Spent(audio_ms=40_000), Spent(audio_ms=30_000))).admitted
    assert await subject.left(window) == 20_000
    refused = await lease.extend(Spent(audio_ms=61_000), Spent(audio_ms=38_000))
    assert (refused.refused_by, refused.retry_ms != 0) == (0, True)
    assert await subject.left(window) == 20_000
    assert await subject.left(places) == 0
    lease.settle(Spent(audio_ms=39_000))
    assert [await subject.left(window), await subject.left(places)] == [21_000, 1]


async def test_a_request_that_is_not_billed_gives_back_what_was_spent_meanwhile(subject: Subject) -> None:
    month = audio("100s/month", 10)
    await subject.holds.tell(month, 50_000)
    lease = await subject.admitted(month)
    await lease.extend(Spent(audio_ms=30_000), Spent(audio_ms=20_000))
    lease.settle(Spent())
    assert await subject.left(month) == 50_000


async def test_a_counter_that_nobody_told_is_unknown_and_takes_nothing(subject: Subject) -> None:
    """A new period, or a Redis that lost its memory: neither yes nor no."""
    month, places = audio("100s/month", 10), demand(What.CONCURRENCY, "1")
    held = await subject.hold(month, places)
    assert (held.answer.unknown, held.answer.admitted, held.lease) == (True, False, None)
    assert [figure.unknown for figure in held.answer.figures] == [True, False]
    await subject.holds.tell(month, 95_000)
    refused = await subject.hold(month, places)
    assert (refused.answer.refused_by, refused.answer.retry_ms) == (0, ENDS_MS - START_MS)
    await subject.holds.tell(month, 0)
    if isinstance(subject.holds, RedisHolds):
        assert await subject.left(month) == 5_000, "whoever knows of most is right"
        await subject.holds.tell(month, 97_000)
        assert await subject.left(month) == 3_000, "some had passed while it was away"


async def test_what_others_only_hold_of_a_quota_may_be_had_soon(subject: Subject) -> None:
    """They may come to less. What is spent for good is gone until the period ends; and who settles hears of it."""
    month, heard = audio("100s/month", 60), []
    await subject.holds.tell(month, 0)
    first = await subject.admitted(month)
    first.hear = heard.append
    refused = await subject.hold(month)
    assert (refused.answer.refused_by, refused.answer.retry_ms) == (0, 1_000)
    first.settle(Spent(audio_ms=50_000))
    await until(lambda: bool(heard))
    assert [(figure.left, figure.used) for figure in heard[0].figures] == [(50_000, 50_000)]
    refused = await subject.hold(month)
    assert (refused.answer.refused_by, refused.answer.retry_ms) == (0, ENDS_MS - START_MS)


async def test_shadow_is_reported_and_refuses_nobody(subject: Subject) -> None:
    dark, places = demand(What.CONCURRENCY, "1", shadow=True), demand(What.CONCURRENCY, "2")
    one = await subject.admitted(dark, places)
    held = await subject.hold(dark, places)
    assert [figure.overrun for figure in held.answer.figures] == [True, False]
    assert held.lease is not None
    held.lease.settle(Spent())
    one.settle(Spent())
    assert [await subject.left(dark), await subject.left(places)] == [1, 2]


async def test_shadow_audio_counts_what_was_spent_all_the_same(subject: Subject) -> None:
    month = audio("10s/month", 20, shadow=True)
    await subject.holds.tell(month, 5_000)
    held = await subject.hold(month)
    assert held.answer.figures[0].overrun
    assert held.lease is not None
    held.lease.settle(Spent(audio_ms=3_000))
    assert await subject.left(month) == 2_000


WORLD = {
    "rate": limit(What.REQUESTS, "5/s"),
    "places": limit(What.CONCURRENCY, "2"),
    "window": limit(What.AUDIO, "60s/m"),
    "bytes": limit(What.BYTES, "1000/s"),
    "month": limit(What.AUDIO, "200s/month"),
    "dark": limit(What.AUDIO, "20s/m", shadow=True),
}
_wanted = st.dictionaries(st.sampled_from(sorted(WORLD)), st.integers(0, 40), min_size=1, max_size=4)
_amounts = st.integers(0, 70_000)
_acts = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 70_000)),
    st.tuples(st.just("hold"), _wanted),
    st.tuples(st.just("extend"), st.integers(0, 9), _amounts, _amounts),
    st.tuples(st.just("settle"), st.integers(0, 9), _amounts),
)


@given(acts=st.lists(_acts, min_size=3, max_size=25))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_redis_does_what_the_rule_says(redis_subject: Subject, acts: list[tuple[object, ...]]) -> None:
    """Any requests, extensions and ends, any pauses, expiry too: the same answers as policies.limits.holding.apply.

    The rule is run beside, as the model: on the very steps that were sent.
    """
    example, holds = next(_numbers), redis_subject.holds
    assert isinstance(holds, RedisHolds)
    await redis_subject.wait(3_600_000)  # whatever earlier examples left has expired
    tallies: dict[str, Tally] = {}
    leases: list[Lease] = []
    pack = holds._pack

    def expect(lease: HeldLease, steps: list[Step]) -> Answer:
        found = [tallies.setdefault(step.demand.key, Tally()) for step in steps]
        return apply(found, lease.id, steps, float(redis_subject.now_ms), LEASE_S * 1000)

    def recorded(lease: HeldLease, steps: list[Step], ago_ms: int = 0) -> tuple[list[bytes], list[bytes]]:
        expected.append(expect(lease, steps))
        return pack(lease, steps, ago_ms)

    def wants(name: str, amount: int) -> Demand:
        allowance = WORLD[name]
        unit = {What.AUDIO: 1_000, What.BYTES: 25}.get(allowance.what, 0)
        ends = redis_subject.now_ms + 1 if allowance.kind is Kind.QUOTA else 0
        # A third of them are to fit alone, and reserve what they will come to later.
        want, least = (0, amount * unit) if unit and amount % 3 == 0 else (amount * unit or 1, 0)
        return Demand(allowance, f"e{{{example}}}:{name}", want, ends, least)

    expected: list[Answer] = []
    holds._pack = recorded  # type: ignore[method-assign]
    try:
        month = wants("month", 0)
        await holds.tell(month, 0)
        tallies[month.key] = Tally(used=0)
        for act in acts:
            expected.clear()
            if act[0] == "wait":
                await redis_subject.wait(act[1] / 1000)
            elif act[0] == "hold":
                held = await redis_subject.hold(*(wants(name, amount) for name, amount in sorted(act[1].items())))
                _compare(held.answer, expected[0])
                leases += [held.lease] if held.lease else []
            elif leases:
                lease = leases[act[1] % len(leases)]
                if act[0] == "extend":
                    spent, more = sorted((act[2], act[3]))
                    answer = await lease.extend(Spent(more, more // 40), Spent(spent, spent // 40))
                    if expected:
                        _compare(answer, expected[0])
                else:
                    leases.remove(lease)
                    lease.settle(Spent(act[2], act[2] // 40))
        everything = [wants(name, 0) for name in sorted(WORLD)]
        expected.clear()
        _compare(await holds.look(tuple(everything)), expected[0])
    finally:
        holds._pack = pack  # type: ignore[method-assign]
        holds._held.clear()


def _compare(told: Answer, expected: Answer) -> None:
    assert (told.refused_by is None, told.unknown) == (expected.refused_by is None, expected.unknown)
    assert told.retry_ms == pytest.approx(expected.retry_ms, abs=1)
    for mine, theirs in zip(told.figures, expected.figures, strict=True):
        assert mine.left == pytest.approx(theirs.left, abs=1)
        assert mine.reset_ms == pytest.approx(theirs.reset_ms, abs=1)
        assert (mine.overrun, mine.unknown) == (theirs.overrun, theirs.unknown)
        assert mine.used == pytest.approx(theirs.used, abs=1)


@pytest.mark.parametrize(("text", "part"), [("10", 2), ("3", 1), ("1", 1)])
async def test_processes_that_count_apart_hold_their_part(text: str, part: int) -> None:
    """While Redis is down each of four workers allows its share of the places, and at least one."""
    holds = LocalHolds(lambda: 0.0, sharers=4)
    places = demand(What.CONCURRENCY, text)
    passed = [await holds.hold((places,)) for _ in range(10)]
    assert sum(held.lease is not None for held in passed) == part


async def left_becomes(holds: RedisHolds, one: Demand, left: int) -> None:
    """Ask until so many units are left."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Unavailable):
                if (await holds.look((one,))).figures[0].left == left:
                    return
            await asyncio.sleep(0.02)


# --- Redis alone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("repaid_s", "left_s"), [(40, 80), (50, 90), (60, 100), (500, 100)])
async def test_what_is_given_back_later_can_be_had_again(redis_subject: Subject, repaid_s: int, left_s: int) -> None:
    """Of a window and of a calendar period, never more than there is; a counter that is gone is not made anew."""
    for text in ("100s/h", "100s/month"):
        one = audio(text, 60)
        assert isinstance(redis_subject.holds, RedisHolds)
        redis_subject.holds.repay([(one, 1_000)])
        await redis_subject.holds.tell(one, 0)
        (await redis_subject.admitted(one)).settle(Spent(60_000))
        redis_subject.holds.repay([(one, repaid_s * 1000)])
        assert await redis_subject.left(one) == left_s * 1000


async def test_a_lease_that_is_not_renewed_is_free_after_its_time(redis_subject: Subject) -> None:
    """A crash: nobody settles and nobody renews. Places and audio come back, what was spent for good does not."""
    places, window = demand(What.STREAMS, "1"), audio("60s/d", 20)
    lease = await redis_subject.admitted(places, window)
    await lease.extend(Spent(audio_ms=35_000), Spent(audio_ms=25_000))
    await redis_subject.wait(LEASE_S - 0.001)
    assert (await redis_subject.hold(places)).lease is None
    await redis_subject.wait(0.001)
    assert await redis_subject.left(places) == 1
    assert await redis_subject.left(window) == pytest.approx(35_020, abs=1)


async def test_after_a_clock_was_set_back_nobody_holds_for_longer_than_a_lease(redis_subject: Subject) -> None:
    """Of a process that is dead: its places were gone for as long as the clock had been ahead."""
    places, window = demand(What.CONCURRENCY, "1"), audio("60s/d", 60)
    await redis_subject.admitted(places, window)
    await redis_subject.wait(-3_600)
    assert [await redis_subject.left(places), await redis_subject.left(window)] == [0, 0]
    await redis_subject.wait(LEASE_S)
    assert [await redis_subject.left(places), await redis_subject.left(window)] == [1, 60_000]


async def test_after_a_clock_was_set_back_what_streams_spend_counts(
    redis_subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although by that clock the counter is still to be told what the account had."""
    monkeypatch.setattr(redis_holds, "_TELL", _told(redis_holds._TELL))
    month = audio("100s/month", 10)
    await redis_subject.holds.tell(month, 0)
    stream = await redis_subject.admitted(month)
    assert isinstance(stream, HeldLease)
    stream.known_at -= 5.0
    await redis_subject.wait(-3_600)
    assert (await stream.extend(Spent(20_000), Spent(5_000))).figures[0].used == 5_000


async def test_renewal_keeps_it_and_puts_back_what_had_expired(redis_subject: Subject) -> None:
    places, window = demand(What.STREAMS, "3"), audio("60s/d", 20)
    leases = [await redis_subject.admitted(places, window) for _ in range(3)]
    holds = redis_subject.holds
    for seconds in (20, 20, 45):
        await redis_subject.wait(seconds)
        if seconds == 45:
            assert await redis_subject.left(places) == 3
        holds._renew()
        assert await redis_subject.left(places) == 0
        assert await redis_subject.left(window) == 0
    for lease in leases:
        lease.settle(Spent())
    assert [await redis_subject.left(places), await redis_subject.left(window)] == [3, 60_000]


HAMMER = """
import asyncio, json, random, sys
from policies.limits.allowances import Allowance, What
from policies.limits.holding import Demand, Spent
from storage.redis.holds import RedisHolds

async def main():
    url, number = sys.argv[1], int(sys.argv[2])
    holds = RedisHolds(url, lease_s=2.0, timeout=30.0)
    demands = (
        Demand(Allowance.parse(What.REQUESTS, "1000000/s"), "rate:{hammered}", 1),
        Demand(Allowance.parse(What.CONCURRENCY, "40"), "limit:{hammered}:concurrency", 1),
        Demand(Allowance.parse(What.CONCURRENCY, "15"), f"limit:{{hammered}}:key{number}", 1),
    )
    sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
    here = most = passed = refused = 0
    async def client(turns):
        nonlocal here, most, passed, refused
        for _ in range(turns):
            held = await holds.hold(demands)
            if held.lease is None:
                refused += 1
                continue
            here += 1; passed += 1
            most = max(most, here)
            await asyncio.sleep(random.random() / 200)
            here -= 1
            held.lease.settle(Spent())
    await asyncio.gather(*(client(4) for _ in range(125)))
    print(json.dumps([most, passed, refused])); sys.stdout.flush()
    if number == 3:
        await asyncio.to_thread(sys.stdin.readline)  # when nobody else holds anything
        for _ in range(10):
            await holds.hold(demands)
        print("holding"); sys.stdout.flush()
        await asyncio.sleep(60)
    await holds.close()

asyncio.run(main())
"""


async def test_four_processes_never_overshoot_never_leak_and_a_killed_one_frees_its_places(redis_url: str) -> None:
    """500 clients in 4 processes: at no time more than 40 places out, each process at most its 15; all come back.

    Then one process takes ten places and dies of SIGKILL: they are free within the lease's time, not before.
    """
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", HAMMER, redis_url, str(number), cwd=ROOT, stdin=pipe, stdout=pipe
        )
        for number in range(4)
    ]
    key = "limit:{hammered}:concurrency:held"
    async with Redis.from_url(redis_url) as redis:
        for process in processes:
            assert await process.stdout.readline() == b"ready\n"
        for process in processes:
            process.stdin.write(b"go\n")
        told = [asyncio.ensure_future(process.stdout.readline()) for process in processes]  # noqa: TID251  awaited below
        seen = []
        while not all(line.done() for line in told):
            seen.append(await redis.zcard(key))
        figures = [json.loads(await line) for line in told]
        assert (max(seen) <= 40, max(seen) > 20) == (True, True)
        assert max(most for most, _, _ in figures) <= 15
        assert sum(passed + refused for _, passed, refused in figures) == 2_000
        for process in processes[:3]:
            await process.wait()
        processes[3].stdin.write(b"hold\n")
        assert await processes[3].stdout.readline() == b"holding\n"
        assert await redis.zcard(key) == 10
        holds = RedisHolds(redis_url, lease_s=2.0, timeout=10.0)
        whole = Demand(Allowance.parse(What.CONCURRENCY, "40"), "limit:{hammered}:concurrency", 1)
        await holds.look((whole,))  # so that it is connected
        processes[3].kill()
        await processes[3].wait()
        assert (await holds.look((whole,))).figures[0].left == 30
        await left_becomes(holds, whole, 40)
        await holds.close()


async def test_who_gives_up_while_asking_holds_nothing(redis_url: str) -> None:
    """A client that leaves between the question and its answer, at any point of it."""
    holds = RedisHolds(redis_url, timeout=10.0)
    places = demand(What.CONCURRENCY, "50")
    for turns in range(6):
        asking = [asyncio.get_running_loop().create_task(holds.hold((places,))) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asking:
            task.cancel()
        kept = [held for held in await asyncio.gather(*asking, return_exceptions=True) if isinstance(held, Held)]
        for held in kept:
            held.lease.settle(Spent())
    await left_becomes(holds, places, 50)
    assert not holds._held
    await holds.close()


async def test_what_nobody_waits_for_any_more_is_given_back_and_was_a_request(redis_url: str) -> None:
    """Who is told there and then, and has gone when the answer comes. The ledger counts what such a client began."""
    holds = RedisHolds(redis_url, timeout=10.0)
    places = demand(What.CONCURRENCY, "50")
    month = demand(What.REQUESTS, "9/month", key=f"{places.key}:month")
    await holds.tell(month, 0)
    gone, last = (asyncio.get_running_loop().create_future() for _ in range(2))
    holds.hold_for((places, month), gone)
    gone.cancel()
    holds.hold_for((places, month), last)
    (await last).lease.settle(Spent())
    await left_becomes(holds, places, 50)
    assert (await holds.look((month,))).figures[0].used == 2
    assert not holds._held
    await holds.close()


async def test_what_is_given_back_behind_its_renewal_stays_so(redis_url: str) -> None:
    """Also by a Redis that has forgotten its scripts: the renewal, sent once more, came last and put the place back."""
    holds = RedisHolds(redis_url)
    places = demand(What.CONCURRENCY, "5")
    lease = (await holds.hold((places,))).lease
    async with Redis.from_url(redis_url) as client:
        await client.script_flush()
    assert (await holds.look((places,))).figures[0].left == 4
    holds._renew()
    lease.settle(Spent())
    assert [(await holds.look((places,))).figures[0].left for _ in range(3)] == [5, 5, 5]
    await holds.close()


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    async with own_redis(tmp_path) as server:
        yield server


async def test_what_is_given_back_while_redis_hangs_arrives_later_and_once(own: OwnRedis) -> None:
    """The reply is lost, the giving back may have been done: what was spent counts once."""
    holds = RedisHolds(own.url, lease_s=3.0)
    month = Demand(limit(What.AUDIO, "100s/month"), "limit:{own}:month", 10_000, 4_000_000_000_000)
    await holds.tell(month, 0)
    lease = (await holds.hold((month,))).lease
    hurry(holds._nodes)
    own.freeze()
    lease.settle(Spent(audio_ms=7_000))
    await until(lambda: not holds._nodes.main.wire.is_open)
    own.thaw()
    await until(lambda: not holds._owed)
    assert (await holds.look((month,))).figures[0].left == 93_000
    await holds.close()


async def test_an_answer_that_was_lost_leaves_nothing_behind(own: OwnRedis) -> None:
    """Nobody knows whether the place was taken: it is given back when Redis answers again."""
    holds = RedisHolds(own.url, lease_s=3.0)
    places = demand(What.CONCURRENCY, "1")
    (await holds.hold((places,))).lease.settle(Spent())
    await until(lambda: not holds._owed)
    hurry(holds._nodes)
    own.freeze()
    with pytest.raises(Unavailable, match="limits cannot be counted"):
        await holds.hold((places,))
    own.thaw()
    await until(lambda: not holds._owed)
    await left_becomes(holds, places, 1)
    await holds.close()


async def test_a_redis_that_lost_everything_is_told_again_who_holds(own: OwnRedis) -> None:
    """FLUSHALL: renewal puts the places back, so that they are exact again within a third of the lease's time."""
    holds = RedisHolds(own.url, lease_s=0.9)
    places = demand(What.CONCURRENCY, "2")
    one = (await holds.hold((places,))).lease
    async with own.client() as client:
        await client.flushall()
    await left_becomes(holds, places, 1)
    one.settle(Spent())
    await until(lambda: not holds._owed)
    assert (await holds.look((places,))).figures[0].left == 2
    await holds.close()


async def test_what_the_ledger_has_told_since_is_not_counted_again(tmp_path: Path) -> None:
    """A Redis that comes back empty is told what was used, and that has what ended, or was given back, meanwhile."""
    month = Demand(limit(What.AUDIO, "100s/month"), "limit:{own}:month", 10_000, 4_000_000_000_000)
    async with own_redis(tmp_path) as own:
        holds = RedisHolds(own.url)
        await holds.tell(month, 0)
        ended, stream, over, later = [(await holds.hold((month,))).lease for _ in range(4)]
        await stream.extend(Spent(20_000), Spent(5_000))
        hurry(holds._nodes)
    await until(lambda: not holds._nodes.main.wire.is_open)
    ended.settle(Spent(7_000))
    holds.repay([(month, 2_000)])
    for one in stream, over:
        with pytest.raises(Unavailable):
            await one.extend(Spent(25_000), Spent(9_000))
    async with own_redis(tmp_path):
        relax(holds._nodes)
        await left_becomes(holds, month, 100_000)
        await holds.tell(month, 14_000)
        over.settle(Spent(9_000))
        holds._renew()
        await until(lambda: not holds._owed)
        assert (await stream.extend(Spent(25_000), Spent(9_000))).figures[0].used == 14_000
        assert (await stream.extend(Spent(30_000), Spent(12_000))).figures[0].used == 17_000
        later.settle(Spent(1_000))
        stream.settle(Spent(13_000))
        await until(lambda: not holds._owed)
        assert (await holds.look((month,))).figures[0].used == 19_000
        await holds.close()


async def test_what_a_stream_has_spent_counts_once_where_the_answer_to_it_was_lost(own: OwnRedis) -> None:
    holds = RedisHolds(own.url)
    month = Demand(limit(What.AUDIO, "100s/month"), "limit:{own}:month", 10_000, 4_000_000_000_000)
    await holds.tell(month, 0)
    stream = (await holds.hold((month,))).lease
    hurry(holds._nodes)
    own.freeze()
    with pytest.raises(Unavailable):
        await stream.extend(Spent(15_000), Spent(5_000))
    own.thaw()
    relax(holds._nodes)
    await left_becomes(holds, month, 85_000)
    assert (await stream.extend(Spent(20_000), Spent(10_000))).figures[0].used == 10_000
    stream.settle(Spent(11_000))
    await until(lambda: not holds._owed)
    look = (await holds.look((month,))).figures[0]
    assert (look.used, look.left) == (11_000, 89_000)
    await holds.close()


async def test_a_key_of_another_kind_is_unavailable_and_takes_nothing(own: OwnRedis) -> None:
    """F-01: of none of the limits that were asked for with it."""
    holds = RedisHolds(own.url)
    good, bad = demand(What.CONCURRENCY, "1"), audio("60s/m", 5)
    async with own.client() as client:
        await client.set(bad.key, "x")
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            await holds.hold((good, bad))
        await client.delete(bad.key)
    assert (await holds.hold((good, bad))).lease is not None
    holds._timeout = 0.1  # that nothing was taken is told to Redis again and again; the end need not wait for it
    await holds.close()


async def test_closing_waits_for_what_was_given_back(own: OwnRedis) -> None:
    holds = RedisHolds(own.url)
    places = demand(What.CONCURRENCY, "1")
    (await holds.hold((places,))).lease.settle(Spent())
    await holds.close()
    async with own.client() as client:
        assert not await client.exists(f"{places.key}:held")


async def test_every_key_ends_by_itself(own: OwnRedis) -> None:
    """Q-10, while its request is under way."""
    holds = RedisHolds(own.url)
    month = Demand(limit(What.AUDIO, "100s/month"), "limit:{own}:month", 10_000, 4_000_000_000_000)
    await holds.tell(month, 0)
    await holds.hold((demand(What.CONCURRENCY, "1"), audio("60s/m", 5), demand(What.REQUESTS, "1/s"), month))
    async with own.client() as client:
        assert all([await client.pttl(key) > 0 for key in await client.keys("*")])
    await holds.close()


UPLOADS = """
import asyncio, json, random, sys
from policies.limits.allowances import Allowance, What
from policies.bounds import with_margin
from policies.limits.holding import Demand, Spent
from storage.redis.holds import RedisHolds

TAIL_MS = 100

async def main():
    url = sys.argv[1]
    random.seed(sys.argv[2])
    holds = RedisHolds(url, timeout=30.0)
    month = Allowance.parse(What.AUDIO, "1000s/month")
    sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
    accounted = cut = refused = 0
    async def upload():
        nonlocal accounted, cut, refused
        true_ms = random.randrange(1_000, 20_000)
        guess_ms = round(true_ms * random.uniform(0.1, 1.5))
        held = await holds.hold((Demand(month, "limit:{uploads}:month", guess_ms, 4_000_000_000_000),))
        if held.lease is None:
            refused += 1
            return
        await asyncio.sleep(random.random() / 100)
        expected = Spent(true_ms)
        if held.lease.exceeds(expected):
            if not (await held.lease.extend(with_margin(expected), Spent())).admitted:
                if not (await held.lease.extend(expected, Spent())).admitted:
                    held.lease.settle(Spent())
                    cut += 1
                    return
        await asyncio.sleep(random.random() / 100)
        came_to = true_ms + TAIL_MS
        held.lease.settle(Spent(came_to))
        accounted += came_to
    async def client():
        for _ in range(3):
            await upload()
    await asyncio.gather(*(client() for _ in range(125)))
    await holds.close()
    print(json.dumps([accounted, cut, refused]))

asyncio.run(main())
"""


async def test_parallel_uploads_in_four_processes_keep_the_bound(redis_url: str) -> None:
    """500 at a time, with guesses from a tenth to one and a half of the truth, corrected on the way.

    Each comes to 100 ms more than its last reservation, so only those under way at the end can exceed the allowance:
    far fewer than 500. Nearly all of it is used.
    """
    pipe = asyncio.subprocess.PIPE
    holds = RedisHolds(redis_url, timeout=10.0)
    month = Demand(limit(What.AUDIO, "1000s/month"), "limit:{uploads}:month", 0, 4_000_000_000_000)
    await holds.tell(month, 0)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", UPLOADS, redis_url, str(number), cwd=ROOT, stdin=pipe, stdout=pipe
        )
        for number in range(4)
    ]
    for process in processes:
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"go\n")
    figures = [json.loads((await process.communicate())[0]) for process in processes]
    used = sum(accounted for accounted, _, _ in figures)
    assert 900_000 < used <= 1_010_000
    assert sum(refused for _, _, refused in figures) > 500
    async with Redis.from_url(redis_url) as redis:
        assert {int(n) for n in await redis.hmget(month.key, "used", "held")} == {used, 0}
    await holds.close()

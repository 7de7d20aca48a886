"""Which address gets the next request, and what is learnt from how it went; time is an argument."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.routing.upstreams import (
    GOOD,
    Health,
    Rules,
    begun,
    checked,
    choose,
    connected,
    due_at,
    failed,
    is_due,
    is_half_open,
    least_busy,
    went_well,
)

RULES = Rules(faults=3, aside_s=5.0, longest_s=60.0, fall=3, rise=2)
ASIDE = Health(until=20.0, connecting=True, rounds=1)
ON_TRIAL = replace(ASIDE, trial_until=25.0)
FAILING = Health(passing=False)


@pytest.mark.parametrize(
    ("healths", "busy", "turn", "tried", "chosen"),
    [
        ([GOOD], [9], 0, set(), 0),
        ([GOOD, GOOD, GOOD], [2, 1, 3], 0, set(), 1),
        ([GOOD, GOOD, GOOD], [1, 1, 1], 0, set(), 0),
        ([GOOD, GOOD, GOOD], [1, 1, 1], 2, set(), 2),
        ([GOOD, GOOD, GOOD], [1, 1, 1], 3, set(), 0),
        ([GOOD, GOOD, GOOD], [0, 5, 1], 0, {0}, 2),
        ([GOOD], [0], 0, {0}, None),
        ([], [], 0, set(), None),
        ([ASIDE, GOOD], [0, 9], 0, set(), 1),
        ([FAILING, GOOD], [0, 9], 0, set(), 1),
        ([replace(ASIDE, until=9.0), GOOD], [5, 0], 0, set(), 0),
        ([replace(ASIDE, until=9.0, trial_until=11.0), GOOD], [0, 5], 0, set(), 1),
        ([replace(ASIDE, until=9.0, passing=False), GOOD], [0, 5], 0, set(), 1),
        ([ASIDE], [0], 0, set(), 0),
        ([ASIDE, replace(ASIDE, until=15.0)], [0, 0], 0, set(), 1),
        ([ASIDE, FAILING], [0, 0], 0, set(), 0),
        ([FAILING, FAILING], [0, 0], 0, set(), 0),
        ([replace(FAILING, faults=1), FAILING], [0, 0], 0, set(), 1),
        ([ASIDE, ON_TRIAL], [0, 0], 0, set(), None),
        ([replace(ON_TRIAL, trial_until=10.0)], [0], 0, set(), 0),
        ([ASIDE, GOOD], [0, 0], 0, {1}, None),
    ],
)  # fmt: skip
def test_the_next_address(
    healths: list[Health], busy: list[int], turn: int, tried: set[int], chosen: int | None
) -> None:
    """At time 10. Due ones first, then least busy, equals in turn; all aside: the least bad one, one at a time."""
    assert choose(healths, busy, 10.0, turn=turn, tried=tried) == chosen


@pytest.mark.parametrize(
    ("health", "due", "half_open"),
    [
        (GOOD, False, False),
        (FAILING, False, False),
        (ASIDE, False, False),
        (ON_TRIAL, False, True),
        (replace(ASIDE, until=10.0), True, True),
        (replace(ASIDE, until=9.0, trial_until=11.0), False, True),
        (replace(ASIDE, until=9.0, trial_until=10.0), True, True),
        (replace(ASIDE, until=9.0, passing=False), False, False),
    ],
)
def test_what_is_set_aside_is_tried_when_its_time_has_come(health: Health, due: bool, half_open: bool) -> None:
    """At time 10, and by one at a time; where checks fail, not at all."""
    assert (is_due(health, 10.0), is_half_open(health, 10.0)) == (due, half_open)


def test_faults_in_a_row_set_an_address_aside_and_a_good_one_between_starts_anew() -> None:
    health = GOOD
    for _ in range(2):
        health = failed(health, RULES, 100.0, connecting=True, others=False)
    health = went_well(health, 100.0)
    for _ in range(2):
        health = failed(health, RULES, 100.0, connecting=True, others=False)
    assert health.in_use
    health = failed(health, RULES, 100.0, connecting=True, others=False)
    assert (health.in_use, health.until) == (False, 105.0)


def test_back_off_doubles_to_its_bound_and_starts_anew_after_a_long_good_time() -> None:
    health, now, pauses = replace(GOOD, faults=2), 100.0, []
    for _ in range(6):
        health = failed(begun(health, RULES, now, others=True), RULES, now, connecting=True, others=True)
        pauses.append(health.until - now)
        now = health.until
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    back = went_well(begun(health, RULES, now, others=True), now)
    soon = failed(replace(back, faults=2), RULES, now + 59.0, connecting=True, others=True)
    late = failed(replace(back, faults=2), RULES, now + 61.0, connecting=True, others=True)
    assert (soon.until - now - 59.0, late.until - now - 61.0) == (60.0, 5.0)


def test_a_fault_after_connecting_does_not_take_the_last_address() -> None:
    """It may be the request's own, and there is nowhere better to go. No connection at all is another matter."""
    suspect = replace(GOOD, faults=50)
    assert failed(suspect, RULES, 100.0, connecting=False, others=False).in_use
    assert not failed(suspect, RULES, 100.0, connecting=False, others=True).in_use
    assert not failed(suspect, RULES, 100.0, connecting=True, others=False).in_use


def test_a_connection_is_good_news_only_where_there_was_none() -> None:
    assert connected(replace(ON_TRIAL, connecting=True), 21.0).in_use
    assert not connected(replace(ON_TRIAL, connecting=False), 21.0).in_use
    assert connected(Health(faults=2, connecting=False), 1.0).faults == 2
    assert connected(Health(faults=2, connecting=True), 1.0).faults == 0


@pytest.mark.parametrize(("others", "pauses"), [(True, [5, 10, 20, 40, 60, 60]), (False, [5] * 6)])
def test_trials_of_which_nothing_is_heard_come_later_and_later(others: bool, pauses: list[int]) -> None:
    """While another address serves; else there is nothing to lose by trying. Any news begins it anew."""
    health, now, waited = ASIDE, 20.0, []
    for _ in pauses:
        health = begun(health, RULES, now, others=others)
        waited.append(health.trial_until - now)
        now = health.trial_until
    assert waited == pauses
    assert failed(health, RULES, now, connecting=False, others=others).trials == 0
    assert went_well(health, now).trials == 0


def test_what_fails_while_aside_was_sent_before_and_prolongs_nothing() -> None:
    assert failed(ASIDE, RULES, 17.0, connecting=False, others=True) is ASIDE


def test_checks_take_an_address_out_and_bring_it_back() -> None:
    """``fall`` in a row, ``rise`` in a row; a passed check also ends a time aside."""
    health, seen = GOOD, []
    for passed in (False, False, True, False, False, False, True, False, True, True):
        health = checked(health, RULES, 1.0, passed=passed)
        seen.append(health.in_use)
    assert seen == [True, True, True, True, True, False, False, False, False, True]
    assert checked(checked(ASIDE, RULES, 1.0, passed=True), RULES, 1.0, passed=True).in_use


# --- properties ------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Addresses that requests and checks happen to. A request is told at its end what the address' truth was then."""

    healths: list[Health]
    now: float = 1_000.0
    turn: int = 0
    flying: list[int] = field(default_factory=list)
    trials: dict[int, float] = field(default_factory=dict)
    """When the last trial of an address began, until something was told of that address."""

    def ask(self) -> int | None:
        index = choose(self.healths, [self.flying.count(i) for i in range(len(self.healths))], self.now, turn=self.turn)
        if index is None:
            return None
        if not self.healths[index].in_use:
            last = self.trials.get(index)
            assert last is None or self.now - last >= RULES.aside_s, "two trials of one address at once"
            self.trials[index] = self.now
        others = any(h.in_use for i, h in enumerate(self.healths) if i != index)
        self.healths[index] = begun(self.healths[index], RULES, self.now, others=others)
        self.turn = index + 1
        self.flying.append(index)
        return index

    def end(self, which: int, outcome: str) -> None:
        index = self.flying.pop(which % len(self.flying))
        health = self.healths[index]
        if outcome == "gone":
            return  # the client left: nothing is learnt
        self.trials.pop(index, None)
        others = any(h.in_use for i, h in enumerate(self.healths) if i != index)
        self.healths[index] = (
            went_well(health, self.now)
            if outcome == "well"
            else failed(health, RULES, self.now, connecting=outcome == "connect", others=others)
        )

    def check(self, which: int, *, passed: bool) -> None:
        index = which % len(self.healths)
        self.healths[index] = checked(self.healths[index], RULES, self.now, passed=passed)
        self.trials.pop(index, None)


STEPS = st.lists(
    st.one_of(
        st.just(("ask",)),
        st.tuples(st.just("end"), st.integers(0, 50), st.sampled_from(["well", "connect", "answer", "gone"])),
        st.tuples(st.just("check"), st.integers(0, 50), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 4.9, 5.0, 70.0])),
    ),
    max_size=60,
)


def played(count: int, steps: list[tuple[object, ...]]) -> World:
    world = World([GOOD] * count)
    for step in steps:
        match step:
            case ("ask",):
                world.ask()
            case ("end", int(which), str(outcome)) if world.flying:
                world.end(which, outcome)
            case ("check", int(which), bool(passed)):
                world.check(which, passed=passed)
            case ("wait", float(seconds)):
                world.now += seconds
    return world


@given(st.integers(1, 4), STEPS)
def test_half_open_lets_exactly_one_through(count: int, steps: list[tuple[object, ...]]) -> None:
    """Until something is told of the address, or ``aside_s`` at least have passed: ``World.ask`` asserts it."""
    played(count, steps)


@given(st.integers(1, 4), STEPS)
def test_there_is_always_one_that_is_tried(count: int, steps: list[tuple[object, ...]]) -> None:
    """However bad all of them are: refusing is right only while a trial runs, and no trial runs for ever."""
    world = played(count, steps)
    if world.ask() is None:
        assert any(h.trial_until > world.now for h in world.healths)
    world.now += RULES.aside_s
    assert world.ask() is not None


@given(st.integers(1, 4), STEPS)
def test_an_upstream_that_is_well_again_is_in_use_again(count: int, steps: list[tuple[object, ...]]) -> None:
    """Whatever happened before, once every request and check goes well every address comes back within its bound."""
    world = played(count, steps)
    while world.flying:
        world.end(0, "well")
    for _ in range(count * 3):
        world.now += RULES.longest_s
        for index in range(count):
            world.check(index, passed=True)
        if world.ask() is not None:
            world.end(0, "well")
    assert all(h.in_use and not h.is_suspect for h in world.healths)


@given(st.integers(1, 4), STEPS)
def test_what_is_known_stays_within_bounds(count: int, steps: list[tuple[object, ...]]) -> None:
    for health in played(count, steps).healths:
        assert -RULES.fall <= health.checks <= RULES.rise
        assert 0 <= health.rounds <= 32
        assert health.until <= 1_000.0 + 60 * 70.0 + RULES.longest_s


@given(st.integers(2, 4), st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_with_all_in_use_the_least_busy_gets_it(count: int, busy: list[int]) -> None:
    index = choose([GOOD] * count, busy[:count], 1.0, turn=0)
    assert index is not None
    assert busy[index] == min(busy[:count])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 20))
def test_of_equals_the_next_one_in_turn(busy: list[int], turn: int) -> None:
    index = least_busy(busy, turn)
    assert busy[index] == min(busy)
    between = [(turn + step) % len(busy) for step in range((index - turn) % len(busy))]
    assert all(busy[i] > busy[index] for i in between)


@given(st.integers(1, 4), STEPS)
def test_a_look_at_the_clock_tells_whether_one_is_due(count: int, steps: list[tuple[object, ...]]) -> None:
    """What the short way to a connection relies on: before ``due_at`` nobody that is set aside would be chosen."""
    world = played(count, steps)
    if any(h.in_use for h in world.healths) and due_at(world.healths) > world.now:
        chosen = world.ask()
        assert chosen is not None
        assert world.healths[chosen].in_use


def test_equals_take_turns() -> None:
    world = World([GOOD] * 3)
    taken = []
    for _ in range(6):
        taken.append(world.ask())
        world.end(0, "well")
    assert taken == [0, 1, 2, 0, 1, 2]

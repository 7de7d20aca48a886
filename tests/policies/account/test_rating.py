"""Facts in, money out: rules in a table, and totals that add up whatever the records are."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.account.rating import BillOn, Plan, Rating, Rounding
from policies.account.usage import AudioSource, Measured, Outcome, UsageRecord

PLAN = Plan(name="p", currency="EUR", price=Decimal("0.006"))


def plan(**rules):
    return Plan(**{"name": "p", "currency": "EUR", "price": Decimal("0.006")} | rules)


def heard(audio_ms, *, walked=None, channels=1, model=""):
    source = AudioSource.WALKED if audio_ms else AudioSource.NONE
    walked = audio_ms if walked is None else walked
    return Measured(audio_ms=audio_ms, source=source, walked_ms=walked, channels=channels, model=model)


def record(measured, *, status=200, outcome=Outcome.OK, request_id="r", key_id="k", attempt=1):
    return UsageRecord(
        "t", key_id, "", "listen", outcome, "e", "POST", "", request_id, status, 0, 0, 0, 0, attempt, 0, measured
    )  # fmt: skip


def rated(records, made=PLAN):
    rating = Rating(made)
    for one in records:
        rating.add(one)
    return rating.statement()


@pytest.mark.parametrize(
    ("rules", "measured", "outcome", "ms"),
    [
        ({}, heard(1234), Outcome.OK, 1234),
        ({"rounding": Rounding.UP}, heard(1001), Outcome.OK, 2000),
        ({"rounding": Rounding.UP}, heard(2000), Outcome.OK, 2000),
        ({"rounding": Rounding.NEAREST}, heard(1499), Outcome.OK, 1000),
        ({"rounding": Rounding.NEAREST}, heard(1500), Outcome.OK, 2000),
        ({"rounding": Rounding.UP, "increment_ms": 15_000}, heard(15_001), Outcome.OK, 30_000),
        ({"minimum_ms": 10_000}, heard(400), Outcome.OK, 10_000),
        ({"minimum_ms": 10_000}, heard(0), Outcome.OK, 0),
        ({"per_channel": True}, heard(1000, channels=2), Outcome.OK, 2000),
        ({"per_channel": True}, heard(1000, channels=None), Outcome.OK, 1000),
        ({"per_channel": True, "rounding": Rounding.UP}, heard(600, channels=2), Outcome.OK, 2000),
        ({}, heard(0, walked=5000), Outcome.UPSTREAM_FAILED, 0),
        ({"bill_on": BillOn.ACCEPTED}, heard(0, walked=5000), Outcome.UPSTREAM_FAILED, 5000),
        ({"bill_on": BillOn.ACCEPTED}, heard(0, walked=5000), Outcome.DENIED, 0),
        ({}, heard(3000), Outcome.CLIENT_GONE, 3000),
        # A limit cut it off while its answer was coming: the record has what was forwarded.
        ({}, heard(3000), Outcome.DENIED, 3000),
        ({"bill_on": BillOn.ACCEPTED}, heard(3000, walked=3000), Outcome.DENIED, 3000),
    ],
)
def test_the_rules_of_a_plan(rules, measured, outcome, ms):
    assert plan(**rules).billable_ms(measured, outcome) == ms


def test_a_price_by_model_is_that_of_the_first_pattern_that_fits():
    made = plan(models=(("nova-3", Decimal(3)), ("nova-*", Decimal(2))))
    assert [made.price_of(model) for model in ("nova-3", "nova-2", "whisper-1", "")] == [3, 2, PLAN.price, PLAN.price]


def test_a_statement_has_a_line_for_each_model_and_adds_up():
    statement = rated([record(heard(60_000, model=model)) for model in ("a", "b", "c")])
    assert [(line.model, line.amount) for line in statement.lines] == [
        ("a", Decimal("0.01")),
        ("b", Decimal("0.01")),
        ("c", Decimal("0.00")),
    ]
    assert statement.amount == Decimal("0.02")  # 0.018, and not three times 0.01
    assert (statement.requests, statement.audio_ms, statement.billable_ms) == (3, 180_000, 180_000)


def test_a_stream_is_one_request_however_many_records_it_left():
    """So that a minimum or an increment is applied once."""
    parts = [
        record(heard(ms), status=status, attempt=attempt)
        for attempt, (ms, status) in enumerate([(4000, 100), (4000, 100), (500, 101)], 1)
    ]
    other = record(heard(1000), status=101, request_id="s")
    statement = rated([*parts[:2], other, parts[2]], plan(rounding=Rounding.UP, minimum_ms=2000))
    assert (statement.requests, statement.audio_ms, statement.billable_ms) == (2, 9500, 11_000)


def test_an_id_that_a_client_gives_to_several_joins_nothing():
    """Neither streams nor jobs, whose records have the interim status as well: each has its minimum."""
    jobs = [record(heard(1000), status=100), record(heard(1000), status=100), record(heard(1000), status=101)]
    statement = rated(jobs, plan(minimum_ms=10_000))
    assert (statement.requests, statement.audio_ms, statement.billable_ms) == (3, 3000, 30_000)


def test_a_stream_that_goes_on_counts_with_what_it_came_to():
    assert rated([record(heard(4000), status=100)]).billable_ms == 4000


def test_the_same_records_can_be_rated_again():
    records = [record(heard(90_000, model="a")), record(heard(500, model="a"))]
    assert rated(records).amount == Decimal("0.01")
    assert rated(records, plan(price=Decimal("0.12"), minimum_ms=60_000)).amount == Decimal("0.30")


def corrected(before_ms, audio_ms, *, outcome=Outcome.OK, **facts):
    return record(replace(heard(audio_ms, **facts), before_ms=before_ms), status=100, outcome=outcome)


measures = st.builds(
    heard,
    st.integers(0, 10**8),
    channels=st.none() | st.integers(1, 4),
    model=st.sampled_from(["a", "b", "nova-2", ""]),
)
records = st.lists(
    st.builds(record, measures, outcome=st.sampled_from(Outcome), request_id=st.sampled_from("xyz")), max_size=30
)
prices = st.decimals(0, 10, places=6)
plans = st.builds(
    plan,
    price=prices,
    models=st.lists(st.tuples(st.sampled_from(["a", "nova-*", "*"]), prices), max_size=2).map(tuple),
    decimals=st.integers(0, 4),
    rounding=st.sampled_from(Rounding),
    increment_ms=st.sampled_from([1, 1000, 15_000]),
    minimum_ms=st.sampled_from([0, 10_000]),
    per_channel=st.booleans(),
    bill_on=st.sampled_from(BillOn),
)


@given(records=records, made=plans)
def test_lines_add_up_to_the_total_and_each_is_within_one_unit_of_the_exact_amount(records, made):
    statement = rated(records, made)
    unit = Fraction(1, 10**made.decimals)
    exact = [Fraction(line.price) * line.billable_ms / 60_000 for line in statement.lines]
    assert sum((line.amount for line in statement.lines), Decimal()) == statement.amount
    assert all(abs(Fraction(line.amount) - amount) < unit for line, amount in zip(statement.lines, exact, strict=True))
    assert abs(Fraction(statement.amount) - sum(exact)) <= unit / 2
    assert statement.billable_ms >= (0 if made.rounding is Rounding.NEAREST else statement.audio_ms)
    assert statement.audio_ms == sum(one.measured.audio_ms for one in records)


@given(
    jobs=st.lists(st.tuples(st.integers(1, 10**8), st.integers(0, 10**8), st.integers(1, 4)), max_size=20), made=plans
)
def test_jobs_cost_what_they_come_to_however_they_were_corrected(jobs, made):
    """As if that had been known from the beginning, to the last unit; and lines with credits add up as well."""
    twice = [
        one
        for before_ms, in_all_ms, channels in jobs
        for one in (
            record(heard(before_ms, channels=channels)),
            corrected(before_ms, in_all_ms - before_ms, channels=channels, walked=before_ms),
        )
    ]
    known = [record(heard(in_all_ms, channels=channels)) for _, in_all_ms, channels in jobs if in_all_ms]
    paid, once = (
        rated(twice, replace(made, bill_on=BillOn.SUCCESS)),
        rated(known, replace(made, bill_on=BillOn.SUCCESS)),
    )
    assert (paid.amount, paid.billable_ms, paid.audio_ms) == (once.amount, once.billable_ms, once.audio_ms)
    assert sum((line.amount for line in paid.lines), Decimal()) == paid.amount


def test_a_statement_says_how_many_requests_were_not_measured():
    """They are in no line, since they cost nothing; but nobody can overlook them."""
    statement = rated([record(heard(60_000)), record(Measured(source=AudioSource.UNMEASURED, discrepant=True))])
    assert (statement.unmeasured, statement.requests, len(statement.lines)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("rules", "charged_ms"),
    [
        ({}, 0),
        ({"rounding": Rounding.UP, "increment_ms": 60_000}, 0),
        ({"minimum_ms": 30_000}, 0),
        ({"per_channel": True, "rounding": Rounding.UP}, 0),
        ({"bill_on": BillOn.ACCEPTED, "rounding": Rounding.UP}, 3_000),
    ],
)
def test_a_job_that_failed_costs_nothing_in_the_end(rules, charged_ms):
    """Its credit is what it was charged, with increments, minimum and channels; unless the plan bills what failed."""
    taken = corrected(2_500, -2_500, outcome=Outcome.UPSTREAM_FAILED, walked=2_500, channels=2)
    statement = rated([record(heard(2_500, channels=2)), taken], plan(**rules))
    usage, credit = statement.lines
    assert (usage.credit, credit.credit, credit.audio_ms) == (False, True, -2_500)
    assert usage.billable_ms + credit.billable_ms == statement.billable_ms == charged_ms
    assert (usage.requests, credit.requests) == (1, 0 if charged_ms else -1)


def test_a_credit_for_an_earlier_month_stands_alone_and_is_owed_to_the_tenant():
    statement = rated(
        [corrected(600_000, -600_000, outcome=Outcome.UPSTREAM_FAILED, model="a")], plan(price=Decimal(1))
    )
    (line,) = statement.lines
    assert (line.model, line.amount, statement.amount) == ("a", Decimal(-10), Decimal(-10))


@pytest.mark.parametrize(("audio_ms", "billable_ms"), [(-15_000, 10_000), (3_000, 30_000), (15_000, 40_000)])
def test_an_estimate_that_is_corrected_is_rounded_once(audio_ms, billable_ms):
    """As if what it came to had been known from the beginning."""
    statement = rated(
        [record(heard(25_000)), corrected(25_000, audio_ms)], plan(rounding=Rounding.UP, increment_ms=10_000)
    )
    assert (statement.billable_ms, statement.requests) == (billable_ms, 1)
    assert statement.audio_ms == 25_000 + audio_ms


def test_a_job_by_url_is_one_request():
    assert rated([corrected(0, 5_000), corrected(0, 0)], plan(minimum_ms=10_000)).billable_ms == 10_000

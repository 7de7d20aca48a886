"""Price lists: read exactly, or every fault is named."""

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from policies.account.price_book import PlansInvalid, PriceBook
from policies.account.rating import BillOn, Plan, Rounding


def read(text):
    return PriceBook.read(tomllib.loads(text, parse_float=Decimal))


def test_the_example_is_a_price_book():
    book = read((Path(__file__).parents[3] / "config" / "plans.example.toml").read_text())
    assert book.plan_of("acme") == Plan(
        name="contract",
        currency="EUR",
        price=Decimal("0.0043"),
        models=(("nova-3", Decimal("0.0077")), ("nova-*", Decimal("0.0043"))),
        rounding=Rounding.UP,
        increment_ms=1000,
        minimum_ms=10_000,
        per_channel=True,
        bill_on=BillOn.ACCEPTED,
    )
    assert book.plan_of("somebody").name == "standard"


@pytest.mark.parametrize(
    ("rules", "decimals"),
    [('"EUR"', 2), ('"JPY"', 0), ('"KWD"', 3), ('"CLF"', 4), ('"XYZ"', 2),
     ('"JPY"\ndecimals = 2', 2), ('"KWD"\ndecimals = 0', 0)],
)  # fmt: skip
def test_amounts_have_the_decimals_of_their_currency(rules, decimals):
    """Unless the plan says otherwise: nobody can pay half a yen."""
    assert read(f"[plans.a]\ncurrency = {rules}\nprice_per_minute = 1").plans["a"].decimals == decimals


def test_without_a_default_nobody_has_a_plan_by_accident():
    assert read('[plans.a]\ncurrency = "EUR"\nprice_per_minute = 1').plan_of("acme") is None


def test_every_fault_is_told_at_once():
    with pytest.raises(PlansInvalid) as caught:
        read(
            """
            default = "none"
            colour = "red"
            [tenants]
            acme = "gone"
            [plans.a]
            currency = "euro"
            price_per_minute = -1
            rounding = "down"
            increment_s = 0
            minimum_s = 0.0001
            per_channel = 1.5
            bill_on = "monday"
            decimals = 9
            discount = 3
            [plans.a.models]
            x = "much"
            """
        )
    assert len(caught.value.faults) == 13


@pytest.mark.parametrize("price", ["0.1e999999", "nan", "true", '"1,5"'])
def test_a_price_is_an_amount(price):
    with pytest.raises(PlansInvalid):
        read(f'[plans.a]\ncurrency = "EUR"\nprice_per_minute = {price}')

"""Price lists as plain data: every plan, and which tenant has which. All faults are told at once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from policies.account.rating import BillOn, Plan, Rounding

_MOST_DECIMALS = 6
_LONGEST_S = 86_400
_MOST_PRICE = Decimal(1_000_000)
_DECIMALS = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0,
    "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}  # fmt: skip
"""Of ISO 4217's currencies those that have others than two."""
_KEYS = {"plans", "tenants", "default"}


class PlansInvalid(ValueError):
    """The price lists cannot be read; ``faults`` names every fault, one sentence each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(self.faults))


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Every plan, and which tenant has which, by its slug."""

    plans: Mapping[str, Plan]
    tenants: Mapping[str, str]
    default: str = ""

    def plan_of(self, tenant: str, rating: str = "") -> Plan | None:
        """The plan that the book gives the tenant, else the one called ``rating``, else the default; None: missing."""
        return self.plans.get(self.tenants.get(tenant) or rating or self.default)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "PriceBook":
        """Build from plain data (``config/plans.example.toml`` shows it). Raises PlansInvalid with every fault."""
        faults = [f"'{key}' is not known: write default, [tenants] or [plans.NAME]." for key in set(table) - _KEYS]
        entries, named, default = table.get("plans", {}), table.get("tenants", {}), table.get("default", "")
        if not isinstance(entries, Mapping) or not isinstance(named, Mapping):
            raise PlansInvalid([*faults, "[tenants] and [plans.NAME] are tables."])
        plans: dict[str, Plan] = {}
        for name, entry in entries.items():
            made = _plan(name, entry) if isinstance(entry, Mapping) else [f"plans.{name} is a table."]
            if isinstance(made, Plan):
                plans[name] = made
            else:
                faults += made
        faults += [
            f"Tenant '{slug}' has a plan that is not there." for slug, plan in named.items() if plan not in entries
        ]
        if default and default not in entries:
            faults.append("The default plan is not there.")
        if faults:
            raise PlansInvalid(sorted(faults))
        return cls(plans, dict(named), default)


def _plan(name: str, entry: Mapping[str, Any]) -> Plan | list[str]:
    known = ", ".join(_READERS)
    faults = [f"plans.{name}: '{key}' is not known: write one of {known}." for key in entry if key not in _READERS]
    faults += [f"plans.{name}: {key} is missing." for key in ("currency", "price_per_minute") if key not in entry]
    values: dict[str, Any] = {}
    for key, (field, read, wanted) in _READERS.items():
        if key not in entry:
            continue
        try:
            values[field] = read(entry[key])
        except (ValueError, TypeError, InvalidOperation):
            faults.append(f"plans.{name}: {key} is {wanted}.")
    return faults or Plan(name=name, **{"decimals": _DECIMALS.get(values["currency"], 2), **values})


def _currency(value: Any) -> str:
    if not (isinstance(value, str) and len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise ValueError
    return value


def _price(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError  # noqa: TRY004  a float has lost its last digits already
    price = Decimal(value)
    if not price.is_finite() or not 0 <= price <= _MOST_PRICE:
        raise ValueError
    return price


def _models(value: Any) -> tuple[tuple[str, Decimal], ...]:
    return tuple((str(pattern), _price(price)) for pattern, price in dict(value).items())


def _decimals(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_DECIMALS:
        raise ValueError
    return value


def _milliseconds(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        milliseconds = _price(value) * 1000
        if milliseconds != int(milliseconds) or not least <= milliseconds <= _LONGEST_S * 1000:
            raise ValueError
        return int(milliseconds)

    return read


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004  every fault of a plan is one kind of error
    return value


_READERS: Mapping[str, tuple[str, Callable[[Any], Any], str]] = {
    "currency": ("currency", _currency, "a code of three capitals, such as EUR"),
    "price_per_minute": ("price", _price, "an amount of 0 or more, such as 0.006"),
    "models": ("models", _models, "a table of amounts by model"),
    "decimals": ("decimals", _decimals, f"a whole number up to {_MOST_DECIMALS}"),
    "rounding": ("rounding", Rounding, "one of none, nearest, up"),
    "increment_s": ("increment_ms", _milliseconds(1), "seconds above 0"),
    "minimum_s": ("minimum_ms", _milliseconds(0), "seconds of 0 or more"),
    "per_channel": ("per_channel", _truth, "true or false"),
    "bill_on": ("bill_on", BillOn, "one of success, accepted"),
}
"""For every key of a plan: the field of it, how its value is read, and what it is to be."""

"""What usage costs: a plan's rules, applied to raw records afterwards, and as often as one likes.

The record holds facts; nothing here changes one. So a period can be rated again under another plan, and the two
compared. Money is exact until the end: fractions, rounded once, and the lines of a statement add up to its total.
"""

import enum
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction

from policies.account.usage import INTERIM, AudioSource, Measured, Outcome, UsageRecord

_MS_PER_MINUTE = 60_000
_REACHED = frozenset({Outcome.OK, Outcome.CLIENT_GONE, Outcome.UPSTREAM_REFUSED, Outcome.UPSTREAM_FAILED})


class Rounding(enum.StrEnum):
    """How a request's time is brought to whole increments."""

    NONE = "none"
    NEAREST = "nearest"
    UP = "up"


class BillOn(enum.StrEnum):
    """Which requests cost anything."""

    SUCCESS = "success"
    """What the upstream worked on: to the end, or until the client left or a limit cut it off."""
    ACCEPTED = "accepted"
    """That, and what reached the upstream whole and was refused or failed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rules of one price list. ``price`` and those of ``models`` are per minute of audio, in ``currency``."""

    name: str
    currency: str
    price: Decimal
    models: tuple[tuple[str, Decimal], ...] = ()
    """By model, the first pattern that fits (``nova-*``)."""
    decimals: int = 2
    rounding: Rounding = Rounding.NONE
    increment_ms: int = 1000
    minimum_ms: int = 0
    """The least that a request with any audio is charged for."""
    per_channel: bool = False
    bill_on: BillOn = BillOn.SUCCESS

    def price_of(self, model: str) -> Decimal:
        """Per minute."""
        return next((price for pattern, price in self.models if fnmatchcase(model, pattern)), self.price)

    def worth(self, billable_ms: int, model: str) -> Decimal:
        """The amount in ``currency``, with four decimals more than a statement has, which rounds only its total."""
        places = self.decimals + 4
        return _decimal(round(Fraction(self.price_of(model)) * billable_ms / _MS_PER_MINUTE * 10**places), places)

    def billable_ms(self, measured: Measured, outcome: Outcome) -> int:
        """The time that one request is charged for.

        A failed request keeps its walked figure, which is charged if the plan says so.
        """
        ms = measured.audio_ms
        if not ms and self.bill_on is BillOn.ACCEPTED and outcome in _REACHED:
            ms = measured.walked_ms or measured.reported_ms or measured.estimated_ms or 0
        if self.per_channel:
            ms *= measured.channels or 1
        if ms <= 0:
            return 0
        step = self.increment_ms
        match self.rounding:
            case Rounding.UP:
                ms = -(-ms // step) * step
            case Rounding.NEAREST:
                ms = (ms + step // 2) // step * step
            case Rounding.NONE:
                pass
        return max(ms, self.minimum_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a statement: all requests of one label and model. Times in milliseconds."""

    label: str
    model: str
    requests: int
    audio_ms: int
    billable_ms: int
    price: Decimal
    amount: Decimal
    credit: bool = False
    """Whether it takes back, with figures below 0, what jobs were accounted with that failed or were shorter."""

    @property
    def key(self) -> tuple[str, str, bool]:
        """What tells it apart."""
        return self.label, self.model, self.credit


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a tenant owes for a period. The lines' amounts add up to the total, to the last decimal.

    A total below 0 is owed to the tenant: it was credited with more of earlier periods than it used in this one.
    """

    plan: Plan
    lines: tuple[Line, ...]
    requests: int
    audio_ms: int
    billable_ms: int
    amount: Decimal
    unmeasured: int = 0
    """Requests and jobs that named their audio by URL, and of which no answer told the length."""


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    audio_ms: int = 0
    billable_ms: int = 0


@dataclass(slots=True)
class Rating:
    """Takes records in order of time and makes a statement of them; keeps sums, and the streams under way."""

    plan: Plan
    _sums: dict[tuple[str, str, bool], _Sum] = field(default_factory=dict)
    _streams: dict[tuple[str, str, str], tuple[str, UsageRecord]] = field(default_factory=dict)
    _unmeasured: int = 0

    def add(self, record: UsageRecord, label: str = "") -> None:
        """One more record; ``label`` tells lines apart. What a stream left on its way is one request with its end."""
        if record.measured.before_ms is not None:
            self._correct(record, label, record.measured.before_ms)
            return
        stream = record.key_id, record.route, record.request_id
        before = self._streams.pop(stream, None) if record.status in {INTERIM, 101} else None
        if before is not None and record.attempt == 1:  # another one, under an id that the client chose twice
            self._count(before[1], before[0], 1)
        elif before is not None:
            record = record._replace(measured=_joined(before[1].measured, record.measured))
        if record.status == INTERIM:
            self._streams[stream] = label, record
        else:
            self._count(record, label, 1)

    def _count(self, record: UsageRecord, label: str, requests: int) -> None:
        measured = record.measured
        self._unmeasured += measured.source is AudioSource.UNMEASURED
        billable = self.plan.billable_ms(measured, record.outcome)
        if not billable and not measured.audio_ms:
            return
        self._sum(label, measured, billable, requests)

    def _correct(self, record: UsageRecord, label: str, before_ms: int) -> None:
        """Charge a job for all that it comes to: more, or less, than the records before this one were charged."""
        measured = record.measured
        self._unmeasured += measured.source is AudioSource.UNMEASURED
        charged = self.plan.billable_ms(replace(measured, audio_ms=before_ms), Outcome.OK) if before_ms else 0
        due = self.plan.billable_ms(replace(measured, audio_ms=before_ms + measured.audio_ms), record.outcome)
        if measured.audio_ms < 0:
            self._sum(label, measured, due - charged, 0 if due else -1)
        elif due != charged or measured.audio_ms:
            self._sum(label, measured, due - charged, 0 if before_ms else 1)

    def _sum(self, label: str, measured: Measured, billable_ms: int, requests: int) -> None:
        found = self._sums.setdefault((label, measured.model, measured.audio_ms < 0), _Sum())
        found.requests += requests
        found.audio_ms += measured.audio_ms
        found.billable_ms += billable_ms

    def statement(self) -> Statement:
        """The statement of all records so far; a stream that has not ended counts with what it has come to."""
        for label, record in self._streams.values():
            self._count(record, label, 1)
        self._streams.clear()
        prices = {key: self.plan.price_of(key[1]) for key in self._sums}
        exact = [
            Fraction(prices[key]) * found.billable_ms / _MS_PER_MINUTE for key, found in sorted(self._sums.items())
        ]
        amounts, total = _shared(exact, self.plan.decimals)
        lines = tuple(
            Line(
                label=label,
                model=model,
                requests=found.requests,
                audio_ms=found.audio_ms,
                billable_ms=found.billable_ms,
                price=prices[label, model, credit],
                amount=amount,
                credit=credit,
            )
            for ((label, model, credit), found), amount in zip(sorted(self._sums.items()), amounts, strict=True)
        )
        return Statement(
            plan=self.plan,
            lines=lines,
            requests=sum(line.requests for line in lines),
            audio_ms=sum(line.audio_ms for line in lines),
            billable_ms=sum(line.billable_ms for line in lines),
            amount=total,
            unmeasured=self._unmeasured,
        )


def _joined(one: Measured, other: Measured) -> Measured:
    """Two parts of one stream."""
    return Measured(
        audio_ms=one.audio_ms + other.audio_ms,
        source=other.source,
        walked_ms=_added(one.walked_ms, other.walked_ms),
        reported_ms=_added(one.reported_ms, other.reported_ms),
        estimated_ms=_added(one.estimated_ms, other.estimated_ms),
        discrepant=one.discrepant or other.discrepant,
        channels=other.channels or one.channels,
        container=other.container or one.container,
        codec=other.codec or one.codec,
        model=other.model or one.model,
        language=other.language or one.language,
        response_format=other.response_format or one.response_format,
    )


def _added(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


def _shared(exact: list[Fraction], decimals: int) -> tuple[list[Decimal], Decimal]:
    """The amounts in whole units of the last decimal, which add up to the rounded total (largest remainder)."""
    units = [amount * 10**decimals for amount in exact]
    floors = [unit.numerator // unit.denominator for unit in units]
    total = round(sum(units, Fraction()))  # half to even
    missing = total - sum(floors)
    for index in sorted(range(len(units)), key=lambda at: (floors[at] - units[at], at))[: max(missing, 0)]:
        floors[index] += 1
    return [_decimal(units, decimals) for units in floors], _decimal(total, decimals)


def _decimal(units: int, decimals: int) -> Decimal:
    return Decimal(units).scaleb(-decimals)

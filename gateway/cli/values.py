"""What operators write on a command line: read, checked, and refused with a sentence before any store is asked."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from typing_extensions import override

from policies.limits.allowances import Allowance, What
from policies.routing.routes import NAME as ROUTE_NAME
from storage.postgres import values
from storage.postgres.ids import Kind, is_id

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
NONE = "none"
"""The word for "no limit"."""


class Written(click.ParamType[Any, Any]):
    """A value that ``read`` makes of the text; its ValueError is the sentence for the operator."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def read_duration(text: str) -> timedelta:
    """``90d``: a whole number and one of s, m, h, d, w. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a whole number and a unit, such as 90d (s, m, h, d or w)")
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any calendar") from None


def read_instant(text: str, now: datetime, direction: int) -> datetime:
    """ISO 8601, UTC where it does not say; or a duration from ``now`` (``direction`` -1: back). Raises ValueError."""
    if _DURATION.fullmatch(text):
        try:
            return now + direction * read_duration(text)
        except OverflowError:
            raise ValueError(f"{text!r} is outside the calendar") from None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time: write one such as 2026-11-26, 2026-11-26T07:30:00Z, or 24h, 7d "
            f"{'before' if direction < 0 else 'from'} now"
        ) from None


def _past(text: str) -> datetime:
    return read_instant(text, datetime.now(UTC), -1)


def _future(text: str) -> datetime:
    now = datetime.now(UTC)
    moment = read_instant(text, now, 1)
    if moment <= now:
        raise ValueError(f"{text!r} is not in the future")
    return moment


def _slug(text: str) -> str:
    values.check_slug(text)
    return text


def _slug_or_id(text: str) -> str:
    return text if is_id(Kind.TENANT, text) else _slug(text)


def _name(text: str) -> str:
    return values.clean_name(text, of="it")


def _scope(text: str) -> str:
    return values.sorted_scopes(frozenset({text}))[0]


def _amount(what: What) -> Callable[[str], Allowance | None]:
    return lambda text: None if text == NONE else Allowance.parse(what, text)


def _route(text: str) -> str:
    if not ROUTE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a route: see the route table")
    return text


SLUG = Written("slug", _slug)
SLUG_OR_ID = Written("slug", _slug_or_id)
"""A tenant that may have been removed: its account and its trail have its id."""
NAME = Written("name", _name)
EMAIL = Written("email", values.clean_email)
SCOPE = Written("scope", _scope)
DURATION = Written("duration", read_duration)
PAST = Written("time", _past)
FUTURE = Written("time", _future)
REQUESTS = Written("requests", _amount(What.REQUESTS))
BYTES = Written("bytes", _amount(What.BYTES))
AUDIO = Written("audio", _amount(What.AUDIO))
PLACES = {what: Written(what, _amount(what)) for what in (What.CONCURRENCY, What.STREAMS)}
ROUTE = Written("route", _route)

tenant_option = click.option("--tenant", type=SLUG, required=True, help="The tenant's slug.")

"""Moments as text."""

from datetime import UTC, datetime


def stamp(moment: datetime, timespec: str = "seconds") -> str:
    """``2026-11-26T07:24:37Z``."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


def maybe_stamp(moment: datetime | None) -> str | None:
    """The same for a moment that may never come."""
    return None if moment is None else stamp(moment)

"""Figures as people read them on a page: thousands apart, audio in minutes, bytes and times in the unit that fits."""

from typing import Final

from policies.limits.allowances import What

_SPANS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_SIZES: Final = ("B", "kB", "MB", "GB", "TB")


def number(figure: int) -> str:
    """``12,345``."""
    return f"{figure:,}"


def minutes(milliseconds: int) -> str:
    """Minutes of audio to a tenth, ``1,234.5``; below one to a hundredth. What is taken back has a minus before it."""
    whole = milliseconds / 60_000
    return f"{whole:z,.2f}" if 0 < abs(whole) < 1 else f"{whole:,.1f}" if milliseconds else "0"


def span(seconds: int) -> str:
    """``12 hours``, in the largest unit of which it is a whole number."""
    name, unit = next((name, unit) for name, unit in _SPANS if seconds % unit == 0)
    return f"{seconds // unit} {name}{'' if seconds == unit else 's'}"


def size(figure: int) -> str:
    """``1.5 GB``."""
    amount, unit = float(figure), 0
    while amount >= 999.95 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_SIZES[unit]}" if unit else f"{figure} B"


def amount(figure: int, what: What) -> str:
    """A figure of a limit, with its unit."""
    match what:
        case What.AUDIO:
            return f"{minutes(figure)} min"
        case What.BYTES:
            return size(figure)
        case What.REQUESTS | What.CONCURRENCY | What.STREAMS:
            return number(figure)

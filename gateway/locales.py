"""The languages and time zones that people choose from."""

import zoneinfo
from functools import cache

LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español", "uk": "Українська"}


@cache
def time_zones() -> tuple[str, ...]:
    """Their names, such as Europe/Berlin, sorted."""
    return tuple(sorted(name for name in zoneinfo.available_timezones() if "/" in name or name == "UTC"))


def check_language(code: str) -> str:
    """The same code. Raises ValueError."""
    if code not in LANGUAGES:
        raise ValueError(f"write one of {', '.join(LANGUAGES)}")
    return code


def check_time_zone(name: str) -> str:
    """The same name. Raises ValueError."""
    if name not in time_zones():
        raise ValueError("write a name of the time zone database, such as Europe/Berlin or UTC")
    return name

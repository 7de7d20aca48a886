"""What several resources say, and how plain values are checked before a repository sees them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, ValidationInfo

from gateway.locales import LANGUAGES, check_language, check_time_zone
from gateway.portal.web.bodies import Known
from policies.identity.permissions import INTROSPECT, check_scopes
from storage.postgres import values

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    """Text whose order is that of time, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _moment(value: object) -> object:
    """A moment from text alone: a number would be taken for seconds since 1970."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else ""
    except ValueError:
        raise ValueError("write a moment such as 2026-11-26T07:30:00Z") from None


def _known_to_calendars(moment: datetime) -> datetime:
    """Far enough from the ends of time for everything that is reckoned with it."""
    if not _FIRST <= moment < _LAST:
        raise ValueError("write a moment from 1970 on and before the year 9999")
    return moment


def _name(text: str) -> str:
    return values.clean_name(text, of="it")


def _email(text: str) -> str:
    return values.clean_email(text)


def _scopes(scopes: list[str], info: ValidationInfo[Known]) -> list[str]:
    found = values.sorted_scopes(frozenset(scopes))
    check_scopes(found, info.context.scopes)
    return found


def _service_scopes(scopes: list[str], info: ValidationInfo[Known]) -> list[str]:
    found = values.sorted_scopes(frozenset(scopes))
    check_scopes(found, info.context.scopes | {INTROSPECT})
    return found


Instant = Annotated[datetime, PlainSerializer(_stamp, return_type=str), Field(description="RFC 3339, in UTC.")]
"""A moment that is shown."""
SentInstant = Annotated[
    AwareDatetime,
    BeforeValidator(_moment),
    AfterValidator(_known_to_calendars),
    Field(description="RFC 3339, with a time zone."),
]
Name = Annotated[str, AfterValidator(_name), Field(min_length=1, max_length=200)]
Email = Annotated[
    str, AfterValidator(_email), Field(min_length=3, max_length=254, json_schema_extra={"format": "email"})
]
Language = Annotated[str, AfterValidator(check_language), Field(json_schema_extra={"enum": list(LANGUAGES)})]
TimeZone = Annotated[
    str, AfterValidator(check_time_zone), Field(max_length=64, description="Such as Europe/Berlin, or UTC.")
]
Scopes = Annotated[list[str], AfterValidator(_scopes), Field(max_length=64, description="Scopes, each at most once.")]
ServiceScopes = Annotated[
    list[str],
    AfterValidator(_service_scopes),
    Field(max_length=64, description="Scopes, each at most once; `introspect` to ask about the tenant's tokens."),
]
Slug = Annotated[
    str,
    Field(pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="Small letters, digits and hyphens."),
]

"""The forms that single settings have, and the sentence for what has not the form."""

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from gateway.origin import Origin
from policies.limits import Rate
from policies.networks import Network, proxies

_SECRET_CHARACTERS = 32
_LEAST_RETENTION_DAYS = 62
"""Two months: the last one can be rated until this one has ended."""


def url(*schemes: str) -> AfterValidator:
    """An address, maybe with a password in it, that begins with one of the schemes."""

    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and secret.get_secret_value().partition(":")[0] not in schemes:
            raise ValueError(f"the address begins with {' or '.join(f'{s}://' for s in schemes)}")
        return secret

    return AfterValidator(check)


def one_of(names: Collection[str]) -> AfterValidator:
    """One of these words."""

    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"it is one of {', '.join(names)}")
        return text

    return AfterValidator(check)


def _listening(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("write an address and a port, such as 0.0.0.0:9200 or [::]:9200")
    return text


def _origins(text: str) -> str:
    if not Origin.parse_all(text):
        raise ValueError("an upstream has at least one address, such as http://host:port")
    return text


def _networks(value: object) -> object:
    """A comma list, or a TOML array, of addresses and networks."""
    parts = value.split(",") if isinstance(value, str) else value
    return proxies(parts) if isinstance(parts, list | tuple) else value


def _rate(value: object) -> object:
    return Rate.parse(value) if isinstance(value, str) else value


def _yes(status: int) -> int:
    if status not in (200, 202):
        raise ValueError("it is 200 or 202")
    return status


def _retention(days: int) -> int:
    if days != 0 and days < _LEAST_RETENTION_DAYS:
        raise ValueError(
            f"keep at least {_LEAST_RETENTION_DAYS} days, or 0 for all: a month's statement is made from its records"
        )
    return days


def _hard_to_guess(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        text = secret.get_secret_value()
        if len(text) < _SECRET_CHARACTERS or len(set(text)) < 8 or "openssl rand" in text:
            raise ValueError(
                f"a secret key has at least {_SECRET_CHARACTERS} random characters; make one with: openssl rand -hex 32"
            )
    return secret


ListenAddress = Annotated[str, AfterValidator(_listening)]
Origins = Annotated[str, AfterValidator(_origins)]
"""Addresses of an upstream, with commas between them (:mod:`gateway.origin`)."""
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
RateOrNone = Annotated[Rate | None, NoDecode, BeforeValidator(_rate)]
YesStatus = Annotated[int, AfterValidator(_yes)]
RetentionDays = Annotated[int, AfterValidator(_retention)]
SecretKey = Annotated[SecretStr | None, AfterValidator(_hard_to_guess)]

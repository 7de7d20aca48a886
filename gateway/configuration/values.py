"""The forms that single settings have, and the sentence for what has not the form."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from gateway.configuration.origin import Origin
from policies.http.cors import ANY
from policies.identity.tokens import SCOPE_TOKEN
from policies.limits.rates import Rate
from policies.networks import Network, proxies
from policies.routing.routes import PORTAL

_SECRET_CHARACTERS = 32
_LONGEST_SOCKET = 100
"""sockaddr_un.sun_path is 108 bytes with its final NUL, and a worker's number may follow."""
_LEAST_RETENTION_DAYS = 62
"""Two months: the last one can be rated until this one has ended."""


def split(url: str) -> SplitResult:
    """The parts of an address; none of what has brackets that enclose none (urllib raises on those)."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def url(*schemes: str) -> AfterValidator:
    """An address, maybe with a password in it, that begins with one of the schemes."""

    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and secret.get_secret_value().partition(":")[0] not in schemes:
            raise ValueError(f"the address begins with {' or '.join(f'{s}://' for s in schemes)}")
        if secret is not None and not split(secret.get_secret_value()).scheme:
            raise ValueError("brackets are for an IPv6 address, as in [::1]")
        return secret

    return AfterValidator(check)


def one_of(names: Collection[str]) -> AfterValidator:
    """One of these words."""

    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"it is one of {', '.join(names)}")
        return text

    return AfterValidator(check)


def _socket_file(path: Path) -> Path:
    if not path.is_absolute() or len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"a socket is named in full, as in /run/http.sock, in {_LONGEST_SOCKET} bytes at most")
    return path


def _listening(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("write an address and a port, such as 0.0.0.0:9200 or [::]:9200")
    return text


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, if there is one, can be one (urllib raises when it is asked for another)."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _base_url(text: str) -> str:
    parts = split(text)
    plain = (
        parts.scheme in ("http", "https")
        and parts.hostname
        and not (parts.query or parts.fragment or parts.username)
        and _has_port(parts)
    )
    if text and (not plain or not all("!" <= character <= "~" for character in text)):
        raise ValueError("write an address as users type it, such as https://speech.example.com, and no more")
    return text


def _table_name(form: str, sentence: str) -> AfterValidator:
    def check(name: str) -> str:
        if not re.fullmatch(form, name):
            raise ValueError(f"{name!r}: {sentence}")
        if name == PORTAL:
            raise ValueError(f"'{PORTAL}' is the name of the gateway's own pages")
        return name

    return AfterValidator(check)


def _origins(text: str) -> str:
    if not Origin.parse_all(text):
        raise ValueError("an upstream has at least one address, such as http://host:port")
    return text


def _listed(value: object) -> object:
    """A comma list, or a TOML array."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _texts(value: object) -> tuple[str, ...] | None:
    """The same without blanks around its texts; None where something else is among them, which pydantic tells of."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        return None
    return tuple(part.strip() for part in parts if part.strip())


def _networks(value: object) -> object:
    """A comma list, or a TOML array, of addresses and networks."""
    parts = value.split(",") if isinstance(value, str) else value
    return proxies(parts) if isinstance(parts, list | tuple) else value


def _sites(value: object) -> object:
    """A comma list, or a TOML array, of origins as browsers write them (RFC 6454 section 6.2)."""
    sites = _texts(value)
    if sites is None:
        return value
    for site in sites:
        found = split(site)
        plain = found.scheme in ("http", "https") and found.hostname and site == f"{found.scheme}://{found.netloc}"
        if site != ANY and (not plain or site != site.lower() or found.username is not None or ANY in site):
            raise ValueError(f"an origin is written as https://app.example.com, in lower case and no more; or '{ANY}'")
    return sites


def _scopes(value: object) -> object:
    """A comma list, or a TOML array, of scope-tokens."""
    scopes = _texts(value)
    if scopes is None:
        return value
    for scope in scopes:
        if SCOPE_TOKEN.fullmatch(scope) is None:
            raise ValueError(f"{scope!r} is not a scope: use printable ASCII without blanks, quotes and backslashes")
    return scopes


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


UpstreamName = Annotated[
    str,
    _table_name(
        r"[a-z][a-z0-9_-]{0,62}", "a name is lower-case letters, digits, '_' and '-', and begins with a letter"
    ),
]
ShortName = Annotated[
    str, _table_name(r"[a-z][a-z0-9-]{0,30}", "a name is lower-case letters, digits and '-', and begins with a letter")
]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ListenAddress = Annotated[str, AfterValidator(_listening)]
SocketFile = Annotated[Path, AfterValidator(_socket_file)]
Origins = Annotated[str, AfterValidator(_origins)]
"""Addresses of an upstream, with commas between them (:mod:`gateway.configuration.origin`)."""
Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Sites = Annotated[tuple[str, ...], BeforeValidator(_sites)]
Scopes = Annotated[tuple[str, ...], BeforeValidator(_scopes)]
RateOrNone = Annotated[Rate | None, BeforeValidator(_rate)]
YesStatus = Annotated[int, AfterValidator(_yes)]
RetentionDays = Annotated[int, AfterValidator(_retention)]
SecretKey = Annotated[SecretStr | None, AfterValidator(_hard_to_guess)]

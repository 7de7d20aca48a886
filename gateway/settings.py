"""Every setting: its default, its meaning, and where it may come from.

Precedence: command line, environment (``GATEWAY_`` + name, ``__`` for nesting; any of them also as ``…_FILE``), the
TOML file, default. All faults are reported at once, each with the name the operator wrote and what to do about it.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from gateway.clients import Patience
from gateway.issuer_settings import IssuerSettings
from gateway.oidc_settings import OidcSettings
from gateway.origin import Origin
from gateway.route_file import not_toml
from gateway.toml_lines import Lines
from gateway.upstream_settings import UpstreamSettings
from policies.limits import Rate
from policies.networks import Network, proxies
from policies.questions import SOURCES
from policies.routes import LONGEST_S
from storage.state import StateUnusable, default_state_dir

PREFIX = "GATEWAY_"
_NOT_SETTINGS = frozenset({"GATEWAY_CONFIG", "GATEWAY_EMBEDDED_PG_BINDIR"})
_KUBERNETES = re.compile(r"GATEWAY_(?:SERVICE_(?:HOST|PORT)|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)|$))")
"""What Kubernetes puts into every pod beside a Service that is called ``gateway``."""
_SECRET_CHARACTERS = 32
_DEPTH = 3
_LEAST_RETENTION_DAYS = 62
"""Two months: the last one can be rated until this one has ended."""
_NESTED: Mapping[str, type[BaseModel]] = {
    "upstreams": UpstreamSettings,
    "issuers": IssuerSettings,
    "oidc": OidcSettings,
}
"""Settings that are tables of tables: ``[upstreams.NAME]``, ``GATEWAY_UPSTREAMS__NAME__…``."""


class SettingsInvalid(Exception):
    """The configuration cannot be used; ``faults`` holds one sentence for each thing that is wrong.

    ``routes_file`` is the setting as it was written, so that a check can go on with the routes.
    """

    def __init__(self, faults: list[str], routes_file: Path | None = None) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        self.routes_file = routes_file


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("write an address and a port, such as 0.0.0.0:9200 or [::]:9200")
    return text


def _upstream(text: str) -> str:
    if not Origin.parse_all(text):
        raise ValueError("an upstream has at least one address, such as http://host:port")
    return text


def _upstreams(upstreams: dict[str, UpstreamSettings]) -> dict[str, UpstreamSettings]:
    for name in upstreams:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
            raise ValueError(f"{name!r}: a name is lower-case letters, digits, '_' and '-', and begins with a letter")
        if name == "portal":
            raise ValueError("'portal' is the name of the gateway's own pages")
    return upstreams


def _issuers(issuers: dict[str, IssuerSettings]) -> dict[str, IssuerSettings]:
    for name in issuers:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise ValueError(f"{name!r}: a name is lower-case letters, digits and '-', and begins with a letter")
    if len({one.issuer for one in issuers.values()}) != len(issuers):
        raise ValueError("two of them have the same 'issuer'")
    return issuers


def _providers(providers: dict[str, OidcSettings]) -> dict[str, OidcSettings]:
    for name in providers:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise ValueError(f"{name!r}: a name is lower-case letters, digits and '-', and begins with a letter")
    return providers


def _url(*schemes: str) -> AfterValidator:
    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and secret.get_secret_value().partition(":")[0] not in schemes:
            raise ValueError(f"the address begins with {' or '.join(f'{s}://' for s in schemes)}")
        return secret

    return AfterValidator(check)


def _networks(value: object) -> object:
    """A comma list, or a TOML array, of addresses and networks."""
    parts = value.split(",") if isinstance(value, str) else value
    return proxies(parts) if isinstance(parts, list | tuple) else value


def _rate(value: object) -> object:
    return Rate.parse(value) if isinstance(value, str) else value


def _one_of(names: Collection[str]) -> AfterValidator:
    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"it is one of {', '.join(names)}")
        return text

    return AfterValidator(check)


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


def _long_enough(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        text = secret.get_secret_value()
        if len(text) < _SECRET_CHARACTERS or len(set(text)) < 8 or "openssl rand" in text:
            raise ValueError(
                f"a secret key has at least {_SECRET_CHARACTERS} random characters; make one with: openssl rand -hex 32"
            )
    return secret


class Settings(BaseSettings):
    """The gateway's settings. A field's description is its line in ``config/gateway.example.toml``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, arbitrary_types_allowed=True,
        validate_default=True,
    )  # fmt: skip

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "0.0.0.0:9200",
        description="Where clients connect.",
    )
    ops_listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:9201", description="Where /metrics, /livez, /readyz and /healthz answer. Keep it off the internet."
    )
    public_url: str = Field(
        "", description="How users reach this gateway; links and redirects come from here only. Empty: from 'listen'."
    )
    upstream: Annotated[str, AfterValidator(_upstream)] = Field(
        "http://127.0.0.1:9300",
        description="The transcription service: http://host:port, https://host:port, unix:/path; several addresses "
        "with commas between them share the requests. The short form of 'addresses' in [upstreams.default].",
    )
    upstreams: Annotated[dict[str, UpstreamSettings], AfterValidator(_upstreams)] = Field(
        {}, description="More about it, and other services that routes may name: one table [upstreams.NAME] each."
    )
    issuers: Annotated[dict[str, IssuerSettings], AfterValidator(_issuers)] = Field(
        {}, description="Others whose access tokens are taken as well: one table [issuers.NAME] each."
    )
    oidc: Annotated[dict[str, OidcSettings], AfterValidator(_providers)] = Field(
        {}, description="Providers that people may sign in with (OpenID Connect): one table [oidc.NAME] each."
    )
    upstream_connect_timeout: float = Field(
        5.0, gt=0, le=LONGEST_S, description="Seconds until a connection to it must stand."
    )
    upstream_timeout: float = Field(
        600.0,
        gt=0,
        le=LONGEST_S,
        description="Seconds until its answer must begin, for routes that do not say otherwise.",
    )
    database_url: Annotated[SecretStr | None, _url("postgresql", "postgres")] = Field(
        None, description="PostgreSQL 14 or newer. Empty with --embedded: one is started under the state directory."
    )
    redis_url: Annotated[SecretStr | None, _url("redis", "rediss", "unix")] = Field(
        None, description="Redis 6.2 or newer, or Valkey. Empty with --embedded: one is started as well."
    )
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Usage journal, embedded data, run sockets, generated secrets. Default: the XDG state directory.",
    )
    workers: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=0,
        le=256,
        description="Worker processes; 0 runs everything in one process. Default: the number of cores.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = Field(
        (), description="Addresses or networks whose forwarding headers are believed. Empty: nobody's."
    )
    forward_auth_source: Annotated[str, _one_of(SOURCES)] = Field(
        "x-original-uri",
        description="The one header that forward-auth reads nginx's target from: x-original-uri, x-original-url or "
        "x-forwarded-uri. The method comes from X-Original-Method, or X-Forwarded-Method with the last.",
    )
    forward_auth_status: Annotated[int, AfterValidator(_yes)] = Field(
        200,
        description="What forward-auth says to allow: 200, or 202 where oauth2-proxy stood before. Envoy always gets "
        "200.",
    )
    forward_auth_oauth2_proxy: bool = Field(
        False,  # noqa: FBT003  a default
        description="Whether forward-auth also says who it is as oauth2-proxy does: X-Auth-Request-User, -Email, "
        "-Groups, -Preferred-Username.",
    )
    routes_file: Path | None = Field(None, description="The route table. Empty: the shipped routes.toml.")
    secret_key: Annotated[SecretStr | None, AfterValidator(_long_enough)] = Field(
        None, description="At least 32 random characters; every other secret is derived from it. Made by --embedded."
    )
    default_requests: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = Field(
        None, description="Request rate of tenants that have none of their own, such as 600/m. Empty: none."
    )
    webhooks_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private addresses, and over plain http. For tests and intranets.",
    )
    journal_max_bytes: int = Field(
        4_294_967_296,
        ge=33_554_432,
        le=2**50,
        description="Usage that may wait on the local disk before new requests are refused.",
    )
    usage_retention_days: Annotated[int, AfterValidator(_retention)] = Field(
        0,
        le=36_500,
        description="Days that single usage records are kept in PostgreSQL, at least 62; sums by hour and by day stay. "
        "0: for ever.",
    )
    usage_stream: bool = Field(
        default=False,
        description="Whether usage records also go to the Redis stream platform:usage, as CloudEvents.",
    )
    usage_http_url: Annotated[SecretStr | None, _url("http", "https")] = Field(
        None,
        description="Where usage records are also posted: CloudEvents in batches, such as OpenMeter takes at "
        "/api/v1/events. Empty: nowhere.",
    )
    usage_http_token: SecretStr | None = Field(None, description="The bearer token for it. Empty: none.")
    header_timeout: float = Field(
        20.0,
        gt=0,
        le=LONGEST_S,
        description="Seconds from the first byte of a request, or from a connection's start, to the end of its header.",
    )
    keepalive_timeout: float = Field(
        65.0, gt=0, le=LONGEST_S, description="Seconds that a connection may be unused between two requests."
    )
    body_least_rate: int = Field(
        100,
        ge=0,
        description="Bytes a second that a body must bring on average, or it is given up; 0 for none. A route's "
        "'idle_s' bounds a pause.",
    )
    body_rate_window: float = Field(
        30.0, gt=0, le=LONGEST_S, description="Seconds over which that average is taken, while a body is waited for."
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Client connections of each worker. 0: as many as open files allow with one more for each to the "
        "upstream, up to 65536; never more than that.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Of these from one address (IPv6: one /64); trusted proxies are exempt. 0: a quarter of them.",
    )
    drain_delay: float = Field(
        0.0,
        ge=0,
        le=LONGEST_S,
        description="Seconds at shutdown in which new connections are still taken, while /readyz says 503 already.",
    )
    session_idle: float = Field(
        43_200.0, ge=60, le=2_592_000, description="Seconds without a request after which a browser is signed out."
    )
    session_lifetime: float = Field(
        604_800.0, ge=60, le=31_536_000, description="Seconds after which it is signed out in any case."
    )
    password_cost: int = Field(
        12, ge=10, le=15, description="bcrypt's cost for passwords; one more doubles the time. 12 takes about 0.25 s."
    )
    mail: Annotated[SecretStr | None, _url("smtp", "smtps", "file", "console")] = Field(
        None,
        description="How mail leaves: smtp://user:password@host:587 (STARTTLS where offered), smtps://host:465, "
        "file:/directory, console: (shows links in the log). Empty: no invitations, no forgotten passwords.",
    )
    mail_from: str = Field("Tahoe <no-reply@localhost>", description="The sender of mail.")
    drain_timeout: float = Field(
        30.0, ge=0, le=LONGEST_S, description="Seconds that requests in flight get at shutdown."
    )
    log_level: Annotated[str, _one_of(("debug", "info", "warning", "error"))] = Field(
        "info", description="debug, info, warning or error. Access lines are always written."
    )

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what :func:`load` hands over; it has put the sources in order already."""
        return (init_settings,)

    @property
    def patience(self) -> Patience:
        """How long clients may take."""
        return Patience(
            header_s=self.header_timeout,
            idle_s=self.keepalive_timeout,
            body_rate=self.body_least_rate,
            body_window_s=self.body_rate_window,
        )

    @model_validator(mode="after")
    def _addresses_once(self) -> Self:
        default = self.upstreams.get("default")
        if default is not None and default.addresses and "upstream" in self.model_fields_set:
            raise ValueError("upstream: [upstreams.default] has addresses as well; keep one of them")
        return self

    @model_validator(mode="after")
    def _one_way_to_the_endpoint(self) -> Self:
        if self.usage_http_url is not None:
            parts = urlsplit(self.usage_http_url.get_secret_value())
            if not parts.hostname:
                raise ValueError("usage_http_url: the address has no host, as in https://host/api/v1/events")
            if self.usage_http_token is not None and parts.username is not None:
                raise ValueError("usage_http_token: usage_http_url holds a user as well; keep one of them")
        return self

    @model_validator(mode="after")
    def _issuers_are_others(self) -> Self:
        if self.base_url in {one.issuer for one in self.issuers.values()}:
            raise ValueError("issuers: one of them is this gateway itself (public_url)")
        return self

    def every_upstream(self) -> dict[str, UpstreamSettings]:
        """By name, the default one first, each with its addresses."""
        default = self.upstreams.get("default", UpstreamSettings())
        if not default.addresses:
            default = default.model_copy(update={"addresses": tuple(map(str.strip, self.upstream.split(",")))})
        return {"default": default} | {name: one for name, one in self.upstreams.items() if name != "default"}

    @property
    def base_url(self) -> str:
        """``public_url`` without a slash at its end, or what can be said from where the gateway listens.

        The one base of every link that leaves here, and the issuer of our tokens.
        """
        if self.public_url:
            return self.public_url.rstrip("/")
        host, _, port = self.listen.rpartition(":")
        if host in ("0.0.0.0", "[::]", "127.0.0.1", "[::1]"):  # noqa: S104  a comparison
            host = "localhost"
        return f"http://{host}:{port}"


def load(
    overrides: Mapping[str, Any] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Gather the sources and validate once. Raises SettingsInvalid with every fault at once."""
    faults: list[str] = []
    named: dict[_Path, str] = {}
    values: dict[_Path, Any] = {}
    if config is None and environ.get("GATEWAY_CONFIG"):
        config = Path(environ["GATEWAY_CONFIG"])
    for source in (_from_file(config, faults), _from_environment(environ, faults), _from_options(overrides or {})):
        for path, (value, spelling) in source.items():
            values[path] = value
            named[path] = spelling
    known = Settings.model_fields
    for path in [path for path in values if path[0] not in known]:
        del values[path]
        faults.append(f"{named[path]}: no such setting{_suggestion(path[0], list(known))}")
    faults += _without_addresses(named)
    try:
        settings = Settings(**_tree(values))
    except ValidationError as error:
        faults += [_sentence(detail, named) for detail in error.errors()]
    except StateUnusable as error:  # nobody's home: there is no default
        faults.append(str(error))
    else:
        if not faults:
            return settings
    routes_file = values.get(("routes_file",))
    raise SettingsInvalid(faults, Path(routes_file) if isinstance(routes_file, str | Path) else None)


_Path = tuple[str, ...]
"""Where a setting is: its name, and for one in a table the names on the way to it."""
_Found = dict[_Path, tuple[Any, str]]
"""By path: the value, and the setting as the operator wrote it."""


def _without_addresses(named: Mapping[_Path, str]) -> list[str]:
    """Told beside the faults inside such a table, which pydantic would keep us from seeing."""
    tables = {path[1]: spelling for path, spelling in named.items() if path[0] == "upstreams" and len(path) == _DEPTH}
    return [
        f"{spelling}: '{name}' has no addresses"
        for name, spelling in tables.items()
        if name != "default" and ("upstreams", name, "addresses") not in named
    ]


def _tree(values: Mapping[_Path, Any]) -> dict[str, Any]:
    """Nested as the paths say. What is no table where one should be stays, and is a fault of its own."""
    tree: dict[str, Any] = {}
    for path, value in sorted(values.items(), key=lambda item: len(item[0])):
        inner: Any = tree
        for name in path[:-1]:
            inner = inner.setdefault(name, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = value
    return tree


def _from_file(config: Path | None, faults: list[str]) -> _Found:
    if config is None:
        return {}
    try:
        text = config.read_text()
        values = tomllib.loads(text)
    except OSError as error:
        faults.append(f"{config}: it cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(not_toml(config, error))
    else:
        lines = Lines(text)
        written = {
            path: (value, f"{config}{lines.spot(path)}: {'.'.join(path)}")
            for name, whole in values.items()
            for path, value in _leaves((name,), whole, deep=name in _NESTED)
        }
        return _with_files_read(written, faults)
    return {}


def _leaves(path: _Path, value: Any, *, deep: bool) -> Iterator[tuple[_Path, Any]]:
    if deep and isinstance(value, dict) and value and len(path) < _DEPTH:
        for name, inner in value.items():
            yield from _leaves((*path, name), inner, deep=True)
    else:
        yield path, value


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> _Found:
    """An empty variable is one that is not set."""
    written: _Found = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS or _KUBERNETES.match(variable):
            continue
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if path[0] not in _NESTED or len(path) != _DEPTH:
            path = ("__".join(path),)
        if text or path[-1] not in _fields(path):
            written[path] = (text, variable)
    return _with_files_read(written, faults)


def _fields(path: _Path) -> Collection[str]:
    return (_NESTED[path[0]] if len(path) == _DEPTH else Settings).model_fields


def _with_files_read(written: _Found, faults: list[str]) -> _Found:
    """Every ``…_file`` replaced by the setting whose value the file holds."""
    found: _Found = {}
    for path, (value, spelling) in written.items():
        setting = (*path[:-1], path[-1].removesuffix("_file"))
        if setting == path or path[-1] in _fields(path) or not isinstance(value, str) or not value:
            found[path] = (value, spelling)
        elif setting in written:
            faults.append(f"{spelling}: {written[setting][1]} is set as well; set one of them")
        else:
            text = _content(value, spelling, faults)
            if text or (text is not None and setting[-1] not in _fields(setting)):
                found[setting] = (text, spelling)
    return found


def _content(file: str, spelling: str, faults: list[str]) -> str | None:
    try:
        text = Path(file).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{spelling}: {file} cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if not text:
        faults.append(f"{spelling}: the file is empty")
    return text


def _from_options(overrides: Mapping[str, Any]) -> _Found:
    return {(name,): (value, "--" + name.replace("_", "-")) for name, value in overrides.items()}


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _sentence(detail: Any, named: Mapping[_Path, str]) -> str:
    path = tuple(map(str, detail["loc"]))
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = f"no such setting{_suggestion(path[-1], list(_NESTED[path[0]].model_fields))}"
    for length in range(len(path), 0, -1):
        if path[:length] in named:
            return f"{named[path[:length]]}: {message}"
    # Of a whole table: what was written of it leads there.
    written = next((spelling for where, spelling in named.items() if where[: len(path)] == path and path), "")
    if written:
        return f"{written}: {message}"
    return ": ".join(filter(None, (".".join(path), message)))

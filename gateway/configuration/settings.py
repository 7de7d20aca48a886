"""Every setting: its default, its form and its sentence. ``configuration`` finds and gathers their values."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from gateway.configuration.issuers import IssuerSettings
from gateway.configuration.oidc import OidcSettings
from gateway.configuration.patience import Patience
from gateway.configuration.upstreams import UpstreamSettings
from gateway.configuration.values import (
    BaseUrl,
    ListenAddress,
    Networks,
    Origins,
    RateOrNone,
    RetentionDays,
    Scopes,
    SecretKey,
    ShortName,
    Sites,
    SocketFile,
    UpstreamName,
    YesStatus,
    one_of,
    split,
    url,
)
from policies.http.questions import SOURCES
from policies.routing.routes import LONGEST_S
from storage.state import default_state_dir

PREFIX = "GATEWAY_"
NESTED: Mapping[str, type[BaseModel]] = {
    "upstreams": UpstreamSettings,
    "issuers": IssuerSettings,
    "oidc": OidcSettings,
}
"""Settings that are tables of tables: ``[upstreams.NAME]``, ``GATEWAY_UPSTREAMS__NAME__…``."""


def _issuers(issuers: dict[str, IssuerSettings]) -> dict[str, IssuerSettings]:
    if len({one.issuer for one in issuers.values()}) != len(issuers):
        raise ValueError("two of them have the same 'issuer'")
    return issuers


def _holds(everywhere: str, host: str) -> bool:
    """Whether listening on ``everywhere`` takes the ports of ``host`` as well."""
    return everywhere == ("[::]" if ":" in host else "0.0.0.0")  # noqa: S104  a comparison


def _leads_to(listening: str, host: str) -> bool:
    """Whether who connects to ``host`` comes to who listens there, as far as can be told without looking names up."""
    here = listening.strip("[]")
    if host == "localhost":
        return here in ("0.0.0.0", "127.0.0.1", "::", "::1")  # noqa: S104  a comparison
    return host == here or (host, here) in (("127.0.0.1", "0.0.0.0"), ("::1", "::"))  # noqa: S104  as above


class Settings(BaseModel, extra="forbid", frozen=True, arbitrary_types_allowed=True, validate_default=True):
    """The gateway's settings. A field's description is its line in ``config/gateway.example.toml``."""

    listen: ListenAddress = Field(
        "0.0.0.0:9200",
        description="Where clients connect.",
    )
    listen_socket: SocketFile | None = Field(
        None,
        description="A socket file beside it, for a reverse proxy on the same machine: /run/tahoe-gateway/http.sock. "
        "Its owner and group may open it, and are believed as trusted proxies are. Each further worker has one of its "
        "own: http.sock.2, http.sock.3. Empty: none.",
    )
    ops_listen: ListenAddress = Field(
        "127.0.0.1:9201", description="Where /metrics, /livez, /readyz and /healthz answer. Keep it off the internet."
    )
    public_url: BaseUrl = Field(
        "", description="How users reach this gateway; links and redirects come from here only. Empty: from 'listen'."
    )
    upstream: Origins = Field(
        "http://127.0.0.1:9300",
        description="The transcription service: http://host:port, https://host:port, unix:/path; several addresses "
        "with commas between them share the requests. The short form of 'addresses' in [upstreams.default].",
    )
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(
        {}, description="More about it, and other services that routes may name: one table [upstreams.NAME] each."
    )
    issuers: Annotated[dict[ShortName, IssuerSettings], AfterValidator(_issuers)] = Field(
        {}, description="Others whose access tokens are taken as well: one table [issuers.NAME] each."
    )
    oidc: dict[ShortName, OidcSettings] = Field(
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
    database_url: Annotated[SecretStr | None, url("postgresql", "postgres")] = Field(
        None, description="PostgreSQL 14 or newer. Empty with --embedded: one is started under the state directory."
    )
    redis_url: Annotated[SecretStr | None, url("redis", "rediss", "unix")] = Field(
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
    trusted_proxies: Networks = Field(
        (), description="Addresses or networks whose forwarding headers are believed. Empty: nobody's."
    )
    cors_origins: Sites = Field(
        (),
        description="Other sites whose pages may call the proxied routes from a browser, with a key and never with a "
        "cookie: https://app.example.com, or * for any. Empty: none.",
    )
    own_scopes: Scopes = Field(
        (),
        description="Scopes of keys and service accounts beside permissions and those that routes ask for: services "
        "behind the gateway read them in X-Auth-Scopes.",
    )
    forward_auth_source: Annotated[str, one_of(SOURCES)] = Field(
        "x-original-uri",
        description="The one header that forward-auth reads nginx's target from: x-original-uri, x-original-url or "
        "x-forwarded-uri. The method comes from X-Original-Method, or X-Forwarded-Method with the last.",
    )
    forward_auth_status: YesStatus = Field(
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
    plans_file: Path | None = Field(
        None,
        description="Price lists, as plans.example.toml has them: statements are made by it, and it says what a "
        "request would cost. Empty: the gateway knows no prices.",
    )
    secret_key: SecretKey = Field(
        None, description="At least 32 random characters; every other secret is derived from it. Made by --embedded."
    )
    default_requests: RateOrNone = Field(
        None, description="Request rate of tenants that have none of their own, such as 600/m. Empty: none."
    )
    webhooks_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private addresses, and over plain http. For tests and intranets.",
    )
    issuers_allow_private: bool = Field(
        default=False,
        description="Whether the keys of issuers that operators add may be at private addresses, or on this machine "
        "over plain http. For tests and intranets; issuers of this file may.",
    )
    journal_max_bytes: int = Field(
        4_294_967_296,
        ge=33_554_432,
        le=2**50,
        description="Usage that may wait on the local disk before new requests are refused.",
    )
    journal_archive_days: int = Field(
        3,
        ge=0,
        le=60,
        description="Days that shipped journals stay in the state directory, for the account to be compared with them; "
        "fewer where they would take more than journal_max_bytes. 0: none.",
    )
    usage_retention_days: RetentionDays = Field(
        0,
        le=36_500,
        description="Days that single usage records are kept in PostgreSQL, at least 62; sums by hour and by day stay. "
        "0: for ever.",
    )
    usage_stream: bool = Field(
        default=False,
        description="Whether usage records also go to the Redis stream platform:usage, as CloudEvents.",
    )
    usage_http_url: Annotated[SecretStr | None, url("http", "https")] = Field(
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
    mail: Annotated[SecretStr | None, url("smtp", "smtps", "file", "console")] = Field(
        None,
        description="How mail leaves: smtp://user:password@host:587 (STARTTLS where offered), smtps://host:465, "
        "file:/directory, console: (shows links in the log). Empty: no invitations, no forgotten passwords.",
    )
    mail_from: str = Field("Tahoe <no-reply@localhost>", description="The sender of mail.")
    drain_timeout: float = Field(
        30.0,
        ge=0,
        le=LONGEST_S,
        description="Seconds that requests in flight get at shutdown and at a reload; at a reload open streams as "
        "well.",
    )
    metrics_tenants: int = Field(
        0,
        ge=0,
        le=10_000,
        description="So many tenants, the first that are seen, have figures of their own in /metrics "
        "(gateway_tenant_requests_total, gateway_tenant_audio_seconds_total); all others share one. 0: none.",
    )
    log_level: Annotated[str, one_of(("debug", "info", "warning", "error"))] = Field(
        "info", description="debug, info, warning or error. Access lines are always written."
    )

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
    def _agrees_with_itself(self) -> Self:
        if faults := [
            *self._faults_of_listeners(),
            *self._faults_of_upstreams(),
            *self._faults_of_the_endpoint(),
            *self._faults_of_issuers(),
        ]:
            raise ValueError("\n".join(faults))
        return self

    def _faults_of_listeners(self) -> Iterator[str]:
        host, _, port = self.listen.rpartition(":")
        ops_host, _, ops_port = self.ops_listen.rpartition(":")
        if port == ops_port != "0" and (host == ops_host or _holds(host, ops_host) or _holds(ops_host, host)):
            name = "ops_listen" if "ops_listen" in self.model_fields_set else "listen"
            yield f"{name}: listen ({self.listen}) and ops_listen ({self.ops_listen}) need ports of their own"

    def _faults_of_upstreams(self) -> Iterator[str]:
        default = self.upstreams.get("default")
        if default is not None and default.addresses and "upstream" in self.model_fields_set:
            yield "upstream: [upstreams.default] has addresses as well; keep one of them"
        for name, one in self.upstreams.items():
            if name != "default" and not one.model_fields_set:  # of others it is told beside what is in them
                yield f"upstreams.{name}: it has no addresses"
        host, _, port = self.listen.rpartition(":")
        for name, one in self.every_upstream().items():
            written = (
                f"upstreams.{name}" if name != "default" or (default is not None and default.addresses) else "upstream"
            )
            for origin in one.origins:
                if not origin.path and str(origin.port) == port and _leads_to(host, origin.host):
                    setting = "listen" if written == "upstream" and written not in self.model_fields_set else written
                    yield f"{setting}: listen ({self.listen}) is what {written} leads to, as {origin.authority}"

    def _faults_of_the_endpoint(self) -> Iterator[str]:
        if self.usage_http_url is not None:
            parts = split(self.usage_http_url.get_secret_value())
            if not parts.hostname:
                yield "usage_http_url: the address has no host, as in https://host/api/v1/events"
            if self.usage_http_token is not None and parts.username is not None:
                yield "usage_http_token: usage_http_url holds a user as well; keep one of them"

    def _faults_of_issuers(self) -> Iterator[str]:
        if self.base_url in {one.issuer for one in self.issuers.values()}:
            yield "issuers: one of them is this gateway itself (public_url)"

    def every_upstream(self) -> dict[str, UpstreamSettings]:
        """Every upstream by name, the default one first, each with its addresses."""
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

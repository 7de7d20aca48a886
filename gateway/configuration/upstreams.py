"""The settings of one upstream: a table ``[upstreams.NAME]`` of the file, or ``GATEWAY_UPSTREAMS__NAME__…``."""

import re
import ssl
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from gateway.configuration.origin import Origin, can_be_asked_for
from gateway.configuration.values import Listed
from policies.http.inquiry import is_plain_path
from policies.routing.routes import LONGEST_S
from policies.routing.upstreams import Rules

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name (RFC 9110 section 5.1)."""
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"})


class UpstreamSettings(BaseModel):
    """One upstream. A field's description is its line in ``config/gateway.example.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    addresses: Listed = Field(
        default=(),
        description="Where it listens: http://host:port, https://host:port, unix:/path; several share the requests. "
        "Every address that a host name has is used, and looked up again every ten seconds.",
    )
    connect_timeout: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_S,
        description="Seconds until a connection must stand. Default: upstream_connect_timeout.",
    )
    server_name: str = Field(
        default="",
        description="With https: the name in its certificate, also sent as Host. Default: the address's own host.",
    )
    ca_file: Path | None = Field(
        default=None, description="With https: who may sign its certificate (PEM). Default: the system's authorities."
    )
    client_certificate: Path | None = Field(
        default=None, description="With https: what we show it (PEM, the key beside it or in client_key)."
    )
    client_key: Path | None = Field(
        default=None, description="The key of client_certificate, when it is a file of its own."
    )
    credential: SecretStr | None = Field(
        default=None, description="Our own credential there. A client's never reaches it. Better as credential_file."
    )
    credential_header: str = Field(default="Authorization", description="The header that carries the credential.")
    credential_scheme: str | None = Field(
        default=None, description="The word before it. Default: Bearer in Authorization, none in another header."
    )
    health_path: str = Field(
        default="", description="Asked on every address; 2xx is well. Empty: only real requests tell how an address is."
    )
    health_interval: float = Field(default=10.0, ge=0.1, le=LONGEST_S, description="Seconds between two such checks.")
    health_timeout: float = Field(default=2.0, gt=0, le=LONGEST_S, description="Seconds that a check may take.")
    health_fall: int = Field(
        default=3, ge=1, le=100, description="So many failed checks in a row take an address out of use,"
    )
    health_rise: int = Field(default=2, ge=1, le=100, description="so many passed ones in a row bring it back.")
    faults: int = Field(
        default=3, ge=1, le=1_000, description="So many requests in a row that an address fails set it aside,"
    )
    aside: float = Field(
        default=5.0,
        gt=0,
        le=LONGEST_S,
        description="for so many seconds, doubled each time up to a minute; then one tries it.",
    )

    @field_validator("addresses")
    @classmethod
    def _origins(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        faults = []
        for address in addresses:
            try:
                Origin.parse(address)
            except ValueError as fault:
                faults.append(str(fault))
        if faults:
            raise ValueError("; ".join(faults))
        return addresses

    @field_validator("credential_header")
    @classmethod
    def _header(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or name.lower() in _FRAMING:
            raise ValueError("the name of a header, such as Authorization or X-API-Key")
        return name

    @field_validator("credential", "credential_scheme")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not all(" " <= character <= "~" for character in text):
            raise ValueError("visible ASCII on one line")
        return value

    @field_validator("server_name")
    @classmethod
    def _host(cls, name: str) -> str:
        if name and not (re.fullmatch(r"[0-9A-Za-z._-]+", name) and can_be_asked_for(name)):
            raise ValueError("a host name")
        return name

    @field_validator("health_path")
    @classmethod
    def _path(cls, path: str) -> str:
        if path and not is_plain_path(path):
            raise ValueError("a plain path such as /health")
        return path

    @model_validator(mode="after")
    def _key_with_its_certificate(self) -> "UpstreamSettings":
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key is of no use without client_certificate")
        return self

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The addresses, parsed."""
        return tuple(map(Origin.parse, self.addresses))

    @property
    def rules(self) -> Rules:
        """What the health of its addresses is judged by."""
        return Rules(
            faults=self.faults,
            aside_s=self.aside,
            longest_s=max(60.0, self.aside),
            fall=self.health_fall,
            rise=self.health_rise,
        )

    @property
    def credential_line(self) -> bytes:
        """The header line that carries the credential, with its line end; empty without one."""
        if self.credential is None:
            return b""
        scheme = self.credential_scheme
        if scheme is None:
            scheme = "Bearer" if self.credential_header.lower() == "authorization" else ""
        value = f"{scheme} {self.credential.get_secret_value()}".strip()
        return f"{self.credential_header}: {value}\r\n".encode("ascii")

    def tls(self) -> ssl.SSLContext | None:
        """What https addresses are verified with, read from its files. Raises ValueError with a sentence."""
        if not any(origin.tls for origin in self.origins):
            return None
        file = f"ca_file: {self.ca_file}"
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.client_certificate is not None:
                file = f"client_certificate: {self.client_certificate}"
                # An encrypted key would be asked for on the terminal: an empty password makes it a fault.
                context.load_cert_chain(self.client_certificate, self.client_key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{file}: {error.strerror or error}") from error
        return context

    def to_message(self) -> dict[str, Any]:
        """As plain data, the secret included."""
        plain = self.model_dump(mode="json", exclude={"credential"}, exclude_none=True)
        return plain | ({"credential": self.credential.get_secret_value()} if self.credential is not None else {})

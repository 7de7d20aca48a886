"""Where an upstream listens, as its setting says it."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from policies.http.inquiry import is_plain_host


@dataclass(frozen=True, slots=True)
class Origin:
    """``http://host[:port]``, ``https://…``, or ``unix:/path``. No path prefix is taken."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Raises ValueError with a sentence."""
        if "@" in url:  # not repeated: it may be a password
            raise ValueError("an upstream is asked without user and password; write http://host:port")
        if url.startswith("unix:"):
            path = unquote(url.removeprefix("unix:"))
            if not path.startswith("/") or not path.strip("/"):
                raise ValueError(f"a socket is named in full, as in unix:/run/asr.sock, and not by {url!r}")
            return cls("localhost", 80, "/" + path.lstrip("/"), tls=False)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"an upstream is http://host:port, https://host:port or unix:/path, not {url!r}")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"an upstream is an origin, without path and query: {url!r}")
        if parts.port == 0 or not is_plain_host(parts.netloc) or not can_be_asked_for(parts.hostname):
            raise ValueError(f"{url!r} has no plain host and port; a name in other letters is written as xn--...")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), "", tls)

    @classmethod
    def parse_all(cls, text: str) -> "tuple[Origin, ...]":
        """Several, separated by commas. Raises ValueError with a sentence."""
        return tuple(cls.parse(part.strip()) for part in text.split(",") if part.strip())

    @property
    def authority(self) -> str:
        """What goes into Host."""
        return self.host_and_port if self.port != (443 if self.tls else 80) else bracketed(self.host)

    @property
    def host_and_port(self) -> str:
        """The port always said."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def names(self) -> tuple[bytes, bytes]:
        """How it may stand in an address: with its port, and without one that need not be said."""
        return self.host_and_port.encode(), self.authority.encode()

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"{'https' if self.tls else 'http'}://{self.host_and_port}"


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def can_be_asked_for(host: str) -> bool:
    """Whether it can be looked up, and named to a server: parts of 1 to 63 letters (RFC 1035 section 2.3.4)."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True
